"""Columns of numbers as packed fields of messages: their bytes are made with numpy, many times as fast as one by one.

A message whose packed fields are made here is the bytes of the rest of it, as protobuf writes them, with these fields
behind: a message's fields may stand in any order.
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64] | NDArray[np.int32]

_BITS, _MORE = 7, 0x80
_LENGTH_DELIMITED = 2


def packed(numbers: Numbers) -> bytes:
    """The varints of these numbers, one after the other, as `repeated int64` and `repeated int32` have them."""
    return packed_parts([numbers])[0]


def packed_parts(parts: Sequence[Numbers]) -> list[bytes]:
    """The same for each of these columns, in one go."""
    ends = np.cumsum([len(part) for part in parts]).tolist() if parts else [0]
    if not ends[-1]:
        return [b""] * len(parts)
    joined: NDArray[Any] = np.concatenate(parts)
    numbers = joined.astype(np.int64, copy=False)
    smallest, largest = int(numbers.min()), int(numbers.max())
    width = _length(smallest if smallest < 0 else largest)
    whole = _bytes_of(numbers, width, narrow=0 <= smallest <= largest < 1 << 32)
    cuts = [whole[width * start : width * end] for start, end in pairwise([0, *ends])]
    if smallest >= 0 and _length(smallest) == width:
        return cuts
    if smallest > 0 or (smallest < 0 and numbers.all()):  # then no byte of a varint is 0
        return [cut.translate(None, b"\0") for cut in cuts]
    return [b"".join(_without_end(cut[at : at + width]) for at in range(0, len(cut), width)) for cut in cuts]


def _bytes_of(numbers: NDArray[np.int64], width: int, *, narrow: bool) -> bytes:
    """So many bytes a number: its varint, with bytes that are 0 behind."""
    if width == 1:
        return numbers.astype(np.uint8).tobytes()
    left: NDArray[Any] = numbers.astype(np.uint32) if narrow else numbers.view(np.uint64)
    table = np.empty((len(numbers), width), dtype=np.uint8)
    for place in range(width):
        low = left.astype(np.uint8) & np.uint8(_MORE - 1)
        left = left >> left.dtype.type(_BITS)
        table[:, place] = low | ((left > 0).view(np.uint8) << np.uint8(_BITS))
    return table.tobytes()


def _without_end(number: bytes) -> bytes:
    return number.rstrip(b"\0") or b"\0"


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


def _length(number: int) -> int:
    """How many bytes the varint of a number takes."""
    return 10 if number < 0 else max(1, -(-number.bit_length() // _BITS))
