"""How tasks and counts look from outside: plain values for answers, made on demand."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from swarmd.core.columns import Scales
from swarmd.core.history import AttemptRecord, History
from swarmd.core.status import STATUS_OF, Code, TaskStatus
from swarmd.core.table import Table


@dataclass(frozen=True, slots=True)
class Counts:
    """How many tasks stand where."""

    total: int
    registered: int
    """Also those that are ready and those that are reserved."""
    queued: int
    instantiating: int
    launched: int
    running: int
    done: int
    error_fatal: int
    cancelled: int
    ready: int
    reserved: int
    in_doubt: int
    active: int

    @classmethod
    def of(cls, by_code: Sequence[int], *, ready: int, in_doubt: int = 0) -> "Counts":
        reserved = by_code[Code.RESERVED]
        queued, instantiating, launched, running = by_code[Code.QUEUED : Code.RUNNING + 1]
        done, error_fatal, cancelled = by_code[Code.DONE : Code.CANCELLED + 1]
        return cls(
            total=sum(by_code),
            registered=by_code[Code.REGISTERED] + reserved,
            queued=queued,
            instantiating=instantiating,
            launched=launched,
            running=running,
            done=done,
            error_fatal=error_fatal,
            cancelled=cancelled,
            ready=ready,
            reserved=reserved,
            in_doubt=in_doubt,
            active=reserved + queued + instantiating + launched + running,
        )


def counts_of_array(table: Table, array_row: int, *, in_doubt: int = 0) -> Counts:
    """The counts of one array."""
    by_code = table.usage.counts()[array_row].tolist()
    return Counts.of(by_code, ready=table.queue.live_of(array_row), in_doubt=in_doubt)


def attempt_that_stands(table: Table, row: int) -> AttemptRecord:
    """The attempt in which the task is, or by which it ended."""
    return AttemptRecord(
        attempt=int(table.attempt[row]),
        status=STATUS_OF[int(table.status[row])],
        queued_at=float(table.queued_at[row]),
        changed_at=float(table.changed_at[row]),
        resources=int(table.lanes.resources_row[table.lanes.of_task[row]]),
    )


@dataclass(frozen=True, slots=True)
class TaskView:
    """One task as it stands."""

    task_id: int
    array_id: int
    task_resources_id: int
    name: str
    command: str
    """Its own; empty when the array's is used."""
    upstream_task_ids: tuple[int, ...]
    status: TaskStatus
    max_attempts: int
    priority: int
    resource_scales: Scales
    attempt: int
    failed_attempts: int
    status_at: float
    """Seconds since the epoch; 0: it never moved."""
    queued_at: float
    reason: str
    """Why the last attempt failed, or why the task was cancelled; empty when it is DONE."""
    row: int


def task_view(table: Table, history: History, row: int) -> TaskView:
    """The task in this row."""
    lane = int(table.lanes.of_task[row])
    upstreams = table.task_id[table.upstreams.of(row)]
    status = STATUS_OF[int(table.status[row])]
    return TaskView(
        task_id=int(table.task_id[row]),
        array_id=table.array_of(row).array_id,
        task_resources_id=table.resources_of(row).task_resources_id,
        name=table.names[row],
        command=table.commands[row],
        upstream_task_ids=tuple(np.asarray(upstreams).tolist()),
        status=status,
        max_attempts=int(table.max_attempts[row]),
        priority=int(table.lanes.priority[lane]),
        resource_scales=table.scale_sets.sets[int(table.scales[row])],
        attempt=int(table.attempt[row]),
        failed_attempts=int(table.failures[row]),
        status_at=float(table.changed_at[row]),
        queued_at=float(table.queued_at[row]),
        reason="" if status is TaskStatus.DONE else history.last_reason(row),
        row=row,
    )
