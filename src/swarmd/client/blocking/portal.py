"""A thread with an event loop, through which blocking code uses asyncio code: the loop of all blocking clients.

Calls may come from any thread, also from one in which an event loop runs (a notebook). Used by the generated
`client.py`; knows nothing of daemons.
"""

import asyncio
import concurrent.futures
import os
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Iterator
from typing import Any, Generic, TypeVar, cast

T = TypeVar("T")

CLEAN_UP_SECONDS = 6.0
"""How long an interrupted caller waits for its work to clean up behind itself: a little longer than a submission may
take for that."""
MOST_AT_ONCE = 1000
"""Of a stream so many items are fetched ahead: a change of threads for each of a million would take minutes."""


class Portal:
    """The way into the loop."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._pid = os.getpid()
        self._thread = threading.Thread(target=self._loop.run_forever, name="swarmd-client", daemon=True)
        self._thread.start()

    @property
    def is_here(self) -> bool:
        """Whether its thread is: a forked child has none of its parent's threads."""
        return self._pid == os.getpid()

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Do the work in the loop and wait for it; an interrupt (Ctrl-C) cancels it, and lets it clean up."""
        if threading.current_thread() is self._thread:
            work.close()
            raise RuntimeError("a blocking client cannot be used in its own event loop; use swarmd.client.SwarmClient")
        if not self.is_here:
            work.close()
            message = "a client does not outlive a fork; start children by the method spawn or forkserver"
            raise RuntimeError(message)
        running = _Work(self._loop, work)
        try:
            return running.ended.result()
        except BaseException:  # what the work raised, or an interrupt of this thread
            if not running.ended.done():
                running.cancel()
                concurrent.futures.wait([running.ended], CLEAN_UP_SECONDS)
            raise

    def iterate(self, source: AsyncIterator[T]) -> Iterator[T]:
        """The items of an asynchronous iterator, fetched some way ahead; ended when the iterator is left."""
        pump = self.call(_started(source))
        try:
            while items := self.call(pump.take()):
                yield from items
        finally:
            if threading.current_thread() is self._thread:  # it was collected there, in the midst of anything
                self._loop.call_soon(pump.cancel)
            elif self.is_here and self._thread.is_alive():
                self.call(pump.stop())


class _Work(Generic[T]):
    """Work that the loop does for another thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T]) -> None:
        self._loop = loop
        self._work = work
        self.ended: concurrent.futures.Future[T] = concurrent.futures.Future()
        """How it ended, once all of it has."""
        loop.call_soon_threadsafe(self._start)

    def cancel(self) -> None:
        self._loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        self._task.cancel()

    def _start(self) -> None:
        self._task = self._loop.create_task(self._work)
        self._task.add_done_callback(self._end)

    def _end(self, task: "asyncio.Task[T]") -> None:
        if task.cancelled():
            self.ended.cancel()
        elif error := task.exception():
            self.ended.set_exception(error)
        else:
            self.ended.set_result(task.result())


class _Pump(Generic[T]):
    """Fetches the items of a stream in the loop, as far ahead as is allowed."""

    def __init__(self, source: AsyncIterator[T]) -> None:
        self._source = source
        self._items: list[T] = []
        self._changed = asyncio.Condition()
        self._error: BaseException | None = None
        self._stopping = False
        self._task = asyncio.create_task(self._fetch())

    async def _fetch(self) -> None:
        try:
            async for item in self._source:
                if len(self._items) >= MOST_AT_ONCE:
                    async with self._changed:
                        await self._changed.wait_for(lambda: not self._items)
                self._items.append(item)
                if len(self._items) == 1:
                    await self._tell()
        except asyncio.CancelledError as error:
            if self._stopping:
                raise
            self._error = error  # not the end of the stream
        except Exception as error:  # noqa: BLE001 - it is raised where the items are taken
            self._error = error
        finally:
            await cast("AsyncGenerator[T]", self._source).aclose()

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def take(self) -> list[T]:
        """What is there, one item at least; nothing at the end. Raises what the stream raised."""
        self._task.add_done_callback(self._wake)
        async with self._changed:
            await self._changed.wait_for(lambda: bool(self._items) or self._task.done())
            items, self._items = self._items, []
            self._changed.notify_all()
        if not items and self._error is not None:
            raise self._error
        return items

    def _wake(self, _: "asyncio.Task[None]") -> None:
        self._waking = asyncio.ensure_future(self._tell())

    def cancel(self) -> None:
        self._stopping = True
        self._task.cancel()

    async def stop(self) -> None:
        self.cancel()
        await asyncio.wait([self._task])


async def _started(source: AsyncIterator[T]) -> _Pump[T]:
    return _Pump(source)


_lock = threading.Lock()
_shared: Portal | None = None


def shared_portal() -> Portal:
    """The one of this process: gRPC likes few event loops."""
    global _shared  # noqa: PLW0603
    with _lock:
        if _shared is None or not _shared.is_here:
            _shared = Portal()
        return _shared
