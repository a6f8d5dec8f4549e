"""Messages through the decoder and the validator in this process: what is refused changes nothing, what is taken fits.

Two swarms get the same messages. One is asked for each of them, the other is told only what the first one took, so that
whatever a refusal leaves behind shows as a difference between the two.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from google.protobuf.message import DecodeError

from swarmd._pb.swarm.v1 import scheduler_service_pb2, swarm_service_pb2
from swarmd.core.checks import inconsistencies
from swarmd.core.comparing import differences
from swarmd.core.errors import SwarmdError
from swarmd.core.events import BatchTaken, Cancelled, Configured, Created, Event, Loaded, Reset, SwarmSettings, Updated
from swarmd.core.loading import Load, plan_load
from swarmd.core.model import ALL_TEXTS
from swarmd.core.swarm import Swarm
from swarmd.core.update import StateUpdate
from swarmd.journal.encoding import decode, encode
from swarmd.wire import from_proto
from tests.fuzz.corpus import request_class, whole_load
from tests.fuzz.finding import FindingError

T = TypeVar("T")
MOST_TASKS = 400
"""A swarm with more is begun anew: comparing walks all of them."""
TAKE = "Take"
"""Not a message: the next batch is taken, so that there are tasks in every status."""


class Validator:
    """One pair of swarms, begun anew now and then."""

    def __init__(self) -> None:
        self._at = 1_700_000_000.0
        self._begin()

    def _begin(self) -> None:
        created = Created(SwarmSettings("s", gateway="pull"), "token")
        self._swarm, self._twin = Swarm(created, self._at), Swarm(created, self._at)
        for swarm in (self._swarm, self._twin):
            self._apply(swarm, _loaded(swarm, whole_load()))

    def take(self) -> None:
        """Both reserve the same batch."""
        self._at += 1
        for swarm in (self._swarm, self._twin):
            batch = swarm.state.take_batch(2, at=self._at)
            if batch is not None:
                swarm.apply(BatchTaken(batch.batch_id, batch.task_ids, batch.attempts), self._at)
        self._compare(TAKE, b"")

    def try_message(self, method: str, data: bytes) -> str:
        """What became of it, in few words. Raises FindingError for what must not be."""
        self._at += 1
        try:
            outcome = self._tried(method, data)
        except FindingError:
            raise
        except Exception as error:
            raise FindingError(f"{type(error).__name__}: {error}", method, data) from error
        if self._swarm.state.task_count > MOST_TASKS:
            self._begin()
        return f"{method} {outcome}"

    def _tried(self, method: str, data: bytes) -> str:
        try:
            request = request_class(method).FromString(data)
        except DecodeError:
            return "not decoded"
        make = EVENTS.get(method)
        try:
            if make is None:
                from_proto.check_swarm(request.swarm, ALL_TEXTS)  # type: ignore[attr-defined]
                encode(Created(from_proto.swarm_settings(request.swarm), "token"))  # type: ignore[attr-defined]
                return "taken"
            event = self._swarm.check(make(self._swarm, request))
        except SwarmdError as error:
            self._compare(method, data)
            return f"{type(error).__name__} {error.reason} {re.sub(r'[0-9]+', 'N', error.field)}"
        change = self._apply(self._swarm, event)
        told = self._apply(self._twin, _again(event, self._twin, request))
        if (change.revision, change.changed_count) != (told.revision, told.changed_count):
            raise FindingError(f"the same message did {change} to one swarm and {told} to its twin", method, data)
        self._compare(method, data)
        kinds = sorted(
            {group.status.name for group in change.task_statuses} | {each.effect.name for each in change.ignored}
        )
        return f"taken {' '.join(kinds)} {change.newly_ready_count > 0}"

    def _apply(self, swarm: Swarm, event: Event) -> Any:
        return swarm.apply(event, self._at)

    def _compare(self, method: str, data: bytes) -> None:
        wrong = inconsistencies(self._swarm.state) or differences(self._swarm, self._twin)
        if wrong:
            raise FindingError(f"after it: {'; '.join(wrong)}", method, data)


def _again(event: Event, twin: Swarm, request: Any) -> Event:
    """The event as a journal would give it back; a load is planned anew."""
    if isinstance(event, Loaded):
        return _loaded(twin, request)
    restored: Event = decode(encode(event))
    return restored


def _loaded(swarm: Swarm, request: swarm_service_pb2.AddTasksRequest) -> Loaded:
    tasks = from_proto.columns_of_messages(request.tasks)
    arrays = [from_proto.array(each) for each in request.arrays]
    resources = [from_proto.task_resources(each) for each in request.task_resources]
    plan = plan_load(swarm.state.table, Load(arrays, resources, tasks), ALL_TEXTS)
    return Loaded("load", arrays, resources, plan=plan)


def _updated(swarm: Swarm, request: scheduler_service_pb2.ApplyUpdateRequest) -> Updated:
    update = from_proto.state_update(request.update)
    from_proto.check_size(update)
    return Updated(update)


def _configured(swarm: Swarm, request: swarm_service_pb2.UpdateSwarmRequest) -> Configured:
    fields, wanted, update = from_proto.updated_fields(request), request.swarm, StateUpdate()
    if "max_concurrently_running" in fields:
        update.max_concurrently_running = from_proto.swarm_limit(wanted)
    if "workflow_run_status" in fields:
        update.workflow_run_status = from_proto.run_status(wanted.workflow_run_status, "status")
    ALL_TEXTS.check("label", wanted.display_name, "display_name")
    return Configured(
        paused=wanted.paused if "paused" in fields else None,
        fail_fast=wanted.fail_fast if "fail_fast" in fields else None,
        display_name=wanted.display_name if "display_name" in fields else None,
        update=update,
    )


def _cancelled(swarm: Swarm, request: swarm_service_pb2.CancelTasksRequest) -> Cancelled:
    ALL_TEXTS.check("reason", request.reason, "reason")
    return Cancelled(from_proto.selector(request.selector), request.reason)


def _reset(swarm: Swarm, request: swarm_service_pb2.ResetTasksRequest) -> Reset:
    ALL_TEXTS.check("reason", request.reason, "reason")
    return Reset(from_proto.selector(request.selector), request.include_downstreams, request.reason)


EVENTS: Mapping[str, Callable[[Swarm, Any], Event]] = {
    "ApplyUpdate": _updated,
    "AddTasks": _loaded,
    "UpdateSwarm": _configured,
    "CancelTasks": _cancelled,
    "ResetTasks": _reset,
}
METHODS = (*EVENTS, "CreateSwarm")
