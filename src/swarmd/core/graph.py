"""Who waits for whom, as compressed adjacency: offsets and targets, no Python object a task.

`Upstreams` grows at its end, since a task's upstreams come with the task. `Downstreams` is the same edges turned
round: a load adds a segment, and segments are merged so that there are never more than a few.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from swarmd.core.growing import grown
from swarmd.core.ids import Int64s, Rows, distinct

_SMALL_FRONTIER = 64


def spread(starts: Int64s, counts: Int64s) -> Int64s:
    """For each i the numbers starts[i], ..., starts[i] + counts[i] - 1, one after the other."""
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    return np.arange(total, dtype=np.int64) + np.repeat(starts - ends + counts, counts)


class Upstreams:
    """For every row the rows that it waits for."""

    __slots__ = ("_offsets", "_targets", "edge_count", "size")

    def __init__(self) -> None:
        self._offsets: Int64s = np.zeros(1, dtype=np.int64)
        self._targets: Rows = np.zeros(0, dtype=np.int32)
        self.size = 0
        self.edge_count = 0

    def extend(self, counts: NDArray[np.int32], targets: Rows) -> None:
        """Append rows: how many upstreams each has, and all of them in order."""
        self.extend_at(offsets_of(counts), targets)

    def extend_at(self, offsets: Int64s, targets: Rows) -> None:
        """The same with the counts summed up from 0 on: one offset more than rows. Must be nobody else's arrays."""
        if self.size:
            self._offsets = grown(self._offsets, self.size + 1, offsets[1:] + self.edge_count)
        else:
            self._offsets = offsets
        self._targets = grown(self._targets, self.edge_count, targets)
        self.size += len(offsets) - 1
        self.edge_count += len(targets)

    def of(self, row: int) -> Rows:
        """The upstreams of one row."""
        return self._targets[int(self._offsets[row]) : int(self._offsets[row + 1])]

    def edges_of(self, rows: Int64s) -> tuple[Int64s, Rows]:
        """All edges into these rows: which place in `rows` each leads to, and the upstream it comes from."""
        starts = self._offsets[rows]
        counts = self._offsets[rows + 1] - starts
        return np.repeat(np.arange(len(rows)), counts), self._targets[spread(starts, counts)]

    def columns(self) -> tuple[Int64s, Rows]:
        """Where the upstreams of each row begin and end, and all of them. Views that no later row changes."""
        return self._offsets[: self.size + 1], self._targets[: self.edge_count]

    @property
    def nbytes(self) -> int:
        return int(self._offsets.nbytes + self._targets.nbytes)


@dataclass(frozen=True, slots=True)
class Segment:
    """Edges by their source. `sources` is None when offsets has a place for every row from `first` on."""

    first: int
    sources: Rows | None
    offsets: Int64s
    targets: Rows

    def gather(self, rows: Rows) -> Rows:
        if self.sources is None:
            places = rows.astype(np.int64) - self.first
            places = places[(places >= 0) & (places < len(self.offsets) - 1)]
        else:
            places = np.searchsorted(self.sources, rows)
            places[places == len(self.sources)] = 0
            places = places[self.sources[places] == rows]
        starts = self.offsets[places]
        return self.targets[spread(starts, self.offsets[places + 1] - starts)]

    def of_one(self, row: int) -> Rows:
        place = row - self.first
        if self.sources is not None:
            place = int(self.sources.searchsorted(row))
            if place == len(self.sources) or self.sources.item(place) != row:
                return self.targets[:0]
        elif not 0 <= place < len(self.offsets) - 1:
            return self.targets[:0]
        return self.targets[self.offsets.item(place) : self.offsets.item(place + 1)]

    def between(self, start: int, end: int) -> tuple[Rows, Int64s, Rows]:
        """Of the sources from `start` to before `end`: which they are, how many edges each has, and their targets."""
        if self.sources is None:
            last = self.first + len(self.offsets) - 1
            rows = np.arange(max(start, self.first), max(start, self.first, min(end, last)), dtype=np.int32)
            place = min(max(start - self.first, 0), len(self.offsets) - 1)
        else:
            place, stop = np.searchsorted(self.sources, (start, end)).tolist()
            rows = self.sources[place:stop]
        offsets = self.offsets[place : place + len(rows) + 1]
        return rows, np.diff(offsets), self.targets[int(offsets[0]) : int(offsets[-1])]

    def edges(self) -> tuple[Rows, Rows]:
        counts = np.diff(self.offsets)
        rows = self.sources
        if rows is None:
            rows = np.arange(self.first, self.first + len(counts), dtype=np.int32)
        return np.repeat(rows, counts), self.targets


class Downstreams:
    """For every row the rows that wait for it."""

    __slots__ = ("_segments",)

    def __init__(self) -> None:
        self._segments: list[Segment] = []

    def add(self, segment: Segment | None) -> None:
        """Take in the edges of a load (see `segment_of`)."""
        if segment is None:
            return
        self._segments.append(segment)
        while len(self._segments) > 1 and len(self._segments[-2].targets) < 2 * len(self._segments[-1].targets):
            last, before = self._segments.pop(), self._segments.pop()
            (sources_a, targets_a), (sources_b, targets_b) = before.edges(), last.edges()
            sources = np.concatenate((sources_a, sources_b))
            merged = segment_of(sources, np.concatenate((targets_a, targets_b)))
            if merged is not None:
                self._segments.append(merged)

    def of(self, rows: Rows) -> Rows:
        """The downstreams of all these rows together; one that waits for several of them comes several times."""
        if not self._segments:
            return np.zeros(0, dtype=np.int32)
        if len(rows) == 1:
            found = [segment.of_one(rows.item()) for segment in self._segments]
        else:
            found = [segment.gather(rows) for segment in self._segments]
        return found[0] if len(found) == 1 else np.concatenate(found)

    def counts(self, start: int, end: int) -> Int64s:
        """How many downstreams each row from `start` to before `end` has."""
        counts = np.zeros(end - start, dtype=np.int64)
        for segment in self._segments:
            rows, more, _ = segment.between(start, end)
            counts[rows - start] += more
        return counts

    def between(self, start: int, end: int) -> tuple[Rows, Rows]:
        """All edges out of the rows from `start` to before `end`, in no special order: where from and where to."""
        none = np.zeros(0, dtype=np.int32)
        parts = [segment.between(start, end) for segment in self._segments]
        sources = [none, *(np.repeat(rows, counts) for rows, counts, _ in parts)]
        return np.concatenate(sources), np.concatenate([none, *(targets for *_, targets in parts)])

    def edges(self) -> tuple[Rows, Rows]:
        """All edges in no special order, for checks: the upstream and the downstream of each."""
        none = np.zeros(0, dtype=np.int32)
        pairs = [segment.edges() for segment in self._segments]
        sources, targets = [none, *(each for each, _ in pairs)], [none, *(each for _, each in pairs)]
        return np.concatenate(sources), np.concatenate(targets)

    @property
    def nbytes(self) -> int:
        return sum(
            int(segment.offsets.nbytes + segment.targets.nbytes)
            + (0 if segment.sources is None else int(segment.sources.nbytes))
            for segment in self._segments
        )


def segment_of(sources: Rows, targets: Rows) -> Segment | None:
    """The edges sources[i] -> targets[i], ready for `Downstreams.add`; None when there are none."""
    if not len(sources):
        return None
    order = np.argsort(sources, kind="stable")
    ordered, turned = sources[order], targets[order]
    first, last = int(ordered[0]), int(ordered[-1])
    if last - first < 4 * len(sources):
        counts = np.bincount(ordered - first, minlength=last - first + 1)
        return Segment(first, None, offsets_of(counts), turned)
    distinct, counts = np.unique(ordered, return_counts=True)
    return Segment(first, distinct, offsets_of(counts), turned)


def offsets_of(counts: NDArray[np.integer]) -> Int64s:
    """Where each row's edges begin, and where the last one's end."""
    offsets = np.zeros(len(counts) + 1, dtype=np.int64)
    np.cumsum(counts, out=offsets[1:])
    return offsets


def find_cycle(size: int, sources: Rows, targets: Rows) -> list[int]:
    """One cycle among rows 0 .. size-1 with the edges sources[i] -> targets[i], in the order of the edges; [] if none.

    Edges that all lead from a lower row to a higher one cannot form a cycle, which is how workflows are usually
    written; only otherwise are rows taken away, those that nothing leads to first, until a cycle is left or nothing.
    """
    if not len(sources) or bool(np.all(sources < targets)):
        return []
    left = _rows_that_stay(size, sources, targets)
    return _walk_back(left, sources, targets) if left.any() else []


def _rows_that_stay(size: int, sources: Rows, targets: Rows) -> NDArray[np.bool_]:
    """Take away what nothing leads to, again and again; what stays is on a cycle or behind one."""
    order = np.argsort(sources, kind="stable")
    turned = targets[order]
    offsets = offsets_of(np.bincount(sources, minlength=size))
    incoming = np.bincount(targets, minlength=size)
    stays = np.ones(size, dtype=np.bool_)
    frontier = np.flatnonzero(incoming == 0)
    while len(frontier):
        stays[frontier] = False
        if len(frontier) < _SMALL_FRONTIER:
            frontier = _peel_few(frontier, offsets, turned, incoming, stays)
            continue
        reached = turned[spread(offsets[frontier], offsets[frontier + 1] - offsets[frontier])]
        np.subtract.at(incoming, reached, 1)
        reached = distinct(reached)
        frontier = reached[incoming[reached] == 0].astype(np.int64)
    return stays


def _peel_few(
    frontier: Int64s,
    offsets: Int64s,
    turned: Rows,
    incoming: NDArray[np.int64],
    stays: NDArray[np.bool_],
) -> Int64s:
    """The same, one row at a time: for long chains, where an array operation a row would be slow."""
    waiting = frontier.tolist()
    while waiting and len(waiting) < 2 * _SMALL_FRONTIER:
        row = waiting.pop()
        stays[row] = False
        for target in turned[int(offsets[row]) : int(offsets[row + 1])].tolist():
            incoming[target] -= 1
            if not incoming[target]:
                waiting.append(target)
    return np.array(waiting, dtype=np.int64)


def _walk_back(left: NDArray[np.bool_], sources: Rows, targets: Rows) -> list[int]:
    """Every row that stays has an upstream that stays: walking against the edges must come back somewhere."""
    inner = left[sources] & left[targets]
    upstream_of = dict(zip(targets[inner].tolist(), sources[inner].tolist(), strict=True))
    row, seen = next(iter(upstream_of)), dict[int, int]()
    path: list[int] = []
    while row not in seen:
        seen[row] = len(path)
        path.append(row)
        row = upstream_of[row]
    return path[seen[row] :][::-1]
