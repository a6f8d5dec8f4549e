import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from swarmd._pb.swarm.v1 import task_pb2 as _task_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class WorkflowRunStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    WORKFLOW_RUN_STATUS_UNSPECIFIED: _ClassVar[WorkflowRunStatus]
    WORKFLOW_RUN_STATUS_REGISTERED: _ClassVar[WorkflowRunStatus]
    WORKFLOW_RUN_STATUS_LINKING: _ClassVar[WorkflowRunStatus]
    WORKFLOW_RUN_STATUS_BOUND: _ClassVar[WorkflowRunStatus]
    WORKFLOW_RUN_STATUS_INSTANTIATED: _ClassVar[WorkflowRunStatus]
    WORKFLOW_RUN_STATUS_LAUNCHED: _ClassVar[WorkflowRunStatus]
    WORKFLOW_RUN_STATUS_RUNNING: _ClassVar[WorkflowRunStatus]
    WORKFLOW_RUN_STATUS_DONE: _ClassVar[WorkflowRunStatus]
    WORKFLOW_RUN_STATUS_ABORTED: _ClassVar[WorkflowRunStatus]
    WORKFLOW_RUN_STATUS_STOPPED: _ClassVar[WorkflowRunStatus]
    WORKFLOW_RUN_STATUS_ERROR: _ClassVar[WorkflowRunStatus]
    WORKFLOW_RUN_STATUS_COLD_RESUME: _ClassVar[WorkflowRunStatus]
    WORKFLOW_RUN_STATUS_HOT_RESUME: _ClassVar[WorkflowRunStatus]
    WORKFLOW_RUN_STATUS_TERMINATED: _ClassVar[WorkflowRunStatus]
WORKFLOW_RUN_STATUS_UNSPECIFIED: WorkflowRunStatus
WORKFLOW_RUN_STATUS_REGISTERED: WorkflowRunStatus
WORKFLOW_RUN_STATUS_LINKING: WorkflowRunStatus
WORKFLOW_RUN_STATUS_BOUND: WorkflowRunStatus
WORKFLOW_RUN_STATUS_INSTANTIATED: WorkflowRunStatus
WORKFLOW_RUN_STATUS_LAUNCHED: WorkflowRunStatus
WORKFLOW_RUN_STATUS_RUNNING: WorkflowRunStatus
WORKFLOW_RUN_STATUS_DONE: WorkflowRunStatus
WORKFLOW_RUN_STATUS_ABORTED: WorkflowRunStatus
WORKFLOW_RUN_STATUS_STOPPED: WorkflowRunStatus
WORKFLOW_RUN_STATUS_ERROR: WorkflowRunStatus
WORKFLOW_RUN_STATUS_COLD_RESUME: WorkflowRunStatus
WORKFLOW_RUN_STATUS_HOT_RESUME: WorkflowRunStatus
WORKFLOW_RUN_STATUS_TERMINATED: WorkflowRunStatus

class TaskStatusGroup(_message.Message):
    __slots__ = ("status", "task_ids", "attempts", "reason")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    TASK_IDS_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    status: _task_pb2.TaskStatus
    task_ids: _containers.RepeatedScalarFieldContainer[int]
    attempts: _containers.RepeatedScalarFieldContainer[int]
    reason: str
    def __init__(self, status: _Optional[_Union[_task_pb2.TaskStatus, str]] = ..., task_ids: _Optional[_Iterable[int]] = ..., attempts: _Optional[_Iterable[int]] = ..., reason: _Optional[str] = ...) -> None: ...

class ArrayLimit(_message.Message):
    __slots__ = ("array_id", "max_concurrently_running")
    ARRAY_ID_FIELD_NUMBER: _ClassVar[int]
    MAX_CONCURRENTLY_RUNNING_FIELD_NUMBER: _ClassVar[int]
    array_id: int
    max_concurrently_running: int
    def __init__(self, array_id: _Optional[int] = ..., max_concurrently_running: _Optional[int] = ...) -> None: ...

class StateUpdate(_message.Message):
    __slots__ = ("task_statuses", "max_concurrently_running", "array_limits", "workflow_run_status", "sync_time", "queue_limits")
    TASK_STATUSES_FIELD_NUMBER: _ClassVar[int]
    MAX_CONCURRENTLY_RUNNING_FIELD_NUMBER: _ClassVar[int]
    ARRAY_LIMITS_FIELD_NUMBER: _ClassVar[int]
    WORKFLOW_RUN_STATUS_FIELD_NUMBER: _ClassVar[int]
    SYNC_TIME_FIELD_NUMBER: _ClassVar[int]
    QUEUE_LIMITS_FIELD_NUMBER: _ClassVar[int]
    task_statuses: _containers.RepeatedCompositeFieldContainer[TaskStatusGroup]
    max_concurrently_running: int
    array_limits: _containers.RepeatedCompositeFieldContainer[ArrayLimit]
    workflow_run_status: WorkflowRunStatus
    sync_time: _timestamp_pb2.Timestamp
    queue_limits: _containers.RepeatedCompositeFieldContainer[_task_pb2.QueueLimits]
    def __init__(self, task_statuses: _Optional[_Iterable[_Union[TaskStatusGroup, _Mapping]]] = ..., max_concurrently_running: _Optional[int] = ..., array_limits: _Optional[_Iterable[_Union[ArrayLimit, _Mapping]]] = ..., workflow_run_status: _Optional[_Union[WorkflowRunStatus, str]] = ..., sync_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., queue_limits: _Optional[_Iterable[_Union[_task_pb2.QueueLimits, _Mapping]]] = ...) -> None: ...

class TaskCounts(_message.Message):
    __slots__ = ("total", "registered", "queued", "instantiating", "launched", "running", "done", "error_fatal", "cancelled", "ready", "reserved", "in_doubt", "active")
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    REGISTERED_FIELD_NUMBER: _ClassVar[int]
    QUEUED_FIELD_NUMBER: _ClassVar[int]
    INSTANTIATING_FIELD_NUMBER: _ClassVar[int]
    LAUNCHED_FIELD_NUMBER: _ClassVar[int]
    RUNNING_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FATAL_FIELD_NUMBER: _ClassVar[int]
    CANCELLED_FIELD_NUMBER: _ClassVar[int]
    READY_FIELD_NUMBER: _ClassVar[int]
    RESERVED_FIELD_NUMBER: _ClassVar[int]
    IN_DOUBT_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_FIELD_NUMBER: _ClassVar[int]
    total: int
    registered: int
    queued: int
    instantiating: int
    launched: int
    running: int
    done: int
    error_fatal: int
    cancelled: int
    ready: int
    reserved: int
    in_doubt: int
    active: int
    def __init__(self, total: _Optional[int] = ..., registered: _Optional[int] = ..., queued: _Optional[int] = ..., instantiating: _Optional[int] = ..., launched: _Optional[int] = ..., running: _Optional[int] = ..., done: _Optional[int] = ..., error_fatal: _Optional[int] = ..., cancelled: _Optional[int] = ..., ready: _Optional[int] = ..., reserved: _Optional[int] = ..., in_doubt: _Optional[int] = ..., active: _Optional[int] = ...) -> None: ...

class IgnoredNews(_message.Message):
    __slots__ = ("task_ids", "status", "reason")
    class Reason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        REASON_UNSPECIFIED: _ClassVar[IgnoredNews.Reason]
        REASON_TASK_IS_FINAL: _ClassVar[IgnoredNews.Reason]
        REASON_TASK_IS_FURTHER: _ClassVar[IgnoredNews.Reason]
        REASON_ATTEMPT_IS_OVER: _ClassVar[IgnoredNews.Reason]
        REASON_TASK_IS_NOT_QUEUED: _ClassVar[IgnoredNews.Reason]
    REASON_UNSPECIFIED: IgnoredNews.Reason
    REASON_TASK_IS_FINAL: IgnoredNews.Reason
    REASON_TASK_IS_FURTHER: IgnoredNews.Reason
    REASON_ATTEMPT_IS_OVER: IgnoredNews.Reason
    REASON_TASK_IS_NOT_QUEUED: IgnoredNews.Reason
    TASK_IDS_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    task_ids: _containers.RepeatedScalarFieldContainer[int]
    status: _task_pb2.TaskStatus
    reason: IgnoredNews.Reason
    def __init__(self, task_ids: _Optional[_Iterable[int]] = ..., status: _Optional[_Union[_task_pb2.TaskStatus, str]] = ..., reason: _Optional[_Union[IgnoredNews.Reason, str]] = ...) -> None: ...
