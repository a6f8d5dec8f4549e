"""A swarm as columns and plain values, and back: what a snapshot is made of.

`freeze` is called between two events and copies only what changes in place; a `Frozen` is then read in another thread
while the swarm goes on. `begin_freezing` lets that copy, too, be made in another thread. `thaw` (thawing.py) makes the
same swarm again. What follows from something else (counts, queues, indices, upstreams left, downstreams) is not kept
but counted anew. Knows neither files nor JSON; the journal does.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from swarmd.core.batch import Batch
from swarmd.core.history import AttemptRecord, FrozenHistory
from swarmd.core.model import Array, QueueLimits, TaskResources
from swarmd.core.paths import CLASSES_PER_OCTAVE, Paths
from swarmd.core.reservations import OpenBatch
from swarmd.core.status import CODE_OF
from swarmd.core.swarm import LoadAnswer, Swarm, TickRecord
from swarmd.core.table import Table
from swarmd.core.text import FrozenTexts, TextBlock

Chunk: TypeAlias = bytes | bytearray | memoryview
Section: TypeAlias = tuple[str, Iterable[Chunk]]
Facts: TypeAlias = dict[str, Any]
"""Plain values only: dict, list, str, int, float, bool and None."""
Column: TypeAlias = NDArray[Any]

Room: TypeAlias = Mapping[str, Column]

CHANGING = ("status", "attempt", "failures", "queued_at", "changed_at")
_COPIED = (*CHANGING, "lane", "ready_seq")
APPENDED = ("task_id", "max_attempts", "scales")
DTYPES = {
    "status": "<u1",
    "attempt": "<i4",
    "failures": "<i4",
    "queued_at": "<f8",
    "changed_at": "<f8",
    "task_id": "<i8",
    "max_attempts": "<i4",
    "scales": "<i4",
    "lane": "<i4",
    "ready_seq": "<i8",
    "paths.remaining": "<f4",
    "names.ends": "<i8",
    "commands.ends": "<i8",
    "upstreams.offsets": "<i8",
    "upstreams.rows": "<i4",
    "lanes.priority": "<i4",
    "lanes.array": "<i4",
    "lanes.resources": "<i4",
    "lanes.path": "<i4",
    "arrays.limit": "<i4",
    "arrays.turn": "<i8",
    "arrays.done_seconds": "<f8",
    "arrays.done_count": "<i8",
    "arrays.estimate": "<f8",
    "batches.rows": "<i4",
    "batches.seqs": "<i8",
    "batches.attempts": "<i4",
    "batches.queued_before": "<f8",
    "history.rows": "<i4",
    "history.serials": "<i8",
    "history.attempts": "<i4",
    "history.statuses": "<u1",
    "history.queued_at": "<f8",
    "history.changed_at": "<f8",
    "history.resources": "<i4",
    "history.reasons": "<i4",
    "history.budget": "<i4",
    "reasons.ends": "<i8",
    "bulks.rows": "<i4",
    "bulks.attempts": "<i4",
    "bulks.queued_at": "<f8",
    "bulks.changed_at": "<f8",
    "bulks.resources": "<i4",
}
"""Every column by the name of its section, and how its numbers are written."""


@dataclass(frozen=True, slots=True)
class Frozen:
    """A swarm as it was at one moment. Reading it takes long, and may be done in another thread."""

    scalars: Facts
    """What is one value a swarm."""
    columns: dict[str, Column]
    names: FrozenTexts
    commands: FrozenTexts
    arrays: list[Array]
    resources: list[TaskResources]
    scale_sets: list[Mapping[str, float]]
    adjusted: list[tuple[int, int, int]]
    queue_limits: list[QueueLimits]
    open_batches: list[OpenBatch]
    handed_out: list[OpenBatch]
    unanswered: dict[str, list[Batch]]
    loads: list[tuple[str, LoadAnswer]]
    ticks: list[tuple[str, TickRecord]]
    history: FrozenHistory

    def facts(self) -> Facts:
        """All that is no column, as plain values."""
        batches = self._batches()
        places = {id(batch): place for place, batch in enumerate(batches)}
        return {
            **self.scalars,
            "arrays": [_plain(array) for array in self.arrays],
            "resources": [_plain_resources(each) for each in self.resources],
            "scale_sets": [dict(scales) for scales in self.scale_sets],
            "adjusted": [list(each) for each in self.adjusted],
            "queue_limits": [_plain(limits) for limits in self.queue_limits],
            "batches": [_plain_batch(batch) for batch in batches],
            "open": [_plain_open(known, places) for known in self.open_batches],
            "handed_out": [_plain_open(known, places) for known in self.handed_out],
            "unanswered": {key: [places[id(batch)] for batch in taken] for key, taken in self.unanswered.items()},
            "loads": [[request_id, _plain(answer)] for request_id, answer in self.loads],
            "ticks": [[request_id, tick.asked, len(tick.answer)] for request_id, tick in self.ticks],
            "last_serial": self.history.last_serial,
            "texts": len(self.history.texts),
            "bulks": [[bulk.serial, str(bulk.status), bulk.reason, len(bulk.rows)] for bulk in self.history.bulks],
        }

    def contents(self) -> tuple[dict[str, Column], dict[str, Iterable[Chunk]]]:
        """All columns, and all texts in pieces; names and commands are copied piece by piece as they are asked for."""
        history, reasons = _history_columns(self.history)
        columns = {
            **self.columns,
            "names.ends": self.names.ends,
            "commands.ends": self.commands.ends,
            **self._batch_columns(),
            **history,
            **self._bulk_columns(),
        }
        texts: dict[str, Iterable[Chunk]] = {
            "names": self.names.pieces(),
            "commands": self.commands.pieces(),
            "reasons": [reasons],
            "answers": (tick.answer for _, tick in self.ticks),
        }
        return columns, texts

    def sections(self) -> Iterator[Section]:
        """The same as bytes, little-endian, each column and text under its name."""
        columns, texts = self.contents()
        for name, dtype in DTYPES.items():
            yield name, [np.ascontiguousarray(columns[name], dtype=dtype).view(np.uint8).data]
        yield from texts.items()

    def _batches(self) -> list[Batch]:
        """Every batch once, by whichever way it is still known."""
        known = [each.batch for each in [*self.open_batches, *self.handed_out]]
        known += [batch for taken in self.unanswered.values() for batch in taken]
        return list({id(batch): batch for batch in known}.values())

    def _batch_columns(self) -> dict[str, Column]:
        batches = self._batches()
        known = [*self.open_batches, *self.handed_out]
        before = [each.queued_before for each in known if each.queued_before is not None]
        return {
            "batches.rows": _joined([batch.rows for batch in batches], np.int32),
            "batches.seqs": _joined([batch.seqs for batch in batches], np.int64),
            "batches.attempts": _joined([batch.attempts for batch in batches], np.int32),
            "batches.queued_before": _joined(before, np.float64),
        }

    def _bulk_columns(self) -> dict[str, Column]:
        bulks = self.history.bulks
        return {
            "bulks.rows": _joined([bulk.rows for bulk in bulks], np.int32),
            "bulks.attempts": _joined([bulk.attempts for bulk in bulks], np.int32),
            "bulks.queued_at": _joined([bulk.queued_at for bulk in bulks], np.float64),
            "bulks.changed_at": _joined([bulk.changed_at for bulk in bulks], np.float64),
            "bulks.resources": _joined([bulk.resources for bulk in bulks], np.int32),
        }


# -- freezing ----------------------------------------------------------------------------------------------------------


def make_room(size: int) -> Room:
    """Memory for `freeze` to copy so many tasks to. Fresh memory takes time to come: let another thread ask for it."""
    return {name: np.full(size, 0, dtype=DTYPES[name]) for name in _COPIED}


def freeze(swarm: Swarm, room: Room | None = None) -> Frozen:
    """The swarm as it is now. Call it between two events, in the thread that applies them; it copies 37 bytes a task.

    `room`, if it is large enough, becomes part of what is frozen. Raises RuntimeError while a load is under way, which
    a snapshot has no place for.
    """
    return begin_freezing(swarm, room)()


def begin_freezing(swarm: Swarm, room: Room | None = None) -> Callable[[], Frozen]:
    """The same in two steps: what comes back copies the columns, and may be called in another thread.

    Until it has returned, nothing may happen to the swarm.
    """
    if swarm.parts_under_way or swarm.state.has_staged_load:
        raise RuntimeError("a load is under way; freeze the swarm when it is complete")
    return _begun(swarm, room or {})


def as_it_is(swarm: Swarm) -> Frozen:
    """The swarm as it is, whatever is under way."""
    return _begun(swarm, {})()


def _begun(swarm: Swarm, room: Room) -> Callable[[], Frozen]:
    state, table = swarm.state, swarm.state.table
    changing = _changing(table)
    taken = Frozen(
        scalars=_scalars(swarm),
        columns=_views(table),
        names=table.names.frozen(),
        commands=table.commands.frozen(),
        arrays=list(table.arrays),
        resources=list(table.resources),
        scale_sets=list(table.scale_sets.sets),
        adjusted=table.adjusted,
        queue_limits=list(table.queues.known.values()),
        open_batches=list(state.reservations.open.values()),
        handed_out=list(state.reservations.handed_out.values()),
        unanswered={request_id: list(batches) for request_id, batches in swarm.unanswered.items()},
        loads=list(swarm.loads.items()),
        ticks=list(swarm.ticks.items()),
        history=state.history.frozen(),
    )
    return lambda: replace(taken, columns=_copies(changing, room) | taken.columns)


def _changing(table: Table) -> dict[str, Column]:
    """What changes in place."""
    return {
        **{name: getattr(table, name)[: table.size] for name in CHANGING},
        "lane": table.lanes.of_task[: table.size],
        "ready_seq": table.queue.ready_seq[: table.size],
        "arrays.limit": table.usage.limits(),
        **_policy_columns(table),
    }


def _copies(columns: Mapping[str, Column], room: Room) -> dict[str, Column]:
    copies = {}
    for name, column in columns.items():
        place = room.get(name, column[:0])
        if len(place) < len(column):
            copies[name] = column.copy()
        else:
            copies[name] = place[: len(column)]
            copies[name][:] = column
    return copies


def _policy_columns(table: Table) -> dict[str, Column]:
    """What the policy of the swarm goes by; nothing for other policies."""
    paths = table.paths or Paths()
    arrays, tasks = (len(table.arrays), table.size) if table.paths else (0, 0)
    turns = np.zeros(len(table.arrays) if table.queue.turns else 0, dtype=np.int64)
    turns[list(table.queue.turns.keys())] = list(table.queue.turns.values())
    return {
        "paths.remaining": paths.remaining[:tasks],
        "arrays.turn": turns,
        "arrays.done_seconds": paths.done_seconds[:arrays],
        "arrays.done_count": paths.done_count[:arrays],
        "arrays.estimate": paths.estimates[:arrays],
    }


def _views(table: Table) -> dict[str, Column]:
    """What is only appended to: behind what is seen here, or in a new array."""
    lane_count = len(table.lanes)
    offsets, upstreams = table.upstreams.columns()
    return {
        **{name: getattr(table, name)[: table.size] for name in APPENDED},
        "upstreams.offsets": offsets,
        "upstreams.rows": upstreams,
        "lanes.priority": table.lanes.priority[:lane_count],
        "lanes.array": table.lanes.array_row[:lane_count],
        "lanes.resources": table.lanes.resources_row[:lane_count],
        "lanes.path": table.lanes.path[:lane_count],
    }


def _scalars(swarm: Swarm) -> Facts:
    created, state = swarm.created, swarm.state
    return {
        "settings": {
            **_plain(created.settings),
            "environment": dict(created.settings.environment),
            "gateway_options": dict(created.settings.gateway_options),
            "scheduling_policy": str(created.settings.scheduling_policy),
        },
        "token": created.token,
        "request_id": created.request_id,
        "asked": created.asked,
        "created_at": swarm.created_at,
        "autopilot": swarm.autopilot,
        "display_name": swarm.display_name,
        "answer_bytes": swarm.answer_bytes,
        "revision": state.revision,
        "fail_fast": state.fail_fast,
        "paused": state.paused,
        "run_status": str(state.run_status),
        "sync_time": state.sync_time and state.sync_time.isoformat(),
        "swarm_limit": state.table.usage.swarm_limit,
        "size": state.table.size,
        "load_count": state.table.load_count,
        "batch_count": state.reservations.count,
        "sweep": _sweep(state.table),
        "classes_per_octave": CLASSES_PER_OCTAVE,
        "queue_counters": list(state.table.queue.counters),
    }


def _sweep(table: Table) -> list[int]:
    paths = table.paths or Paths()
    return [paths.unswept, paths.credit, paths.learned_then]


def _plain(value: Any) -> Facts:
    """The fields of a dataclass by name."""
    return {field.name: getattr(value, field.name) for field in fields(value)}


def _plain_resources(resources: TaskResources) -> Facts:
    lists = {"extra": dict(resources.extra), "fallback_queues": list(resources.fallback_queues)}
    return {**_plain(resources), **lists}


def _plain_batch(batch: Batch) -> Facts:
    return {
        "batch_id": batch.batch_id,
        "array_id": batch.array_id,
        "task_resources_id": batch.task_resources.task_resources_id,
        "priority": batch.priority,
        "size": len(batch),
    }


def _plain_open(known: OpenBatch, places: Mapping[int, int]) -> Facts:
    return {
        "batch": places[id(known.batch)],
        "taken_at": known.taken_at,
        "in_doubt": known.in_doubt,
        "doubt": known.doubt,
        "request_id": known.request_id,
        "has_queued_before": known.queued_before is not None,
    }


def _history_columns(history: FrozenHistory) -> tuple[dict[str, Column], bytes | bytearray]:
    """All records and the distinct reasons. One that only counts towards the budget of texts has no serial number."""
    rows: list[int] = []
    serials: list[int] = []
    records: list[AttemptRecord] = []
    for row, serial, record in history.records():
        rows.append(row)
        serials.append(serial)
        records.append(record)
    places = {id(record): place for place, record in enumerate(records)}
    budget = []
    for row, record in history.texts:
        place = places.setdefault(id(record), len(records))
        if place == len(records):
            rows.append(row)
            serials.append(0)
            records.append(record)
        budget.append(place)
    reasons: dict[str, int] = {}
    numbers = [reasons.setdefault(record.reason, len(reasons)) for record in records]
    block = TextBlock(list(reasons))
    columns: dict[str, Column] = {
        "history.rows": np.array(rows, dtype=np.int32),
        "history.serials": np.array(serials, dtype=np.int64),
        "history.attempts": np.array([record.attempt for record in records], dtype=np.int32),
        "history.statuses": np.array([CODE_OF[record.status] for record in records], dtype=np.uint8),
        "history.queued_at": np.array([record.queued_at for record in records], dtype=np.float64),
        "history.changed_at": np.array([record.changed_at for record in records], dtype=np.float64),
        "history.resources": np.array([record.resources for record in records], dtype=np.int32),
        "history.reasons": np.array(numbers, dtype=np.int32),
        "history.budget": np.array(budget, dtype=np.int32),
        "reasons.ends": np.zeros(len(reasons), dtype=np.int64) if block.ends is None else block.ends,
    }
    return columns, block.data


def _joined(parts: list[Column], dtype: type[np.generic]) -> Column:
    return np.concatenate([np.zeros(0, dtype=dtype), *parts])


# -- thawing -----------------------------------------------------------------------------------------------------------
