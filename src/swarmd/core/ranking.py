"""Keeps remaining paths, and the lanes that tasks are in because of them, up to date while a swarm goes on.

What a load brings behind tasks that are there makes their paths longer at once. What is learned of runtimes makes all
paths be reckoned anew, bit by bit: what updates finish earns a sweep the right to go on, so that it costs no more than
a constant for each task that is DONE. All of it follows from the events of the swarm alone: a journal leads to the same
lanes again. (Versions may differ in the constants here: a journal names the tasks of each batch, whatever their lanes.)
"""

import numpy as np

from swarmd.core.ids import Rows, distinct
from swarmd.core.loading import LoadPlan
from swarmd.core.paths import LEAST_SECONDS, Float32s, Paths, Seconds, path_classes
from swarmd.core.status import Code
from swarmd.core.table import Table

SWEPT_PER_FINISHED = 4
"""So many rows and edges may a sweep look at for each task that is finished."""
LEAST_SLICE = 512
"""Less than this is not worth the work."""
_SLICE = 4096
RAISED_AT_LEAST = 10_000
RAISED_PER_LOADED = 4
"""So many edges does a load follow upwards for each task or edge that it brings; a sweep does the rest."""
_ROUND_COSTS = 32
"""A round of arrays costs at least as much as so many edges in one."""


def learn(table: Table, paths: Paths, rows: Rows, at: float) -> None:
    """These tasks are about to be DONE: those that were seen RUNNING tell how long tasks of their arrays run."""
    running = rows[table.status[rows] == Code.RUNNING]
    running = running[paths.stated[table.resources_rows(running)] == 0]
    if not len(running):
        return
    seconds = np.maximum(at - table.changed_at[running], LEAST_SECONDS)
    if paths.learn(table.array_rows(running), seconds):
        paths.begin_sweep(table.size)


def sweep(table: Table, paths: Paths, finished: int) -> None:
    """Reckon some of the paths anew that the sweep under way has not come to; a row of many edges is paid off later."""
    paths.credit += SWEPT_PER_FINISHED * finished
    while paths.unswept and paths.credit >= min(LEAST_SLICE, paths.unswept):
        end = paths.unswept
        start = max(0, end - _SLICE)
        costs = np.cumsum(1 + table.downstreams.counts(start, end)[::-1])
        rows = max(1, int(np.searchsorted(costs, paths.credit, side="right")))
        start = end - rows
        paths.credit -= int(costs[rows - 1])
        paths.remaining[start:end] = _reckoned(table, paths, start, end)
        paths.unswept = start
        relane(table, paths, np.arange(start, end, dtype=np.int32))


def follow_load(table: Table, paths: Paths, plan: LoadPlan) -> None:
    """The tasks of a load are there: what they come after has longer paths now."""
    if paths.learned:
        paths.begin_sweep(table.size)  # the plan knows stated runtimes only
    if not len(plan.known_edges):
        return
    ends = plan.upstream_offsets[1:]
    after = plan.first_row + np.searchsorted(ends, plan.known_edges, side="right")
    budget = RAISED_AT_LEAST + RAISED_PER_LOADED * (len(plan.load.tasks) + len(plan.upstream_rows))
    upstreams, behind = plan.upstream_rows[plan.known_edges], paths.remaining[after]
    raised = [_raised(table, paths, upstreams, behind)]
    while len(raised[-1]):
        if budget <= 0:
            paths.begin_sweep(table.size)
            break
        places, upstreams = table.upstreams.edges_of(raised[-1].astype(np.int64))
        budget -= max(_ROUND_COSTS, len(upstreams))
        raised.append(_raised(table, paths, upstreams, paths.remaining[raised[-1]][places]))
    relane(table, paths, distinct(np.concatenate(raised)))


def _raised(table: Table, paths: Paths, upstreams: Rows, behind: Float32s) -> Rows:
    """Make paths longer where what is behind asks for it. Returns the tasks of which that is true."""
    longer = (_seconds(table, paths, upstreams) + behind).astype(np.float32)
    grew = longer > paths.remaining[upstreams]
    np.maximum.at(paths.remaining, upstreams[grew], longer[grew])
    return distinct(upstreams[grew])


def _seconds(table: Table, paths: Paths, rows: Rows) -> Seconds:
    """The runtime that each task is expected to have."""
    stated = paths.stated[table.resources_rows(rows)]
    seconds: Seconds = np.where(stated > 0, stated, paths.estimates[table.array_rows(rows)])
    return seconds


def _reckoned(table: Table, paths: Paths, start: int, end: int) -> Seconds:
    """The paths of the tasks from `start` to before `end`, from those of their downstreams as they are."""
    sources, targets = table.downstreams.between(start, end)
    own = _seconds(table, paths, np.arange(start, end, dtype=np.int32))
    longest: Seconds = np.zeros(end - start)
    if not bool(np.any((targets >= start) & (targets < end))):
        # of numpy's own types: an `at` that has to convert takes ten times as long
        np.maximum.at(longest, sources.astype(np.intp) - start, paths.remaining[targets].astype(np.float64))
        return own + longest
    return _reckoned_one_by_one(sources - start, targets - start, own, paths.remaining[targets])


def _reckoned_one_by_one(sources: Rows, targets: Rows, own: Seconds, known: Float32s) -> Seconds:
    """The same where tasks are each other's downstreams: the later first, as a graph is usually written."""
    order = np.argsort(-sources, kind="stable")
    size = len(own)
    longest, runtimes = [0.0] * size, own.tolist()
    edges = zip(sources[order].tolist(), targets[order].tolist(), known[order].tolist(), strict=True)
    for source, target, path in edges:
        behind = runtimes[target] + longest[target] if source < target < size else path
        longest[source] = max(longest[source], behind)
    reckoned: Seconds = own + np.array(longest)
    return reckoned


def relane(table: Table, paths: Paths, rows: Rows) -> None:
    """Let each of these tasks be in the lane of its path. What waits goes behind what waits there."""
    lanes = table.lanes
    classes, present = path_classes(paths.remaining[rows]), lanes.of_task[rows]
    moves = classes != lanes.path[present]
    if not moves.any():
        return
    rows, classes, present = rows[moves], classes[moves], present[moves]
    moved = (present.astype(np.int64) << 32) + classes
    _, firsts, places = np.unique(moved, return_index=True, return_inverse=True)
    keys = [
        (int(lanes.priority[lane]), int(lanes.array_row[lane]), int(lanes.resources_row[lane]), path)
        for lane, path in zip(present[firsts].tolist(), classes[firsts].tolist(), strict=True)
    ]
    waiting = rows[table.queue.ready_seq[rows] != 0]
    waiting = waiting[np.argsort(table.queue.ready_seq[waiting])]
    if len(waiting):
        table.queue.remove(waiting, lanes)
    lanes.of_task[rows] = lanes.intern(keys)[places]
    if len(waiting):
        table.queue.push_back(waiting, lanes)
        table.refresh(table.array_rows(waiting))
