import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from swarmd._pb.swarm.v1 import array_pb2 as _array_pb2
from swarmd._pb.swarm.v1 import state_pb2 as _state_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SwarmOutcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SWARM_OUTCOME_UNSPECIFIED: _ClassVar[SwarmOutcome]
    SWARM_OUTCOME_UNFINISHED: _ClassVar[SwarmOutcome]
    SWARM_OUTCOME_DONE: _ClassVar[SwarmOutcome]
    SWARM_OUTCOME_ERROR: _ClassVar[SwarmOutcome]

class SchedulingPolicy(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SCHEDULING_POLICY_UNSPECIFIED: _ClassVar[SchedulingPolicy]
    SCHEDULING_POLICY_FIRST_COME_FIRST_SERVED: _ClassVar[SchedulingPolicy]
    SCHEDULING_POLICY_LONGEST_PATH_FIRST: _ClassVar[SchedulingPolicy]
    SCHEDULING_POLICY_FAIR_SHARE: _ClassVar[SchedulingPolicy]

class SwarmView(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SWARM_VIEW_UNSPECIFIED: _ClassVar[SwarmView]
    SWARM_VIEW_BASIC: _ClassVar[SwarmView]
    SWARM_VIEW_FULL: _ClassVar[SwarmView]
SWARM_OUTCOME_UNSPECIFIED: SwarmOutcome
SWARM_OUTCOME_UNFINISHED: SwarmOutcome
SWARM_OUTCOME_DONE: SwarmOutcome
SWARM_OUTCOME_ERROR: SwarmOutcome
SCHEDULING_POLICY_UNSPECIFIED: SchedulingPolicy
SCHEDULING_POLICY_FIRST_COME_FIRST_SERVED: SchedulingPolicy
SCHEDULING_POLICY_LONGEST_PATH_FIRST: SchedulingPolicy
SCHEDULING_POLICY_FAIR_SHARE: SchedulingPolicy
SWARM_VIEW_UNSPECIFIED: SwarmView
SWARM_VIEW_BASIC: SwarmView
SWARM_VIEW_FULL: SwarmView

class Swarm(_message.Message):
    __slots__ = ("swarm_id", "display_name", "max_concurrently_running", "paused", "autopilot", "fail_fast", "gateway", "workflow_run_status", "working_directory", "environment", "revision", "task_counts", "outcome", "blocked_count", "held_reason", "create_time", "sync_time", "in_memory", "arrays", "log_directory", "open_batches", "open_batch_count", "gateway_options", "scheduling_policy", "engine_trouble", "refusals")
    class EnvironmentEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class GatewayOptionsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    SWARM_ID_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    MAX_CONCURRENTLY_RUNNING_FIELD_NUMBER: _ClassVar[int]
    PAUSED_FIELD_NUMBER: _ClassVar[int]
    AUTOPILOT_FIELD_NUMBER: _ClassVar[int]
    FAIL_FAST_FIELD_NUMBER: _ClassVar[int]
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    WORKFLOW_RUN_STATUS_FIELD_NUMBER: _ClassVar[int]
    WORKING_DIRECTORY_FIELD_NUMBER: _ClassVar[int]
    ENVIRONMENT_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    TASK_COUNTS_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    BLOCKED_COUNT_FIELD_NUMBER: _ClassVar[int]
    HELD_REASON_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    SYNC_TIME_FIELD_NUMBER: _ClassVar[int]
    IN_MEMORY_FIELD_NUMBER: _ClassVar[int]
    ARRAYS_FIELD_NUMBER: _ClassVar[int]
    LOG_DIRECTORY_FIELD_NUMBER: _ClassVar[int]
    OPEN_BATCHES_FIELD_NUMBER: _ClassVar[int]
    OPEN_BATCH_COUNT_FIELD_NUMBER: _ClassVar[int]
    GATEWAY_OPTIONS_FIELD_NUMBER: _ClassVar[int]
    SCHEDULING_POLICY_FIELD_NUMBER: _ClassVar[int]
    ENGINE_TROUBLE_FIELD_NUMBER: _ClassVar[int]
    REFUSALS_FIELD_NUMBER: _ClassVar[int]
    swarm_id: str
    display_name: str
    max_concurrently_running: int
    paused: bool
    autopilot: bool
    fail_fast: bool
    gateway: str
    workflow_run_status: _state_pb2.WorkflowRunStatus
    working_directory: str
    environment: _containers.ScalarMap[str, str]
    revision: int
    task_counts: _state_pb2.TaskCounts
    outcome: SwarmOutcome
    blocked_count: int
    held_reason: str
    create_time: _timestamp_pb2.Timestamp
    sync_time: _timestamp_pb2.Timestamp
    in_memory: bool
    arrays: _containers.RepeatedCompositeFieldContainer[_array_pb2.Array]
    log_directory: str
    open_batches: _containers.RepeatedCompositeFieldContainer[OpenBatch]
    open_batch_count: int
    gateway_options: _containers.ScalarMap[str, str]
    scheduling_policy: SchedulingPolicy
    engine_trouble: str
    refusals: _containers.RepeatedCompositeFieldContainer[StandingRefusal]
    def __init__(self, swarm_id: _Optional[str] = ..., display_name: _Optional[str] = ..., max_concurrently_running: _Optional[int] = ..., paused: _Optional[bool] = ..., autopilot: _Optional[bool] = ..., fail_fast: _Optional[bool] = ..., gateway: _Optional[str] = ..., workflow_run_status: _Optional[_Union[_state_pb2.WorkflowRunStatus, str]] = ..., working_directory: _Optional[str] = ..., environment: _Optional[_Mapping[str, str]] = ..., revision: _Optional[int] = ..., task_counts: _Optional[_Union[_state_pb2.TaskCounts, _Mapping]] = ..., outcome: _Optional[_Union[SwarmOutcome, str]] = ..., blocked_count: _Optional[int] = ..., held_reason: _Optional[str] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., sync_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., in_memory: _Optional[bool] = ..., arrays: _Optional[_Iterable[_Union[_array_pb2.Array, _Mapping]]] = ..., log_directory: _Optional[str] = ..., open_batches: _Optional[_Iterable[_Union[OpenBatch, _Mapping]]] = ..., open_batch_count: _Optional[int] = ..., gateway_options: _Optional[_Mapping[str, str]] = ..., scheduling_policy: _Optional[_Union[SchedulingPolicy, str]] = ..., engine_trouble: _Optional[str] = ..., refusals: _Optional[_Iterable[_Union[StandingRefusal, _Mapping]]] = ...) -> None: ...

class StandingRefusal(_message.Message):
    __slots__ = ("array_id", "task_resources_id", "reason", "times", "since_time", "latest_time")
    ARRAY_ID_FIELD_NUMBER: _ClassVar[int]
    TASK_RESOURCES_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    TIMES_FIELD_NUMBER: _ClassVar[int]
    SINCE_TIME_FIELD_NUMBER: _ClassVar[int]
    LATEST_TIME_FIELD_NUMBER: _ClassVar[int]
    array_id: int
    task_resources_id: int
    reason: str
    times: int
    since_time: _timestamp_pb2.Timestamp
    latest_time: _timestamp_pb2.Timestamp
    def __init__(self, array_id: _Optional[int] = ..., task_resources_id: _Optional[int] = ..., reason: _Optional[str] = ..., times: _Optional[int] = ..., since_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., latest_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class OpenBatch(_message.Message):
    __slots__ = ("batch_id", "array_id", "task_count", "state", "take_time", "request_id", "reason")
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATE_UNSPECIFIED: _ClassVar[OpenBatch.State]
        STATE_BEING_QUEUED: _ClassVar[OpenBatch.State]
        STATE_IN_DOUBT: _ClassVar[OpenBatch.State]
        STATE_HANDED_OUT: _ClassVar[OpenBatch.State]
    STATE_UNSPECIFIED: OpenBatch.State
    STATE_BEING_QUEUED: OpenBatch.State
    STATE_IN_DOUBT: OpenBatch.State
    STATE_HANDED_OUT: OpenBatch.State
    BATCH_ID_FIELD_NUMBER: _ClassVar[int]
    ARRAY_ID_FIELD_NUMBER: _ClassVar[int]
    TASK_COUNT_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    TAKE_TIME_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    batch_id: str
    array_id: int
    task_count: int
    state: OpenBatch.State
    take_time: _timestamp_pb2.Timestamp
    request_id: str
    reason: str
    def __init__(self, batch_id: _Optional[str] = ..., array_id: _Optional[int] = ..., task_count: _Optional[int] = ..., state: _Optional[_Union[OpenBatch.State, str]] = ..., take_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., request_id: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class SetAsideSwarm(_message.Message):
    __slots__ = ("swarm_id", "problem", "remedy")
    SWARM_ID_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    REMEDY_FIELD_NUMBER: _ClassVar[int]
    swarm_id: str
    problem: str
    remedy: str
    def __init__(self, swarm_id: _Optional[str] = ..., problem: _Optional[str] = ..., remedy: _Optional[str] = ...) -> None: ...
