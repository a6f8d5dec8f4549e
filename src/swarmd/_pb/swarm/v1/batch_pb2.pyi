from swarmd._pb.swarm.v1 import state_pb2 as _state_pb2
from swarmd._pb.swarm.v1 import task_pb2 as _task_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class BatchView(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    BATCH_VIEW_UNSPECIFIED: _ClassVar[BatchView]
    BATCH_VIEW_BASIC: _ClassVar[BatchView]
    BATCH_VIEW_FULL: _ClassVar[BatchView]
BATCH_VIEW_UNSPECIFIED: BatchView
BATCH_VIEW_BASIC: BatchView
BATCH_VIEW_FULL: BatchView

class Batch(_message.Message):
    __slots__ = ("batch_id", "array_id", "task_resources_id", "priority", "task_ids", "attempts", "tasks", "task_resources", "array_name")
    BATCH_ID_FIELD_NUMBER: _ClassVar[int]
    ARRAY_ID_FIELD_NUMBER: _ClassVar[int]
    TASK_RESOURCES_ID_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    TASK_IDS_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    TASKS_FIELD_NUMBER: _ClassVar[int]
    TASK_RESOURCES_FIELD_NUMBER: _ClassVar[int]
    ARRAY_NAME_FIELD_NUMBER: _ClassVar[int]
    batch_id: str
    array_id: int
    task_resources_id: int
    priority: int
    task_ids: _containers.RepeatedScalarFieldContainer[int]
    attempts: _containers.RepeatedScalarFieldContainer[int]
    tasks: _containers.RepeatedCompositeFieldContainer[BatchTask]
    task_resources: _task_pb2.TaskResources
    array_name: str
    def __init__(self, batch_id: _Optional[str] = ..., array_id: _Optional[int] = ..., task_resources_id: _Optional[int] = ..., priority: _Optional[int] = ..., task_ids: _Optional[_Iterable[int]] = ..., attempts: _Optional[_Iterable[int]] = ..., tasks: _Optional[_Iterable[_Union[BatchTask, _Mapping]]] = ..., task_resources: _Optional[_Union[_task_pb2.TaskResources, _Mapping]] = ..., array_name: _Optional[str] = ...) -> None: ...

class BatchTask(_message.Message):
    __slots__ = ("task_id", "name", "command", "attempt")
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    task_id: int
    name: str
    command: str
    attempt: int
    def __init__(self, task_id: _Optional[int] = ..., name: _Optional[str] = ..., command: _Optional[str] = ..., attempt: _Optional[int] = ...) -> None: ...

class BatchResult(_message.Message):
    __slots__ = ("batch_id", "array_id", "batch_size", "task_statuses", "error", "in_doubt")
    BATCH_ID_FIELD_NUMBER: _ClassVar[int]
    ARRAY_ID_FIELD_NUMBER: _ClassVar[int]
    BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    TASK_STATUSES_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    IN_DOUBT_FIELD_NUMBER: _ClassVar[int]
    batch_id: str
    array_id: int
    batch_size: int
    task_statuses: _containers.RepeatedCompositeFieldContainer[_state_pb2.TaskStatusGroup]
    error: str
    in_doubt: bool
    def __init__(self, batch_id: _Optional[str] = ..., array_id: _Optional[int] = ..., batch_size: _Optional[int] = ..., task_statuses: _Optional[_Iterable[_Union[_state_pb2.TaskStatusGroup, _Mapping]]] = ..., error: _Optional[str] = ..., in_doubt: _Optional[bool] = ...) -> None: ...
