"""Small swarms and news for them, in few words: what the tests of the core (and of what is above it) are written in."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple
from typing import Any

import numpy as np

from swarmd.core.batch import Batch
from swarmd.core.change import Change
from swarmd.core.checks import inconsistencies
from swarmd.core.model import Array, Task, TaskResources
from swarmd.core.selecting import Selector
from swarmd.core.state import SwarmState
from swarmd.core.status import Code, TaskStatus
from swarmd.core.update import StateUpdate, TaskStatuses

COLUMNS = (
    "task_id",
    "status",
    "attempt",
    "failures",
    "max_attempts",
    "upstreams_left",
    "scales",
    "queued_at",
    "changed_at",
)


def a_task(
    task_id: int, *upstreams: int, array: int = 1, resources: int = 1, scales: Mapping[str, float] | None = None, **more
) -> Task:
    """A task of array 1 with resources 1, unless told otherwise."""
    return Task(task_id, array, resources, upstream_task_ids=upstreams, resource_scales=scales or {}, **more)


def a_swarm(
    tasks: int | Iterable[Task] = (),
    *,
    arrays: Mapping[int, int | None] | int = 1,
    resources: Sequence[TaskResources] = (TaskResources(1, memory_mib=100), TaskResources(2, memory_mib=1000)),
    **options: Any,
) -> SwarmState:
    """A swarm of tasks (or so many, numbered from 1) over arrays (so many, or limits by id)."""
    limits = dict.fromkeys(range(1, arrays + 1)) if isinstance(arrays, int) else arrays
    all_tasks = [a_task(number) for number in range(1, tasks + 1)] if isinstance(tasks, int) else list(tasks)
    state = SwarmState("swarm", **options)
    state.load([Array(each, max_concurrently_running=limit) for each, limit in limits.items()], resources, all_tasks)
    return state


def news(status: str, ids: Sequence[int], attempts: Sequence[int] | None = None, reason: str = "") -> StateUpdate:
    """An update of one group."""
    statuses = TaskStatuses()
    statuses.add(TaskStatus(status), ids, attempts, reason)
    return StateUpdate(statuses)


def several(*groups: tuple[str, Sequence[int], Sequence[int] | None]) -> StateUpdate:
    """An update of several groups: (status, ids, attempts or None)."""
    statuses = TaskStatuses()
    for status, ids, attempts in groups:
        statuses.add(TaskStatus(status), ids, attempts)
    return StateUpdate(statuses)


def tell(
    state: SwarmState, status: str, *ids: int, attempts: Sequence[int] | None = None, reason: str = "", at: float = 0.0
) -> Change:
    """Apply news of one status."""
    return state.apply_update(news(status, ids, attempts, reason), at=at)


def only(*ids: int) -> Selector:
    """These tasks."""
    return Selector(task_ids=np.array(ids, dtype=np.int64))


def taken(state: SwarmState, max_size: int = 500, at: float = 0.0) -> Batch:
    """The next batch, which must be there."""
    batch = state.take_batch(max_size, at=at)
    assert batch is not None
    return batch


def take_all(state: SwarmState, max_size: int = 500) -> list[Batch]:
    """Batches until there are no more."""
    batches = []
    while (batch := state.take_batch(max_size)) is not None:
        batches.append(batch)
    return batches


def ids_of(batches: Iterable[Batch]) -> list[list[int]]:
    return [batch.task_ids.tolist() for batch in batches]


def all_ids_of(batches: Iterable[Batch]) -> list[int]:
    """The ids of all batches, one after the other."""
    return [task_id for ids in ids_of(batches) for task_id in ids]


def accept(state: SwarmState, batch: Batch, status: str = "Q") -> Change:
    """The engine took all of the batch, and the news of it is applied."""
    state.settle(batch)
    return state.apply_update(news(status, batch.task_ids.tolist(), batch.attempts.tolist()))


def queue_all(state: SwarmState, status: str = "Q") -> list[list[int]]:
    """Take all that may go and let the engine accept it; the ids batch by batch."""
    batches = take_all(state)
    for batch in batches:
        accept(state, batch, status)
    return ids_of(batches)


def status_of(state: SwarmState, task_id: int) -> str:
    return str(state.task(task_id).status)


def statuses(state: SwarmState) -> str:
    """The letters of all tasks in the order of loading."""
    return "".join(str(view.status) for view in state.tasks()[0])


def is_ready(state: SwarmState, task_id: int) -> bool:
    return int(state.table.queue.ready_seq[state.task(task_id).row]) != 0


def ready_order(state: SwarmState) -> list[int]:
    """All ready tasks in the order in which they would leave, were there no limits. The state is left as it was."""
    lanes = state.table.queue.entries()
    heads = {lane: int(state.table.queue.ready_seq[rows[0]]) for lane, rows in lanes.items() if rows}
    in_order = sorted(heads, key=lambda lane: (-int(state.table.lanes.priority[lane]), heads[lane]))
    return [int(state.table.task_id[row]) for lane in in_order for row in lanes[lane]]


def code_of(state: SwarmState, task_id: int) -> Code:
    """Where the task stands inside, RESERVED told from REGISTERED."""
    return Code(int(state.table.status[state.task(task_id).row]))


def well(state: SwarmState) -> bool:
    """Whether the state agrees with itself; says how not."""
    found = inconsistencies(state)
    assert not found, found
    return True


def dump(state: SwarmState) -> dict[str, Any]:
    """Everything there is in a state, as plain values that can be compared."""
    table = state.table
    return {
        **{name: getattr(table, name)[: table.size].tolist() for name in COLUMNS},
        "lane": table.lanes.of_task[: table.size].tolist(),
        "ready_seq": table.queue.ready_seq[: table.size].tolist(),
        "lanes": table.queue.entries(),
        "open_arrays": table.queue.open_arrays(),
        "counts": table.usage.counts().tolist(),
        "totals": list(table.usage.totals),
        "array_limits": [table.usage.limit(row) for row in range(table.usage.array_count)],
        "arrays": list(table.arrays),
        "resources": list(table.resources),
        "scale_sets": list(table.scale_sets.sets),
        "queue_limits": dict(table.queues.known),
        "texts": [(table.names[row], table.commands[row]) for row in range(table.size)],
        "upstreams": [table.upstreams.of(row).tolist() for row in range(table.size)],
        "downstreams": [
            sorted(table.downstreams.of(np.array([row], dtype=np.int32)).tolist()) for row in range(table.size)
        ],
        "ids": (table.ids.size, table.array_ids.size, table.resources_ids.size),
        "history": [[astuple(record) for record in state.history.of(row)] for row in range(table.size)],
        "open_batches": [(key, each.in_doubt, each.doubt) for key, each in state.open_batches.items()],
        "settings": (
            state.revision,
            state.max_concurrently_running,
            state.paused,
            state.fail_fast,
            state.run_status,
            state.sync_time,
        ),
    }
