"""Does the state agree with itself? A recount of everything that is otherwise kept change by change.

For tests, and for anybody who doubts: it walks all tasks, so nothing in the daemon's normal work calls it.
"""

import numpy as np

from swarmd.core.paths import ASSUMED_SECONDS, longest_paths, path_classes
from swarmd.core.state import SwarmState
from swarmd.core.status import STANDING_CODES, Code


def inconsistencies(state: SwarmState) -> list[str]:
    """Everything that does not fit together, one sentence each; empty when all is well."""
    return [*_counts(state), *_upstreams(state), *_lanes(state), *_openness(state), *_paths(state)]


def _counts(state: SwarmState) -> list[str]:
    table, usage = state.table, state.table.usage
    found = []
    rows = np.arange(table.size, dtype=np.int32)
    places = table.array_rows(rows).astype(np.int64) * STANDING_CODES + table.status[: table.size]
    recount = np.bincount(places, minlength=usage.array_count * STANDING_CODES).reshape(-1, STANDING_CODES)
    if not np.array_equal(recount, usage.counts()):
        found.append("the counts by array and status differ from a recount")
    if recount.sum(axis=0).tolist() != usage.totals:
        found.append(f"the totals {usage.totals} differ from a recount {recount.sum(axis=0).tolist()}")
    active = recount[:, Code.RESERVED : Code.RUNNING + 1].sum(axis=1)
    if active.tolist() != [usage.active_of(row) for row in range(usage.array_count)]:
        found.append("the active tasks by array differ from a recount")
    return found


def _upstreams(state: SwarmState) -> list[str]:
    table = state.table
    places, upstreams = table.upstreams.edges_of(np.arange(table.size, dtype=np.int64))
    undone = table.status[upstreams] != Code.DONE
    recount = np.bincount(places[undone], minlength=table.size)
    if not np.array_equal(recount, table.upstreams_left[: table.size]):
        return ["the upstreams left differ from a recount"]
    return []


def _lanes(state: SwarmState) -> list[str]:
    table, found = state.table, []
    entries = table.queue.entries()
    waiting = sorted(row for rows in entries.values() for row in rows)
    is_ready = (table.status[: table.size] == Code.REGISTERED) & (table.upstreams_left[: table.size] == 0)
    if waiting != np.flatnonzero(is_ready).tolist():
        found.append("the tasks in the lanes are not exactly the ready ones")
    if len(waiting) != table.queue.live:
        found.append(f"{len(waiting)} tasks are in the lanes, {table.queue.live} are counted")
    for lane, rows in entries.items():
        if any(int(table.lanes.of_task[row]) != lane for row in rows):
            found.append(f"lane {lane} holds a task of another lane")
        seqs = table.queue.ready_seq[rows].tolist()
        if seqs != sorted(set(seqs)):
            found.append(f"lane {lane} is out of order")
    return found


def _paths(state: SwarmState) -> list[str]:
    """Paths are right where nothing is learned and loads were followed to their ends; lanes are always by the paths."""
    table, paths = state.table, state.table.paths
    if paths is None:
        return []
    found, remaining = [], paths.remaining[: table.size]
    if not np.array_equal(table.lanes.path[table.lanes.of_task[: table.size]], path_classes(remaining)):
        found.append("tasks are in lanes of other paths than theirs")
    if paths.learned or paths.unswept or table.adjusted:
        return found
    targets, sources = table.upstreams.edges_of(np.arange(table.size, dtype=np.int64))
    if bool(np.any(sources >= targets)):  # a sweep over such tasks may leave paths as they were
        return found
    stated = paths.stated[table.resources_rows(np.arange(table.size, dtype=np.int32))]
    seconds = np.where(stated > 0, stated, ASSUMED_SECONDS)
    if not np.allclose(remaining, longest_paths(sources, targets.astype(np.int32), seconds)):
        found.append("the remaining paths differ from a recount")
    return found


def _openness(state: SwarmState) -> list[str]:
    table = state.table
    with_room = {
        int(table.lanes.array_row[lane])
        for lane, rows in table.queue.entries().items()
        if rows and table.usage.has_room(int(table.lanes.array_row[lane]))
    }
    if table.queue.open_arrays() != with_room:
        return ["the arrays with work and room are not those that the queue knows"]
    return []
