"""The calls under way, whichever door they came by: what the end of the daemon waits for."""

import asyncio
import time
from dataclasses import dataclass


@dataclass(slots=True, eq=False)
class StreamUnderWay:
    """A call that is answered by a stream."""

    is_with_client: bool = False
    """Whether it waits for its client to take a message, and not for the daemon to have one."""


class CallsUnderWay:
    """Those that answer once, and the streams."""

    def __init__(self) -> None:
        self._answering: set[asyncio.Task[object]] = set()
        self._streaming: dict[asyncio.Task[object], StreamUnderWay] = {}
        self._sent = 0

    def note_answering(self) -> None:
        """The current task answers a call once."""
        task = _current()
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    def note_streaming(self) -> StreamUnderWay:
        """The current task answers a call with a stream."""
        task, stream = _current(), StreamUnderWay()
        self._streaming[task] = stream
        task.add_done_callback(self._streaming.pop)
        return stream

    def note_sent(self) -> None:
        """A client took a message."""
        self._sent += 1

    async def answered(self, grace: float) -> None:
        """Wait, no longer than the grace time, until all that answer once have done so."""
        if self._answering:
            await asyncio.wait(self._answering, timeout=grace)

    async def streams_ended(self, grace: float, patience: float) -> None:
        """Wait, no longer than the grace time, until every stream has ended.

        When only those are left whose clients take nothing, and none has moved for so many seconds of patience, they
        are not waited for.
        """
        until = time.monotonic() + grace
        while self._streaming and (left := until - time.monotonic()) > 0:
            before = len(self._streaming), self._sent
            await asyncio.wait(self._streaming, timeout=min(patience, left))
            stuck = all(stream.is_with_client for stream in self._streaming.values())
            if stuck and (len(self._streaming), self._sent) == before:
                return


def _current() -> "asyncio.Task[object]":
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("a call is answered outside of a task")
    return task
