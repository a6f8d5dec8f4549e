"""The core's values into messages."""

import asyncio
from collections.abc import Sequence
from dataclasses import asdict

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from swarmd._pb.swarm.v1 import array_pb2, batch_pb2, state_pb2, swarm_pb2, swarm_service_pb2, task_pb2
from swarmd._pb.swarm.v1 import scheduler_service_pb2 as scheduler_pb
from swarmd.core.batch import Batch, BatchResult, spec_of
from swarmd.core.change import Change
from swarmd.core.explain import Explanation
from swarmd.core.history import AttemptRecord
from swarmd.core.model import Array, TaskResources
from swarmd.core.update import StateUpdate, StatusGroup, TaskStatuses
from swarmd.core.views import Counts, TaskView
from swarmd.host.swarm import HostedSwarm, TickAnswer
from swarmd.rpc.names import IGNORED_TO_PB, OBSTACLE_TO_PB, OUTCOME_TO_PB, RUN_STATUS_TO_PB, TASK_STATUS_TO_PB

ARRAYS_AT_ONCE = 500
FULL = swarm_pb2.SWARM_VIEW_FULL


def timestamp(at: float) -> Timestamp | None:
    """Seconds since the epoch; None for 0, which means that nothing is known."""
    if not at:
        return None
    message = Timestamp()
    message.FromMicroseconds(int(at * 1e6))
    return message


def duration(seconds: float) -> Duration:
    """Seconds as a Duration."""
    message = Duration()
    message.FromMicroseconds(int(seconds * 1e6))
    return message


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
    )


async def swarm(hosted: HostedSwarm, view: int = 0) -> swarm_pb2.Swarm:
    """A swarm as it stands at this moment; its many arrays are written out without holding others up."""
    state = hosted.state
    message = swarm_settings(hosted)
    message.revision = state.revision
    message.task_counts.CopyFrom(counts(state.counts()))
    message.outcome = OUTCOME_TO_PB[state.outcome]
    message.blocked_count = state.blocked_count
    message.held_reason = state.held_reason
    if state.sync_time is not None:
        message.sync_time.FromDatetime(state.sync_time)
    if view == FULL:
        table = state.table
        numbers = table.usage.counts().tolist()
        ready = [table.queue.live_of(row) for row in range(len(numbers))]
        limits = [table.usage.limit(row) for row in range(len(numbers))]
        for row, by_code in enumerate(numbers):
            message.arrays.append(array(table.arrays[row], limits[row], Counts.of(by_code, ready=ready[row])))
            if row % ARRAYS_AT_ONCE == ARRAYS_AT_ONCE - 1:
                await asyncio.sleep(0)
    return message


def swarm_settings(hosted: HostedSwarm) -> swarm_pb2.Swarm:
    """What is set for a swarm, without how it stands."""
    settings, state = hosted.settings, hosted.state
    return swarm_pb2.Swarm(
        swarm_id=hosted.swarm_id,
        display_name=hosted.display_name,
        max_concurrently_running=state.max_concurrently_running,
        paused=state.paused,
        autopilot=hosted.autopilot,
        fail_fast=state.fail_fast,
        gateway=settings.gateway,
        workflow_run_status=RUN_STATUS_TO_PB[state.run_status],
        working_directory=str(settings.working_directory or ""),
        environment=settings.environment,
        create_time=timestamp(hosted.created_at),
        in_memory=True,
        log_directory=str(hosted.log_directory or ""),
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


def task_as_run(hosted: HostedSwarm, values: TaskView) -> task_pb2.Task:
    """One task with its command as it runs, the array's template filled in."""
    message = task(values)
    if not message.command:
        spec = spec_of(hosted.state.table, hosted.swarm_id, values.row, values.task_id, max(1, values.attempt))
        message.command = spec.command
    return message


def batch(values: Batch, *, full: bool) -> batch_pb2.Batch:
    """One batch; full with everything that is needed to run it."""
    message = batch_pb2.Batch(
        batch_id=values.batch_id,
        array_id=values.array_id,
        task_resources_id=values.task_resources.task_resources_id,
        priority=values.priority,
        task_ids=values.task_ids.tolist(),
        attempts=values.attempts.tolist(),
    )
    if full:
        for spec in values.tasks():
            message.tasks.add(task_id=spec.task_id, name=spec.name, command=spec.command, attempt=spec.attempt)
        message.task_resources.CopyFrom(task_resources(values.task_resources))
        message.array_name = values.array.name
    return message


def batch_result(values: BatchResult) -> batch_pb2.BatchResult:
    """What became of a batch."""
    return batch_pb2.BatchResult(
        batch_id=values.batch_id,
        array_id=values.array_id,
        batch_size=values.batch_size,
        task_statuses=[group(each) for each in TaskStatuses(values.task_statuses).groups],
        error=values.error,
        in_doubt=values.in_doubt,
    )


async def tick_response(answer: TickAnswer, *, full: bool) -> scheduler_pb.TickResponse:
    """The answer of a tick."""
    update = answer.update
    message = scheduler_pb.TickResponse(
        update=state_update(update),
        timed_out=update.timed_out,
        ready_to_run_count=answer.ready_count,
        revision=answer.revision,
    )
    for result in update.batch_results:
        message.batch_results.append(batch_result(result))
    for each in update.batches:
        message.batches.append(batch(each, full=full))
        if full:
            await asyncio.sleep(0)
    return message


def state_update(update: StateUpdate) -> state_pb2.StateUpdate:
    """The task statuses of an update."""
    return state_pb2.StateUpdate(task_statuses=[group(each) for each in update.task_statuses.groups])


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


def attempt(values: AttemptRecord) -> swarm_service_pb2.Attempt:
    """One attempt of a task."""
    return swarm_service_pb2.Attempt(
        attempt=values.attempt,
        status=TASK_STATUS_TO_PB[values.status],
        queue_time=timestamp(values.queued_at),
        status_time=timestamp(values.changed_at),
        reason=values.reason,
    )


def explanation(hosted: HostedSwarm, values: Explanation) -> swarm_service_pb2.ExplainTaskResponse:
    """Why a task is not running."""
    message = swarm_service_pb2.ExplainTaskResponse(
        task=task_as_run(hosted, values.task),
        summary=values.summary,
        attempts=[attempt(each) for each in values.attempts],
        batch_id=values.batch_id,
    )
    for each in values.obstacles:
        message.obstacles.add(
            kind=OBSTACLE_TO_PB[each.kind], message=each.message, task_ids=each.task_ids, count=each.count
        )
    return message


def limits(values: dict[int, int | None]) -> Sequence[state_pb2.ArrayLimit]:
    """Array limits that changed."""
    return [
        state_pb2.ArrayLimit(array_id=array_id, max_concurrently_running=limit) for array_id, limit in values.items()
    ]
