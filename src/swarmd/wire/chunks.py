"""One message of a load: its tasks stay bytes until they are asked for, part by part, as columns."""

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field

from swarmd._pb.swarm.v1 import swarm_service_pb2 as pb
from swarmd.core.columns import TaskColumns
from swarmd.wire.tasks import PADDING, task_columns

TASKS_AT_ONCE = 4096
"""Tasks of a message that are read before others get their turn."""

_TASK = 0x22
_OTHERS = (0x0A, 0x12, 0x1A, 0x2A)
"""The tags of AddTasksRequest: all of its fields have a length."""
_MORE = 0x80


def _places() -> "array[int]":
    return array("q")


@dataclass(slots=True)
class LoadChunk:
    """An AddTasksRequest."""

    data: bytes
    starts: "array[int]" = field(default_factory=_places)
    """Where the bytes of each task begin ..."""
    ends: "array[int]" = field(default_factory=_places)
    """... and end."""
    others: pb.AddTasksRequest = field(default_factory=pb.AddTasksRequest)
    """All but the tasks."""

    @classmethod
    def read(cls, message: bytes) -> "LoadChunk":
        """The message of these bytes. Raises protobuf's DecodeError for bytes that are none."""
        chunk = cls(message + PADDING)
        if chunk._find_fields(len(message)):
            return chunk
        request = pb.AddTasksRequest.FromString(message)  # written in an unusual way, or wrong
        request.DiscardUnknownFields()  # type: ignore[no-untyped-call, unused-ignore]
        usual = request.SerializeToString()
        chunk = cls(usual + PADDING)
        chunk._find_fields(len(usual))
        return chunk

    def __len__(self) -> int:
        return len(self.starts)

    def parts(self, tasks_at_once: int = TASKS_AT_ONCE) -> Iterator[TaskColumns]:
        """The tasks in order, at most so many at a time. Raises protobuf's DecodeError for what is no task."""
        for start in range(0, len(self), tasks_at_once):
            part = slice(start, start + tasks_at_once)
            yield task_columns(self.data, self.starts[part], self.ends[part])

    def _find_fields(self, size: int) -> bool:
        """Whether all fields are among those that are known and within the message."""
        data, starts, ends, others = self.data, self.starts, self.ends, list[bytes]()
        place = 0
        while place < size:
            tag, length, start = data[place], data[place + 1], place + 2
            if length >= _MORE:
                length, start = _length(data, place + 1)
            end = start + length
            if tag == _TASK:
                starts.append(start)
                ends.append(end)
            elif tag in _OTHERS:
                others.append(data[place:end])
            else:
                return False
            place = end
        if place != size:
            return False
        self.others.ParseFromString(b"".join(others))
        return True


def _length(data: bytes, place: int) -> tuple[int, int]:
    """A length of several bytes, and the place behind it; too long for any message where it is no usual one."""
    length = 0
    for shift in range(5):
        byte = data[place + shift]
        length |= (byte & 0x7F) << 7 * shift
        if byte < _MORE:
            return length, place + shift + 1
    return len(data), place
