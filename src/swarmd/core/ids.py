"""From the ids that clients choose to dense row numbers.

The index is a handful of sorted runs, merged so that each is at least twice as long as the next: adding n ids one load
at a time costs O(n log n) in all, a look-up O(log n) in each run. A run of consecutive ids, the usual case, stores
nothing but its bounds. Runs are never changed once made, so another thread may read them.
"""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Int64s = NDArray[np.int64]
Rows = NDArray[np.int32]
Places = NDArray[np.intp]
"""Rows as numpy wants them: several reads or writes by the same rows are twice as fast with these."""
Number = TypeVar("Number", bound=np.integer)

ABSENT = -1
_CLOSE = 32


def distinct(values: NDArray[Number]) -> NDArray[Number]:
    """The different values, ascending: by sorting, several times as fast as numpy's own hashing for a million ids."""
    ordered = np.sort(values)
    if len(ordered) < 2:
        return ordered
    first = np.ones(len(ordered), dtype=np.bool_)
    np.not_equal(ordered[1:], ordered[:-1], out=first[1:])
    return ordered[first]


def all_differ(rows: Rows) -> bool:
    """Whether none of these rows, which are not none, comes twice: one pass where they lie close together."""
    first, last = int(rows.min()), int(rows.max())
    if last - first >= _CLOSE * len(rows):
        return len(distinct(rows)) == len(rows)
    seen = np.zeros(last - first + 1, dtype=np.bool_)
    seen[rows - np.int32(first)] = True
    return int(np.count_nonzero(seen)) == len(rows)


@dataclass(frozen=True, slots=True)
class _Run:
    """Sorted ids and the row of each; or, for consecutive ids, just the first id, the first row and the length."""

    first_id: int
    last_id: int
    first_row: int
    ids: Int64s | None
    rows: Rows | None

    @property
    def length(self) -> int:
        return self.last_id - self.first_id + 1 if self.ids is None else len(self.ids)

    def find(self, wanted: Int64s) -> Rows:
        """The row of each id, ABSENT where the run does not have it."""
        if self.ids is None or self.rows is None:
            rows = wanted - (self.first_id - self.first_row)
            if len(wanted) and not self.first_id <= wanted.min() <= wanted.max() <= self.last_id:
                rows[(wanted < self.first_id) | (wanted > self.last_id)] = ABSENT
            return rows.astype(np.int32)
        places = np.searchsorted(self.ids, wanted)
        places[places == len(self.ids)] = 0
        return np.where(self.ids[places] == wanted, self.rows[places], np.int32(ABSENT))

    def find_one(self, wanted: int) -> int:
        if not self.first_id <= wanted <= self.last_id:
            return ABSENT
        if self.ids is None or self.rows is None:
            return wanted - self.first_id + self.first_row
        place = int(self.ids.searchsorted(wanted))
        return int(self.rows[place]) if self.ids[place] == wanted else ABSENT

    def columns(self) -> tuple[Int64s, Rows]:
        if self.ids is not None and self.rows is not None:
            return self.ids, self.rows
        length = self.length
        ids = np.arange(self.first_id, self.first_id + length, dtype=np.int64)
        return ids, np.arange(self.first_row, self.first_row + length, dtype=np.int32)


class IdIndex:
    """Ids of one kind (tasks, arrays, resources) to rows 0, 1, 2, ... in the order of their adding."""

    __slots__ = ("_runs", "size")

    def __init__(self) -> None:
        self._runs: list[_Run] = []
        self.size = 0

    def copy(self) -> "IdIndex":
        """An index that can be added to without this one changing; costs nothing, the runs are shared."""
        twin = IdIndex()
        twin._runs = list(self._runs)
        twin.size = self.size
        return twin

    def find(self, wanted: Int64s) -> Rows:
        """The row of each id, ABSENT (-1) for ids that are not there. Not to be written to."""
        if len(wanted) > 1 and wanted.strides == (0,):  # all are the same
            return np.broadcast_to(self.find(wanted[:1]), wanted.shape)
        if not self._runs:
            return np.full(len(wanted), ABSENT, dtype=np.int32)
        found = self._runs[0].find(wanted)
        for run in self._runs[1:]:
            found = np.maximum(found, run.find(wanted))
        return found

    def find_known(self, wanted: Int64s, *, ascending: bool = False) -> Rows | None:
        """The row of each id; None when one of them is not there."""
        if not len(wanted):
            return np.zeros(0, dtype=np.int32)
        if len(self._runs) == 1 and self._runs[0].ids is None:
            run = self._runs[0]
            ends = (wanted.item(0), wanted.item(-1)) if ascending else (wanted.min(), wanted.max())
            inside = run.first_id <= ends[0] and ends[1] <= run.last_id
            return (wanted - (run.first_id - run.first_row)).astype(np.int32) if inside else None
        rows = self.find(wanted)
        return None if rows.min() == ABSENT else rows

    def find_one(self, wanted: int) -> int:
        """The row of one id, or ABSENT."""
        for run in self._runs:
            row = run.find_one(wanted)
            if row != ABSENT:
                return row
        return ABSENT

    def add(self, ids: Int64s) -> None:
        """Give the next rows to these ids, which must be new and distinct."""
        if not len(ids):
            return
        self._runs.append(_run_of(ids, self.size))
        self.size += len(ids)
        while len(self._runs) > 1 and self._runs[-2].length < 2 * self._runs[-1].length:
            self._merge_last_two()

    def _merge_last_two(self) -> None:
        last, before = self._runs.pop(), self._runs.pop()
        follows = last.ids is None and before.ids is None and last.first_id == before.last_id + 1
        if follows and last.first_row == before.first_row + before.length:
            self._runs.append(_Run(before.first_id, last.last_id, before.first_row, None, None))
            return
        (ids_a, rows_a), (ids_b, rows_b) = before.columns(), last.columns()
        ids = np.concatenate((ids_a, ids_b))
        order = np.argsort(ids, kind="stable")
        ids, rows = ids[order], np.concatenate((rows_a, rows_b))[order]
        self._runs.append(_Run(int(ids[0]), int(ids[-1]), 0, ids, rows))


def _run_of(ids: Int64s, first_row: int) -> _Run:
    if int(ids[-1]) - int(ids[0]) == len(ids) - 1 and bool(np.all(ids[1:] - ids[:-1] == 1)):
        return _Run(int(ids[0]), int(ids[-1]), first_row, None, None)
    order = np.argsort(ids, kind="stable").astype(np.int32)
    ordered = ids[order]
    return _Run(int(ordered[0]), int(ordered[-1]), 0, ordered, order + np.int32(first_row))
