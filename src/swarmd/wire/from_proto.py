"""Messages into the core's values. Raises InvalidInputError that names the field; the core checks the rest."""

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path

import numpy as np
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from swarmd._pb.swarm.v1 import array_pb2, state_pb2, swarm_pb2, swarm_service_pb2, task_pb2
from swarmd.core.columns import ScaleSets, TaskColumns, loading_code
from swarmd.core.errors import InvalidInputError
from swarmd.core.events import SwarmSettings
from swarmd.core.loading import check_extra
from swarmd.core.model import (
    ALL_TEXTS,
    DEFAULT_MAX_ATTEMPTS,
    DEFAULT_SWARM_LIMIT,
    Array,
    QueueLimits,
    TaskResources,
    TextLimits,
)
from swarmd.core.policy import SchedulingPolicy
from swarmd.core.selecting import Selector
from swarmd.core.status import CODE_OF, RunStatus, TaskStatus
from swarmd.core.update import StateUpdate, StatusGroup, TaskStatuses
from swarmd.wire.names import POLICY_FROM_PB, POLICY_TO_PB, RUN_STATUS_FROM_PB, TASK_STATUS_FROM_PB

MAX_IDS_PER_UPDATE = 100_000
"""One update is one unit that nobody may interrupt: larger ones would hold up everybody else."""
FEW = 32
"""So many numbers are read faster one by one than as an array."""

LOADING_CODES = {0: int(CODE_OF[TaskStatus.REGISTERED])} | {
    number: int(loading_code(CODE_OF[status])) for number, status in TASK_STATUS_FROM_PB.items()
}
"""Where a task that is loaded with the status of this number stands."""
UNKNOWN_CODE = 255


def check_groups(message: state_pb2.StateUpdate) -> None:
    """Raise InvalidInputError for so many groups, of no ids mostly, that reading them would hold up everybody else."""
    count = len(message.task_statuses)
    if count > MAX_IDS_PER_UPDATE:
        text = f"update.task_statuses: {count} groups are too many; send at most {MAX_IDS_PER_UPDATE} a message"
        raise InvalidInputError(text, reason="UPDATE_TOO_LARGE", field="update.task_statuses")


def check_size(update: StateUpdate) -> None:
    """Raise InvalidInputError for an update of so many tasks that it would hold up everybody else."""
    count = 0
    for group in update.task_statuses.groups:
        count += len(group.task_ids)
    if count > MAX_IDS_PER_UPDATE:
        text = f"update.task_statuses: {count} task ids are too many; send at most {MAX_IDS_PER_UPDATE} a message"
        raise InvalidInputError(text, reason="UPDATE_TOO_LARGE", field="update.task_statuses")


def state_update(message: state_pb2.StateUpdate, texts: TextLimits = ALL_TEXTS) -> StateUpdate:
    """A StateUpdate as it came. Raises LimitExceededError for a text that is too long."""
    groups = [_group(group, place, texts) for place, group in enumerate(message.task_statuses)]
    update = StateUpdate(TaskStatuses(groups))
    if groups and len(message.ListFields()) == 1:
        return update
    if message.HasField("max_concurrently_running"):
        update.max_concurrently_running = message.max_concurrently_running
    for limit in message.array_limits:
        has_limit = limit.HasField("max_concurrently_running")
        update.array_limits[limit.array_id] = limit.max_concurrently_running if has_limit else None
    if message.workflow_run_status:
        update.workflow_run_status = run_status(message.workflow_run_status, "update.workflow_run_status")
    if message.HasField("sync_time"):
        update.sync_time = _time(message.sync_time, "update.sync_time")
    for place, limits in enumerate(message.queue_limits):
        update.queue_limits.append(_queue_limits(limits, f"update.queue_limits[{place}]", texts))
    return update


def _group(message: state_pb2.TaskStatusGroup, place: int, texts: TextLimits) -> StatusGroup:
    status, reason = TASK_STATUS_FROM_PB.get(message.status), message.reason
    if status is None:
        status = _status(message.status, f"update.task_statuses[{place}].status")
    if reason:
        texts.check("reason", reason, f"update.task_statuses[{place}].reason")
    ids, attempts = message.task_ids, message.attempts
    if len(ids) > FEW:
        return StatusGroup(status, np.array(ids, np.int64), np.array(attempts, np.int32) if attempts else None, reason)
    fences = np.array(attempts[:], np.int32) if attempts else None
    return StatusGroup(status, np.array(ids[:], np.int64), fences, reason)


def _queue_limits(message: task_pb2.QueueLimits, where: str, texts: TextLimits) -> QueueLimits:
    texts.check("label", message.cluster, f"{where}.cluster")
    texts.check("label", message.queue, f"{where}.queue")
    runtime = message.runtime.seconds + message.runtime.nanos / 1e9
    return QueueLimits(
        message.cluster,
        message.queue,
        message.cores if message.HasField("cores") else None,
        message.memory_mib if message.HasField("memory_mib") else None,
        runtime if message.HasField("runtime") else None,
    )


def _time(message: Timestamp, field: str) -> datetime:
    try:
        return message.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        text = f"{field}: {message.seconds} s and {message.nanos} ns is no time; give one of the years 1 to 9999"
        raise InvalidInputError(text, reason="INVALID_VALUE", field=field) from error


def _status(number: int, field: str) -> TaskStatus:
    if number not in TASK_STATUS_FROM_PB:
        what = "no status is given" if not number else f"{number} is no status"
        known = ", ".join(task_pb2.TaskStatus.Name(each) for each in TASK_STATUS_FROM_PB)
        raise InvalidInputError(f"{field}: {what}; use one of {known}", reason="INVALID_STATUS", field=field)
    return TASK_STATUS_FROM_PB[number]


def statuses(numbers: Sequence[int], field: str) -> list[TaskStatus]:
    """A list of statuses to filter by."""
    return [_status(number, f"{field}[{place}]") for place, number in enumerate(numbers)]


def run_status(number: int, field: str) -> RunStatus:
    """The status of a run; unset means RUNNING."""
    if not number:
        return RunStatus.RUNNING
    if number not in RUN_STATUS_FROM_PB:
        raise InvalidInputError(f"{field}: {number} is no status of a run", reason="INVALID_STATUS", field=field)
    return RUN_STATUS_FROM_PB[number]


def seconds(message: Duration, field: str) -> float:
    """A Duration that is not negative."""
    value = message.seconds + message.nanos / 1e9
    if value < 0:
        raise InvalidInputError(f"{field}: {value} s is not allowed; give 0 or more", field=field)
    return value


def array(message: array_pb2.Array) -> Array:
    """One array."""
    limit = message.max_concurrently_running if message.HasField("max_concurrently_running") else None
    return Array(message.array_id, message.name, limit, message.command)


def task_resources(message: task_pb2.TaskResources) -> TaskResources:
    """One set of task resources; 0 cores means 1."""
    return TaskResources(
        task_resources_id=message.task_resources_id,
        cluster=message.cluster,
        queue=message.queue,
        cores=message.cores or 1,
        memory_mib=message.memory_mib,
        runtime_seconds=seconds(message.runtime, f"task_resources[{message.task_resources_id}].runtime"),
        extra=dict(message.extra),
        fallback_queues=tuple(message.fallback_queues),
    )


def columns_of_messages(tasks: Sequence[task_pb2.Task]) -> TaskColumns:
    """Tasks as columns. `wire/tasks.py` reads them from the bytes of a load, many times as fast."""
    scale_sets = ScaleSets()
    scales = [scale_sets.place(dict(task.resource_scales)) if task.resource_scales else 0 for task in tasks]
    upstreams = [task.upstream_task_ids for task in tasks]
    return TaskColumns.of(
        [task.task_id for task in tasks],
        [task.array_id for task in tasks],
        [task.task_resources_id for task in tasks],
        upstream_counts=[len(ids) for ids in upstreams],
        upstream_ids=list(chain.from_iterable(upstreams)),
        priorities=[task.priority for task in tasks],
        max_attempts=[task.max_attempts or _unset_attempts(task) for task in tasks],
        statuses=[LOADING_CODES.get(task.status, UNKNOWN_CODE) for task in tasks],
        attempts=[task.attempt for task in tasks],
        failed_attempts=[task.failed_attempts for task in tasks],
        names=[task.name for task in tasks],
        commands=[task.command for task in tasks],
        scales=scales,
        scale_sets=scale_sets.sets,
    )


def _unset_attempts(task: task_pb2.Task) -> int:
    return 0 if task.HasField("max_attempts") else DEFAULT_MAX_ATTEMPTS


def selector(message: task_pb2.TaskSelector) -> Selector:
    """Which tasks a command means."""
    return Selector(
        task_ids=np.array(message.task_ids, dtype=np.int64),
        array_ids=list(message.array_ids),
        statuses=statuses(message.statuses, "selector.statuses"),
        everything=message.all,
    )


def malformed() -> InvalidInputError:
    """The error for bytes that protobuf cannot read."""
    what = "message: its bytes are none of this method's messages, or a text in it is no UTF-8"
    return InvalidInputError(what, reason="MALFORMED_MESSAGE", field="message")


def check_swarm(message: swarm_pb2.Swarm, texts: TextLimits) -> None:
    """Raise InvalidInputError or LimitExceededError when no swarm is to be created with this.

    What a journal holds is not checked again.
    """
    texts.check("label", message.display_name, "swarm.display_name")
    if message.working_directory and not Path(message.working_directory).is_absolute():
        text = f"swarm.working_directory: {message.working_directory!r} is relative; give an absolute path"
        raise InvalidInputError(text, field="swarm.working_directory")
    _check_environment(message, texts)
    check_extra(message.gateway_options, "swarm.gateway_options", texts)


def swarm_settings(message: swarm_pb2.Swarm) -> SwarmSettings:
    """What a swarm is created with."""
    return SwarmSettings(
        swarm_id=message.swarm_id,
        display_name=message.display_name,
        max_concurrently_running=swarm_limit(message),
        paused=message.paused,
        autopilot=message.autopilot,
        fail_fast=message.fail_fast,
        gateway=message.gateway or "local",
        run_status=run_status(message.workflow_run_status, "swarm.workflow_run_status"),
        working_directory=message.working_directory,
        environment=dict(message.environment),
        gateway_options=dict(message.gateway_options),
        scheduling_policy=scheduling_policy(message),
    )


def scheduling_policy(message: swarm_pb2.Swarm) -> SchedulingPolicy:
    """A swarm's policy; unset means first come, first served. Raises InvalidInputError for a number that is none."""
    number = message.scheduling_policy
    if number == swarm_pb2.SCHEDULING_POLICY_UNSPECIFIED:
        return SchedulingPolicy.FIRST_COME_FIRST_SERVED
    policy = POLICY_FROM_PB.get(number)
    if policy is None:
        known = ", ".join(f"{other} ({each.name})" for each, other in POLICY_TO_PB.items())
        text = f"swarm.scheduling_policy: {int(number)} is no policy; use one of {known}"
        raise InvalidInputError(text, field="swarm.scheduling_policy")
    return policy


def swarm_limit(message: swarm_pb2.Swarm) -> int:
    """A swarm's limit; unset means the default."""
    return message.max_concurrently_running if message.HasField("max_concurrently_running") else DEFAULT_SWARM_LIMIT


def _check_environment(message: swarm_pb2.Swarm, texts: TextLimits) -> None:
    environment = message.environment
    size = sum(len(name.encode()) + len(value.encode()) + 2 for name, value in environment.items())
    if size > texts.environment_bytes:
        raise texts.too_long("environment", "swarm.environment", size)
    for name, value in environment.items():
        if not name or "=" in name or "\0" in name + value:
            text = f"swarm.environment: {name!r} cannot be set; a name is not empty and has no '=', nothing has a NUL"
            raise InvalidInputError(text, field="swarm.environment")


FIXED = ("scheduling_policy",)
"""What somebody may want to change, and cannot."""
UPDATABLE = (
    "max_concurrently_running",
    "paused",
    "autopilot",
    "fail_fast",
    "display_name",
    "workflow_run_status",
)


def updated_fields(request: swarm_service_pb2.UpdateSwarmRequest) -> list[str]:
    """Which fields of the swarm are to be changed: those of the mask, or without one those that are set."""
    paths = list(request.update_mask.paths)
    if not paths:
        return [field.name for field, _ in request.swarm.ListFields() if field.name in UPDATABLE]
    for path in paths:
        if path not in UPDATABLE:
            remedy = "create a swarm with another one" if path in FIXED else f"use any of {', '.join(UPDATABLE)}"
            text = f"update_mask: {path!r} cannot be changed; {remedy}"
            raise InvalidInputError(text, reason="INVALID_MASK", field="update_mask")
    return paths


def negative(field: str, value: int) -> InvalidInputError:
    """The error for a number that must not be below 0."""
    return InvalidInputError(f"{field}: {value} is not allowed; give 0 or more, or leave it out", field=field)


def other_swarm(named: str, before: str) -> InvalidInputError:
    """The error for a stream that changes its swarm."""
    message = f"swarm_id: {named!r} after {before!r} in one call; load each swarm with a call of its own"
    return InvalidInputError(message, reason="SWARM_CHANGED", field="swarm_id")
