"""Many tasks of one array as columns, and from there straight to the bytes that AddTasks takes.

A million tasks are encoded without a message object for each of them: what they share is encoded once, and what is
their own is put in front of it. `encoding.py` puts the result into chunks.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from swarmd._pb.swarm.v1 import task_pb2
from swarmd.client.messages import UNFIT, message_of, unfit
from swarmd.core.ids import Int64s
from swarmd.core.model import DEFAULT_MAX_ATTEMPTS

TASKS_AT_ONCE = 50_000
"""Of so many tasks the parts are in memory at the same time."""

_TASK_ID, _NAME, _COMMAND, _UPSTREAMS = b"\x08", b"\x22", b"\x2a", b"\x32"
"""The tags of fields 1, 4, 5 and 6 of swarm.v1.Task."""
_SMALL = 1 << 14
_LENGTHS = [bytes([n]) if n < 0x80 else bytes([n & 0x7F | 0x80, n >> 7]) for n in range(_SMALL)]


@dataclass(slots=True)
class TaskBlock:
    """Tasks of one array that have everything in common but ids, names, commands and some of their upstreams."""

    array_id: int
    task_resources_id: int
    task_ids: Int64s
    names: Sequence[str] | None = None
    commands: Sequence[str] | None = None
    """None: the array's command is the template."""
    max_attempts: int = DEFAULT_MAX_ATTEMPTS
    priority: int = 0
    resource_scales: Mapping[str, float] = field(default_factory=dict)
    upstreams: list[Int64s] = field(default_factory=list)
    """What all of them wait for."""
    paired_upstreams: list[Int64s] = field(default_factory=list)
    """Columns beside task_ids: one task that each of them waits for."""
    own_upstreams: dict[int, list[Int64s]] = field(default_factory=dict)
    """By position: what only this task waits for."""

    def encoded(self) -> Iterator[list[bytes]]:
        """Each task as a serialised swarm.v1.Task, in order, many at a time."""
        shared = self._shared()
        for start in range(0, len(self.task_ids), TASKS_AT_ONCE):
            yield self._part(slice(start, start + TASKS_AT_ONCE), start, shared)

    def _shared(self) -> bytes:
        message = message_of(
            task_pb2.Task,
            array_id=self.array_id,
            task_resources_id=self.task_resources_id,
            max_attempts=self.max_attempts,
            priority=self.priority,
            resource_scales=self.resource_scales,
        )
        return message.SerializeToString() + b"".join(map(_packed, self.upstreams))

    def _part(self, part: slice, start: int, shared: bytes) -> list[bytes]:
        ids = varints(self.task_ids[part])
        heads: list[bytes] = [_TASK_ID + each + shared for each in ids]
        if self.names is not None:
            heads = [head + _text(_NAME, name, "name") for head, name in zip(heads, self.names[part], strict=True)]
        if self.commands is not None:
            texts = [_text(_COMMAND, text, "command") for text in self.commands[part]]
            heads = [head + text for head, text in zip(heads, texts, strict=True)]
        for column in self.paired_upstreams:
            # a list of one, packed: the tag, its length in bytes, the id
            pairs = varints(column[part])
            heads = [head + _UPSTREAMS + _LENGTHS[len(each)] + each for head, each in zip(heads, pairs, strict=True)]
        if not self.own_upstreams:
            return heads
        owns = (self.own_upstreams.get(position, ()) for position in range(start, start + len(heads)))
        return [head + b"".join(map(_packed, own)) for head, own in zip(heads, owns, strict=True)]


def entry(tag: bytes, message: bytes) -> bytes:
    """A message as a field of another one."""
    return tag + _length(len(message)) + message


def entries(tag: bytes, messages: list[bytes]) -> list[bytes]:
    """The same of many."""
    if max(map(len, messages), default=0) < _SMALL:
        return [tag + _LENGTHS[len(message)] + message for message in messages]
    return [entry(tag, message) for message in messages]


def varints(values: Int64s) -> list[bytes]:
    """Numbers as protobuf writes them, each for itself."""
    if not len(values):
        return []
    unsigned = values.astype(np.uint64)
    shortest, longest = (_varint_size(int(each)) for each in (unsigned.min(), unsigned.max()))
    if shortest == longest:
        return _of_size(unsigned, longest)
    encoded: np.ndarray[tuple[int], np.dtype[np.object_]] = np.empty(len(values), dtype=object)
    for size in range(shortest, longest + 1):
        low = 0 if size == 1 else 1 << 7 * (size - 1)
        chosen = np.flatnonzero((unsigned >= low) & (unsigned <= min((1 << 7 * size) - 1, (1 << 64) - 1)))
        if len(chosen):
            encoded[chosen] = _of_size(unsigned[chosen], size)
    return encoded.tolist()


def _varint_size(number: int) -> int:
    return max(1, -(-number.bit_length() // 7))


def _of_size(values: NDArray[np.uint64], size: int) -> list[bytes]:
    """Numbers that take so many bytes each."""
    groups = np.empty((len(values), size), dtype=np.uint8)
    for place in range(size):
        groups[:, place] = (values >> np.uint64(7 * place)) & np.uint64(0x7F)
    groups[:, :-1] |= 0x80
    data = groups.tobytes()
    return [data[place : place + size] for place in range(0, len(data), size)]


def _packed(ids: Int64s) -> bytes:
    data = b"".join(varints(ids))
    return _UPSTREAMS + _length(len(data)) + data if data else b""


def _text(tag: bytes, text: str, field: str) -> bytes:
    try:
        data = text.encode()
    except UNFIT as error:
        raise unfit(field, text, error) from None
    return tag + _length(len(data)) + data


def _length(number: int) -> bytes:
    if number < _SMALL:
        return _LENGTHS[number]
    return varints(np.array([number], dtype=np.int64))[0]
