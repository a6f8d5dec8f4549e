"""How swarms stand, as numbers for metrics: bounded, and never a walk over their tasks.

Read in the event loop's thread; what comes out may go to another one.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from swarmd.core.state import SwarmState
from swarmd.core.status import Outcome
from swarmd.core.views import Counts

SHOWN_SWARMS = 100
SHOWN_ARRAYS = 50
"""Of each swarm; those with the most tasks."""
LONGEST_LABEL = 200
REST = "(other)"
"""Stands for what is summed up. No swarm can be called so, and no array that is shown lacks an id."""

STATES = ("waiting", "ready", "active", "done", "failed", "cancelled")


class Watched(Protocol):
    """A swarm's record of changes."""

    @property
    def watchers(self) -> int: ...


class Written(Protocol):
    """A swarm's journal."""

    @property
    def trouble(self) -> Exception | None: ...


class Standing(Protocol):
    """A swarm in the daemon, as far as metrics look at it."""

    @property
    def swarm_id(self) -> str: ...
    @property
    def state(self) -> SwarmState: ...
    @property
    def feed(self) -> Watched: ...
    @property
    def journal(self) -> Written: ...


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the numbers come from that nobody counts: asked each time."""

    swarms: Callable[[], Iterable[Standing]]
    set_aside: Callable[[], int]
    """How many swarms are damaged."""
    healthy: Callable[[], bool]
    """Whether the health service says SERVING."""
    connections: Callable[[], int]
    """Over TCP."""


@dataclass(frozen=True, slots=True)
class ArrayRow:
    """One array, or the rest of them together."""

    array_id: str
    name: str
    tasks: tuple[int, ...]
    """By state, in the order of STATES."""
    room: float
    """How many more may become active, the swarm's limit aside; infinite without a limit."""


@dataclass(frozen=True, slots=True)
class SwarmRow:
    """One swarm, or the rest of them together."""

    swarm_id: str
    tasks: tuple[int, ...]
    capacity: int
    limit: int
    batches_open: int
    batches_in_doubt: int
    watchers: int
    arrays: tuple[ArrayRow, ...] = ()


@dataclass(frozen=True, slots=True)
class Overview:
    """All swarms."""

    outcomes: dict[str, int]
    """How many swarms by outcome."""
    in_trouble: int
    """How many swarms' changes cannot be written down."""
    swarms: tuple[SwarmRow, ...]


def overview(swarms: Iterable[Standing], set_aside: int) -> Overview:
    """The present numbers: unfinished swarms first, and of each kind the latest."""
    known = list(swarms)
    outcomes = {outcome.lower(): 0 for outcome in Outcome} | {"set_aside": set_aside}
    for each in known:
        outcomes[each.state.outcome.lower()] += 1
    known.reverse()
    latest = sorted(known, key=lambda each: each.state.finished)
    rows = [_swarm_row(each) for each in latest[:SHOWN_SWARMS]]
    rest = [_swarm_row(each, with_arrays=False) for each in latest[SHOWN_SWARMS:]]
    if rest:
        rows.append(_together(rest))
    return Overview(outcomes, sum(each.journal.trouble is not None for each in known), tuple(rows))


def _swarm_row(swarm: Standing, *, with_arrays: bool = True) -> SwarmRow:
    state = swarm.state
    in_doubt = sum(each.in_doubt for each in state.open_batches.values())
    return SwarmRow(
        swarm.swarm_id,
        _tasks(Counts.of(state.table.usage.totals, ready=state.ready_count)),
        state.available_capacity,
        state.max_concurrently_running,
        len(state.open_batches) - in_doubt,
        in_doubt,
        swarm.feed.watchers,
        tuple(_array_rows(state)) if with_arrays else (),
    )


def _together(rows: Sequence[SwarmRow]) -> SwarmRow:
    def total(of: Callable[[SwarmRow], int]) -> int:
        return sum(map(of, rows))

    return SwarmRow(
        REST,
        tuple(map(sum, zip(*(row.tasks for row in rows), strict=True))),
        total(lambda row: row.capacity),
        total(lambda row: row.limit),
        total(lambda row: row.batches_open),
        total(lambda row: row.batches_in_doubt),
        total(lambda row: row.watchers),
    )


def _array_rows(state: SwarmState) -> Iterator[ArrayRow]:
    """The arrays with the most tasks, by their place in the swarm, then the rest as one."""
    usage, table = state.table.usage, state.table
    counts = usage.counts()
    shown = np.arange(len(counts))
    if len(counts) > SHOWN_ARRAYS:
        shown = np.sort(np.argpartition(counts.sum(axis=1), -SHOWN_ARRAYS)[-SHOWN_ARRAYS:])
    ready = 0
    for row in shown.tolist():
        array, live = table.arrays[row], table.queue.live_of(row)
        ready += live
        room = float("inf") if usage.limit(row) is None else float(usage.room(row))
        tasks = _tasks(Counts.of(counts[row].tolist(), ready=live))
        yield ArrayRow(str(array.array_id), array.name[:LONGEST_LABEL], tasks, room)
    if len(shown) < len(counts):
        left = np.asarray(usage.totals) - counts[shown].sum(axis=0)
        yield ArrayRow("", REST, _tasks(Counts.of(left.tolist(), ready=state.ready_count - ready)), float("inf"))


def _tasks(counts: Counts) -> tuple[int, ...]:
    waiting = counts.registered - counts.reserved - counts.ready
    return waiting, counts.ready, counts.active, counts.done, counts.error_fatal, counts.cancelled
