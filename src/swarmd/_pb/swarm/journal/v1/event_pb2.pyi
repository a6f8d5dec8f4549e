from swarmd._pb.swarm.v1 import array_pb2 as _array_pb2
from swarmd._pb.swarm.v1 import state_pb2 as _state_pb2
from swarmd._pb.swarm.v1 import swarm_pb2 as _swarm_pb2
from swarmd._pb.swarm.v1 import task_pb2 as _task_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Event(_message.Message):
    __slots__ = ("created", "load_part", "loaded", "updated", "configured", "cancelled", "reset", "batch_taken", "batch_concluded", "batch_doubted", "tick_answered", "batches_handed_out")
    CREATED_FIELD_NUMBER: _ClassVar[int]
    LOAD_PART_FIELD_NUMBER: _ClassVar[int]
    LOADED_FIELD_NUMBER: _ClassVar[int]
    UPDATED_FIELD_NUMBER: _ClassVar[int]
    CONFIGURED_FIELD_NUMBER: _ClassVar[int]
    CANCELLED_FIELD_NUMBER: _ClassVar[int]
    RESET_FIELD_NUMBER: _ClassVar[int]
    BATCH_TAKEN_FIELD_NUMBER: _ClassVar[int]
    BATCH_CONCLUDED_FIELD_NUMBER: _ClassVar[int]
    BATCH_DOUBTED_FIELD_NUMBER: _ClassVar[int]
    TICK_ANSWERED_FIELD_NUMBER: _ClassVar[int]
    BATCHES_HANDED_OUT_FIELD_NUMBER: _ClassVar[int]
    created: Created
    load_part: LoadPart
    loaded: Loaded
    updated: Updated
    configured: Configured
    cancelled: Cancelled
    reset: Reset
    batch_taken: BatchTaken
    batch_concluded: BatchConcluded
    batch_doubted: BatchDoubted
    tick_answered: TickAnswered
    batches_handed_out: BatchesHandedOut
    def __init__(self, created: _Optional[_Union[Created, _Mapping]] = ..., load_part: _Optional[_Union[LoadPart, _Mapping]] = ..., loaded: _Optional[_Union[Loaded, _Mapping]] = ..., updated: _Optional[_Union[Updated, _Mapping]] = ..., configured: _Optional[_Union[Configured, _Mapping]] = ..., cancelled: _Optional[_Union[Cancelled, _Mapping]] = ..., reset: _Optional[_Union[Reset, _Mapping]] = ..., batch_taken: _Optional[_Union[BatchTaken, _Mapping]] = ..., batch_concluded: _Optional[_Union[BatchConcluded, _Mapping]] = ..., batch_doubted: _Optional[_Union[BatchDoubted, _Mapping]] = ..., tick_answered: _Optional[_Union[TickAnswered, _Mapping]] = ..., batches_handed_out: _Optional[_Union[BatchesHandedOut, _Mapping]] = ...) -> None: ...

class Created(_message.Message):
    __slots__ = ("swarm", "token", "request_id", "asked")
    SWARM_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    ASKED_FIELD_NUMBER: _ClassVar[int]
    swarm: _swarm_pb2.Swarm
    token: str
    request_id: str
    asked: str
    def __init__(self, swarm: _Optional[_Union[_swarm_pb2.Swarm, _Mapping]] = ..., token: _Optional[str] = ..., request_id: _Optional[str] = ..., asked: _Optional[str] = ...) -> None: ...

class LoadPart(_message.Message):
    __slots__ = ("load_id", "tasks")
    LOAD_ID_FIELD_NUMBER: _ClassVar[int]
    TASKS_FIELD_NUMBER: _ClassVar[int]
    load_id: str
    tasks: TaskColumns
    def __init__(self, load_id: _Optional[str] = ..., tasks: _Optional[_Union[TaskColumns, _Mapping]] = ...) -> None: ...

class TaskColumns(_message.Message):
    __slots__ = ("task_ids", "array_ids", "task_resources_ids", "upstream_counts", "upstream_ids", "priorities", "max_attempts", "statuses", "attempts", "failed_attempts", "names", "commands", "scales", "scale_sets")
    TASK_IDS_FIELD_NUMBER: _ClassVar[int]
    ARRAY_IDS_FIELD_NUMBER: _ClassVar[int]
    TASK_RESOURCES_IDS_FIELD_NUMBER: _ClassVar[int]
    UPSTREAM_COUNTS_FIELD_NUMBER: _ClassVar[int]
    UPSTREAM_IDS_FIELD_NUMBER: _ClassVar[int]
    PRIORITIES_FIELD_NUMBER: _ClassVar[int]
    MAX_ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    STATUSES_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    FAILED_ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    NAMES_FIELD_NUMBER: _ClassVar[int]
    COMMANDS_FIELD_NUMBER: _ClassVar[int]
    SCALES_FIELD_NUMBER: _ClassVar[int]
    SCALE_SETS_FIELD_NUMBER: _ClassVar[int]
    task_ids: bytes
    array_ids: bytes
    task_resources_ids: bytes
    upstream_counts: bytes
    upstream_ids: bytes
    priorities: bytes
    max_attempts: bytes
    statuses: bytes
    attempts: bytes
    failed_attempts: bytes
    names: TextColumn
    commands: TextColumn
    scales: bytes
    scale_sets: _containers.RepeatedCompositeFieldContainer[ScaleSet]
    def __init__(self, task_ids: _Optional[bytes] = ..., array_ids: _Optional[bytes] = ..., task_resources_ids: _Optional[bytes] = ..., upstream_counts: _Optional[bytes] = ..., upstream_ids: _Optional[bytes] = ..., priorities: _Optional[bytes] = ..., max_attempts: _Optional[bytes] = ..., statuses: _Optional[bytes] = ..., attempts: _Optional[bytes] = ..., failed_attempts: _Optional[bytes] = ..., names: _Optional[_Union[TextColumn, _Mapping]] = ..., commands: _Optional[_Union[TextColumn, _Mapping]] = ..., scales: _Optional[bytes] = ..., scale_sets: _Optional[_Iterable[_Union[ScaleSet, _Mapping]]] = ...) -> None: ...

class TextColumn(_message.Message):
    __slots__ = ("data", "ends")
    DATA_FIELD_NUMBER: _ClassVar[int]
    ENDS_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    ends: bytes
    def __init__(self, data: _Optional[bytes] = ..., ends: _Optional[bytes] = ...) -> None: ...

class ScaleSet(_message.Message):
    __slots__ = ("scales",)
    class ScalesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    SCALES_FIELD_NUMBER: _ClassVar[int]
    scales: _containers.ScalarMap[str, float]
    def __init__(self, scales: _Optional[_Mapping[str, float]] = ...) -> None: ...

class Loaded(_message.Message):
    __slots__ = ("load_id", "arrays", "task_resources", "request_id", "asked")
    LOAD_ID_FIELD_NUMBER: _ClassVar[int]
    ARRAYS_FIELD_NUMBER: _ClassVar[int]
    TASK_RESOURCES_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    ASKED_FIELD_NUMBER: _ClassVar[int]
    load_id: str
    arrays: _containers.RepeatedCompositeFieldContainer[_array_pb2.Array]
    task_resources: _containers.RepeatedCompositeFieldContainer[_task_pb2.TaskResources]
    request_id: str
    asked: str
    def __init__(self, load_id: _Optional[str] = ..., arrays: _Optional[_Iterable[_Union[_array_pb2.Array, _Mapping]]] = ..., task_resources: _Optional[_Iterable[_Union[_task_pb2.TaskResources, _Mapping]]] = ..., request_id: _Optional[str] = ..., asked: _Optional[str] = ...) -> None: ...

class Updated(_message.Message):
    __slots__ = ("update",)
    UPDATE_FIELD_NUMBER: _ClassVar[int]
    update: _state_pb2.StateUpdate
    def __init__(self, update: _Optional[_Union[_state_pb2.StateUpdate, _Mapping]] = ...) -> None: ...

class Configured(_message.Message):
    __slots__ = ("paused", "fail_fast", "autopilot", "display_name", "update")
    PAUSED_FIELD_NUMBER: _ClassVar[int]
    FAIL_FAST_FIELD_NUMBER: _ClassVar[int]
    AUTOPILOT_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    UPDATE_FIELD_NUMBER: _ClassVar[int]
    paused: bool
    fail_fast: bool
    autopilot: bool
    display_name: str
    update: _state_pb2.StateUpdate
    def __init__(self, paused: _Optional[bool] = ..., fail_fast: _Optional[bool] = ..., autopilot: _Optional[bool] = ..., display_name: _Optional[str] = ..., update: _Optional[_Union[_state_pb2.StateUpdate, _Mapping]] = ...) -> None: ...

class Cancelled(_message.Message):
    __slots__ = ("selector", "reason")
    SELECTOR_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    selector: _task_pb2.TaskSelector
    reason: str
    def __init__(self, selector: _Optional[_Union[_task_pb2.TaskSelector, _Mapping]] = ..., reason: _Optional[str] = ...) -> None: ...

class Reset(_message.Message):
    __slots__ = ("selector", "include_downstreams", "reason")
    SELECTOR_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_DOWNSTREAMS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    selector: _task_pb2.TaskSelector
    include_downstreams: bool
    reason: str
    def __init__(self, selector: _Optional[_Union[_task_pb2.TaskSelector, _Mapping]] = ..., include_downstreams: _Optional[bool] = ..., reason: _Optional[str] = ...) -> None: ...

class BatchTaken(_message.Message):
    __slots__ = ("batch_id", "task_ids", "attempts", "request_id")
    BATCH_ID_FIELD_NUMBER: _ClassVar[int]
    TASK_IDS_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    batch_id: str
    task_ids: _containers.RepeatedScalarFieldContainer[int]
    attempts: _containers.RepeatedScalarFieldContainer[int]
    request_id: str
    def __init__(self, batch_id: _Optional[str] = ..., task_ids: _Optional[_Iterable[int]] = ..., attempts: _Optional[_Iterable[int]] = ..., request_id: _Optional[str] = ...) -> None: ...

class BatchConcluded(_message.Message):
    __slots__ = ("batch_id", "update", "returned_task_ids", "handed_out")
    BATCH_ID_FIELD_NUMBER: _ClassVar[int]
    UPDATE_FIELD_NUMBER: _ClassVar[int]
    RETURNED_TASK_IDS_FIELD_NUMBER: _ClassVar[int]
    HANDED_OUT_FIELD_NUMBER: _ClassVar[int]
    batch_id: str
    update: _state_pb2.StateUpdate
    returned_task_ids: _containers.RepeatedScalarFieldContainer[int]
    handed_out: bool
    def __init__(self, batch_id: _Optional[str] = ..., update: _Optional[_Union[_state_pb2.StateUpdate, _Mapping]] = ..., returned_task_ids: _Optional[_Iterable[int]] = ..., handed_out: _Optional[bool] = ...) -> None: ...

class BatchesHandedOut(_message.Message):
    __slots__ = ("batch_ids", "sizes", "task_ids", "attempts", "request_id")
    BATCH_IDS_FIELD_NUMBER: _ClassVar[int]
    SIZES_FIELD_NUMBER: _ClassVar[int]
    TASK_IDS_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    batch_ids: _containers.RepeatedScalarFieldContainer[str]
    sizes: _containers.RepeatedScalarFieldContainer[int]
    task_ids: _containers.RepeatedScalarFieldContainer[int]
    attempts: _containers.RepeatedScalarFieldContainer[int]
    request_id: str
    def __init__(self, batch_ids: _Optional[_Iterable[str]] = ..., sizes: _Optional[_Iterable[int]] = ..., task_ids: _Optional[_Iterable[int]] = ..., attempts: _Optional[_Iterable[int]] = ..., request_id: _Optional[str] = ...) -> None: ...

class BatchDoubted(_message.Message):
    __slots__ = ("batch_id", "why")
    BATCH_ID_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    batch_id: str
    why: str
    def __init__(self, batch_id: _Optional[str] = ..., why: _Optional[str] = ...) -> None: ...

class TickAnswered(_message.Message):
    __slots__ = ("request_id", "asked", "answer")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    ASKED_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    asked: str
    answer: bytes
    def __init__(self, request_id: _Optional[str] = ..., asked: _Optional[str] = ..., answer: _Optional[bytes] = ...) -> None: ...
