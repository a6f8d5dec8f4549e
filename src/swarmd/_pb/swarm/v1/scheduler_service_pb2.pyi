import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from swarmd._pb.swarm.v1 import batch_pb2 as _batch_pb2
from swarmd._pb.swarm.v1 import state_pb2 as _state_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class TickRequest(_message.Message):
    __slots__ = ("swarm_id", "timeout", "max_batches", "request_id", "view")
    SWARM_ID_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    MAX_BATCHES_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    VIEW_FIELD_NUMBER: _ClassVar[int]
    swarm_id: str
    timeout: _duration_pb2.Duration
    max_batches: int
    request_id: str
    view: _batch_pb2.BatchView
    def __init__(self, swarm_id: _Optional[str] = ..., timeout: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., max_batches: _Optional[int] = ..., request_id: _Optional[str] = ..., view: _Optional[_Union[_batch_pb2.BatchView, str]] = ...) -> None: ...

class TickResponse(_message.Message):
    __slots__ = ("update", "batch_results", "batches", "timed_out", "ready_to_run_count", "revision")
    UPDATE_FIELD_NUMBER: _ClassVar[int]
    BATCH_RESULTS_FIELD_NUMBER: _ClassVar[int]
    BATCHES_FIELD_NUMBER: _ClassVar[int]
    TIMED_OUT_FIELD_NUMBER: _ClassVar[int]
    READY_TO_RUN_COUNT_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    update: _state_pb2.StateUpdate
    batch_results: _containers.RepeatedCompositeFieldContainer[_batch_pb2.BatchResult]
    batches: _containers.RepeatedCompositeFieldContainer[_batch_pb2.Batch]
    timed_out: bool
    ready_to_run_count: int
    revision: int
    def __init__(self, update: _Optional[_Union[_state_pb2.StateUpdate, _Mapping]] = ..., batch_results: _Optional[_Iterable[_Union[_batch_pb2.BatchResult, _Mapping]]] = ..., batches: _Optional[_Iterable[_Union[_batch_pb2.Batch, _Mapping]]] = ..., timed_out: _Optional[bool] = ..., ready_to_run_count: _Optional[int] = ..., revision: _Optional[int] = ...) -> None: ...

class HasWorkRequest(_message.Message):
    __slots__ = ("swarm_id", "wait")
    SWARM_ID_FIELD_NUMBER: _ClassVar[int]
    WAIT_FIELD_NUMBER: _ClassVar[int]
    swarm_id: str
    wait: _duration_pb2.Duration
    def __init__(self, swarm_id: _Optional[str] = ..., wait: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class HasWorkResponse(_message.Message):
    __slots__ = ("has_work", "ready_to_run_count", "available_capacity", "active_count", "finished", "revision")
    HAS_WORK_FIELD_NUMBER: _ClassVar[int]
    READY_TO_RUN_COUNT_FIELD_NUMBER: _ClassVar[int]
    AVAILABLE_CAPACITY_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_COUNT_FIELD_NUMBER: _ClassVar[int]
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    has_work: bool
    ready_to_run_count: int
    available_capacity: int
    active_count: int
    finished: bool
    revision: int
    def __init__(self, has_work: _Optional[bool] = ..., ready_to_run_count: _Optional[int] = ..., available_capacity: _Optional[int] = ..., active_count: _Optional[int] = ..., finished: _Optional[bool] = ..., revision: _Optional[int] = ...) -> None: ...

class ApplyUpdateRequest(_message.Message):
    __slots__ = ("swarm_id", "sequence", "update")
    SWARM_ID_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    UPDATE_FIELD_NUMBER: _ClassVar[int]
    swarm_id: str
    sequence: int
    update: _state_pb2.StateUpdate
    def __init__(self, swarm_id: _Optional[str] = ..., sequence: _Optional[int] = ..., update: _Optional[_Union[_state_pb2.StateUpdate, _Mapping]] = ...) -> None: ...

class ApplyUpdateResponse(_message.Message):
    __slots__ = ("sequence", "changed_count", "newly_ready_count", "ignored", "error", "revision")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    CHANGED_COUNT_FIELD_NUMBER: _ClassVar[int]
    NEWLY_READY_COUNT_FIELD_NUMBER: _ClassVar[int]
    IGNORED_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    changed_count: int
    newly_ready_count: int
    ignored: _containers.RepeatedCompositeFieldContainer[_state_pb2.IgnoredNews]
    error: UpdateError
    revision: int
    def __init__(self, sequence: _Optional[int] = ..., changed_count: _Optional[int] = ..., newly_ready_count: _Optional[int] = ..., ignored: _Optional[_Iterable[_Union[_state_pb2.IgnoredNews, _Mapping]]] = ..., error: _Optional[_Union[UpdateError, _Mapping]] = ..., revision: _Optional[int] = ...) -> None: ...

class UpdateError(_message.Message):
    __slots__ = ("code", "reason", "message", "field", "metadata")
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    CODE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    FIELD_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    code: int
    reason: str
    message: str
    field: str
    metadata: _containers.ScalarMap[str, str]
    def __init__(self, code: _Optional[int] = ..., reason: _Optional[str] = ..., message: _Optional[str] = ..., field: _Optional[str] = ..., metadata: _Optional[_Mapping[str, str]] = ...) -> None: ...
