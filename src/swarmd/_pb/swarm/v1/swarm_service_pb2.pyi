import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import field_mask_pb2 as _field_mask_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from swarmd._pb.swarm.v1 import array_pb2 as _array_pb2
from swarmd._pb.swarm.v1 import state_pb2 as _state_pb2
from swarmd._pb.swarm.v1 import swarm_pb2 as _swarm_pb2
from swarmd._pb.swarm.v1 import task_pb2 as _task_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class CreateSwarmRequest(_message.Message):
    __slots__ = ("swarm", "request_id")
    SWARM_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    swarm: _swarm_pb2.Swarm
    request_id: str
    def __init__(self, swarm: _Optional[_Union[_swarm_pb2.Swarm, _Mapping]] = ..., request_id: _Optional[str] = ...) -> None: ...

class CreateSwarmResponse(_message.Message):
    __slots__ = ("swarm",)
    SWARM_FIELD_NUMBER: _ClassVar[int]
    swarm: _swarm_pb2.Swarm
    def __init__(self, swarm: _Optional[_Union[_swarm_pb2.Swarm, _Mapping]] = ...) -> None: ...

class GetSwarmRequest(_message.Message):
    __slots__ = ("swarm_id", "view")
    SWARM_ID_FIELD_NUMBER: _ClassVar[int]
    VIEW_FIELD_NUMBER: _ClassVar[int]
    swarm_id: str
    view: _swarm_pb2.SwarmView
    def __init__(self, swarm_id: _Optional[str] = ..., view: _Optional[_Union[_swarm_pb2.SwarmView, str]] = ...) -> None: ...

class GetSwarmResponse(_message.Message):
    __slots__ = ("swarm",)
    SWARM_FIELD_NUMBER: _ClassVar[int]
    swarm: _swarm_pb2.Swarm
    def __init__(self, swarm: _Optional[_Union[_swarm_pb2.Swarm, _Mapping]] = ...) -> None: ...

class ListSwarmsRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListSwarmsResponse(_message.Message):
    __slots__ = ("swarms", "next_page_token", "set_aside")
    SWARMS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    SET_ASIDE_FIELD_NUMBER: _ClassVar[int]
    swarms: _containers.RepeatedCompositeFieldContainer[_swarm_pb2.Swarm]
    next_page_token: str
    set_aside: _containers.RepeatedCompositeFieldContainer[_swarm_pb2.SetAsideSwarm]
    def __init__(self, swarms: _Optional[_Iterable[_Union[_swarm_pb2.Swarm, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., set_aside: _Optional[_Iterable[_Union[_swarm_pb2.SetAsideSwarm, _Mapping]]] = ...) -> None: ...

class UpdateSwarmRequest(_message.Message):
    __slots__ = ("swarm", "update_mask")
    SWARM_FIELD_NUMBER: _ClassVar[int]
    UPDATE_MASK_FIELD_NUMBER: _ClassVar[int]
    swarm: _swarm_pb2.Swarm
    update_mask: _field_mask_pb2.FieldMask
    def __init__(self, swarm: _Optional[_Union[_swarm_pb2.Swarm, _Mapping]] = ..., update_mask: _Optional[_Union[_field_mask_pb2.FieldMask, _Mapping]] = ...) -> None: ...

class UpdateSwarmResponse(_message.Message):
    __slots__ = ("swarm",)
    SWARM_FIELD_NUMBER: _ClassVar[int]
    swarm: _swarm_pb2.Swarm
    def __init__(self, swarm: _Optional[_Union[_swarm_pb2.Swarm, _Mapping]] = ...) -> None: ...

class DeleteSwarmRequest(_message.Message):
    __slots__ = ("swarm_id", "force")
    SWARM_ID_FIELD_NUMBER: _ClassVar[int]
    FORCE_FIELD_NUMBER: _ClassVar[int]
    swarm_id: str
    force: bool
    def __init__(self, swarm_id: _Optional[str] = ..., force: _Optional[bool] = ...) -> None: ...

class DeleteSwarmResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class AddTasksRequest(_message.Message):
    __slots__ = ("swarm_id", "arrays", "task_resources", "tasks", "request_id")
    SWARM_ID_FIELD_NUMBER: _ClassVar[int]
    ARRAYS_FIELD_NUMBER: _ClassVar[int]
    TASK_RESOURCES_FIELD_NUMBER: _ClassVar[int]
    TASKS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    swarm_id: str
    arrays: _containers.RepeatedCompositeFieldContainer[_array_pb2.Array]
    task_resources: _containers.RepeatedCompositeFieldContainer[_task_pb2.TaskResources]
    tasks: _containers.RepeatedCompositeFieldContainer[_task_pb2.Task]
    request_id: str
    def __init__(self, swarm_id: _Optional[str] = ..., arrays: _Optional[_Iterable[_Union[_array_pb2.Array, _Mapping]]] = ..., task_resources: _Optional[_Iterable[_Union[_task_pb2.TaskResources, _Mapping]]] = ..., tasks: _Optional[_Iterable[_Union[_task_pb2.Task, _Mapping]]] = ..., request_id: _Optional[str] = ...) -> None: ...

class AddTasksResponse(_message.Message):
    __slots__ = ("task_count", "array_count", "task_resources_count", "newly_ready_count", "revision")
    TASK_COUNT_FIELD_NUMBER: _ClassVar[int]
    ARRAY_COUNT_FIELD_NUMBER: _ClassVar[int]
    TASK_RESOURCES_COUNT_FIELD_NUMBER: _ClassVar[int]
    NEWLY_READY_COUNT_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    task_count: int
    array_count: int
    task_resources_count: int
    newly_ready_count: int
    revision: int
    def __init__(self, task_count: _Optional[int] = ..., array_count: _Optional[int] = ..., task_resources_count: _Optional[int] = ..., newly_ready_count: _Optional[int] = ..., revision: _Optional[int] = ...) -> None: ...

class GetTaskRequest(_message.Message):
    __slots__ = ("swarm_id", "task_id")
    SWARM_ID_FIELD_NUMBER: _ClassVar[int]
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    swarm_id: str
    task_id: int
    def __init__(self, swarm_id: _Optional[str] = ..., task_id: _Optional[int] = ...) -> None: ...

class GetTaskResponse(_message.Message):
    __slots__ = ("task",)
    TASK_FIELD_NUMBER: _ClassVar[int]
    task: _task_pb2.Task
    def __init__(self, task: _Optional[_Union[_task_pb2.Task, _Mapping]] = ...) -> None: ...

class ListTasksRequest(_message.Message):
    __slots__ = ("swarm_id", "statuses", "array_ids", "page_size", "page_token")
    SWARM_ID_FIELD_NUMBER: _ClassVar[int]
    STATUSES_FIELD_NUMBER: _ClassVar[int]
    ARRAY_IDS_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    swarm_id: str
    statuses: _containers.RepeatedScalarFieldContainer[_task_pb2.TaskStatus]
    array_ids: _containers.RepeatedScalarFieldContainer[int]
    page_size: int
    page_token: str
    def __init__(self, swarm_id: _Optional[str] = ..., statuses: _Optional[_Iterable[_Union[_task_pb2.TaskStatus, str]]] = ..., array_ids: _Optional[_Iterable[int]] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListTasksResponse(_message.Message):
    __slots__ = ("tasks", "next_page_token")
    TASKS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    tasks: _containers.RepeatedCompositeFieldContainer[_task_pb2.Task]
    next_page_token: str
    def __init__(self, tasks: _Optional[_Iterable[_Union[_task_pb2.Task, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class ExplainTaskRequest(_message.Message):
    __slots__ = ("swarm_id", "task_id")
    SWARM_ID_FIELD_NUMBER: _ClassVar[int]
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    swarm_id: str
    task_id: int
    def __init__(self, swarm_id: _Optional[str] = ..., task_id: _Optional[int] = ...) -> None: ...

class ExplainTaskResponse(_message.Message):
    __slots__ = ("task", "summary", "obstacles", "attempts", "batch_id")
    TASK_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    OBSTACLES_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    BATCH_ID_FIELD_NUMBER: _ClassVar[int]
    task: _task_pb2.Task
    summary: str
    obstacles: _containers.RepeatedCompositeFieldContainer[Obstacle]
    attempts: _containers.RepeatedCompositeFieldContainer[Attempt]
    batch_id: str
    def __init__(self, task: _Optional[_Union[_task_pb2.Task, _Mapping]] = ..., summary: _Optional[str] = ..., obstacles: _Optional[_Iterable[_Union[Obstacle, _Mapping]]] = ..., attempts: _Optional[_Iterable[_Union[Attempt, _Mapping]]] = ..., batch_id: _Optional[str] = ...) -> None: ...

class Obstacle(_message.Message):
    __slots__ = ("kind", "message", "task_ids", "count")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        KIND_UNSPECIFIED: _ClassVar[Obstacle.Kind]
        KIND_WAITING_FOR_UPSTREAMS: _ClassVar[Obstacle.Kind]
        KIND_BLOCKED_BY_FAILURE: _ClassVar[Obstacle.Kind]
        KIND_SWARM_LIMIT: _ClassVar[Obstacle.Kind]
        KIND_ARRAY_LIMIT: _ClassVar[Obstacle.Kind]
        KIND_PAUSED: _ClassVar[Obstacle.Kind]
        KIND_WORKFLOW_RUN_STATUS: _ClassVar[Obstacle.Kind]
        KIND_FAIL_FAST: _ClassVar[Obstacle.Kind]
        KIND_QUEUE_POSITION: _ClassVar[Obstacle.Kind]
        KIND_BEING_QUEUED: _ClassVar[Obstacle.Kind]
        KIND_IN_DOUBT: _ClassVar[Obstacle.Kind]
        KIND_ACTIVE: _ClassVar[Obstacle.Kind]
        KIND_FINAL: _ClassVar[Obstacle.Kind]
        KIND_WAITING_FOR_TICK: _ClassVar[Obstacle.Kind]
        KIND_REFUSED: _ClassVar[Obstacle.Kind]
    KIND_UNSPECIFIED: Obstacle.Kind
    KIND_WAITING_FOR_UPSTREAMS: Obstacle.Kind
    KIND_BLOCKED_BY_FAILURE: Obstacle.Kind
    KIND_SWARM_LIMIT: Obstacle.Kind
    KIND_ARRAY_LIMIT: Obstacle.Kind
    KIND_PAUSED: Obstacle.Kind
    KIND_WORKFLOW_RUN_STATUS: Obstacle.Kind
    KIND_FAIL_FAST: Obstacle.Kind
    KIND_QUEUE_POSITION: Obstacle.Kind
    KIND_BEING_QUEUED: Obstacle.Kind
    KIND_IN_DOUBT: Obstacle.Kind
    KIND_ACTIVE: Obstacle.Kind
    KIND_FINAL: Obstacle.Kind
    KIND_WAITING_FOR_TICK: Obstacle.Kind
    KIND_REFUSED: Obstacle.Kind
    KIND_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    TASK_IDS_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    kind: Obstacle.Kind
    message: str
    task_ids: _containers.RepeatedScalarFieldContainer[int]
    count: int
    def __init__(self, kind: _Optional[_Union[Obstacle.Kind, str]] = ..., message: _Optional[str] = ..., task_ids: _Optional[_Iterable[int]] = ..., count: _Optional[int] = ...) -> None: ...

class Attempt(_message.Message):
    __slots__ = ("attempt", "status", "queue_time", "status_time", "reason", "task_resources")
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    QUEUE_TIME_FIELD_NUMBER: _ClassVar[int]
    STATUS_TIME_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    TASK_RESOURCES_FIELD_NUMBER: _ClassVar[int]
    attempt: int
    status: _task_pb2.TaskStatus
    queue_time: _timestamp_pb2.Timestamp
    status_time: _timestamp_pb2.Timestamp
    reason: str
    task_resources: _task_pb2.TaskResources
    def __init__(self, attempt: _Optional[int] = ..., status: _Optional[_Union[_task_pb2.TaskStatus, str]] = ..., queue_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., status_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., reason: _Optional[str] = ..., task_resources: _Optional[_Union[_task_pb2.TaskResources, _Mapping]] = ...) -> None: ...

class CancelTasksRequest(_message.Message):
    __slots__ = ("swarm_id", "selector", "reason")
    SWARM_ID_FIELD_NUMBER: _ClassVar[int]
    SELECTOR_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    swarm_id: str
    selector: _task_pb2.TaskSelector
    reason: str
    def __init__(self, swarm_id: _Optional[str] = ..., selector: _Optional[_Union[_task_pb2.TaskSelector, _Mapping]] = ..., reason: _Optional[str] = ...) -> None: ...

class CancelTasksResponse(_message.Message):
    __slots__ = ("cancelled_count", "final_count", "revision")
    CANCELLED_COUNT_FIELD_NUMBER: _ClassVar[int]
    FINAL_COUNT_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    cancelled_count: int
    final_count: int
    revision: int
    def __init__(self, cancelled_count: _Optional[int] = ..., final_count: _Optional[int] = ..., revision: _Optional[int] = ...) -> None: ...

class ResetTasksRequest(_message.Message):
    __slots__ = ("swarm_id", "selector", "include_downstreams", "reason")
    SWARM_ID_FIELD_NUMBER: _ClassVar[int]
    SELECTOR_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_DOWNSTREAMS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    swarm_id: str
    selector: _task_pb2.TaskSelector
    include_downstreams: bool
    reason: str
    def __init__(self, swarm_id: _Optional[str] = ..., selector: _Optional[_Union[_task_pb2.TaskSelector, _Mapping]] = ..., include_downstreams: _Optional[bool] = ..., reason: _Optional[str] = ...) -> None: ...

class ResetTasksResponse(_message.Message):
    __slots__ = ("reset_count", "not_final_count", "newly_ready_count", "revision")
    RESET_COUNT_FIELD_NUMBER: _ClassVar[int]
    NOT_FINAL_COUNT_FIELD_NUMBER: _ClassVar[int]
    NEWLY_READY_COUNT_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    reset_count: int
    not_final_count: int
    newly_ready_count: int
    revision: int
    def __init__(self, reset_count: _Optional[int] = ..., not_final_count: _Optional[int] = ..., newly_ready_count: _Optional[int] = ..., revision: _Optional[int] = ...) -> None: ...

class WatchSwarmRequest(_message.Message):
    __slots__ = ("swarm_id", "after_revision", "progress_interval", "until_finished")
    SWARM_ID_FIELD_NUMBER: _ClassVar[int]
    AFTER_REVISION_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_INTERVAL_FIELD_NUMBER: _ClassVar[int]
    UNTIL_FINISHED_FIELD_NUMBER: _ClassVar[int]
    swarm_id: str
    after_revision: int
    progress_interval: _duration_pb2.Duration
    until_finished: bool
    def __init__(self, swarm_id: _Optional[str] = ..., after_revision: _Optional[int] = ..., progress_interval: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., until_finished: _Optional[bool] = ...) -> None: ...

class WatchSwarmResponse(_message.Message):
    __slots__ = ("revision", "event_time", "snapshot", "change", "progress", "end")
    REVISION_FIELD_NUMBER: _ClassVar[int]
    EVENT_TIME_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    CHANGE_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    revision: int
    event_time: _timestamp_pb2.Timestamp
    snapshot: WatchSnapshot
    change: WatchChange
    progress: WatchProgress
    end: WatchEnd
    def __init__(self, revision: _Optional[int] = ..., event_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., snapshot: _Optional[_Union[WatchSnapshot, _Mapping]] = ..., change: _Optional[_Union[WatchChange, _Mapping]] = ..., progress: _Optional[_Union[WatchProgress, _Mapping]] = ..., end: _Optional[_Union[WatchEnd, _Mapping]] = ...) -> None: ...

class WatchSnapshot(_message.Message):
    __slots__ = ("swarm",)
    SWARM_FIELD_NUMBER: _ClassVar[int]
    swarm: _swarm_pb2.Swarm
    def __init__(self, swarm: _Optional[_Union[_swarm_pb2.Swarm, _Mapping]] = ...) -> None: ...

class WatchChange(_message.Message):
    __slots__ = ("task_statuses", "added_task_count", "added_arrays", "max_concurrently_running", "array_limits", "workflow_run_status", "swarm", "active_count", "finished")
    TASK_STATUSES_FIELD_NUMBER: _ClassVar[int]
    ADDED_TASK_COUNT_FIELD_NUMBER: _ClassVar[int]
    ADDED_ARRAYS_FIELD_NUMBER: _ClassVar[int]
    MAX_CONCURRENTLY_RUNNING_FIELD_NUMBER: _ClassVar[int]
    ARRAY_LIMITS_FIELD_NUMBER: _ClassVar[int]
    WORKFLOW_RUN_STATUS_FIELD_NUMBER: _ClassVar[int]
    SWARM_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_COUNT_FIELD_NUMBER: _ClassVar[int]
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    task_statuses: _containers.RepeatedCompositeFieldContainer[_state_pb2.TaskStatusGroup]
    added_task_count: int
    added_arrays: _containers.RepeatedCompositeFieldContainer[_array_pb2.Array]
    max_concurrently_running: int
    array_limits: _containers.RepeatedCompositeFieldContainer[_state_pb2.ArrayLimit]
    workflow_run_status: _state_pb2.WorkflowRunStatus
    swarm: _swarm_pb2.Swarm
    active_count: int
    finished: bool
    def __init__(self, task_statuses: _Optional[_Iterable[_Union[_state_pb2.TaskStatusGroup, _Mapping]]] = ..., added_task_count: _Optional[int] = ..., added_arrays: _Optional[_Iterable[_Union[_array_pb2.Array, _Mapping]]] = ..., max_concurrently_running: _Optional[int] = ..., array_limits: _Optional[_Iterable[_Union[_state_pb2.ArrayLimit, _Mapping]]] = ..., workflow_run_status: _Optional[_Union[_state_pb2.WorkflowRunStatus, str]] = ..., swarm: _Optional[_Union[_swarm_pb2.Swarm, _Mapping]] = ..., active_count: _Optional[int] = ..., finished: _Optional[bool] = ...) -> None: ...

class WatchProgress(_message.Message):
    __slots__ = ("task_counts",)
    TASK_COUNTS_FIELD_NUMBER: _ClassVar[int]
    task_counts: _state_pb2.TaskCounts
    def __init__(self, task_counts: _Optional[_Union[_state_pb2.TaskCounts, _Mapping]] = ...) -> None: ...

class WatchEnd(_message.Message):
    __slots__ = ("reason", "resume_revision", "outcome")
    class Reason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        REASON_UNSPECIFIED: _ClassVar[WatchEnd.Reason]
        REASON_FINISHED: _ClassVar[WatchEnd.Reason]
        REASON_SLOW_WATCHER: _ClassVar[WatchEnd.Reason]
        REASON_DRAINING: _ClassVar[WatchEnd.Reason]
        REASON_DELETED: _ClassVar[WatchEnd.Reason]
    REASON_UNSPECIFIED: WatchEnd.Reason
    REASON_FINISHED: WatchEnd.Reason
    REASON_SLOW_WATCHER: WatchEnd.Reason
    REASON_DRAINING: WatchEnd.Reason
    REASON_DELETED: WatchEnd.Reason
    REASON_FIELD_NUMBER: _ClassVar[int]
    RESUME_REVISION_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    reason: WatchEnd.Reason
    resume_revision: int
    outcome: _swarm_pb2.SwarmOutcome
    def __init__(self, reason: _Optional[_Union[WatchEnd.Reason, str]] = ..., resume_revision: _Optional[int] = ..., outcome: _Optional[_Union[_swarm_pb2.SwarmOutcome, str]] = ...) -> None: ...
