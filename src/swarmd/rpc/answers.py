"""How a swarm stands, and what was done to it, as messages: answers that need the hosted swarm, not values alone."""

import asyncio

import numpy as np

from swarmd._pb.swarm.v1 import scheduler_service_pb2 as scheduler_pb
from swarmd._pb.swarm.v1 import swarm_pb2, swarm_service_pb2, task_pb2
from swarmd.core.batch import Specs, spec_of
from swarmd.core.explain import Explanation
from swarmd.core.reservations import OpenBatch
from swarmd.core.views import Counts, TaskView
from swarmd.host.registry import Registry
from swarmd.host.swarm import HostedSwarm
from swarmd.wire import to_proto
from swarmd.wire.names import OBSTACLE_TO_PB, OUTCOME_TO_PB, POLICY_TO_PB, RUN_STATUS_TO_PB

ARRAYS_AT_ONCE = 500
MOST_OPEN_BATCHES = 100
MOST_REFUSALS = 20
FULL = swarm_pb2.SWARM_VIEW_FULL


async def swarm(hosted: HostedSwarm, view: int = 0) -> swarm_pb2.Swarm:
    """A swarm as it stands at this moment; its many arrays are written out without holding others up."""
    state = hosted.state
    message = swarm_settings(hosted)
    message.revision = state.revision
    message.task_counts.CopyFrom(to_proto.counts(state.counts()))
    message.outcome = OUTCOME_TO_PB[state.outcome]
    message.blocked_count = state.blocked_count
    message.held_reason = state.held_reason
    message.engine_trouble = hosted.engine.trouble()
    _add_refusals(message, hosted)
    if state.sync_time is not None:
        message.sync_time.FromDatetime(state.sync_time)
    if view == FULL:
        table = state.table
        numbers = table.usage.counts().tolist()
        ready = [table.queue.live_of(row) for row in range(len(numbers))]
        limits = [table.usage.limit(row) for row in range(len(numbers))]
        for row, by_code in enumerate(numbers):
            message.arrays.append(to_proto.array(table.arrays[row], limits[row], Counts.of(by_code, ready=ready[row])))
            if row % ARRAYS_AT_ONCE == ARRAYS_AT_ONCE - 1:
                await asyncio.sleep(0)
        _add_open_batches(message, hosted)
    return message


def _add_refusals(message: swarm_pb2.Swarm, hosted: HostedSwarm) -> None:
    for known in hosted.refusals()[:MOST_REFUSALS]:
        message.refusals.add(
            array_id=known.array_id,
            task_resources_id=known.task_resources_id,
            reason=known.reason,
            times=known.times,
            since_time=to_proto.timestamp(known.since),
            latest_time=to_proto.timestamp(known.latest),
        )


def _add_open_batches(message: swarm_pb2.Swarm, hosted: HostedSwarm) -> None:
    reservations = hosted.state.reservations
    for known in reservations.open.values():
        count = len(reservations.still_reserved(known.batch))
        state = swarm_pb2.OpenBatch.STATE_IN_DOUBT if known.in_doubt else swarm_pb2.OpenBatch.STATE_BEING_QUEUED
        _add_open_batch(message, known, state, count)
    for known in reservations.handed_out.values():
        count = len(reservations.without_news(known.batch))
        if count:
            _add_open_batch(message, known, swarm_pb2.OpenBatch.STATE_HANDED_OUT, count)


def _add_open_batch(message: swarm_pb2.Swarm, known: OpenBatch, state: "swarm_pb2.OpenBatch.State", count: int) -> None:
    message.open_batch_count += 1
    if len(message.open_batches) < MOST_OPEN_BATCHES:
        message.open_batches.add(
            batch_id=known.batch.batch_id,
            array_id=known.batch.array_id,
            task_count=count,
            state=state,
            take_time=to_proto.timestamp(known.taken_at),
            request_id=known.request_id,
            reason=known.doubt,
        )


def set_aside(registry: Registry) -> list[swarm_pb2.SetAsideSwarm]:
    """The swarms that could not be taken up."""
    return [
        swarm_pb2.SetAsideSwarm(swarm_id=each.swarm_id, problem=each.problem, remedy=each.remedy)
        for each in registry.set_aside.values()
    ]


def swarm_settings(hosted: HostedSwarm) -> swarm_pb2.Swarm:
    """What is set for a swarm, without how it stands."""
    settings, state = hosted.settings, hosted.state
    return swarm_pb2.Swarm(
        swarm_id=hosted.swarm_id,
        display_name=hosted.swarm.display_name,
        max_concurrently_running=state.max_concurrently_running,
        paused=state.paused,
        autopilot=hosted.autopilot,
        fail_fast=state.fail_fast,
        gateway=settings.gateway,
        workflow_run_status=RUN_STATUS_TO_PB[state.run_status],
        working_directory=settings.working_directory,
        environment=settings.environment,
        gateway_options=settings.gateway_options,
        scheduling_policy=POLICY_TO_PB[settings.scheduling_policy],
        create_time=to_proto.timestamp(hosted.swarm.created_at),
        in_memory=hosted.in_memory,
        log_directory=str(hosted.log_directory or ""),
    )


def task_as_run(hosted: HostedSwarm, values: TaskView) -> task_pb2.Task:
    """One task with its command as it runs, the array's template filled in."""
    message = to_proto.task(values)
    if not message.command:
        spec = spec_of(hosted.state.table, hosted.swarm_id, values.row, values.task_id, max(1, values.attempt))
        message.command = spec.command
    return message


async def fill_batches(hosted: HostedSwarm, message: scheduler_pb.TickResponse) -> None:
    """Put in all that is needed to run the batches, a batch at a time so that nobody is held up."""
    table = hosted.state.table
    for batch in message.batches:
        ids = np.array(batch.task_ids, dtype=np.int64)
        rows = table.ids.find(ids).tolist()
        array = table.arrays[table.array_ids.find_one(batch.array_id)]
        specs = Specs(table, hosted.swarm_id, array)
        for row, task_id, attempt in zip(rows, batch.task_ids, batch.attempts, strict=True):
            spec = specs.of(row, task_id, attempt)
            batch.tasks.add(task_id=spec.task_id, name=spec.name, command=spec.command, attempt=spec.attempt)
        resources = table.resources[table.resources_ids.find_one(batch.task_resources_id)]
        batch.task_resources.CopyFrom(to_proto.task_resources(resources))
        batch.array_name = array.name
        await asyncio.sleep(0)


def explanation(hosted: HostedSwarm, values: Explanation) -> swarm_service_pb2.ExplainTaskResponse:
    """Why a task is not running."""
    message = swarm_service_pb2.ExplainTaskResponse(
        task=task_as_run(hosted, values.task),
        summary=values.summary,
        attempts=[to_proto.attempt(*each) for each in zip(values.attempts, values.resources, strict=True)],
        batch_id=values.batch_id,
    )
    for each in values.obstacles:
        message.obstacles.add(
            kind=OBSTACLE_TO_PB[each.kind], message=each.message, task_ids=each.task_ids, count=each.count
        )
    return message
