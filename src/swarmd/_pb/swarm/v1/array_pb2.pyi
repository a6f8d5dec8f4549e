from swarmd._pb.swarm.v1 import state_pb2 as _state_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Array(_message.Message):
    __slots__ = ("array_id", "name", "max_concurrently_running", "command", "task_counts")
    ARRAY_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    MAX_CONCURRENTLY_RUNNING_FIELD_NUMBER: _ClassVar[int]
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    TASK_COUNTS_FIELD_NUMBER: _ClassVar[int]
    array_id: int
    name: str
    max_concurrently_running: int
    command: str
    task_counts: _state_pb2.TaskCounts
    def __init__(self, array_id: _Optional[int] = ..., name: _Optional[str] = ..., max_concurrently_running: _Optional[int] = ..., command: _Optional[str] = ..., task_counts: _Optional[_Union[_state_pb2.TaskCounts, _Mapping]] = ...) -> None: ...
