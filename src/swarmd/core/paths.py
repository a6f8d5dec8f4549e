"""How long the work is that begins with a task and goes on behind it: what "longest path first" goes by.

A task's remaining path is its own runtime and the longest of its downstreams' paths. A runtime is the one that the
task's resources state; without one, the mean of the tasks of its array that are DONE; before there are any, of all
arrays' tasks; and one second as long as nothing is known. `ranking.py` keeps the paths up to date.
"""

import numpy as np
from numpy.typing import NDArray

from swarmd.core.graph import offsets_of, spread
from swarmd.core.growing import grown
from swarmd.core.ids import Int64s, Rows, distinct

Float32s = NDArray[np.float32]
Seconds = NDArray[np.float64]

ASSUMED_SECONDS = 1.0
LEAST_SECONDS = 0.001
"""What a runtime counts at least."""
CLASSES_PER_OCTAVE = 16
"""Lists sorted by exact paths are hardly better; each class is a lane, and so batches of its own."""
_STEPS = np.array([2 ** (step / CLASSES_PER_OCTAVE - 1) for step in range(1, CLASSES_PER_OCTAVE)])
HIGHEST_CLASS = 511
NO_CLASS = 0
"""The class of all tasks where paths do not count."""
CHANGED_BY = 1.5
"""An estimate that is off by this factor makes all paths be reckoned anew, when so many times as many tasks as the last
time are DONE."""
SWEPT_FREELY = 4096
"""So many rows and edges does the first update of a sweep look at, whatever it finishes: small graphs need no more."""
_SMALL_FRONTIER = 64


class Paths:
    """Remaining paths by task row, and what runtimes are known of resources and arrays."""

    def __init__(self) -> None:
        self.remaining: Float32s = np.zeros(0, dtype=np.float32)
        """By task row, in seconds."""
        self.stated: Seconds = np.zeros(0, dtype=np.float64)
        """By resources row: the runtime that the resources state; 0: none."""
        self.done_seconds: Seconds = np.zeros(0, dtype=np.float64)
        """By array row: how long its tasks ran that are DONE and have no stated runtime, in all."""
        self.done_count: Int64s = np.zeros(0, dtype=np.int64)
        """By array row: how many of them there were."""
        self.estimates: Seconds = np.zeros(0, dtype=np.float64)
        """By array row: the runtime that the paths are reckoned with."""
        self.learned = 0
        """How many runtimes were learned in all ..."""
        self.learned_then = 0
        """... and how many when the last sweep began."""
        self.unswept = 0
        """Of a sweep that goes from the last row to the first: how many rows it has before it. 0: there is none."""
        self.credit = 0
        """How many rows and edges the sweep may look at for what was finished until now."""

    def add_arrays(self, count: int) -> None:
        used = len(self.estimates)
        self.done_seconds = grown(self.done_seconds, used, np.zeros(count))
        self.done_count = grown(self.done_count, used, np.zeros(count, dtype=np.int64))
        self.estimates = np.concatenate((self.estimates, np.full(count, ASSUMED_SECONDS)))

    def add_resources(self, used: int, stated: list[float]) -> None:
        """Of the resources that come after the first `used`: the runtimes they state."""
        self.stated = grown(self.stated, used, np.array(stated, dtype=np.float64))

    def learn(self, array_rows: Rows, seconds: Seconds) -> bool:
        """Tasks of these arrays have run for so long. Returns whether it is time to reckon the paths anew."""
        places = array_rows.astype(np.intp)
        np.add.at(self.done_seconds, places, seconds)
        np.add.at(self.done_count, places, np.ones(len(places), dtype=np.int64))
        self.learned += len(array_rows)
        if self.unswept or self.learned < CHANGED_BY * self.learned_then:
            return False
        touched = distinct(array_rows)
        ratios = self.done_seconds[touched] / self.done_count[touched] / self.estimates[touched]
        return bool(np.any((ratios > CHANGED_BY) | (ratios < 1 / CHANGED_BY)))

    def begin_sweep(self, size: int) -> None:
        """Take over what was learned, and let all paths be reckoned anew from the last row on."""
        used = len(self.estimates)
        seconds, count = self.done_seconds[:used], self.done_count[:used]
        overall = float(seconds.sum()) / self.learned if self.learned else ASSUMED_SECONDS
        self.estimates = np.where(count > 0, seconds / np.maximum(count, 1), overall)
        self.unswept, self.credit, self.learned_then = size, SWEPT_FREELY, self.learned

    @property
    def nbytes(self) -> int:
        """Bytes held by task."""
        return int(self.remaining.nbytes)


def path_classes(remaining: NDArray[np.floating]) -> Rows:
    """The class of each path: a number that grows by 16 when the path doubles."""
    mantissas, exponents = np.frexp(np.maximum(remaining, LEAST_SECONDS).astype(np.float64))
    classes = exponents * CLASSES_PER_OCTAVE + np.searchsorted(_STEPS, mantissas, side="right")
    capped: Rows = np.minimum(classes, HIGHEST_CLASS).astype(np.int32)
    return capped


def longest_paths(sources: Rows, targets: Rows, seconds: Seconds) -> Float32s:
    """The remaining path of each row, for edges sources[i] -> targets[i] that form no cycle, ordered by target.

    Takes away what has no downstream left, again and again, so every task and every edge is looked at once.
    """
    longest = np.zeros(len(seconds))
    if len(sources):
        waits = np.bincount(sources, minlength=len(seconds))
        offsets = offsets_of(np.bincount(targets, minlength=len(seconds)))
        frontier = np.flatnonzero(waits == 0)
        while len(frontier):
            if len(frontier) < _SMALL_FRONTIER:
                frontier = _climb_few(frontier, offsets, sources, waits, longest, seconds)
                continue
            counts = offsets[frontier + 1] - offsets[frontier]
            before = sources[spread(offsets[frontier], counts)].astype(np.intp)
            np.maximum.at(longest, before, np.repeat(seconds[frontier] + longest[frontier], counts))
            np.subtract.at(waits, before, np.ones(len(before), dtype=np.int64))
            reached = distinct(before)
            frontier = reached[waits[reached] == 0].astype(np.int64)
    return (seconds + longest).astype(np.float32)


def _climb_few(
    frontier: Int64s, offsets: Int64s, sources: Rows, waits: Int64s, longest: Seconds, seconds: Seconds
) -> Int64s:
    """The same, one row at a time: for long chains, where an array operation a row would be slow."""
    starts, before, left = offsets.data, np.ascontiguousarray(sources).data, waits.data
    best, own = longest.data, seconds.data
    waiting = frontier.tolist()
    while waiting and len(waiting) < 2 * _SMALL_FRONTIER:
        row = waiting.pop()
        path = own[row] + best[row]
        for upstream in before[starts[row] : starts[row + 1]]:
            best[upstream] = max(best[upstream], path)
            left[upstream] -= 1
            if not left[upstream]:
                waiting.append(upstream)
    return np.array(waiting, dtype=np.int64)
