"""One lane: ready tasks of the same array, resources and rank, first in first out.

Every entry carries the sequence number that its task got when it became ready. The task's own `ready_seq` says which
entry is the living one; dead entries are skipped when they come up, and swept out when they abound.
"""

from array import array
from bisect import bisect_left, bisect_right

import numpy as np

from swarmd.core.ids import Int64s, Rows
from swarmd.core.key_heap import Key, KeyHeap

_COMPACT_FROM = 1024


class ArrayQueue:
    """The lanes of one array."""

    __slots__ = ("key", "lanes", "live")

    def __init__(self) -> None:
        self.lanes = KeyHeap()
        self.live = 0
        self.key: Key | None = None


class Lane:
    """Ready tasks of one array with the same resources, rank and priority, in the order of their sequence numbers."""

    __slots__ = ("array_row", "head", "key", "live", "owner", "rank", "row", "rows", "seqs")

    def __init__(self, row: int, array_row: int, rank: int, owner: ArrayQueue) -> None:
        self.row = row
        self.array_row = array_row
        self.owner = owner
        self.rank = rank
        self.rows = array("i")
        self.seqs = array("q")
        self.head = 0
        self.live = 0
        self.key: Key | None = None

    def insert(self, rows: Rows, seqs: Int64s) -> None:
        """Put tasks where their numbers belong, which is at or near the front.

        An entry of theirs that had died in its place would live again by its number: each number is kept once.
        """
        end = bisect_right(self.seqs, int(seqs[-1]), self.head)
        merged_seqs = np.concatenate((np.array(self.seqs[self.head : end], dtype=np.int64), seqs))
        merged_rows = np.concatenate((np.array(self.rows[self.head : end], dtype=np.int32), rows))
        _, order = np.unique(merged_seqs, return_index=True)
        start = max(0, end - len(order))  # the places of what was taken are free again: nothing behind has to move
        self.seqs[start:end] = array("q", merged_seqs[order].tobytes())
        self.rows[start:end] = array("i", merged_rows[order].tobytes())
        self.head = start
        self.live += len(rows)

    def take(self, wanted: int, ready_seq: Int64s, rows: "array[int]", seqs: "array[int]") -> None:
        """Move the first `wanted` living entries, at most `live`, to the ends of these two."""
        if len(self.rows) - self.head == self.live:
            end = self.head + wanted
            rows += self.rows[self.head : end]
            seqs += self.seqs[self.head : end]
            self.head = end
        else:
            self._take_living(wanted, ready_seq, rows, seqs)
        self.live -= wanted
        if self.head > _COMPACT_FROM and self.head * 2 > len(self.rows):
            self._drop_taken()

    def _take_living(self, missing: int, ready_seq: Int64s, rows: "array[int]", seqs: "array[int]") -> None:
        """The same where some entries may be dead."""
        while missing:
            end = self.head + missing
            found_rows = np.array(self.rows[self.head : end], dtype=np.int32)
            found_seqs = np.array(self.seqs[self.head : end], dtype=np.int64)
            self.head += len(found_rows)
            alive = ready_seq[found_rows] == found_seqs
            rows.frombytes(found_rows[alive].tobytes())
            seqs.frombytes(found_seqs[alive].tobytes())
            missing -= int(np.count_nonzero(alive))

    def forget(self, count: int, ready_seq: Int64s) -> None:
        """`count` entries have died where they stand; when most are dead, sweep."""
        self.live -= count
        if not self.live:  # a task that comes back with its number to another lane must not live again in this one
            self.rows, self.seqs, self.head = array("i"), array("q"), 0
        elif len(self.rows) - self.head > 2 * self.live + _COMPACT_FROM:
            self._drop_taken()
            rows = np.array(self.rows, dtype=np.int32)
            seqs = np.array(self.seqs, dtype=np.int64)
            alive = ready_seq[rows] == seqs
            self.rows = array("i", rows[alive].tobytes())
            self.seqs = array("q", seqs[alive].tobytes())

    def first_key(self, ready_seq: Int64s) -> Key:
        """Where the lane belongs among the others; only for a lane with living entries."""
        if len(self.rows) - self.head > self.live:
            while int(ready_seq[self.rows[self.head]]) != self.seqs[self.head]:
                self.head += 1
        return (self.rank, self.seqs[self.head], self.row)

    def position(self, seq: int, ready_seq: Int64s) -> int:
        """How many living entries are before the one with this number."""
        end = bisect_left(self.seqs, seq, self.head)
        rows = np.array(self.rows[self.head : end], dtype=np.int32)
        return int(np.count_nonzero(ready_seq[rows] == np.array(self.seqs[self.head : end], dtype=np.int64)))

    def _drop_taken(self) -> None:
        if self.head:
            del self.rows[: self.head]
            del self.seqs[: self.head]
            self.head = 0
