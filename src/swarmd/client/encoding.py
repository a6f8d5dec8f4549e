"""Loads and news as messages: what AddTasks takes, in chunks that fit below the daemon's message limit, and updates."""

import operator
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, islice
from typing import Any, Protocol, SupportsIndex, cast, runtime_checkable

import numpy as np
from google.protobuf.duration_pb2 import Duration
from numpy.typing import ArrayLike, NDArray

from swarmd._pb.swarm.v1 import array_pb2, state_pb2, swarm_service_pb2, task_pb2
from swarmd.client.columns import TaskBlock, entries, entry
from swarmd.client.messages import UNFIT, message_of, unfit
from swarmd.client.ordering import Tasks
from swarmd.core.errors import InvalidInputError
from swarmd.core.ids import Int64s
from swarmd.core.model import Array, QueueLimits, Task, TaskResources
from swarmd.core.status import RunStatus, TaskStatus
from swarmd.core.update import StateUpdate, TaskStatuses

CHUNK_BYTES = 1 << 20
"""About how large a chunk gets; one command may have 128 KiB, so it stays far below the 4 MiB of the default limit."""

TASKS_AT_ONCE = 1000
"""So many tasks that are no columns are written at a time."""
MAX_ID = (1 << 63) - 1
Ids = ArrayLike | Tasks
"""Ids of tasks: one, a list, a range, a numpy array of whole numbers, or tasks of a Swarm that was built here."""

_ARRAYS, _TASK_RESOURCES, _TASKS = b"\x12", b"\x1a", b"\x22"
"""The tags of fields 2, 3 and 4 of AddTasksRequest."""


class Loadable(Protocol):
    """Anything that has arrays, task resources and tasks: the plan of a workflow file, for example."""

    @property
    def arrays(self) -> Sequence[Array]: ...
    @property
    def task_resources(self) -> Sequence[TaskResources]: ...
    @property
    def tasks(self) -> Iterable[Task]: ...


@runtime_checkable
class ColumnLoad(Protocol):
    """A load whose tasks are in columns."""

    @property
    def arrays(self) -> Sequence[Array]: ...
    @property
    def task_resources(self) -> Sequence[TaskResources]: ...
    @property
    def blocks(self) -> Sequence[TaskBlock]: ...


def add_tasks_chunks(
    swarm_id: str, load: Loadable | ColumnLoad, *, request_id: str = "", chunk_bytes: int = CHUNK_BYTES
) -> Iterator[bytes]:
    """The chunks of a load as serialised AddTasksRequests, each of about `chunk_bytes` at most; one at least."""
    chunk = [swarm_service_pb2.AddTasksRequest(swarm_id=swarm_id, request_id=request_id).SerializeToString()]
    size, is_empty = len(chunk[0]), True
    for parts in _parts(load):
        start, ends = 0, list(accumulate(map(len, parts), initial=0))
        while start < len(parts):
            stop = bisect_right(ends, chunk_bytes - size + ends[start], start + 1) - 1
            if stop == start and not is_empty:
                yield b"".join(chunk)
                chunk, size, is_empty = [], 0, True
                continue
            stop = max(stop, start + 1)
            chunk += parts[start:stop]
            size, is_empty = size + ends[stop] - ends[start], False
            start = stop
    yield b"".join(chunk)


def _parts(load: Loadable | ColumnLoad) -> Iterator[list[bytes]]:
    """The fields of a load, many at a time."""
    yield [entry(_ARRAYS, array_message(array).SerializeToString()) for array in load.arrays]
    yield [entry(_TASK_RESOURCES, task_resources_message(each).SerializeToString()) for each in load.task_resources]
    if isinstance(load, ColumnLoad):
        for block in load.blocks:
            for tasks in block.encoded():
                yield entries(_TASKS, tasks)
    else:
        left = iter(load.tasks)
        while some := list(islice(left, TASKS_AT_ONCE)):
            yield entries(_TASKS, [task_message(each).SerializeToString() for each in some])


def array_message(array: Array) -> array_pb2.Array:
    """One array as AddTasks takes it."""
    return message_of(
        array_pb2.Array,
        array_id=array.array_id,
        name=array.name,
        max_concurrently_running=array.max_concurrently_running,
        command=array.command,
    )


def task_resources_message(resources: TaskResources) -> task_pb2.TaskResources:
    """One set of task resources as AddTasks takes it."""
    message = message_of(
        task_pb2.TaskResources,
        task_resources_id=resources.task_resources_id,
        cluster=resources.cluster,
        queue=resources.queue,
        cores=resources.cores,
        memory_mib=resources.memory_mib,
        extra=dict(resources.extra),
        fallback_queues=resources.fallback_queues,
    )
    if resources.runtime_seconds:
        message.runtime.CopyFrom(_duration(resources.runtime_seconds))
    return message


def _duration(seconds: float) -> Duration:
    message = Duration()
    try:
        message.FromNanoseconds(round(seconds * 1e9))
    except UNFIT as error:
        raise unfit("runtime_seconds", seconds, error) from None
    return message


def task_message(task: Task) -> task_pb2.Task:
    """One task as AddTasks takes it."""
    return message_of(
        task_pb2.Task,
        task_id=task.task_id,
        array_id=task.array_id,
        task_resources_id=task.task_resources_id,
        name=task.name,
        command=task.command,
        upstream_task_ids=task.upstream_task_ids,
        status=task_status_value(task.status),
        max_attempts=task.max_attempts,
        priority=task.priority,
        resource_scales=task.resource_scales,
        attempt=task.attempt,
        failed_attempts=task.failed_attempts,
    )


_STATUS_VALUES: dict[TaskStatus, task_pb2.TaskStatus] = {
    status: cast("task_pb2.TaskStatus", task_pb2.TaskStatus.Value(f"TASK_STATUS_{status.name}"))
    for status in TaskStatus
}


def task_status_value(status: TaskStatus) -> task_pb2.TaskStatus:
    """A status as messages carry it."""
    return _STATUS_VALUES[status]


def status_of(word: TaskStatus | str, field: str = "status") -> TaskStatus:
    """A status by its one-letter code. Raises InvalidInputError for what is none."""
    try:
        return TaskStatus(word)
    except ValueError:
        known = ", ".join(f"{each.value} ({each.name})" for each in TaskStatus)
        message = f"{field}: {word!r} is no status of tasks; they are {known}"
        raise InvalidInputError(message, reason="UNKNOWN_STATUS", field=field) from None


_RUN_STATUS_VALUES: dict[RunStatus, state_pb2.WorkflowRunStatus] = {
    status: cast("state_pb2.WorkflowRunStatus", state_pb2.WorkflowRunStatus.Value(f"WORKFLOW_RUN_STATUS_{status.name}"))
    for status in RunStatus
}


def run_status_value(status: str) -> state_pb2.WorkflowRunStatus:
    """The status of a run as messages carry it. Raises InvalidInputError for what is none."""
    try:
        return _RUN_STATUS_VALUES[RunStatus(status)]
    except ValueError:
        known = ", ".join(f"{each.value} ({each.name})" for each in RunStatus)
        message = f"run_status: {status!r} is no status of a run; they are {known}"
        raise InvalidInputError(message, reason="UNKNOWN_STATUS", field="run_status") from None


def ids_of(task_ids: Ids, field: str = "task_ids") -> Int64s:
    """Ids as a column of its own. Raises InvalidInputError for what are none."""
    if isinstance(task_ids, Tasks):
        return task_ids.task_ids
    if isinstance(task_ids, Iterator | set | frozenset):
        task_ids = list(task_ids)
    found = np.atleast_1d(np.asarray(task_ids))
    if found.size == 0:
        return np.zeros(0, dtype=np.int64)
    if found.dtype.kind in "fO" and isinstance(task_ids, list | tuple):
        found = _whole_numbers(task_ids, found)
    if found.ndim != 1 or found.dtype.kind not in "iu":
        message = f"{field}: {found.dtype} of shape {found.shape} are no ids; give whole numbers, in one dimension"
        raise InvalidInputError(message, reason="INVALID_IDS", field=field)
    if found.dtype == np.uint64 and found.max() > MAX_ID:
        message = f"{field}: {found.max()} is too large for an id; the largest is {MAX_ID}"
        raise InvalidInputError(message, reason="INVALID_IDS", field=field)
    return found.astype(np.int64)


def _whole_numbers(given: Sequence[object], found: NDArray[Any]) -> NDArray[Any]:
    """Whole numbers of several types, which numpy makes floats of; what it found when there are others among them."""
    if not all(isinstance(each, SupportsIndex) and not isinstance(each, bool | np.bool_) for each in given):
        return found
    try:
        return np.array([operator.index(cast("SupportsIndex", each)) for each in given])
    except TypeError:  # arrays within
        return found


def status_group(
    status: TaskStatus, task_ids: Ids, attempts: Ids | None = None, reason: str = ""
) -> state_pb2.TaskStatusGroup:
    """Tasks with their new status as an update carries them; one attempt for all, or one for each."""
    ids = ids_of(task_ids)
    fences: list[int] = []
    if attempts is not None:
        given = ids_of(attempts, "attempts")
        if len(given) not in (1, len(ids)):
            message = f"attempts: {len(given)} for {len(ids)} tasks; give one for each, or one for all"
            raise InvalidInputError(message, reason="INVALID_ATTEMPTS", field="attempts")
        fences = np.broadcast_to(given, ids.shape).tolist()
    return state_pb2.TaskStatusGroup(
        status=task_status_value(status), task_ids=ids.tolist(), attempts=fences, reason=reason
    )


def update_message(update: StateUpdate | Mapping[int, str]) -> state_pb2.StateUpdate:
    """A set of changes, or just statuses by task id, as ApplyUpdate takes it."""
    if not isinstance(update, StateUpdate):
        update = StateUpdate(TaskStatuses(update))
    message = state_pb2.StateUpdate(
        task_statuses=[
            status_group(group.status, group.task_ids, group.attempts, group.reason)
            for group in update.task_statuses.groups
        ],
        max_concurrently_running=update.max_concurrently_running,
        array_limits=[
            state_pb2.ArrayLimit(array_id=array_id, max_concurrently_running=limit)
            for array_id, limit in update.array_limits.items()
        ],
    )
    if update.workflow_run_status:
        message.workflow_run_status = run_status_value(update.workflow_run_status)
    if update.sync_time is not None:
        message.sync_time.FromDatetime(update.sync_time)
    message.queue_limits.extend(map(_queue_limits_message, update.queue_limits))
    return message


def _queue_limits_message(limits: QueueLimits) -> task_pb2.QueueLimits:
    message = message_of(
        task_pb2.QueueLimits,
        cluster=limits.cluster,
        queue=limits.queue,
        cores=limits.cores,
        memory_mib=limits.memory_mib,
    )
    if limits.runtime_seconds is not None:
        message.runtime.CopyFrom(_duration(limits.runtime_seconds))
    return message
