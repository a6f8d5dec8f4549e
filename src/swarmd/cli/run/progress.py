"""How far a workflow is: counts, rate, and time left. Made from the daemon's counts and a clock that is passed in."""

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from swarmd._pb.swarm.v1 import state_pb2, swarm_pb2

WINDOW_SECONDS = 15.0
STILL_SECONDS = 5.0
"""When so long nothing has ended and nothing runs, nobody knows how long it takes."""
MOST_ARRAYS = 15


@dataclass(frozen=True, slots=True)
class Tally:
    """How many tasks of something wait, run, are done, failed, were cancelled."""

    name: str
    total: int
    waiting: int
    running: int
    done: int
    failed: int
    cancelled: int

    @property
    def ended(self) -> int:
        """Those that will not run again by themselves."""
        return self.done + self.failed + self.cancelled

    @property
    def is_over(self) -> bool:
        return self.ended == self.total


@dataclass(frozen=True, slots=True)
class View:
    """All that is shown at one moment."""

    title: str
    swarm_id: str
    seconds: float
    """Since the run began."""
    total: Tally
    arrays: tuple[Tally, ...]
    hidden_arrays: int
    tasks_per_second: float
    seconds_left: float | None
    """None while nobody can tell: nothing has ended lately, or nothing runs."""
    notice: str
    """What stands in the way, or what is being done; empty when all goes its way."""


class Progress:
    """Remembers enough of the past to tell a rate; its cost does not depend on the number of tasks."""

    def __init__(self, title: str, started: float) -> None:
        self._title = title
        self._started = started
        self._samples: deque[tuple[float, int]] = deque([(started, 0)])
        self._ended_at = started
        self.notice = ""
        """Shown before what the daemon says; set while cancelling."""
        self.hint = ""
        """Shown when the daemon has nothing to say: what is known of the tasks themselves."""

    def view(self, swarm: "swarm_pb2.Swarm", now: float) -> View:
        """How it stands now."""
        total = tally("all", swarm.task_counts)
        if total.ended != self._samples[-1][1]:
            self._ended_at = now
        rate = self._rate(total.ended, now)
        goes_on = total.running or now - self._ended_at < STILL_SECONDS
        shown, hidden = most_active([tally(array.name, array.task_counts) for array in swarm.arrays])
        return View(
            title=self._title,
            swarm_id=swarm.swarm_id,
            seconds=now - self._started,
            total=total,
            arrays=shown,
            hidden_arrays=hidden,
            tasks_per_second=rate,
            seconds_left=(total.total - total.ended) / rate if rate and goes_on else None,
            notice=self.notice or _notice(swarm) or self.hint,
        )

    def _rate(self, ended: int, now: float) -> float:
        """Tasks that ended a second, over the last seconds."""
        self._samples.append((now, ended))
        while len(self._samples) > 2 and now - self._samples[1][0] > WINDOW_SECONDS:
            self._samples.popleft()
        since, before = self._samples[0]
        return max(0, ended - before) / (now - since) if now > since else 0.0


def tally(name: str, counts: "state_pb2.TaskCounts") -> Tally:
    """The daemon's counts in the words of the display: what the engine has and does not run yet still waits."""
    ended = counts.done + counts.error_fatal + counts.cancelled
    return Tally(
        name=name,
        total=counts.total,
        waiting=counts.total - ended - counts.running,
        running=counts.running,
        done=counts.done,
        failed=counts.error_fatal,
        cancelled=counts.cancelled,
    )


def most_active(arrays: list[Tally], most: int = MOST_ARRAYS) -> tuple[tuple[Tally, ...], int]:
    """Those that say most about what is going on, in their own order, and how many are left out."""
    if len(arrays) <= most:
        return tuple(arrays), 0
    ranked = sorted(range(len(arrays)), key=lambda place: _interest(arrays[place]), reverse=True)[:most]
    return tuple(arrays[place] for place in sorted(ranked)), len(arrays) - most


def _interest(array: Tally) -> tuple[bool, bool, bool, int]:
    begun = 0 < array.ended < array.total
    return array.failed > 0, array.running > 0, begun, array.running or array.waiting


def _notice(swarm: "swarm_pb2.Swarm") -> str:
    if swarm.outcome > 1:
        return ""
    if swarm.engine_trouble or swarm.held_reason:
        return swarm.engine_trouble or swarm.held_reason
    if swarm.refusals:
        names = {array.array_id: array.name for array in swarm.arrays}
        refused = swarm.refusals[0]
        name = names.get(refused.array_id) or f"array {refused.array_id}"
        return f"the engine takes no tasks of {name}: {refused.reason}"
    if swarm.task_counts.in_doubt:
        return f"{swarm.task_counts.in_doubt:,} tasks are in doubt: the engine has not said whether it took them"
    return ""
