"""The changes of one swarm for those who watch: kept for a while, given out in order and without gaps.

There is one record of changes a swarm, not a queue a watcher: a watcher is a place in it. Who falls too far behind is
told so while what it missed is still there to resume from; nobody is ever waited for.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass

from swarmd.core.change import Change
from swarmd.core.errors import RevisionGoneError, UnavailableError

KEPT_CHANGES = 20_000
KEPT_IDS = 2_000_000
CHANGE_WEIGHT = 20
"""What a change costs beside its ids, in ids."""


class SlowWatcherError(Exception):
    """The watcher fell too far behind; it may resume from the last revision that it got."""


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
    weight_before: int
    """The weight of all changes before it."""


class Feed:
    """The latest changes of a swarm, and a bell that rings when one comes."""

    def __init__(self, *, kept_changes: int = KEPT_CHANGES, kept_ids: int = KEPT_IDS, max_watchers: int = 1000) -> None:
        self._kept: deque[_Kept] = deque()
        self._kept_changes, self._kept_ids = kept_changes, kept_ids
        self._max_watchers = max_watchers
        self._weight = 0
        self._revision = 0
        self._bell = asyncio.Event()
        self._closing: Closing | None = None
        self.watchers = 0

    def publish(self, change: Change) -> None:
        """Take in the next change; the oldest are forgotten when there are too many. Costs no more with watchers."""
        self._kept.append(_Kept(change, self._weight))
        self._weight += CHANGE_WEIGHT + sum(len(group.task_ids) for group in change.task_statuses)
        self._revision = change.revision
        while len(self._kept) > self._kept_changes or self._weight - self._kept[0].weight_before > self._kept_ids:
            if len(self._kept) == 1:
                break
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
        where it resumed and where changes are forgotten), and with FeedClosedError.
        """
        if self.watchers >= self._max_watchers:
            message = f"max_watchers_per_swarm: {self._max_watchers} watchers are there already; try again later"
            raise UnavailableError(message, reason="TOO_MANY_WATCHERS", metadata={"limit": "max_watchers_per_swarm"})
        self.watchers += 1
        allowed = (
            _halfway(self._weight_after(after_revision), self._kept_ids),
            _halfway(self._revision - after_revision, self._kept_changes),
        )
        try:
            while True:
                bell = self._bell
                if after_revision < self._revision:
                    kept = self._next_after(after_revision, *allowed)
                    after_revision = kept.change.revision
                    yield kept.change
                elif self._closing is not None:
                    raise FeedClosedError(self._closing)
                elif not await _rings(bell, idle_seconds):
                    yield None
        finally:
            self.watchers -= 1

    def _next_after(self, revision: int, allowed_weight: int, allowed_changes: int) -> _Kept:
        behind = self._revision - revision
        too_far = behind > allowed_changes or (behind > 1 and self._weight_after(revision) > allowed_weight)
        if behind > len(self._kept) or too_far:
            raise SlowWatcherError
        return self._kept[len(self._kept) - behind]

    def _weight_after(self, revision: int) -> int:
        """What the kept changes after this revision weigh together."""
        behind = min(self._revision - revision, len(self._kept))
        return self._weight - self._kept[len(self._kept) - behind].weight_before if behind > 0 else 0

    def _ring(self) -> None:
        """Wake all who wait, and hang up a new bell for the next change."""
        self._bell.set()
        self._bell = asyncio.Event()


def _halfway(behind: int, kept: int) -> int:
    """How far behind a watcher may fall that begins so far behind, when so much is kept."""
    return max(behind, (behind + kept) // 2)


async def _rings(bell: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await bell.wait()
    except TimeoutError:
        return False
    return True
