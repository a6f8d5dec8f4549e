import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class TaskStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TASK_STATUS_UNSPECIFIED: _ClassVar[TaskStatus]
    TASK_STATUS_REGISTERED: _ClassVar[TaskStatus]
    TASK_STATUS_QUEUED: _ClassVar[TaskStatus]
    TASK_STATUS_INSTANTIATING: _ClassVar[TaskStatus]
    TASK_STATUS_LAUNCHED: _ClassVar[TaskStatus]
    TASK_STATUS_RUNNING: _ClassVar[TaskStatus]
    TASK_STATUS_DONE: _ClassVar[TaskStatus]
    TASK_STATUS_ERROR_RECOVERABLE: _ClassVar[TaskStatus]
    TASK_STATUS_ADJUSTING_RESOURCES: _ClassVar[TaskStatus]
    TASK_STATUS_ERROR_FATAL: _ClassVar[TaskStatus]
    TASK_STATUS_CANCELLED: _ClassVar[TaskStatus]
TASK_STATUS_UNSPECIFIED: TaskStatus
TASK_STATUS_REGISTERED: TaskStatus
TASK_STATUS_QUEUED: TaskStatus
TASK_STATUS_INSTANTIATING: TaskStatus
TASK_STATUS_LAUNCHED: TaskStatus
TASK_STATUS_RUNNING: TaskStatus
TASK_STATUS_DONE: TaskStatus
TASK_STATUS_ERROR_RECOVERABLE: TaskStatus
TASK_STATUS_ADJUSTING_RESOURCES: TaskStatus
TASK_STATUS_ERROR_FATAL: TaskStatus
TASK_STATUS_CANCELLED: TaskStatus

class Task(_message.Message):
    __slots__ = ("task_id", "array_id", "task_resources_id", "name", "command", "upstream_task_ids", "status", "max_attempts", "priority", "resource_scales", "attempt", "failed_attempts", "status_time", "reason")
    class ResourceScalesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    ARRAY_ID_FIELD_NUMBER: _ClassVar[int]
    TASK_RESOURCES_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    UPSTREAM_TASK_IDS_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    MAX_ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    RESOURCE_SCALES_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    FAILED_ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    STATUS_TIME_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    task_id: int
    array_id: int
    task_resources_id: int
    name: str
    command: str
    upstream_task_ids: _containers.RepeatedScalarFieldContainer[int]
    status: TaskStatus
    max_attempts: int
    priority: int
    resource_scales: _containers.ScalarMap[str, float]
    attempt: int
    failed_attempts: int
    status_time: _timestamp_pb2.Timestamp
    reason: str
    def __init__(self, task_id: _Optional[int] = ..., array_id: _Optional[int] = ..., task_resources_id: _Optional[int] = ..., name: _Optional[str] = ..., command: _Optional[str] = ..., upstream_task_ids: _Optional[_Iterable[int]] = ..., status: _Optional[_Union[TaskStatus, str]] = ..., max_attempts: _Optional[int] = ..., priority: _Optional[int] = ..., resource_scales: _Optional[_Mapping[str, float]] = ..., attempt: _Optional[int] = ..., failed_attempts: _Optional[int] = ..., status_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., reason: _Optional[str] = ...) -> None: ...

class TaskResources(_message.Message):
    __slots__ = ("task_resources_id", "cluster", "queue", "cores", "memory_mib", "runtime", "extra", "fallback_queues")
    class ExtraEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    TASK_RESOURCES_ID_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    CORES_FIELD_NUMBER: _ClassVar[int]
    MEMORY_MIB_FIELD_NUMBER: _ClassVar[int]
    RUNTIME_FIELD_NUMBER: _ClassVar[int]
    EXTRA_FIELD_NUMBER: _ClassVar[int]
    FALLBACK_QUEUES_FIELD_NUMBER: _ClassVar[int]
    task_resources_id: int
    cluster: str
    queue: str
    cores: int
    memory_mib: int
    runtime: _duration_pb2.Duration
    extra: _containers.ScalarMap[str, str]
    fallback_queues: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, task_resources_id: _Optional[int] = ..., cluster: _Optional[str] = ..., queue: _Optional[str] = ..., cores: _Optional[int] = ..., memory_mib: _Optional[int] = ..., runtime: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., extra: _Optional[_Mapping[str, str]] = ..., fallback_queues: _Optional[_Iterable[str]] = ...) -> None: ...

class QueueLimits(_message.Message):
    __slots__ = ("cluster", "queue", "cores", "memory_mib", "runtime")
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    CORES_FIELD_NUMBER: _ClassVar[int]
    MEMORY_MIB_FIELD_NUMBER: _ClassVar[int]
    RUNTIME_FIELD_NUMBER: _ClassVar[int]
    cluster: str
    queue: str
    cores: int
    memory_mib: int
    runtime: _duration_pb2.Duration
    def __init__(self, cluster: _Optional[str] = ..., queue: _Optional[str] = ..., cores: _Optional[int] = ..., memory_mib: _Optional[int] = ..., runtime: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class TaskSelector(_message.Message):
    __slots__ = ("task_ids", "array_ids", "statuses", "all")
    TASK_IDS_FIELD_NUMBER: _ClassVar[int]
    ARRAY_IDS_FIELD_NUMBER: _ClassVar[int]
    STATUSES_FIELD_NUMBER: _ClassVar[int]
    ALL_FIELD_NUMBER: _ClassVar[int]
    task_ids: _containers.RepeatedScalarFieldContainer[int]
    array_ids: _containers.RepeatedScalarFieldContainer[int]
    statuses: _containers.RepeatedScalarFieldContainer[TaskStatus]
    all: bool
    def __init__(self, task_ids: _Optional[_Iterable[int]] = ..., array_ids: _Optional[_Iterable[int]] = ..., statuses: _Optional[_Iterable[_Union[TaskStatus, str]]] = ..., all: _Optional[bool] = ...) -> None: ...
