"""Loads as messages: what AddTasks takes, in chunks that fit below the daemon's message limit."""

from collections.abc import Iterator, Sequence
from typing import Protocol, cast

from swarmd._pb.swarm.v1 import array_pb2, swarm_service_pb2, task_pb2
from swarmd.core.model import Array, Task, TaskResources
from swarmd.core.status import TaskStatus

CHUNK_BYTES = 1 << 20
"""About how large a chunk gets; one command may have 128 KiB, so it stays far below the 4 MiB of the default limit."""

FIELD_BYTES = 6
"""What a message costs inside another one, at most: its tag and its length."""


class Loadable(Protocol):
    """Anything that has arrays, task resources and tasks: the plan of a workflow file, for example."""

    @property
    def arrays(self) -> Sequence[Array]: ...
    @property
    def task_resources(self) -> Sequence[TaskResources]: ...
    @property
    def tasks(self) -> Sequence[Task]: ...


def add_tasks_requests(
    swarm_id: str, load: Loadable, *, request_id: str = "", chunk_bytes: int = CHUNK_BYTES
) -> Iterator[swarm_service_pb2.AddTasksRequest]:
    """The chunks of a load, each of about `chunk_bytes` at most; one at least."""
    chunk = swarm_service_pb2.AddTasksRequest(swarm_id=swarm_id, request_id=request_id)
    size = chunk.ByteSize()
    for part in _parts(load):
        part_size = part.ByteSize() + FIELD_BYTES
        if size + part_size > chunk_bytes and (chunk.arrays or chunk.task_resources or chunk.tasks):
            yield chunk
            chunk, size = swarm_service_pb2.AddTasksRequest(), 0
        _put(chunk, part)
        size += part_size
    yield chunk


def _parts(load: Loadable) -> Iterator[array_pb2.Array | task_pb2.TaskResources | task_pb2.Task]:
    yield from map(array_message, load.arrays)
    yield from map(task_resources_message, load.task_resources)
    yield from map(task_message, load.tasks)


def _put(
    chunk: swarm_service_pb2.AddTasksRequest, part: array_pb2.Array | task_pb2.TaskResources | task_pb2.Task
) -> None:
    if isinstance(part, task_pb2.Task):
        chunk.tasks.append(part)
    elif isinstance(part, array_pb2.Array):
        chunk.arrays.append(part)
    else:
        chunk.task_resources.append(part)


def array_message(array: Array) -> array_pb2.Array:
    """One array as AddTasks takes it."""
    return array_pb2.Array(
        array_id=array.array_id,
        name=array.name,
        max_concurrently_running=array.max_concurrently_running,
        command=array.command,
    )


def task_resources_message(resources: TaskResources) -> task_pb2.TaskResources:
    """One set of task resources as AddTasks takes it."""
    message = task_pb2.TaskResources(
        task_resources_id=resources.task_resources_id,
        cluster=resources.cluster,
        queue=resources.queue,
        cores=resources.cores,
        memory_mib=resources.memory_mib,
        extra=dict(resources.extra),
    )
    if resources.runtime_seconds:
        message.runtime.FromNanoseconds(round(resources.runtime_seconds * 1e9))
    return message


def task_message(task: Task) -> task_pb2.Task:
    """One task as AddTasks takes it."""
    return task_pb2.Task(
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
