"""Which lane each task belongs to, and tasks sorted by lane: columns and keys only, no order among lanes."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from swarmd.core.growing import grown
from swarmd.core.ids import Int64s, Rows
from swarmd.core.paths import HIGHEST_CLASS

LaneKey = tuple[int, int, int, int]
"""(priority, array row, resources row, class of path): what the tasks of a lane share."""

ROW_BYTES, SEQ_BYTES = 4, 8


class LaneTable:
    """Which lane each task belongs to, and what each lane stands for."""

    __slots__ = ("_rows", "array_row", "of_task", "path", "priority", "resources_row")

    def __init__(self) -> None:
        self.of_task: Rows = np.zeros(0, dtype=np.int32)
        """By task row. Grown by the task table."""
        self.array_row: Rows = np.zeros(0, dtype=np.int32)
        self.resources_row: Rows = np.zeros(0, dtype=np.int32)
        self.priority: Rows = np.zeros(0, dtype=np.int32)
        self.path: Rows = np.zeros(0, dtype=np.int32)
        self._rows: dict[LaneKey, int] = {}

    def intern(self, keys: list[LaneKey]) -> Rows:
        """The row of each lane, new ones being added."""
        used = len(self._rows)
        fresh = [key for key in dict.fromkeys(keys) if key not in self._rows]
        self._rows.update(zip(fresh, range(used, used + len(fresh)), strict=True))
        if fresh:
            added = np.array(fresh, dtype=np.int32)
            self.priority = grown(self.priority, used, added[:, 0])
            self.array_row = grown(self.array_row, used, added[:, 1])
            self.resources_row = grown(self.resources_row, used, added[:, 2])
            self.path = grown(self.path, used, added[:, 3])
        return np.array([self._rows[key] for key in keys], dtype=np.int32)

    def longer_than(self, row: int) -> list[int]:
        """The lanes of the same priority, array and resources whose paths are of longer classes."""
        shared = int(self.priority[row]), int(self.array_row[row]), int(self.resources_row[row])
        keys = ((*shared, path) for path in range(int(self.path[row]) + 1, HIGHEST_CLASS + 1))
        return [self._rows[key] for key in keys if key in self._rows]

    def __len__(self) -> int:
        return len(self._rows)


@dataclass(frozen=True, slots=True)
class SortedByLane:
    """Ready tasks of a load, sorted by lane; within a lane in the order of the load."""

    places: Rows
    """Their places in the load."""
    ranks: Int64s
    """How many of the ready ones come before each in the load."""
    lanes: Rows
    """The lane of each group ..."""
    cuts: list[int]
    """... and where the groups after the first begin."""

    @classmethod
    def of(cls, places: Rows, lanes: Rows) -> "SortedByLane | None":
        """Sort these places by the lane of each; None when there are none."""
        if not len(places):
            return None
        if bool(np.all(lanes[1:] >= lanes[:-1])):
            ranks, ordered = np.arange(len(lanes)), lanes
        else:
            ranks = np.argsort(lanes, kind="stable")
            ordered, places = lanes[ranks], places[ranks]
        cuts = np.flatnonzero(ordered[1:] != ordered[:-1]) + 1
        return cls(places, ranks.astype(np.int64, copy=False), ordered[np.concatenate(([0], cuts))], cuts.tolist())


def by_lane(lane_rows: Rows, rows: Rows, seqs: Int64s) -> Iterator[tuple[int, memoryview, memoryview]]:
    """The tasks of each lane, in order: (lane, rows as bytes, sequence numbers as bytes)."""
    if len(lane_rows) > 1:
        if bool(np.any(lane_rows[1:] < lane_rows[:-1])):
            order = np.argsort(lane_rows, kind="stable")
            lane_rows, rows, seqs = lane_rows[order], rows[order], seqs[order]
        cuts = (np.flatnonzero(lane_rows[1:] != lane_rows[:-1]) + 1).tolist()
    else:
        cuts = []
    return cut(lane_rows[[0, *cuts]].tolist(), cuts, rows, seqs)


def cut(lanes: list[int], cuts: list[int], rows: Rows, seqs: Int64s) -> Iterator[tuple[int, memoryview, memoryview]]:
    """Tasks that stand lane by lane, cut where the next lane begins."""
    row_bytes, seq_bytes = rows.data.cast("B"), seqs.data.cast("B")
    for lane, start, end in zip(lanes, [0, *cuts], [*cuts, len(rows)], strict=True):
        yield lane, row_bytes[ROW_BYTES * start : ROW_BYTES * end], seq_bytes[SEQ_BYTES * start : SEQ_BYTES * end]
