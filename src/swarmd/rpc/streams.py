"""Request streams that end when the daemon stops: a client that says nothing must not hold up the end."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Generic, TypeVar

import grpc

T = TypeVar("T")


class OpenStreams:
    """The handlers that wait for their clients' next message."""

    def __init__(self) -> None:
        self._reading: set[asyncio.Task[object]] = set()
        self._closing = False

    def is_open(self) -> bool:
        """Whether streams are still read."""
        return not self._closing

    async def requests(
        self, request_iterator: AsyncIterator[T], context: "grpc.aio.ServicerContext[object, object]"
    ) -> AsyncIterator[T]:
        """The messages of a stream; UNAVAILABLE once the daemon stops, after what was read has been answered."""
        messages = Messages(self, request_iterator)
        async for request in messages:
            yield request
        if not messages.ended:
            await self.abort(context)

    def read(self, request_iterator: AsyncIterator[T]) -> "Messages[T]":
        """The messages of a stream until it ends or the daemon stops."""
        return Messages(self, request_iterator)

    @contextlib.contextmanager
    def waiting(self) -> "Iterator[asyncio.Task[object]]":
        """While the next message is waited for, the stop of the daemon may cancel it."""
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a stream is read outside of its handler")
        self._reading.add(task)
        try:
            yield task
        finally:
            self._reading.discard(task)

    async def abort(self, context: "grpc.aio.ServicerContext[object, object]") -> None:
        """End a call because the daemon stops."""
        await context.abort(
            grpc.StatusCode.UNAVAILABLE, "the daemon stops; send again what was not answered when it is back"
        )

    async def confirm_end(self, context: "grpc.aio.ServicerContext[object, object]") -> None:
        """Return when the client half-closed; be cancelled when its stream broke, which gRPC shows as an end, too.

        Needed before what came is taken for complete: the messages of a client that was killed, or of which one was
        too large, end like any others. Sending goes through gRPC's queue behind its word that the call is over.
        """
        await context.send_initial_metadata(())

    def close(self) -> None:
        """Stop reading; every stream ends as soon as its last answer is out."""
        self._closing = True
        for task in tuple(self._reading):
            task.cancel()


class Messages(Generic[T]):
    """The messages of one stream."""

    def __init__(self, streams: OpenStreams, request_iterator: AsyncIterator[T]) -> None:
        self._streams = streams
        self._iterator = aiter(request_iterator)
        self.ended = False
        """Whether the client ended it; otherwise the daemon stops."""

    def __aiter__(self) -> "Messages[T]":
        return self

    async def __anext__(self) -> T:
        if not self._streams.is_open():
            raise StopAsyncIteration
        with self._streams.waiting() as task:
            try:
                return await anext(self._iterator)
            except StopAsyncIteration:
                self.ended = True
                raise
            except asyncio.CancelledError:
                if self._streams.is_open():
                    raise
                task.uncancel()
        raise StopAsyncIteration
