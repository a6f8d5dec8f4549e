"""One message of a load: its tasks stay bytes until they are asked for, part by part, as columns."""

from collections.abc import Iterator

import numpy as np

from swarmd._pb.swarm.v1 import swarm_service_pb2 as pb
from swarmd.core.columns import TaskColumns
from swarmd.core.ids import Int64s
from swarmd.wire.tasks import PADDING, task_columns

TASKS_AT_ONCE = 4096
"""Tasks of a message that are found or read before others get their turn."""

_TASK = 0x22
_OTHERS = (0x0A, 0x12, 0x1A, 0x2A)
"""The tags of AddTasksRequest: all of its fields have a length."""
_MORE = 0x80
_RUN = 8
"""After so many tasks of the same length it is looked for a long run of them."""


class LoadChunk:
    """An AddTasksRequest. `open` finds what is in it; before that there is nothing."""

    __slots__ = ("_data", "_ends", "_message", "_starts", "others")

    def __init__(self, message: bytes) -> None:
        self.others = pb.AddTasksRequest()
        """All but the tasks."""
        self._message = message
        self._data = b""
        self._starts = self._ends = np.zeros(0, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._starts)

    def open(self) -> Iterator[None]:
        """Go through the message, in steps. Raises protobuf's DecodeError for bytes that are none."""
        yield from self._find(self._message)
        if self._data:
            return
        request = pb.AddTasksRequest.FromString(self._message)  # written in an unusual way, or wrong
        request.DiscardUnknownFields()  # type: ignore[no-untyped-call, unused-ignore]
        yield from self._find(request.SerializeToString())

    def parts(self, tasks_at_once: int = TASKS_AT_ONCE) -> Iterator[TaskColumns]:
        """The tasks in order, at most so many at a time. Raises protobuf's DecodeError for what is no task."""
        for start in range(0, len(self), tasks_at_once):
            part = slice(start, start + tasks_at_once)
            yield task_columns(self._data, self._starts[part], self._ends[part])

    def _find(self, message: bytes) -> Iterator[None]:
        """Take the message for what it is, if all fields are among those that are known, and within it."""
        fields = _Fields(message)
        yield from fields.find()
        if fields.are_usual:
            self.others.ParseFromString(b"".join(fields.others))
            self._data, (self._starts, self._ends) = fields.data, fields.tasks()


class _Fields:
    """The fields of a message, from the first to the last."""

    def __init__(self, message: bytes) -> None:
        self.data = message + PADDING
        self.others: list[bytes] = []
        self.are_usual = True
        self._size = len(message)
        self._bytes = np.frombuffer(self.data, dtype=np.uint8)
        self._starts: list[Int64s] = []
        self._ends: list[Int64s] = []

    def tasks(self) -> tuple[Int64s, Int64s]:
        """Where the bytes of each task begin and end."""
        none = np.zeros(0, dtype=np.int64)
        return np.concatenate([none, *self._starts]), np.concatenate([none, *self._ends])

    def find(self) -> Iterator[None]:
        place = 0
        while place < self._size and self.are_usual:
            place = self._run(self._few(place))
            yield
        self.are_usual = self.are_usual and place == self._size

    def _few(self, place: int) -> int:
        """Find fields from this place on, one by one, until there are many or a run begins; returns where that is."""
        data, size, starts, ends = self.data, self._size, list[int](), list[int]()
        alike = last = 0
        while place < size and alike < _RUN and len(starts) < TASKS_AT_ONCE:
            tag, length, start = data[place], data[place + 1], place + 2
            if length >= _MORE:
                length, start = _length(data, place + 1)
            end = start + length
            if tag == _TASK:
                starts.append(start)
                ends.append(end)
                alike = alike + 1 if length == last else 0
                last = length
            elif tag in _OTHERS:
                self.others.append(data[place:end])
            else:
                self.are_usual = False
                break
            place = end
        self._starts.append(np.array(starts, dtype=np.int64))
        self._ends.append(np.array(ends, dtype=np.int64))
        return place

    def _run(self, place: int) -> int:
        """Find tasks of as many bytes as the last one that follow it without a gap; returns where they end."""
        if place >= self._size or not len(self._starts[-1]) or int(self._ends[-1][-1]) != place:
            return place
        start, end = int(self._starts[-1][-1]), place
        head = _head(end - start)
        step = len(head) + end - start
        count = min((self._size - place) // step, TASKS_AT_ONCE)
        heads = self._bytes[place : place + count * step].reshape(count, step)[:, : len(head)]
        other = np.flatnonzero((heads != np.frombuffer(head, dtype=np.uint8)).any(axis=1))
        if len(other):
            count = int(other[0])
        self._starts.append(place + len(head) + step * np.arange(count, dtype=np.int64))
        self._ends.append(self._starts[-1] + (end - start))
        return place + count * step


def _head(length: int) -> bytes:
    """What stands before a task of so many bytes, as it is usually written."""
    head = [_TASK]
    while length >= _MORE:
        head.append(length & 0x7F | _MORE)
        length >>= 7
    return bytes([*head, length])


def _length(data: bytes, place: int) -> tuple[int, int]:
    """A length of several bytes, and the place behind it; too long for any message where it is no usual one."""
    length = 0
    for shift in range(5):
        byte = data[place + shift]
        length |= (byte & 0x7F) << 7 * shift
        if byte < _MORE:
            return length, place + shift + 1
    return len(data), place
