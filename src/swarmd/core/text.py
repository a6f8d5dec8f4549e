"""Names and commands of a million tasks without a million Python strings: one buffer and the end of each text."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from swarmd.core.growing import grown


class TextColumn:
    """Texts by row. Rows without text, before the first row that has one, cost nothing."""

    __slots__ = ("_buffer", "_ends", "_skipped", "_used", "size")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._ends: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self._used = 0
        self._skipped = 0
        self.size = 0

    def extend(self, block: "TextBlock") -> None:
        """Append the texts of a block."""
        if block.ends is None and not self._used:
            self._skipped += block.size
        else:
            ends = np.zeros(block.size, dtype=np.int64) if block.ends is None else block.ends
            self._ends = grown(self._ends, self._used, ends + len(self._buffer) if self._buffer else ends.copy())
            self._used += block.size
            if not self._buffer and isinstance(block.data, bytearray):
                self._buffer = block.data  # joined for us, and nobody else's
            else:
                self._buffer += block.data
        self.size += block.size

    def __getitem__(self, row: int) -> str:
        place = row - self._skipped
        if place < 0:
            return ""
        start = int(self._ends[place - 1]) if place else 0
        return self._buffer[start : int(self._ends[place])].decode()

    def sizes(self, rows: NDArray[np.integer]) -> NDArray[np.int64]:
        """How many bytes each of these rows' texts has."""
        places = rows - self._skipped
        found = np.zeros(len(rows), dtype=np.int64)
        there = np.flatnonzero(places >= 0)
        ends = self._ends[places[there]]
        before = places[there] - 1
        found[there] = ends - np.where(before >= 0, self._ends[before], 0)
        return found

    @property
    def text_bytes(self) -> int:
        """Bytes of all texts together."""
        return int(self._ends[self._used - 1]) if self._used else 0

    def frozen(self) -> "FrozenTexts":
        """What it holds now, whatever is appended later. Costs nothing."""
        ends = self._ends[: self._used]
        return FrozenTexts(self._buffer, int(ends[-1]) if len(ends) else 0, ends, self.size)

    def fill(self, data: bytearray, ends: NDArray[np.int64], size: int) -> None:
        """Make an empty column hold what was frozen of another; the rows before the first end have no text."""
        self._buffer, self._ends = data, ends
        self._used, self._skipped, self.size = len(ends), size - len(ends), size

    @property
    def nbytes(self) -> int:
        """What it costs beyond the text itself."""
        return int(self._ends.nbytes)


@dataclass(frozen=True, slots=True)
class FrozenTexts:
    """A column as it was at one moment. The buffer is still that of the column, and is only appended to."""

    buffer: bytearray
    length: int
    """How much of the buffer belongs to it."""
    ends: NDArray[np.int64]
    """Where each text ends, those before the first row that had one aside."""
    size: int

    def pieces(self, piece_bytes: int = 1 << 20) -> Iterator[bytearray]:
        """Its texts, joined, as copies of a bounded size: a view would forbid the column to grow."""
        for start in range(0, self.length, piece_bytes):
            yield self.buffer[start : min(start + piece_bytes, self.length)]


class TextBlock:
    """Texts on their way into a column: encoded, joined, and measured."""

    __slots__ = ("data", "ends", "size")

    def __init__(self, texts: Sequence[str] = (), *, empty: int = 0) -> None:
        """Of `texts`, or of `empty` texts without a character."""
        self.size = len(texts) or empty
        joined = "".join(texts)
        self.data: bytes | bytearray = joined.encode()
        self.ends: NDArray[np.int64] | None = None
        if joined:
            lengths = map(len, texts) if joined.isascii() else (len(text.encode()) for text in texts)
            self.ends = np.fromiter(accumulate(lengths), dtype=np.int64, count=len(texts))

    def too_long(self, limit: int) -> int | None:
        """The first place whose text has more than `limit` bytes, or None."""
        if self.ends is None:
            return None
        over = np.flatnonzero(np.diff(self.ends, prepend=0) > limit)
        return int(over[0]) if len(over) else None

    def size_of(self, place: int) -> int:
        """How many bytes one text has."""
        if self.ends is None:
            return 0
        return int(self.ends[place] - (self.ends[place - 1] if place else 0))

    def part(self, start: int, end: int) -> "TextBlock":
        """The texts of these places."""
        part = TextBlock(empty=end - start)
        if self.ends is not None and end > start:
            first = int(self.ends[start - 1]) if start else 0
            part.data = bytes(memoryview(self.data)[first : int(self.ends[end - 1])])
            part.ends = self.ends[start:end] - first
        return part

    @classmethod
    def encoded(cls, data: bytes, ends: NDArray[np.int64] | None, size: int) -> "TextBlock":
        """The block with this data, of `size` texts that end there. Raises ValueError when these do not fit."""
        block = cls(empty=size)
        if ends is None:
            fits = not data
        else:
            fits = (
                len(ends) == size
                and bool(np.all(np.diff(ends, prepend=0) >= 0))
                and ((int(ends[-1]) if size else 0) == len(data))
            )
        if not fits:
            raise ValueError("the texts do not end where their data does")
        block.data, block.ends = data, ends
        return block

    @classmethod
    def joined(cls, blocks: Sequence["TextBlock"]) -> "TextBlock":
        """One block of several, in order."""
        whole = cls()
        whole.size = sum(block.size for block in blocks)
        whole.data = bytearray().join(block.data for block in blocks)
        if whole.data:
            whole.ends = np.concatenate(_shifted_ends(blocks))
        return whole


def _shifted_ends(blocks: Sequence[TextBlock]) -> list[NDArray[np.int64]]:
    shifted, start = [], 0
    for block in blocks:
        ends = np.zeros(block.size, dtype=np.int64) if block.ends is None else block.ends
        shifted.append(ends + start)
        start += len(block.data)
    return shifted
