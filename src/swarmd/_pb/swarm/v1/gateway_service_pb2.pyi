import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from swarmd._pb.swarm.v1 import batch_pb2 as _batch_pb2
from swarmd._pb.swarm.v1 import state_pb2 as _state_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class QueueBatchRequest(_message.Message):
    __slots__ = ("swarm_id", "batch", "working_directory", "environment")
    class EnvironmentEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    SWARM_ID_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    WORKING_DIRECTORY_FIELD_NUMBER: _ClassVar[int]
    ENVIRONMENT_FIELD_NUMBER: _ClassVar[int]
    swarm_id: str
    batch: _batch_pb2.Batch
    working_directory: str
    environment: _containers.ScalarMap[str, str]
    def __init__(self, swarm_id: _Optional[str] = ..., batch: _Optional[_Union[_batch_pb2.Batch, _Mapping]] = ..., working_directory: _Optional[str] = ..., environment: _Optional[_Mapping[str, str]] = ...) -> None: ...

class QueueBatchResponse(_message.Message):
    __slots__ = ("refusals",)
    REFUSALS_FIELD_NUMBER: _ClassVar[int]
    refusals: _containers.RepeatedCompositeFieldContainer[TaskRefusal]
    def __init__(self, refusals: _Optional[_Iterable[_Union[TaskRefusal, _Mapping]]] = ...) -> None: ...

class TaskRefusal(_message.Message):
    __slots__ = ("task_ids", "reason", "permanent")
    TASK_IDS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    PERMANENT_FIELD_NUMBER: _ClassVar[int]
    task_ids: _containers.RepeatedScalarFieldContainer[int]
    reason: str
    permanent: bool
    def __init__(self, task_ids: _Optional[_Iterable[int]] = ..., reason: _Optional[str] = ..., permanent: _Optional[bool] = ...) -> None: ...

class FindBatchRequest(_message.Message):
    __slots__ = ("swarm_id", "batch_id")
    SWARM_ID_FIELD_NUMBER: _ClassVar[int]
    BATCH_ID_FIELD_NUMBER: _ClassVar[int]
    swarm_id: str
    batch_id: str
    def __init__(self, swarm_id: _Optional[str] = ..., batch_id: _Optional[str] = ...) -> None: ...

class FindBatchResponse(_message.Message):
    __slots__ = ("outcome", "refusals")
    class Outcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        OUTCOME_UNSPECIFIED: _ClassVar[FindBatchResponse.Outcome]
        OUTCOME_QUEUED: _ClassVar[FindBatchResponse.Outcome]
        OUTCOME_NOT_QUEUED: _ClassVar[FindBatchResponse.Outcome]
    OUTCOME_UNSPECIFIED: FindBatchResponse.Outcome
    OUTCOME_QUEUED: FindBatchResponse.Outcome
    OUTCOME_NOT_QUEUED: FindBatchResponse.Outcome
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    REFUSALS_FIELD_NUMBER: _ClassVar[int]
    outcome: FindBatchResponse.Outcome
    refusals: _containers.RepeatedCompositeFieldContainer[TaskRefusal]
    def __init__(self, outcome: _Optional[_Union[FindBatchResponse.Outcome, str]] = ..., refusals: _Optional[_Iterable[_Union[TaskRefusal, _Mapping]]] = ...) -> None: ...

class GatewayServiceCancelTasksRequest(_message.Message):
    __slots__ = ("swarm_id", "task_ids", "attempts", "reason")
    SWARM_ID_FIELD_NUMBER: _ClassVar[int]
    TASK_IDS_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    swarm_id: str
    task_ids: _containers.RepeatedScalarFieldContainer[int]
    attempts: _containers.RepeatedScalarFieldContainer[int]
    reason: str
    def __init__(self, swarm_id: _Optional[str] = ..., task_ids: _Optional[_Iterable[int]] = ..., attempts: _Optional[_Iterable[int]] = ..., reason: _Optional[str] = ...) -> None: ...

class GatewayServiceCancelTasksResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class WatchUpdatesRequest(_message.Message):
    __slots__ = ("resume_token", "progress_interval")
    RESUME_TOKEN_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_INTERVAL_FIELD_NUMBER: _ClassVar[int]
    resume_token: str
    progress_interval: _duration_pb2.Duration
    def __init__(self, resume_token: _Optional[str] = ..., progress_interval: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class WatchUpdatesResponse(_message.Message):
    __slots__ = ("swarm_id", "update", "resume_token")
    SWARM_ID_FIELD_NUMBER: _ClassVar[int]
    UPDATE_FIELD_NUMBER: _ClassVar[int]
    RESUME_TOKEN_FIELD_NUMBER: _ClassVar[int]
    swarm_id: str
    update: _state_pb2.StateUpdate
    resume_token: str
    def __init__(self, swarm_id: _Optional[str] = ..., update: _Optional[_Union[_state_pb2.StateUpdate, _Mapping]] = ..., resume_token: _Optional[str] = ...) -> None: ...
