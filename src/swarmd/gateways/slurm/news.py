"""What there is to report after a look at the queue, gathered by swarm, status and reason."""

from swarmd.core.status import TaskStatus
from swarmd.core.update import StateUpdate, TaskStatuses
from swarmd.gateways.contract import Report
from swarmd.gateways.slurm.attempts import Element

_Keys = tuple[list[int], list[int]]


class News:
    """Gathers; `flush` reports a swarm at a time. What was said first is reported first."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._swarms: dict[str, dict[tuple[TaskStatus, str], _Keys]] = {}

    def add(self, element: Element, status: TaskStatus, reason: str = "") -> None:
        """An attempt has this status now; silent ones are passed over."""
        swarm = element.batch.swarm
        if element.silent or swarm.is_removed:
            return
        groups = self._swarms.setdefault(swarm.swarm_id, {})
        ids, attempts = groups.setdefault((status, reason), ([], []))
        ids.append(element.task_id)
        attempts.append(element.attempt)

    def flush(self) -> None:
        """Report everything."""
        swarms, self._swarms = self._swarms, {}
        for swarm_id, groups in swarms.items():
            statuses = TaskStatuses()
            for (status, reason), (ids, attempts) in groups.items():
                statuses.add(status, ids, attempts, reason)
            self._report(swarm_id, StateUpdate(task_statuses=statuses))

    def forget(self) -> None:
        """Report nothing of it."""
        self._swarms.clear()
