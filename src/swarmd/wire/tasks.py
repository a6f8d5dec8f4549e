"""Tasks of a load as they are in the bytes of their messages, read into columns many at a time with numpy.

The usual fields, written in the usual way, are read here. Whatever else stands in a task (another field, a number of
too many bytes, a text that may be no UTF-8) is left to protobuf, which decides what it means and whether it is right;
so both ways lead to the same columns, and to the same errors.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from swarmd._pb.swarm.v1 import task_pb2
from swarmd.core.columns import ScaleSets, TaskColumns, alike
from swarmd.core.graph import spread
from swarmd.core.ids import Int64s
from swarmd.core.model import DEFAULT_MAX_ATTEMPTS
from swarmd.core.text import TextBlock
from swarmd.wire.from_proto import LOADING_CODES, UNKNOWN_CODE, columns_of_messages

PADDING = bytes(16)
"""Behind the bytes of a message, so that a number may be looked for at their end."""

_VARINT, _BYTES = 0, 2
_MORE, _LAST_SHIFT = 0x80, 63
_LONGEST_LENGTH = 5
"""Bytes of the number that says how long something is: protobuf takes no more, whatever they say."""
_NUMBERS = {
    1: "task_ids",
    2: "array_ids",
    3: "task_resources_ids",
    7: "statuses",
    8: "max_attempts",
    9: "priorities",
    11: "attempts",
    12: "failed_attempts",
}
"""Fields of swarm.v1.Task that are numbers."""
_NAME, _COMMAND, _UPSTREAMS, _SCALES = 4, 5, 6, 10
_TEXTS = {_NAME: "names", _COMMAND: "commands"}
_CODES = np.full(max(LOADING_CODES) + 2, UNKNOWN_CODE, dtype=np.uint8)
_CODES[list(LOADING_CODES)] = list(LOADING_CODES.values())
"""By the number of a status; the last stands for all that are none."""

Places = NDArray[np.intp]


class UnusualError(Exception):
    """Something that protobuf is to read."""


def task_columns(data: bytes, starts: Int64s, ends: Int64s) -> TaskColumns:
    """The tasks whose bytes are from `starts` to before `ends`, with PADDING behind all of `data`.

    Raises protobuf's DecodeError for bytes that are no task.
    """
    try:
        return _Reading(data, starts, ends).columns()
    except UnusualError:
        pairs = zip(starts.tolist(), ends.tolist(), strict=True)
        return columns_of_messages([task_pb2.Task.FromString(data[start:end]) for start, end in pairs])


class _Reading:
    """The fields of many tasks, the first of each, then the second of each, and so on."""

    def __init__(self, data: bytes, starts: Int64s, ends: Int64s) -> None:
        self._data = data
        self._bytes = np.frombuffer(data, dtype=np.uint8)
        self._starts = starts
        self._ends = ends
        self._numbers: dict[str, Int64s] = {}
        self._texts: dict[str, tuple[Int64s, Int64s]] = {}
        """Where each text begins and ends."""
        self._upstreams: list[tuple[Places, Int64s, Int64s]] = []
        """Tasks, and where numbers of theirs begin and end."""
        self._scales: dict[int, bytes] = {}
        """By task: the fields that make up its scales."""

    def __len__(self) -> int:
        return len(self._starts)

    def columns(self) -> TaskColumns:
        self._read()
        size, unset = len(self), {"max_attempts": DEFAULT_MAX_ATTEMPTS}

        def column(name: str, dtype: Any) -> NDArray[Any]:
            found = self._numbers.get(name)
            return alike(unset.get(name, 0), size, dtype) if found is None else _narrowed(found.astype(dtype))

        statuses = self._numbers.get("statuses")
        counts, upstream_ids = self._joined_upstreams()
        scales, sets = self._scale_sets()
        return TaskColumns(
            task_ids=self._numbers.get("task_ids", np.zeros(size, dtype=np.int64)),
            array_ids=column("array_ids", np.int64),
            task_resources_ids=column("task_resources_ids", np.int64),
            upstream_counts=counts,
            upstream_ids=upstream_ids,
            priorities=column("priorities", np.int32),
            max_attempts=column("max_attempts", np.int32),
            statuses=alike(_CODES[0], size, np.uint8) if statuses is None else _narrowed(_codes(statuses)),
            attempts=column("attempts", np.int32),
            failed_attempts=column("failed_attempts", np.int32),
            names=self._text_block("names"),
            commands=self._text_block("commands"),
            scales=scales,
            scale_sets=sets,
        )

    # -- fields ----------------------------------------------------------------------------------------------------

    def _read(self) -> None:
        places = self._starts.copy()
        left = np.flatnonzero(places < self._ends)
        while len(left):
            at = places[left]
            tags = self._bytes[at]
            distinct = np.flatnonzero(np.bincount(tags)).tolist()
            for tag in distinct:
                chosen = slice(None) if len(distinct) == 1 else tags == tag
                places[left[chosen]] = self._field(tag, left[chosen], at[chosen])
            left = left[places[left] < self._ends[left]]
        if not np.array_equal(places, self._ends):
            raise UnusualError

    def _field(self, tag: int, tasks: Places, at: Int64s) -> Int64s:
        """Read the field with this tag of each of these tasks; returns where the next one begins."""
        number, kind = tag >> 3, tag & 7
        values, after = self._varints(at + 1)
        if kind == _VARINT and number in _NUMBERS:
            self._column(_NUMBERS[number])[tasks] = values
            return after
        if kind == _VARINT and number == _UPSTREAMS:
            self._upstreams.append((tasks, at + 1, after))
            return after
        if kind != _BYTES or bool(np.any((values < 0) | (values > self._ends[tasks] - after))):
            raise UnusualError
        if int((after - at).max()) > 1 + _LONGEST_LENGTH:
            raise UnusualError
        end = after + values
        if number in _TEXTS:
            starts, ends = self._texts.setdefault(_TEXTS[number], self._no_texts())
            if bool(starts[tasks].any()):  # the one before is nothing, but must be a text
                raise UnusualError
            starts[tasks], ends[tasks] = after, end
        elif number == _UPSTREAMS:
            self._upstreams.append((tasks, after, end))
        elif number == _SCALES:
            for task, first, last in zip(tasks.tolist(), at.tolist(), end.tolist(), strict=True):
                self._scales[task] = self._scales.get(task, b"") + self._data[first:last]
        else:
            raise UnusualError
        return end

    def _column(self, name: str) -> Int64s:
        column = self._numbers.get(name)
        if column is None:
            default = DEFAULT_MAX_ATTEMPTS if name == "max_attempts" else 0
            column = self._numbers[name] = np.full(len(self), default, dtype=np.int64)
        return column

    def _no_texts(self) -> tuple[Int64s, Int64s]:
        return np.zeros(len(self), dtype=np.int64), np.zeros(len(self), dtype=np.int64)

    def _varints(self, at: Int64s) -> tuple[Int64s, Int64s]:
        """The number at each place, and the place behind it."""
        first = self._bytes[at]
        values, after = (first & 0x7F).astype(np.int64), at + 1
        more, shift = np.flatnonzero(first >= _MORE), 7
        while len(more):
            if shift > _LAST_SHIFT:
                raise UnusualError
            byte = self._bytes[after[more]]
            values[more] |= (byte & 0x7F).astype(np.int64) << shift
            after[more] += 1
            more, shift = more[byte >= _MORE], shift + 7
        return values, after

    # -- columns ---------------------------------------------------------------------------------------------------

    def _joined_upstreams(self) -> tuple[NDArray[np.int32], Int64s]:
        """How many upstreams each task has, and all of them."""
        size = len(self)
        if not self._upstreams:
            return alike(0, size, np.int32), np.zeros(0, dtype=np.int64)
        tasks, starts, ends = (np.concatenate(each) for each in zip(*self._upstreams, strict=True))
        if bool(np.any(tasks[1:] < tasks[:-1])):
            order = np.argsort(tasks, kind="stable")
            tasks, starts, ends = tasks[order], starts[order], ends[order]
        data = self._bytes[spread(starts, ends - starts)]
        is_last = data < _MORE
        cuts = np.cumsum(ends - starts)
        if not bool(np.all(is_last[cuts[ends > starts] - 1])):
            raise UnusualError
        there = np.concatenate(([0], np.cumsum(is_last)))[np.concatenate(([0], cuts))]
        counts = np.zeros(size, dtype=np.int32)
        np.add.at(counts, tasks, np.diff(there).astype(np.int32))
        return counts, _stream(data, np.flatnonzero(is_last))

    def _text_block(self, name: str) -> TextBlock:
        size, found = len(self), self._texts.get(name)
        if found is None:
            return TextBlock(empty=size)
        starts, ends = found
        lengths = ends - starts
        if not lengths.any():
            return TextBlock(empty=size)
        pieces = zip(starts.tolist(), ends.tolist(), strict=True)
        data, cuts = b"".join([self._data[start:end] for start, end in pieces]), np.cumsum(lengths)
        if not (data.isascii() or _is_text(data, cuts)):
            raise UnusualError
        return TextBlock.encoded(data, cuts, size)

    def _scale_sets(self) -> tuple[NDArray[np.int32], list[Any]]:
        known, places = ScaleSets(), dict[bytes, int]()
        if not self._scales:
            return alike(0, len(self), np.int32), known.sets
        scales = np.zeros(len(self), dtype=np.int32)
        for task, data in sorted(self._scales.items()):
            if data not in places:
                places[data] = known.place(dict(task_pb2.Task.FromString(data).resource_scales))
            scales[task] = places[data]
        return scales, known.sets


def _codes(statuses: Int64s) -> NDArray[np.uint8]:
    numbers = statuses.astype(np.int32)
    known = (numbers >= 0) & (numbers < len(_CODES))
    codes: NDArray[np.uint8] = _CODES[np.where(known, numbers, len(_CODES) - 1)]
    return codes


def _narrowed(column: NDArray[Any]) -> NDArray[Any]:
    """The same column without memory of its own where all are alike."""
    if len(column) and column[0] == column[-1] and bool((column == column[0]).all()):
        return alike(column[0], len(column), column.dtype)
    return column


def _stream(data: NDArray[np.uint8], lasts: Places) -> Int64s:
    """Numbers that stand one behind the other; `lasts` are the last bytes of each."""
    starts = np.concatenate(([0], lasts[:-1] + 1)) if len(lasts) else lasts
    lengths = lasts - starts + 1
    if len(lasts) and int(lengths.max()) > 10:
        raise UnusualError
    values = np.zeros(len(lasts), dtype=np.int64)
    for place in range(int(lengths.max()) if len(lasts) else 0):
        chosen = lengths > place
        values[chosen] |= (data[starts[chosen] + place] & 0x7F).astype(np.int64) << (7 * place)
    return values


def _is_text(data: bytes, cuts: Int64s) -> bool:
    """Whether all of it is UTF-8 and no cut is within a character."""
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    after = np.frombuffer(data, dtype=np.uint8)[cuts[cuts < len(data)]]
    return not bool(np.any((after & 0xC0) == 0x80))
