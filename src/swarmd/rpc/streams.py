"""Request streams that end when the daemon stops: a client that says nothing must not hold up the end."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Generic, TypeVar

import grpc

from swarmd.core.errors import UnavailableError

T = TypeVar("T")


QUIET_SECONDS = 3.0
"""How long the daemon waits for the next chunk of a load when it is about to stop."""


def stopping() -> UnavailableError:
    """The error that a stream ends with because the daemon stops."""
    return UnavailableError("the daemon stops; send again what was not answered when it is back", reason="DRAINING")


class OpenStreams:
    """The handlers that wait for their clients' next message."""

    def __init__(self) -> None:
        self._waits: set[_Wait] = set()
        self._closing = False
        self._hurried = False

    def is_open(self) -> bool:
        """Whether streams are still read."""
        return not self._closing

    async def requests(self, request_iterator: AsyncIterator[T]) -> AsyncIterator[T]:
        """The messages of a stream that is answered once, at its end. Raises UnavailableError once the daemon stops.

        When it is about to, the stream may go on for as long as its client has something to say.
        """
        messages = Messages(self, request_iterator, hurried=True)
        async for request in messages:
            yield request
        if not messages.ended:
            raise stopping()

    def read(self, request_iterator: AsyncIterator[T]) -> "Messages[T]":
        """The messages of a stream until it ends or the daemon stops."""
        return Messages(self, request_iterator)

    def begin(self, wait: "_Wait") -> None:
        """A task waits for its next message: from now on the stop of the daemon may cut that."""
        self._waits.add(wait)
        if self._hurried:
            wait.hurry()

    def end(self, wait: "_Wait") -> None:
        """It waits no more."""
        self._waits.discard(wait)
        wait.over()

    async def confirm_end(self, context: "grpc.aio.ServicerContext[object, object]") -> None:
        """Return when the client half-closed; be cancelled when its stream broke, which gRPC shows as an end, too.

        Needed before what came is taken for complete: the messages of a client that was killed, or of which one was
        too large, end like any others. Sending goes through gRPC's queue behind its word that the call is over.
        """
        await context.send_initial_metadata(())

    def hurry(self) -> None:
        """Wait no longer than a moment for each message of the streams that are answered once."""
        self._hurried = True
        for wait in tuple(self._waits):
            wait.hurry()

    def close(self) -> None:
        """Stop reading; every stream ends as soon as its last answer is out."""
        self._closing = True
        for wait in tuple(self._waits):
            wait.cut()


class _Wait:
    """A handler that waits for messages, one after the other."""

    def __init__(self, *, hurried: bool) -> None:
        self.task: asyncio.Task[Any] | None = None
        """Who waits."""
        self._may_hurry = hurried
        self._timer: asyncio.TimerHandle | None = None
        self.is_cut = False

    def hurry(self) -> None:
        if self._may_hurry and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(QUIET_SECONDS, self.cut)

    def cut(self) -> None:
        """Let the handler go on without a message."""
        if not self.is_cut and self.task is not None:
            self.is_cut = True
            self.task.cancel()

    def over(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def take_back(self) -> None:
        """The handler goes on: it was not cancelled by its client."""
        if self.task is not None:
            self.task.uncancel()


class Messages(Generic[T]):
    """The messages of one stream."""

    def __init__(self, streams: OpenStreams, request_iterator: AsyncIterator[T], *, hurried: bool = False) -> None:
        self._streams = streams
        self._next = aiter(request_iterator).__anext__
        self._wait = _Wait(hurried=hurried)
        self.ended = False
        """Whether the client ended it; otherwise the daemon stops."""

    def are_read_by(self, task: "asyncio.Task[Any]") -> None:
        """From now on this task reads them; otherwise it is the one that read the first."""
        self._wait.task = task

    def __aiter__(self) -> "Messages[T]":
        return self

    async def __anext__(self) -> T:
        if not self._streams.is_open():
            raise StopAsyncIteration
        wait = self._wait
        if wait.task is None:
            wait.task = asyncio.current_task()
        self._streams.begin(wait)
        try:
            return await self._next()
        except StopAsyncIteration:
            self.ended = True
            raise
        except asyncio.CancelledError:
            if not wait.is_cut:
                raise
            wait.take_back()
        finally:
            self._streams.end(wait)
        raise StopAsyncIteration
