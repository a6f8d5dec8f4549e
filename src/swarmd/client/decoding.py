"""From the messages of the protocol to the client's values."""

from datetime import UTC, datetime

import numpy as np
from google.protobuf.timestamp_pb2 import Timestamp

from swarmd._pb.swarm.v1 import array_pb2, batch_pb2, state_pb2, swarm_pb2, task_pb2
from swarmd._pb.swarm.v1 import scheduler_service_pb2 as scheduler_pb
from swarmd._pb.swarm.v1 import swarm_service_pb2 as service_pb
from swarmd.client import values
from swarmd.client.errors import RpcError, error_of
from swarmd.core.model import TaskResources
from swarmd.core.policy import SchedulingPolicy
from swarmd.core.status import RunStatus, TaskStatus

_STATUS_OF: dict[int, TaskStatus] = {
    task_pb2.TaskStatus.Value(f"TASK_STATUS_{status.name}"): status for status in TaskStatus
}
_RUN_STATUS_OF: dict[int, RunStatus] = {
    state_pb2.WorkflowRunStatus.Value(f"WORKFLOW_RUN_STATUS_{status.name}"): status for status in RunStatus
}
_POLICY_OF: dict[int, SchedulingPolicy] = {
    swarm_pb2.SchedulingPolicy.Value(f"SCHEDULING_POLICY_{policy.name}"): policy for policy in SchedulingPolicy
}
_CODE_NAMES = {3: "INVALID_ARGUMENT", 5: "NOT_FOUND", 6: "ALREADY_EXISTS", 7: "PERMISSION_DENIED"} | {
    8: "RESOURCE_EXHAUSTED",
    9: "FAILED_PRECONDITION",
    11: "OUT_OF_RANGE",
    13: "INTERNAL",
    14: "UNAVAILABLE",
    16: "UNAUTHENTICATED",
}


def task_status(number: int) -> TaskStatus:
    """A status from its number; one that this client does not know is REGISTERED."""
    return _STATUS_OF.get(number, TaskStatus.REGISTERED)


def outcome(number: int) -> values.Outcome:
    """How a swarm stands, from its number."""
    if number == swarm_pb2.SWARM_OUTCOME_DONE:
        return values.Outcome.DONE
    return values.Outcome.ERROR if number == swarm_pb2.SWARM_OUTCOME_ERROR else values.Outcome.UNFINISHED


def time(message: Timestamp) -> datetime | None:
    """A moment; None when it is not told."""
    return message.ToDatetime(tzinfo=UTC) if message.seconds or message.nanos else None


def task_counts(message: state_pb2.TaskCounts) -> values.TaskCounts:
    """How many tasks stand where."""
    return values.TaskCounts(
        message.total,
        message.registered,
        message.queued,
        message.instantiating,
        message.launched,
        message.running,
        message.done,
        message.error_fatal,
        message.cancelled,
        message.ready,
        message.reserved,
        message.in_doubt,
        message.active,
    )


def swarm_status(message: swarm_pb2.Swarm) -> values.SwarmStatus:
    """A swarm and how it stands."""
    arrays: dict[str, values.ArrayStatus] = {}
    for array in message.arrays:
        name = array.name if array.name and array.name not in arrays else str(array.array_id)
        arrays[name] = array_status(array)
    return values.SwarmStatus(
        swarm_id=message.swarm_id,
        display_name=message.display_name,
        outcome=outcome(message.outcome),
        counts=task_counts(message.task_counts),
        revision=message.revision,
        max_concurrently_running=message.max_concurrently_running,
        paused=message.paused,
        autopilot=message.autopilot,
        fail_fast=message.fail_fast,
        gateway=message.gateway,
        run_status=_RUN_STATUS_OF.get(message.workflow_run_status, RunStatus.RUNNING),
        blocked_count=message.blocked_count,
        held_reason=message.held_reason,
        working_directory=message.working_directory,
        environment=dict(message.environment),
        gateway_options=dict(message.gateway_options),
        scheduling_policy=_POLICY_OF.get(message.scheduling_policy, SchedulingPolicy.FIRST_COME_FIRST_SERVED),
        create_time=time(message.create_time),
        sync_time=time(message.sync_time),
        in_memory=message.in_memory,
        log_directory=message.log_directory,
        engine_trouble=message.engine_trouble,
        refusals=tuple(standing_refusal(each) for each in message.refusals),
        arrays=arrays,
    )


def standing_refusal(message: swarm_pb2.StandingRefusal) -> values.StandingRefusal:
    """What the engine refuses of an array."""
    return values.StandingRefusal(
        message.array_id,
        message.task_resources_id,
        message.reason,
        message.times,
        time(message.since_time),
        time(message.latest_time),
    )


def array_status(message: array_pb2.Array) -> values.ArrayStatus:
    """An array and how its tasks stand."""
    limit = message.max_concurrently_running if message.HasField("max_concurrently_running") else None
    return values.ArrayStatus(message.array_id, message.name, limit, task_counts(message.task_counts))


def task_info(message: task_pb2.Task) -> values.TaskInfo:
    """A task and how it stands."""
    return values.TaskInfo(
        task_id=message.task_id,
        array_id=message.array_id,
        task_resources_id=message.task_resources_id,
        name=message.name,
        status=task_status(message.status),
        attempt=message.attempt,
        failed_attempts=message.failed_attempts,
        max_attempts=message.max_attempts,
        priority=message.priority,
        status_time=time(message.status_time),
        reason=message.reason,
        command=message.command,
        upstream_task_ids=tuple(message.upstream_task_ids),
    )


def explanation(message: service_pb.ExplainTaskResponse) -> values.Explanation:
    """Why a task is not running."""
    kind_name = service_pb.Obstacle.Kind.Name
    obstacles = tuple(
        values.Obstacle(kind_name(each.kind).removeprefix("KIND_"), each.message, tuple(each.task_ids), each.count)
        for each in message.obstacles
    )
    attempts = tuple(map(_attempt, message.attempts))
    return values.Explanation(task_info(message.task), message.summary, obstacles, attempts)


def _attempt(message: service_pb.Attempt) -> values.Attempt:
    return values.Attempt(
        message.attempt,
        task_status(message.status),
        time(message.queue_time),
        time(message.status_time),
        message.reason,
        task_resources(message.task_resources) if message.HasField("task_resources") else None,
    )


def load_result(message: service_pb.AddTasksResponse) -> values.LoadResult:
    """What a load added."""
    return values.LoadResult(
        message.task_count,
        message.array_count,
        message.task_resources_count,
        message.newly_ready_count,
        message.revision,
    )


def task_resources(message: task_pb2.TaskResources) -> TaskResources:
    """What tasks ask of the engine."""
    return TaskResources(
        message.task_resources_id,
        message.cluster,
        message.queue,
        message.cores or 1,
        message.memory_mib,
        message.runtime.ToTimedelta().total_seconds(),
        dict(message.extra),
        tuple(message.fallback_queues),
    )


def batch(message: batch_pb2.Batch) -> values.Batch:
    """Tasks that were queued together; `message` is in the FULL view."""
    return values.Batch(
        batch_id=message.batch_id,
        array_id=message.array_id,
        array_name=message.array_name,
        task_ids=np.array(message.task_ids, dtype=np.int64),
        attempts=np.array(message.attempts, dtype=np.int32),
        priority=message.priority,
        resources=task_resources(message.task_resources),
        tasks=tuple(values.BatchTask(each.task_id, each.attempt, each.name, each.command) for each in message.tasks),
    )


def tick_result(message: scheduler_pb.TickResponse) -> values.TickResult:
    """What a tick did."""
    results = tuple(
        values.BatchResult(each.batch_id, each.array_id, each.batch_size, each.error, each.in_doubt)
        for each in message.batch_results
    )
    batches = tuple(map(batch, message.batches))
    return values.TickResult(batches, results, message.timed_out, message.ready_to_run_count, message.revision)


def work_status(message: scheduler_pb.HasWorkResponse) -> values.WorkStatus:
    """Whether there is work."""
    return values.WorkStatus(
        message.has_work,
        message.ready_to_run_count,
        message.available_capacity,
        message.active_count,
        message.finished,
        message.revision,
    )


def update_result(message: scheduler_pb.ApplyUpdateResponse) -> values.UpdateResult:
    """What an update changed."""
    reason_name = state_pb2.IgnoredNews.Reason.Name
    ignored = tuple(
        values.IgnoredNews(
            np.array(each.task_ids, dtype=np.int64),
            task_status(each.status),
            reason_name(each.reason).removeprefix("REASON_"),
        )
        for each in message.ignored
    )
    return values.UpdateResult(message.changed_count, message.newly_ready_count, ignored, message.revision)


def update_error(message: scheduler_pb.UpdateError) -> RpcError:
    """Why an update was refused, as the error that a call would have ended with."""
    code = _CODE_NAMES.get(message.code, "UNKNOWN")
    metadata = dict(message.metadata)
    return error_of(code, message.message, reason=message.reason or None, field=message.field, metadata=metadata)


def event(message: service_pb.WatchSwarmResponse) -> values.Event:
    """One event of a watch."""
    revision, when = message.revision, time(message.event_time)
    if message.HasField("snapshot"):
        return values.Snapshot(revision, when, swarm_status(message.snapshot.swarm))
    if message.HasField("progress"):
        return values.Progress(revision, when, task_counts(message.progress.task_counts))
    if message.HasField("end"):
        was_deleted = message.end.reason == service_pb.WatchEnd.REASON_DELETED
        return values.End(message.end.resume_revision, when, was_deleted, outcome(message.end.outcome))
    return _change(message.change, revision, when)


def _change(change: service_pb.WatchChange, revision: int, when: datetime | None) -> values.Change:
    statuses = tuple(
        values.StatusChange(
            task_status(group.status),
            np.array(group.task_ids, dtype=np.int64),
            np.array(group.attempts, dtype=np.int32),
            group.reason,
        )
        for group in change.task_statuses
    )
    limits = {
        each.array_id: each.max_concurrently_running if each.HasField("max_concurrently_running") else None
        for each in change.array_limits
    }
    limit = change.max_concurrently_running if change.HasField("max_concurrently_running") else None
    run_status = _RUN_STATUS_OF.get(change.workflow_run_status) if change.workflow_run_status else None
    return values.Change(
        revision,
        when,
        statuses,
        change.added_task_count,
        limit,
        limits,
        run_status,
        change.active_count,
        change.finished,
    )
