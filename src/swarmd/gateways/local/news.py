"""What there is to report, gathered for some milliseconds: a thousand short tasks make a few dozen reports.

Used by the local gateway. Within one report the starts come first, so that no task runs again after its end.
"""

import asyncio
from dataclasses import dataclass, field

from swarmd.core.status import TaskStatus
from swarmd.core.update import StateUpdate, TaskStatuses
from swarmd.gateways.contract import Report
from swarmd.gateways.local.attempt import Attempt, AttemptKey

INTERVAL_SECONDS = 0.02


@dataclass(slots=True)
class SwarmNews:
    """News of one swarm that was not reported yet."""

    running: dict[int, int] = field(default_factory=dict)
    """Attempts by task id, of those that started; some may have ended since, which is told after it."""
    ended: dict[tuple[TaskStatus, str], list[AttemptKey]] = field(default_factory=dict)
    """Those that ended, by status and reason."""
    ended_ids: set[int] = field(default_factory=set)

    def update(self) -> StateUpdate:
        statuses = TaskStatuses()
        if self.running:
            statuses.add(TaskStatus.RUNNING, list(self.running), list(self.running.values()))
        for (status, reason), keys in self.ended.items():
            statuses.add(status, [key[0] for key in keys], [key[1] for key in keys], reason)
        return StateUpdate(task_statuses=statuses)


class News:
    """Gathers news and reports it at most once an interval, or when `flush` says so."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._loop = asyncio.get_running_loop()
        self._swarms: dict[str, SwarmNews] = {}
        self._timer: asyncio.TimerHandle | None = None
        self.has_ends = False

    def started(self, attempt: Attempt) -> None:
        """It runs."""
        task_id, number = attempt.key
        news = self._of(attempt)
        if task_id in news.ended_ids:
            # The end of an earlier attempt is still here, and would come after this start.
            self.flush()
            news = self._of(attempt)
        news.running[task_id] = number

    def ended(self, attempt: Attempt, status: TaskStatus, reason: str = "") -> None:
        """It is over, with this status."""
        news = self._of(attempt)
        news.ended.setdefault((status, reason), []).append(attempt.key)
        news.ended_ids.add(attempt.key[0])
        self.has_ends = True

    def forget_start(self, attempt: Attempt) -> None:
        """It was cancelled before its start was reported."""
        news = self._swarms.get(attempt.swarm.info.swarm_id)
        task_id, number = attempt.key
        if news and news.running.get(task_id) == number:
            del news.running[task_id]

    def forget_swarm(self, swarm_id: str) -> None:
        self._swarms.pop(swarm_id, None)

    def flush(self) -> None:
        """Report everything now."""
        if self._timer:
            self._timer.cancel()
            self._timer = None
        swarms, self._swarms = self._swarms, {}
        self.has_ends = False
        for swarm_id, news in swarms.items():
            update = news.update()
            if update:
                self._report(swarm_id, update)

    def _of(self, attempt: Attempt) -> SwarmNews:
        if self._timer is None:
            self._timer = self._loop.call_later(INTERVAL_SECONDS, self.flush)
        return self._swarms.setdefault(attempt.swarm.info.swarm_id, SwarmNews())
