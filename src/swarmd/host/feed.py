"""The changes of one swarm for those who watch: kept for a while, given out in order and without gaps.

There is one record of changes a swarm, not a queue a watcher: a watcher is a place in it. Who falls too far behind is
told so while what it missed is still there to resume from; nobody is ever waited for.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass

from swarmd.core.change import Change
from swarmd.core.errors import BusyError, RevisionGoneError

MAX_BEHIND_BYTES = 16 << 20
ID_BYTES = 12
CHANGE_BYTES = 800
"""What a change costs beside its ids and reasons."""


class SlowWatcherError(Exception):
    """The watcher fell too far behind; it may resume from the last revision that it got."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"more than {limit} bytes of changes wait for the watcher")
        self.limit = limit


class _TimeIsUpError(Exception):
    """Nothing came."""


class FeedClosedError(Exception):
    """Nothing more will come; `why` says whether the swarm was deleted or the daemon stops."""

    def __init__(self, why: "Closing") -> None:
        super().__init__(str(why))
        self.why = why


class Closing(str):
    """Why a feed ended."""

    __slots__ = ()


DRAINING = Closing("draining")
DELETED = Closing("deleted")


@dataclass(slots=True)
class _Kept:
    change: Change
    bytes_before: int
    """The size of all changes before it."""


class Feed:
    """The latest changes of a swarm, and a bell that rings when one comes."""

    def __init__(self, *, max_behind_bytes: int = MAX_BEHIND_BYTES, max_watchers: int = 1000) -> None:
        """Twice as much is kept as a watcher may be behind: who was ended can resume."""
        self._kept: deque[_Kept] = deque()
        self._max_behind, self._kept_bytes = max_behind_bytes, 2 * max_behind_bytes
        self._max_watchers = max_watchers
        self._bytes = 0
        self._revision = 0
        self._waiting: set[asyncio.Future[None]] = set()
        self._closing: Closing | None = None
        self.watchers = 0

    def publish(self, change: Change) -> None:
        """Take in the next change; the oldest are forgotten when there are too many. Costs no more with watchers."""
        self._kept.append(_Kept(change, self._bytes))
        self._bytes += _size(change)
        self._revision = change.revision
        while len(self._kept) > 1 and self._bytes - self._kept[0].bytes_before > self._kept_bytes:
            self._kept.popleft()
        self._ring()

    def close(self, why: Closing) -> None:
        """Let every watcher know that nothing more comes, once it has what there is."""
        self._closing = self._closing or why
        self._ring()

    def start_from(self, revision: int) -> None:
        """The revision of a swarm that begins with one, before anything is published."""
        self._revision = revision

    def check_resumable(self, after_revision: int) -> None:
        """Raise RevisionGoneError unless every change after this revision is still there."""
        oldest = self._kept[0].change.revision - 1 if self._kept else self._revision
        if not oldest <= after_revision <= self._revision:
            message = (
                f"after_revision: {after_revision} cannot be resumed from; the changes kept are those after "
                f"{oldest} up to {self._revision}; watch again without after_revision for a new snapshot"
            )
            metadata = {"oldest_revision": str(oldest), "revision": str(self._revision)}
            raise RevisionGoneError(message, field="after_revision", metadata=metadata)

    async def follow(self, after_revision: int, idle_seconds: float) -> AsyncIterator[Change | None]:
        """Every change after this revision; None whenever nothing came for so long.

        Ends with SlowWatcherError when half of what is kept has passed the watcher by (or half of what was left between
        where it resumed and where changes are forgotten), and with FeedClosedError. Raises BusyError when
        there are too many watchers.
        """
        if self.watchers >= self._max_watchers:
            message = f"max_watchers_per_swarm: {self._max_watchers} watchers are there already; try again later"
            metadata = {"limit": "max_watchers_per_swarm"}
            raise BusyError(message, reason="TOO_MANY_WATCHERS", metadata=metadata)
        self.watchers += 1
        behind = self._bytes_after(after_revision)
        allowed = max(behind, (behind + self._kept_bytes) // 2)
        try:
            while True:
                if after_revision < self._revision:
                    kept = self._next_after(after_revision, allowed)
                    after_revision = kept.change.revision
                    yield kept.change
                elif self._closing is not None:
                    raise FeedClosedError(self._closing)
                elif not await self._rings(idle_seconds):
                    yield None
        finally:
            self.watchers -= 1

    def _next_after(self, revision: int, allowed: int) -> _Kept:
        behind = self._revision - revision
        if behind > len(self._kept) or (behind > 1 and self._bytes_after(revision) > allowed):
            raise SlowWatcherError(self._max_behind)
        return self._kept[len(self._kept) - behind]

    def _bytes_after(self, revision: int) -> int:
        """The size of the kept changes after this revision together."""
        behind = min(self._revision - revision, len(self._kept))
        return self._bytes - self._kept[len(self._kept) - behind].bytes_before if behind > 0 else 0

    def _ring(self) -> None:
        """Wake all who wait."""
        for bell in self._waiting:
            if not bell.done():
                bell.set_result(None)
        self._waiting.clear()

    async def _rings(self, seconds: float) -> bool:
        """Wait for the next change or the end; whether it came before the time was up."""
        loop = asyncio.get_running_loop()
        bell: asyncio.Future[None] = loop.create_future()
        self._waiting.add(bell)
        timer = loop.call_later(seconds, self._give_up, bell)
        try:
            await bell
        except _TimeIsUpError:
            return False
        finally:
            timer.cancel()
            self._waiting.discard(bell)
        return True

    def _give_up(self, bell: "asyncio.Future[None]") -> None:
        if not bell.done():
            bell.set_exception(_TimeIsUpError())


def _size(change: Change) -> int:
    """About what a change takes, here and on its way to a watcher."""
    size = CHANGE_BYTES
    for group in change.task_statuses:
        size += ID_BYTES * len(group.task_ids) + len(group.reason)
    return size
