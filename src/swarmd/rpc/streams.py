"""Request streams that end when the daemon stops: a client that says nothing must not hold up the end."""

import asyncio
from collections.abc import AsyncIterator
from typing import TypeVar

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
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a stream is read outside of its handler")
        iterator = aiter(request_iterator)
        while self.is_open():
            self._reading.add(task)
            try:
                request = await anext(iterator)
            except StopAsyncIteration:
                return
            except asyncio.CancelledError:
                if self.is_open():
                    raise
                task.uncancel()
                break
            finally:
                self._reading.discard(task)
            yield request
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
