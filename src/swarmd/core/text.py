"""Names and commands of a million tasks without a million Python strings: one buffer and the end of each text."""

from collections.abc import Sequence
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

    @property
    def nbytes(self) -> int:
        """What it costs beyond the text itself."""
        return int(self._ends.nbytes)


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
