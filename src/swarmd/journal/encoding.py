"""Events as the bytes that a journal keeps, and back.

The bytes are those of `swarm.journal.v1.Event`; what is within is the contract's own messages, as they were accepted.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet
from numpy.typing import NDArray

from swarmd._pb.swarm.journal.v1 import event_pb2 as pb
from swarmd._pb.swarm.v1 import swarm_pb2, task_pb2
from swarmd.core import events
from swarmd.core.columns import TaskColumns
from swarmd.core.errors import DamagedError, SwarmdError
from swarmd.core.selecting import Selector
from swarmd.core.status import CODE_OF, STANDING_CODES, STATUS_OF
from swarmd.core.text import TextBlock
from swarmd.wire import from_proto, to_proto
from swarmd.wire.names import POLICY_TO_PB, RUN_STATUS_TO_PB, TASK_STATUS_FROM_PB, TASK_STATUS_TO_PB
from swarmd.wire.packing import field, packed, submessage

_UPDATED, _UPDATE = pb.Event.UPDATED_FIELD_NUMBER, pb.Updated.UPDATE_FIELD_NUMBER
_STATUS_OF_CODE = np.array([TASK_STATUS_TO_PB[STATUS_OF[code]] for code in range(STANDING_CODES)], dtype=np.uint8)
_CODE_OF_STATUS = np.zeros(256, dtype=np.uint8)
for _number, _status in TASK_STATUS_FROM_PB.items():
    _CODE_OF_STATUS[_number] = CODE_OF[_status]

_HANDED_OUT = pb.Event.BATCHES_HANDED_OUT_FIELD_NUMBER
_TASK_IDS = pb.BatchesHandedOut.TASK_IDS_FIELD_NUMBER
_ATTEMPTS = pb.BatchesHandedOut.ATTEMPTS_FIELD_NUMBER

WIDTHS: dict[str, str] = {
    "task_ids": "<i8",
    "array_ids": "<i8",
    "task_resources_ids": "<i8",
    "upstream_counts": "<i4",
    "upstream_ids": "<i8",
    "priorities": "<i4",
    "max_attempts": "<i4",
    "attempts": "<i4",
    "failed_attempts": "<i4",
    "scales": "<i4",
}
"""How the columns of numbers are written down."""


def encode(event: events.Event) -> bytes:
    """The bytes of an event."""
    if isinstance(event, events.BatchesHandedOut):
        return _batches_handed_out_bytes(event)
    return to_message(event).SerializeToString()


def encode_update(told: bytes) -> bytes:
    """The bytes of an `Updated` event whose update is this message: its thousands of ids are not written anew."""
    return submessage(_UPDATED, submessage(_UPDATE, told))


def decode(data: bytes) -> events.Event:
    """The event of these bytes. Raises DamagedError when they are not those of one."""
    try:
        return to_event(pb.Event.FromString(data))
    except DecodeError:
        raise DamagedError("it cannot be read as an event") from None


def to_message(event: events.Event) -> pb.Event:
    """The message of an event."""
    return _TO[type(event)](event)


def to_event(message: pb.Event) -> events.Event:
    """The event of a message. Raises DamagedError when it is none."""
    kind = message.WhichOneof("event")
    if kind is None:
        unknown = UnknownFieldSet(message)
        numbers = ", ".join(str(unknown[place].field_number) for place in range(len(unknown))) or "none"
        raise DamagedError(f"it is of a kind that this version does not know: {numbers}")
    try:
        return _FROM[kind](getattr(message, kind))
    except (ValueError, KeyError, OverflowError, SwarmdError) as error:
        raise DamagedError(f"its {kind} event makes no sense: {error}") from error


# -- to messages -------------------------------------------------------------------------------------------------------


def _created(event: events.Created) -> pb.Event:
    settings = event.settings
    swarm = swarm_pb2.Swarm(
        swarm_id=settings.swarm_id,
        display_name=settings.display_name,
        max_concurrently_running=settings.max_concurrently_running,
        paused=settings.paused,
        autopilot=settings.autopilot,
        fail_fast=settings.fail_fast,
        gateway=settings.gateway,
        workflow_run_status=RUN_STATUS_TO_PB[settings.run_status],
        working_directory=settings.working_directory,
        environment=settings.environment,
        gateway_options=settings.gateway_options,
        scheduling_policy=POLICY_TO_PB[settings.scheduling_policy],
    )
    created = pb.Created(swarm=swarm, token=event.token, request_id=event.request_id, asked=event.asked)
    return pb.Event(created=created)


def _load_part(event: events.LoadPart) -> pb.Event:
    return pb.Event(load_part=pb.LoadPart(load_id=event.load_id, tasks=_columns(event.tasks)))


def _columns(tasks: TaskColumns) -> pb.TaskColumns:
    numbers = {name: getattr(tasks, name).astype(width, copy=False).tobytes() for name, width in WIDTHS.items()}
    return pb.TaskColumns(
        **numbers,
        statuses=_STATUS_OF_CODE[tasks.statuses].tobytes(),
        names=_texts(tasks.names),
        commands=_texts(tasks.commands),
        scale_sets=[pb.ScaleSet(scales=scales) for scales in tasks.scale_sets],
    )


def _texts(block: TextBlock) -> pb.TextColumn:
    ends = b"" if block.ends is None else block.ends.astype("<i8", copy=False).tobytes()
    return pb.TextColumn(data=bytes(block.data), ends=ends)


def _loaded(event: events.Loaded) -> pb.Event:
    loaded = pb.Loaded(
        load_id=event.load_id,
        arrays=[to_proto.array(array, array.max_concurrently_running) for array in event.arrays],
        task_resources=[to_proto.task_resources(each) for each in event.task_resources],
        request_id=event.request_id,
        asked=event.asked,
    )
    return pb.Event(loaded=loaded)


def _updated(event: events.Updated) -> pb.Event:
    return pb.Event(updated=pb.Updated(update=to_proto.state_update(event.update)))


def _configured(event: events.Configured) -> pb.Event:
    configured = pb.Configured(
        paused=event.paused,
        fail_fast=event.fail_fast,
        autopilot=event.autopilot,
        display_name=event.display_name,
        update=to_proto.state_update(event.update) if event.update else None,
    )
    return pb.Event(configured=configured)


def _cancelled(event: events.Cancelled) -> pb.Event:
    return pb.Event(cancelled=pb.Cancelled(selector=_selector(event.selector), reason=event.reason))


def _reset(event: events.Reset) -> pb.Event:
    reset = pb.Reset(
        selector=_selector(event.selector), include_downstreams=event.include_downstreams, reason=event.reason
    )
    return pb.Event(reset=reset)


def _selector(selector: Selector) -> task_pb2.TaskSelector:
    return task_pb2.TaskSelector(
        task_ids=() if selector.task_ids is None else selector.task_ids.tolist(),
        array_ids=selector.array_ids,
        statuses=[TASK_STATUS_TO_PB[status] for status in selector.statuses],
        all=selector.everything,
    )


def _batch_taken(event: events.BatchTaken) -> pb.Event:
    taken = pb.BatchTaken(
        batch_id=event.batch_id,
        task_ids=event.task_ids.tolist(),
        attempts=event.attempts.tolist(),
        request_id=event.request_id,
    )
    return pb.Event(batch_taken=taken)


def _batch_concluded(event: events.BatchConcluded) -> pb.Event:
    concluded = pb.BatchConcluded(
        batch_id=event.batch_id,
        update=to_proto.state_update(event.update) if event.update else None,
        returned_task_ids=event.returned_ids,
        handed_out=event.handed_out,
    )
    return pb.Event(batch_concluded=concluded)


def _batches_handed_out(event: events.BatchesHandedOut) -> pb.Event:
    handed_out = pb.BatchesHandedOut(
        batch_ids=event.batch_ids,
        sizes=event.sizes,
        task_ids=event.task_ids.tolist(),
        attempts=event.attempts.tolist(),
        request_id=event.request_id,
    )
    return pb.Event(batches_handed_out=handed_out)


def _batches_handed_out_bytes(event: events.BatchesHandedOut) -> bytes:
    """The same as `encode` gives of its message, in a tenth of the time."""
    rest = pb.BatchesHandedOut(batch_ids=event.batch_ids, sizes=event.sizes, request_id=event.request_id)
    numbers = field(_TASK_IDS, packed(event.task_ids)) + field(_ATTEMPTS, packed(event.attempts))
    return submessage(_HANDED_OUT, rest.SerializeToString() + numbers)


def _batch_doubted(event: events.BatchDoubted) -> pb.Event:
    return pb.Event(batch_doubted=pb.BatchDoubted(batch_id=event.batch_id, why=event.why))


def _tick_answered(event: events.TickAnswered) -> pb.Event:
    answered = pb.TickAnswered(request_id=event.request_id, asked=event.asked, answer=event.answer)
    return pb.Event(tick_answered=answered)


_TO: dict[type, Callable[[Any], pb.Event]] = {
    events.Created: _created,
    events.LoadPart: _load_part,
    events.Loaded: _loaded,
    events.Updated: _updated,
    events.Configured: _configured,
    events.Cancelled: _cancelled,
    events.Reset: _reset,
    events.BatchTaken: _batch_taken,
    events.BatchConcluded: _batch_concluded,
    events.BatchesHandedOut: _batches_handed_out,
    events.BatchDoubted: _batch_doubted,
    events.TickAnswered: _tick_answered,
}


# -- from messages -----------------------------------------------------------------------------------------------------


def _to_created(message: pb.Created) -> events.Created:
    settings = from_proto.swarm_settings(message.swarm)
    return events.Created(settings, message.token, message.request_id, message.asked)


def _to_load_part(message: pb.LoadPart) -> events.LoadPart:
    columns = message.tasks
    numbers = {name: _numbers(getattr(columns, name), width) for name, width in WIDTHS.items()}
    size = len(numbers["task_ids"])
    same = [name for name in numbers if name != "upstream_ids"]
    if any(len(numbers[name]) != size for name in same) or len(columns.statuses) != size:
        raise ValueError("its columns have different lengths")
    if int(numbers["upstream_counts"].sum(dtype=np.int64)) != len(numbers["upstream_ids"]):
        raise ValueError("its upstreams are not as many as it counts")
    if size and not 0 <= int(numbers["scales"].min()) <= int(numbers["scales"].max()) < len(columns.scale_sets):
        raise ValueError("its resource scales are not all there")
    tasks = TaskColumns(
        **numbers,
        statuses=_CODE_OF_STATUS[np.frombuffer(columns.statuses, dtype=np.uint8)],
        names=_to_texts(columns.names, size),
        commands=_to_texts(columns.commands, size),
        scale_sets=[dict(each.scales) for each in columns.scale_sets],
    )
    return events.LoadPart(message.load_id, tasks)


def _numbers(data: bytes, width: str) -> NDArray[Any]:
    return np.frombuffer(data, dtype=width).astype(width[1:], copy=False)


def _to_texts(message: pb.TextColumn, size: int) -> TextBlock:
    ends = _numbers(message.ends, "<i8") if message.ends else None
    return TextBlock.encoded(message.data, ends, size)


def _to_loaded(message: pb.Loaded) -> events.Loaded:
    arrays = [from_proto.array(each) for each in message.arrays]
    resources = [from_proto.task_resources(each) for each in message.task_resources]
    return events.Loaded(message.load_id, arrays, resources, message.request_id, message.asked)


def _to_updated(message: pb.Updated) -> events.Updated:
    return events.Updated(from_proto.state_update(message.update))


def _to_configured(message: pb.Configured) -> events.Configured:
    return events.Configured(
        paused=message.paused if message.HasField("paused") else None,
        fail_fast=message.fail_fast if message.HasField("fail_fast") else None,
        autopilot=message.autopilot if message.HasField("autopilot") else None,
        display_name=message.display_name if message.HasField("display_name") else None,
        update=from_proto.state_update(message.update),
    )


def _to_cancelled(message: pb.Cancelled) -> events.Cancelled:
    return events.Cancelled(from_proto.selector(message.selector), message.reason)


def _to_reset(message: pb.Reset) -> events.Reset:
    return events.Reset(from_proto.selector(message.selector), message.include_downstreams, message.reason)


def _to_batch_taken(message: pb.BatchTaken) -> events.BatchTaken:
    ids = np.array(message.task_ids, dtype=np.int64)
    return events.BatchTaken(message.batch_id, ids, np.array(message.attempts, dtype=np.int32), message.request_id)


def _to_batch_concluded(message: pb.BatchConcluded) -> events.BatchConcluded:
    update, returned = from_proto.state_update(message.update), list(message.returned_task_ids)
    return events.BatchConcluded(message.batch_id, update, returned, message.handed_out)


def _to_batches_handed_out(message: pb.BatchesHandedOut) -> events.BatchesHandedOut:
    ids, attempts = np.array(message.task_ids, dtype=np.int64), np.array(message.attempts, dtype=np.int32)
    return events.BatchesHandedOut(list(message.batch_ids), list(message.sizes), ids, attempts, message.request_id)


def _to_batch_doubted(message: pb.BatchDoubted) -> events.BatchDoubted:
    return events.BatchDoubted(message.batch_id, message.why)


def _to_tick_answered(message: pb.TickAnswered) -> events.TickAnswered:
    return events.TickAnswered(message.request_id, message.asked, message.answer)


_FROM: dict[str, Callable[[Any], events.Event]] = {
    "created": _to_created,
    "load_part": _to_load_part,
    "loaded": _to_loaded,
    "updated": _to_updated,
    "configured": _to_configured,
    "cancelled": _to_cancelled,
    "reset": _to_reset,
    "batch_taken": _to_batch_taken,
    "batch_concluded": _to_batch_concluded,
    "batches_handed_out": _to_batches_handed_out,
    "batch_doubted": _to_batch_doubted,
    "tick_answered": _to_tick_answered,
}
