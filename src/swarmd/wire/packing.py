"""Columns of numbers as packed fields of messages: their bytes are made with numpy, many times as fast as one by one.

A message whose packed fields are made here is the bytes of the rest of it, as protobuf writes them, with these fields
behind: a message's fields may stand in any order.
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64] | NDArray[np.int32]

_BITS, _MORE = 7, 0x80
_LENGTH_DELIMITED = 2


def packed(numbers: Numbers) -> bytes:
    """The varints of these numbers, one after the other, as `repeated int64` and `repeated int32` have them."""
    return b"" if not len(numbers) else _varints(numbers)[0].tobytes()


def packed_parts(parts: Sequence[Numbers]) -> list[bytes]:
    """The same for each of these columns, in one go."""
    if not parts:
        return []
    numbers = np.concatenate([part.astype(np.int64, copy=False) for part in parts])
    ends = np.cumsum([len(part) for part in parts])
    if not len(numbers):
        return [b""] * len(parts)
    data, lengths = _varints(numbers)
    if isinstance(lengths, int):
        cuts = ends * lengths
    else:
        cuts = np.concatenate(([0], np.cumsum(lengths)))[ends]
    whole = data.tobytes()
    return [whole[start:end] for start, end in pairwise([0, *cuts.tolist()])]


class Packed:
    """The packed bytes of columns that a message names more than once: each is packed once."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Numbers, bytes]] = {}

    def of(self, column: Numbers) -> bytes:
        """The bytes of this very column."""
        known = self._known.get(id(column))
        return packed(column) if known is None else known[1]

    def add_all(self, columns: Sequence[Numbers]) -> None:
        """Pack these, in one go."""
        fresh = {id(column): column for column in columns if id(column) not in self._known}
        for column, data in zip(fresh.values(), packed_parts(list(fresh.values())), strict=True):
            self._known[id(column)] = column, data

    def add_joined(self, column: Numbers, parts: Sequence[Numbers]) -> None:
        """Make one of the bytes of its parts, if it is just these, one after the other."""
        if parts and np.array_equal(column, np.concatenate(parts)):
            self._known[id(column)] = column, b"".join(map(self.of, parts))


def field(number: int, data: bytes) -> bytes:
    """A field of packed numbers, or of a text; nothing where it is empty."""
    return submessage(number, data) if data else b""


def submessage(number: int, *parts: bytes) -> bytes:
    """A field that is a message of these parts, which is there also when nothing is in it."""
    return b"".join((varint(number << 3 | _LENGTH_DELIMITED), varint(sum(map(len, parts))), *parts))


@lru_cache(maxsize=4096)
def varint(number: int) -> bytes:
    """One number of 0 or more."""
    found = bytearray()
    while number >= _MORE:
        found.append(number & (_MORE - 1) | _MORE)
        number >>= _BITS
    found.append(number)
    return bytes(found)


def _varints(numbers: Numbers) -> tuple[NDArray[np.uint8], int | NDArray[np.int64]]:
    """The bytes of all, and how many each of them takes: one number where all take the same."""
    smallest, largest = int(numbers.min()), int(numbers.max())
    if smallest >= 0 and largest < _MORE:
        return numbers.astype(np.uint8), 1
    left = numbers.astype(np.int64, copy=False).view(np.uint64)  # a negative number takes ten bytes
    longest = _length(largest if smallest >= 0 else -1)
    table = np.empty((len(numbers), longest), dtype=np.uint8)
    for place in range(longest):
        table[:, place] = (left >> np.uint64(_BITS * place)).astype(np.uint8) | np.uint8(_MORE)
    if smallest >= 0 and _length(smallest) == longest:
        table[:, -1] &= _MORE - 1
        return table.reshape(-1), longest
    lengths = np.ones(len(numbers), dtype=np.int64)
    for place in range(1, longest):
        lengths += left >= np.uint64(1 << _BITS * place)
    table[np.arange(len(numbers)), lengths - 1] &= _MORE - 1
    return table[np.arange(longest) < lengths[:, None]], lengths


def _length(number: int) -> int:
    """How many bytes the varint of a number takes."""
    return 10 if number < 0 else max(1, -(-number.bit_length() // _BITS))
