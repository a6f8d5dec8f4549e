"""The core's values into messages."""

from collections.abc import Sequence
from dataclasses import asdict

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from swarmd._pb.swarm.v1 import array_pb2, state_pb2, swarm_service_pb2, task_pb2
from swarmd.core.change import Change
from swarmd.core.history import AttemptRecord
from swarmd.core.model import Array, QueueLimits, TaskResources
from swarmd.core.status import RunStatus
from swarmd.core.update import StateUpdate, StatusGroup
from swarmd.core.views import Counts, TaskView
from swarmd.wire.names import IGNORED_TO_PB, RUN_STATUS_TO_PB, TASK_STATUS_TO_PB


def timestamp(at: float) -> Timestamp | None:
    """Seconds since the epoch; None for 0, which means that nothing is known."""
    if not at:
        return None
    message = Timestamp()
    message.FromMicroseconds(int(at * 1e6))
    return message


def duration(seconds: float) -> Duration:
    """Seconds as a Duration."""
    whole = int(seconds)
    return Duration(seconds=whole, nanos=round((seconds - whole) * 1e9))


def counts(values: Counts) -> state_pb2.TaskCounts:
    """How many tasks stand where."""
    return state_pb2.TaskCounts(**asdict(values))


def group(values: StatusGroup) -> state_pb2.TaskStatusGroup:
    """Tasks of one status."""
    return state_pb2.TaskStatusGroup(
        status=TASK_STATUS_TO_PB[values.status],
        task_ids=values.task_ids.tolist(),
        attempts=None if values.attempts is None else values.attempts.tolist(),
        reason=values.reason,
    )


def array(values: Array, limit: int | None, numbers: Counts | None = None) -> array_pb2.Array:
    """One array with the limit that it has now."""
    return array_pb2.Array(
        array_id=values.array_id,
        name=values.name,
        max_concurrently_running=limit,
        command=values.command,
        task_counts=None if numbers is None else counts(numbers),
    )


def task_resources(values: TaskResources) -> task_pb2.TaskResources:
    """What tasks ask for."""
    return task_pb2.TaskResources(
        task_resources_id=values.task_resources_id,
        cluster=values.cluster,
        queue=values.queue,
        cores=values.cores,
        memory_mib=values.memory_mib,
        runtime=duration(values.runtime_seconds) if values.runtime_seconds else None,
        extra=values.extra,
        fallback_queues=values.fallback_queues,
    )


def queue_limits(values: QueueLimits) -> task_pb2.QueueLimits:
    """What one queue can hold."""
    seconds = values.runtime_seconds
    return task_pb2.QueueLimits(
        cluster=values.cluster,
        queue=values.queue,
        cores=values.cores,
        memory_mib=values.memory_mib,
        runtime=None if seconds is None else duration(seconds),
    )


def task(values: TaskView, *, brief: bool = False) -> task_pb2.Task:
    """One task; brief without command and upstreams."""
    return task_pb2.Task(
        task_id=values.task_id,
        array_id=values.array_id,
        task_resources_id=values.task_resources_id,
        name=values.name,
        command="" if brief else values.command,
        upstream_task_ids=() if brief else values.upstream_task_ids,
        status=TASK_STATUS_TO_PB[values.status],
        max_attempts=values.max_attempts,
        priority=values.priority,
        resource_scales=values.resource_scales,
        attempt=values.attempt,
        failed_attempts=values.failed_attempts,
        status_time=timestamp(values.status_at),
        reason=values.reason,
    )


def state_update(update: StateUpdate) -> state_pb2.StateUpdate:
    """All of an update."""
    message = state_pb2.StateUpdate(task_statuses=[group(each) for each in update.task_statuses.groups])
    if update.max_concurrently_running is not None:
        message.max_concurrently_running = update.max_concurrently_running
    if update.array_limits:
        message.array_limits.extend(limits(update.array_limits))
    if update.workflow_run_status:
        message.workflow_run_status = RUN_STATUS_TO_PB[RunStatus(update.workflow_run_status)]
    if update.sync_time is not None:
        message.sync_time.FromDatetime(update.sync_time)
    message.queue_limits.extend(queue_limits(each) for each in update.queue_limits)
    return message


def ignored(change: Change) -> list[state_pb2.IgnoredNews]:
    """The stale parts of an update."""
    return [
        state_pb2.IgnoredNews(
            task_ids=each.task_ids.tolist(),
            status=TASK_STATUS_TO_PB[each.status],
            reason=IGNORED_TO_PB[each.effect],
        )
        for each in change.ignored
    ]


def attempt(values: AttemptRecord, asked_for: TaskResources | None) -> swarm_service_pb2.Attempt:
    """One attempt of a task, with what it asked for if that is known."""
    return swarm_service_pb2.Attempt(
        attempt=values.attempt,
        status=TASK_STATUS_TO_PB[values.status],
        queue_time=timestamp(values.queued_at),
        status_time=timestamp(values.changed_at),
        reason=values.reason,
        task_resources=None if asked_for is None else task_resources(asked_for),
    )


def limits(values: dict[int, int | None]) -> Sequence[state_pb2.ArrayLimit]:
    """Array limits that changed."""
    return [
        state_pb2.ArrayLimit(array_id=array_id, max_concurrently_running=limit) for array_id, limit in values.items()
    ]
