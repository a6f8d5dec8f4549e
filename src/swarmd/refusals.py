"""What an engine refuses just now: of which array and resources, why, since when. Kept by the scheduler, for people.

It is no part of a swarm's state: whoever comes back finds out anew.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from swarmd.core.batch import Batch

MOST = 1000
"""So many arrays with their resources are remembered; of more the oldest are forgotten."""


@dataclass(frozen=True, slots=True)
class StandingRefusal:
    """The last batches of one array with the same resources came back, wholly or in part."""

    array_id: int
    task_resources_id: int
    reason: str
    """The engine's last words."""
    times: int
    """How often in a row."""
    since: float
    """When the first of them came back, in seconds since the epoch."""
    latest: float
    """When the last did."""


class Refusals:
    """Remembers what was refused until something of it is taken. A note costs the same whatever there is."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._standing: dict[tuple[int, int], StandingRefusal] = {}

    def note(self, batch: Batch, reason: str) -> None:
        """Tasks of this batch came back."""
        now, key = self._clock(), _key(batch)
        known = self._standing.pop(key, None) or StandingRefusal(*key, reason, 0, now, now)
        self._standing[key] = replace(known, reason=reason, times=known.times + 1, latest=now)
        if len(self._standing) > MOST:
            del self._standing[next(iter(self._standing))]

    def took(self, batch: Batch) -> None:
        """The engine took all of this batch that it did not refuse for good."""
        if self._standing:
            self._standing.pop(_key(batch), None)

    def of(self, array_id: int, task_resources_id: int) -> StandingRefusal | None:
        """What stands of an array with these resources."""
        return self._standing.get((array_id, task_resources_id))

    def all(self) -> list[StandingRefusal]:
        """All that stands, the newest first."""
        return list(reversed(self._standing.values()))


def _key(batch: Batch) -> tuple[int, int]:
    return batch.array_id, batch.task_resources.task_resources_id
