"""StateUpdate: a set of changes to a swarm, as it travels between engine, scheduler, state and clients.

Task statuses read as a mapping of ids to statuses and are kept as columns: groups of ids that share one status.
"""

from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from swarmd.core.ids import Int64s
from swarmd.core.model import QueueLimits
from swarmd.core.status import TaskStatus

Attempts = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class StatusGroup:
    """Tasks that have, or are to get, one status."""

    status: TaskStatus
    task_ids: Int64s
    attempts: Attempts | None = None
    """The attempt that each task's news is about, beside task_ids; None or 0: not fenced."""
    reason: str = ""

    def without(self, task_ids: Int64s) -> "StatusGroup":
        """The same group less these tasks."""
        keep = ~np.isin(self.task_ids, task_ids)
        attempts = None if self.attempts is None else self.attempts[keep]
        return StatusGroup(self.status, self.task_ids[keep], attempts, self.reason)


class TaskStatuses(MutableMapping[int, TaskStatus]):
    """Statuses by task id, held as groups. Where an id is in several groups the last one counts.

    Equal to a dict of the same ids and statuses; the statuses compare as one-letter strings.
    """

    __slots__ = ("_lookup", "groups")

    def __init__(self, statuses: "Mapping[int, str] | list[StatusGroup] | None" = None) -> None:
        self.groups: list[StatusGroup] = []
        self._lookup: dict[int, TaskStatus] | None = None
        if isinstance(statuses, TaskStatuses):
            self.groups = list(statuses.groups)
        elif isinstance(statuses, list):
            self.groups = statuses
        elif statuses:
            self.groups = _groups_of(statuses)

    def add(self, status: TaskStatus, task_ids: ArrayLike, attempts: ArrayLike | None = None, reason: str = "") -> Self:
        """Append a group, the cheap way to put many tasks in, and give back all of them."""
        ids = np.asarray(task_ids, dtype=np.int64)
        fences = None if attempts is None else np.asarray(attempts, dtype=np.int32)
        self.groups.append(StatusGroup(status, ids, fences, reason))
        self._lookup = None
        return self

    def merged(self, other: "TaskStatuses") -> "TaskStatuses":
        """Both together; where they speak of the same task, the other's word."""
        theirs = [group.task_ids for group in other.groups if len(group.task_ids)]
        if not theirs:
            return TaskStatuses(list(self.groups))
        taken = np.concatenate(theirs)
        mine = (group.without(taken) for group in self.groups)
        return TaskStatuses([*(group for group in mine if len(group.task_ids)), *other.groups])

    def __getitem__(self, task_id: int) -> TaskStatus:
        return self._as_dict()[task_id]

    def __setitem__(self, task_id: int, status: str) -> None:
        known = TaskStatus(status)
        self.pop(task_id, None)
        self.add(known, [task_id])

    def __delitem__(self, task_id: int) -> None:
        if task_id not in self._as_dict():
            raise KeyError(task_id)
        gone = np.array([task_id], dtype=np.int64)
        self.groups = [group for group in (group.without(gone) for group in self.groups) if len(group.task_ids)]
        self._lookup = None

    def __iter__(self) -> Iterator[int]:
        return iter(self._as_dict())

    def __len__(self) -> int:
        return len(self._as_dict())

    def __bool__(self) -> bool:
        return any(len(group.task_ids) for group in self.groups)

    def __repr__(self) -> str:
        shown = {task_id: str(status) for task_id, status in list(self.items())[:10]}
        return f"TaskStatuses({len(self)} tasks: {shown}{' ...' if len(self) > 10 else ''})"

    def _as_dict(self) -> dict[int, TaskStatus]:
        if self._lookup is None:
            self._lookup = {}
            for group in self.groups:
                self._lookup.update(dict.fromkeys(group.task_ids.tolist(), group.status))
        return self._lookup


def _groups_of(statuses: Mapping[int, str]) -> list[StatusGroup]:
    by_status: dict[TaskStatus, list[int]] = {}
    for task_id, status in statuses.items():
        by_status.setdefault(TaskStatus(status), []).append(task_id)
    return [StatusGroup(status, np.array(ids, dtype=np.int64)) for status, ids in by_status.items()]


@dataclass
class StateUpdate:
    """What changed, or is to change. False when nothing does."""

    task_statuses: TaskStatuses = field(default_factory=TaskStatuses)
    """Statuses by task id; a plain dict of one-letter strings may be given."""
    max_concurrently_running: int | None = None
    """The swarm's limit; None: stays."""
    array_limits: dict[int, int | None] = field(default_factory=dict)
    """Limits by array id; None for unlimited."""
    workflow_run_status: str | None = None
    """The run's status, a one-letter code (`RunStatus`); None: stays."""
    sync_time: datetime | None = None
    """How current the news is, by the clock of whoever sends it."""
    queue_limits: list[QueueLimits] = field(default_factory=list)
    """What queues can hold; each takes the place of what was known of the same cluster and queue."""

    def __post_init__(self) -> None:
        given: Mapping[int, str] = self.task_statuses
        if not isinstance(given, TaskStatuses):
            self.task_statuses = TaskStatuses(given)

    @classmethod
    def empty(cls) -> Self:
        """An update that changes nothing."""
        return cls()

    def merge(self, other: "StateUpdate") -> "StateUpdate":
        """A new update that says what both say; where they disagree, the other wins."""
        limit = other.max_concurrently_running
        return StateUpdate(
            task_statuses=self.task_statuses.merged(other.task_statuses),
            max_concurrently_running=self.max_concurrently_running if limit is None else limit,
            array_limits={**self.array_limits, **other.array_limits},
            workflow_run_status=other.workflow_run_status or self.workflow_run_status,
            sync_time=other.sync_time or self.sync_time,
            queue_limits=_last_of_each([*self.queue_limits, *other.queue_limits]),
        )

    @property
    def tells_more(self) -> bool:
        """Whether anything but statuses of tasks is to change."""
        return bool(
            self.max_concurrently_running is not None
            or self.array_limits
            or self.workflow_run_status is not None
            or self.sync_time
            or self.queue_limits
        )

    def __bool__(self) -> bool:
        return bool(self.task_statuses or self.tells_more)


def _last_of_each(told: list[QueueLimits]) -> list[QueueLimits]:
    return list({(limits.cluster, limits.queue): limits for limits in told}.values())
