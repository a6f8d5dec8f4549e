"""A frozen swarm back from its columns and plain values, everything that follows from something else counted anew.

Trusts nothing: a snapshot may be damaged in ways that no checksum sees, and whatever does not fit is a DamagedError.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from datetime import datetime
from itertools import pairwise
from typing import Any

import numpy as np

from swarmd.core.batch import Batch
from swarmd.core.errors import DamagedError, SwarmdError
from swarmd.core.events import Created, SwarmSettings
from swarmd.core.freezing import APPENDED, CHANGING, DTYPES, Chunk, Column, Facts
from swarmd.core.graph import segment_of
from swarmd.core.history import UNKNOWN_RESOURCES, AttemptRecord, Bulk
from swarmd.core.ids import ABSENT
from swarmd.core.model import Array, QueueLimits, TaskResources
from swarmd.core.paths import CLASSES_PER_OCTAVE, HIGHEST_CLASS, NO_CLASS, path_classes
from swarmd.core.policy import SchedulingPolicy
from swarmd.core.ranking import relane
from swarmd.core.reservations import OpenBatch
from swarmd.core.status import STANDING_CODES, STATUS_OF, Code, RunStatus, TaskStatus
from swarmd.core.swarm import LoadAnswer, Swarm, TickRecord
from swarmd.core.table import Table

_CLASSES_BEFORE = 4
"""So many classes of paths had an octave in snapshots that do not say it."""


def thaw(facts: Facts, sections: Mapping[str, Chunk]) -> Swarm:
    """The swarm that was frozen. Raises DamagedError when facts and sections do not fit each other.

    Sections that are bytearrays become memory of the swarm, and must be nobody else's.
    """
    try:
        return _Thawing(facts, sections).swarm()
    except DamagedError:
        raise
    except (SwarmdError, KeyError, ValueError, TypeError, AttributeError, IndexError, OverflowError) as error:
        raise DamagedError(f"the facts of the swarm do not fit each other: {error!r}") from error


class _Thawing:
    """One swarm on its way back. Every column is checked before anything is looked up by its numbers."""

    def __init__(self, facts: Facts, sections: Mapping[str, Chunk]) -> None:
        self._facts = facts
        self._sections = sections

    def swarm(self) -> Swarm:
        facts = self._facts
        given = facts["settings"]
        policy = SchedulingPolicy(given.get("scheduling_policy", SchedulingPolicy.FIRST_COME_FIRST_SERVED))
        told = {"run_status": RunStatus(given["run_status"]), "scheduling_policy": policy}
        settings = SwarmSettings(**{**given, **told})
        created = Created(settings, facts["token"], facts["request_id"], facts["asked"])
        swarm = Swarm(created, facts["created_at"])
        swarm.autopilot, swarm.display_name = facts["autopilot"], facts["display_name"]
        state = swarm.state
        state.revision, state.fail_fast, state.paused = facts["revision"], facts["fail_fast"], facts["paused"]
        state.run_status = RunStatus(facts["run_status"])
        state.sync_time = facts["sync_time"] and datetime.fromisoformat(facts["sync_time"])
        self._fill_table(state.table)
        self._fill_batches(swarm)
        self._fill_history(swarm)
        self._fill_answers(swarm)
        return swarm

    # -- the table -------------------------------------------------------------------------------------------------

    def _fill_table(self, table: Table) -> None:
        facts = self._facts
        table.size, table.load_count = facts["size"], facts["load_count"]
        self._fill_arrays_and_resources(table)
        self._fill_lanes(table)
        for name in (*CHANGING, *APPENDED):
            setattr(table, name, self._task_column(name))
        _demand(_within(table.status, STANDING_CODES), "a task has a status that no task can stand in")
        _demand(_within(table.scales, len(table.scale_sets.sets)), "a task has scales that there are not")
        table.ids.add(table.task_id)
        found = table.ids.find(table.task_id)
        _demand(np.array_equal(found, np.arange(table.size)), "a task id comes twice")
        table.names.fill(*self._texts("names", table.size))
        table.commands.fill(*self._texts("commands", table.size))
        self._fill_upstreams(table)
        places = table.array_rows(np.arange(table.size, dtype=np.int32)).astype(np.int64) * STANDING_CODES
        table.usage.add_tasks(np.bincount(places + table.status, minlength=len(table.arrays) * STANDING_CODES))
        self._fill_policy(table)
        self._fill_queue(table)

    def _fill_arrays_and_resources(self, table: Table) -> None:
        facts = self._facts
        table.usage.swarm_limit = facts["swarm_limit"]
        table.add_arrays([Array(**each) for each in facts["arrays"]])
        table.add_resources([_resources(**each) for each in facts["resources"]])
        limits = self._column("arrays.limit", len(table.arrays))
        _demand(bool(np.all(limits >= 0)), "an array has a negative limit")
        for row in np.flatnonzero(limits != table.usage.limits()).tolist():
            table.usage.set_limit(row, int(limits[row]))
        places = [table.scale_sets.place(scales) for scales in facts["scale_sets"]]
        _demand(places == list(range(len(table.scale_sets.sets))), "the same scales come twice")
        adjusted = [(row, scales, grown) for row, scales, grown in facts["adjusted"]]
        rows = range(len(table.resources))
        _demand(all(row in rows and grown in rows for row, _, grown in adjusted), "resources are missing")
        table.remember_adjusted(adjusted)
        _demand(len(table.adjusted) == len(adjusted), "the same resources were adjusted alike twice")
        table.queues.tell(QueueLimits(**each) for each in facts.get("queue_limits", ()))

    def _fill_lanes(self, table: Table) -> None:
        names = ("lanes.priority", "lanes.array", "lanes.resources")
        priorities, arrays, resources = (self._column(name) for name in names)
        paths = self._column("lanes.path") if "sweep" in self._facts else np.full(len(arrays), NO_CLASS)
        keys = list(zip(priorities.tolist(), arrays.tolist(), resources.tolist(), paths.tolist(), strict=True))
        _demand(bool(np.all(np.abs(paths) <= HIGHEST_CLASS)), "a lane is of paths that there cannot be")
        _demand(_within(arrays, len(table.arrays)), "a lane is of an array that there is not")
        _demand(_within(resources, len(table.resources)), "a lane is of resources that there are not")
        _demand(np.array_equal(table.lanes.intern(keys), np.arange(len(keys))), "a lane comes twice")
        table.lanes.of_task = self._task_column("lane")
        _demand(_within(table.lanes.of_task, len(keys)), "a task is of a lane that there is not")

    def _fill_policy(self, table: Table) -> None:
        """What the policy goes by, of which snapshots from before there were policies say nothing."""
        if table.policy is SchedulingPolicy.FAIR_SHARE:
            turns = self._column("arrays.turn")
            _demand(len(turns) in (0, len(table.arrays)), "the turns of the arrays do not fit them")
            _demand(_within(turns, self._facts["batch_count"] + 1), "an array had a turn that there cannot have been")
            table.queue.turns = {row: int(turns[row]) for row in np.flatnonzero(turns).tolist()}
        if table.paths is None:
            return
        count = len(table.arrays)
        table.paths.remaining = self._task_column("paths.remaining")
        table.paths.done_seconds = self._column("arrays.done_seconds", count)
        table.paths.done_count = self._column("arrays.done_count", count)
        table.paths.estimates = self._column("arrays.estimate", count)
        table.paths.learned = int(table.paths.done_count.sum())
        table.paths.unswept, table.paths.credit, table.paths.learned_then = map(int, self._facts["sweep"])
        _demand(0 <= table.paths.unswept <= table.size, "a sweep is where there are no tasks")
        known = (table.paths.remaining, table.paths.done_seconds, table.paths.estimates)
        _demand(all(bool(np.all(np.isfinite(each) & (each >= 0))) for each in known), "a path or runtime is none")
        _demand(bool(np.all(table.paths.estimates > 0)), "a runtime is estimated as nothing")
        _demand(bool(np.all(table.paths.done_count >= 0)), "an array has finished less than none of its tasks")
        if self._facts.get("classes_per_octave", _CLASSES_BEFORE) != CLASSES_PER_OCTAVE:
            table.queue.ready_seq = np.zeros(table.size, dtype=np.int64)  # nothing waits in a lane yet
            relane(table, table.paths, np.arange(table.size, dtype=np.int32))
        classes = path_classes(table.paths.remaining)
        _demand(np.array_equal(classes, table.lanes.path[table.lanes.of_task]), "tasks are in lanes of other paths")

    def _fill_upstreams(self, table: Table) -> None:
        offsets, upstreams = self._column("upstreams.offsets", table.size + 1), self._column("upstreams.rows")
        counts = np.diff(offsets)
        fit = offsets[0] == 0 and offsets[-1] == len(upstreams) and bool(np.all(counts >= 0))
        _demand(fit and _within(upstreams, table.size), "the dependencies do not fit the tasks")
        table.upstreams.extend_at(offsets, upstreams)
        tasks = np.repeat(np.arange(table.size, dtype=np.int32), counts)
        table.downstreams.add(segment_of(upstreams, tasks))
        undone = tasks[table.status[upstreams] != Code.DONE]
        table.upstreams_left = np.bincount(undone, minlength=table.size).astype(np.int32)

    def _fill_queue(self, table: Table) -> None:
        ready_seq = self._task_column("ready_seq")
        back, front = self._facts["queue_counters"]
        is_ready = (table.status == Code.REGISTERED) & (table.upstreams_left == 0)
        _demand(np.array_equal(ready_seq != 0, is_ready), "the tasks in the lanes are not exactly the ready ones")
        numbers = np.sort(ready_seq[is_ready])
        _demand(bool(np.all(numbers[1:] > numbers[:-1])), "two tasks have the same place in the order of leaving")
        fit = not len(numbers) or (front < numbers[0] and numbers[-1] < back)
        _demand(bool(fit), "a ready task has a number that was not given yet")
        table.refresh(table.queue.refill(ready_seq, (int(back), int(front)), table.lanes))

    # -- beside the table ------------------------------------------------------------------------------------------

    def _fill_batches(self, swarm: Swarm) -> None:
        facts, reservations = self._facts, swarm.state.reservations
        batches = self._batches(swarm)
        times = self._column("batches.queued_before")
        for name, known in (("open", reservations.open), ("handed_out", reservations.handed_out)):
            for each in facts[name]:
                batch, before = batches[each["batch"]], None
                if each["has_queued_before"]:
                    before, times = times[: len(batch)], times[len(batch) :]
                    _demand(len(before) == len(batch), "the times of a batch are missing")
                standing = each["taken_at"], each["in_doubt"], each["doubt"], each["request_id"]
                known[batch.batch_id] = OpenBatch(batch, *standing, before)
        _demand(not len(times), "there are times of a batch that there is not")
        reservations.count = facts["batch_count"]
        swarm.unanswered = {key: [batches[place] for place in places] for key, places in facts["unanswered"].items()}

    def _batches(self, swarm: Swarm) -> list[Batch]:
        table, described = swarm.state.table, self._facts["batches"]
        ends = np.cumsum([0, *(each["size"] for each in described)]).tolist()
        rows = self._column("batches.rows", ends[-1])
        seqs, attempts = self._column("batches.seqs", ends[-1]), self._column("batches.attempts", ends[-1])
        _demand(all(each["size"] > 0 for each in described), "a batch has no tasks")
        _demand(_within(rows, table.size), "a batch has a task that there is not")
        batches = []
        for each, (start, end) in zip(described, pairwise(ends), strict=True):
            array = table.array_ids.find_one(each["array_id"])
            resources = table.resources_ids.find_one(each["task_resources_id"])
            _demand(ABSENT not in (array, resources), "a batch is of an array or of resources that there are not")
            batches.append(
                Batch(
                    swarm_id=swarm.state.swarm_id,
                    batch_id=each["batch_id"],
                    array=table.arrays[array],
                    task_resources=table.resources[resources],
                    priority=each["priority"],
                    task_ids=table.task_id[rows[start:end]],
                    attempts=attempts[start:end],
                    rows=rows[start:end],
                    seqs=seqs[start:end],
                    table=table,
                )
            )
        return batches

    def _fill_history(self, swarm: Swarm) -> None:
        table = swarm.state.table
        rows, records = self._records(table)
        lists: dict[int, list[tuple[int, AttemptRecord]]] = {}
        serials = self._column("history.serials", len(rows)).tolist()
        for row, serial, record in zip(rows, serials, records, strict=True):
            if serial:
                lists.setdefault(row, []).append((serial, record))
        budget = self._column("history.budget", self._facts["texts"])
        _demand(_within(budget, len(records)), "a text is of a record that there is not")
        texts = ((rows[place], records[place]) for place in budget.tolist())
        swarm.state.history.fill(lists, self._bulks(table), self._facts["last_serial"], texts)

    def _records(self, table: Table) -> tuple[list[int], list[AttemptRecord]]:
        rows = self._column("history.rows")
        asked = self._asked_for("history.resources", len(rows), table)
        names = ("attempts", "statuses", "queued_at", "changed_at", "reasons")
        attempts, codes, queued, changed, reasons = (self._column(f"history.{name}", len(rows)) for name in names)
        data, ends, count = self._texts("reasons", len(self._column("reasons.ends")))
        _demand(_within(rows, table.size), "a record is of a task that there is not")
        _demand(_within(codes, len(STATUS_OF)), "a record has an unknown status")
        _demand(_within(reasons, count), "a record has a reason that there is not")
        known = [data[start:end].decode() for start, end in pairwise([0, *ends.tolist()])]
        values = zip(*map(_listed, (attempts, codes, queued, changed, reasons, asked)), strict=True)
        return rows.tolist(), [
            AttemptRecord(attempt, STATUS_OF[code], queued_at, changed_at, known[reason], resources)
            for attempt, code, queued_at, changed_at, reason, resources in values
        ]

    def _asked_for(self, name: str, length: int, table: Table) -> Column:
        """What attempts had asked for, which snapshots of format 1 did not keep."""
        if "queue_limits" not in self._facts:
            return np.full(length, UNKNOWN_RESOURCES, dtype=np.int32)
        asked = self._column(name, length)
        known = asked[asked != UNKNOWN_RESOURCES]
        _demand(_within(known, len(table.resources)), "an attempt asked for resources that there are not")
        return asked

    def _bulks(self, table: Table) -> list[Bulk]:
        described = self._facts["bulks"]
        total = sum(count for *_, count in described)
        names = ("rows", "attempts", "queued_at", "changed_at")
        rows, attempts, queued, changed = (self._column(f"bulks.{name}", total) for name in names)
        asked = self._asked_for("bulks.resources", total, table)
        _demand(all(count >= 0 for *_, count in described), "there are less than no records")
        _demand(_within(rows, table.size), "a record is of a task that there is not")
        bulks, start = [], 0
        for serial, status, reason, count in described:
            part = slice(start, start + count)
            columns = queued[part], changed[part], asked[part]
            bulks.append(Bulk(serial, rows[part], attempts[part], TaskStatus(status), *columns, reason))
            start += count
        return bulks

    def _fill_answers(self, swarm: Swarm) -> None:
        facts, answers = self._facts, memoryview(self._section("answers"))
        swarm.loads = OrderedDict((request_id, LoadAnswer(**answer)) for request_id, answer in facts["loads"])
        start = 0
        for request_id, asked, length in facts["ticks"]:
            swarm.ticks[request_id] = TickRecord(asked, bytes(answers[start : start + length]))
            start += length
        _demand(start == len(answers), "the answers of ticks do not fit each other")
        swarm.answer_bytes = facts["answer_bytes"]

    # -- reading ---------------------------------------------------------------------------------------------------

    def _section(self, name: str) -> Chunk:
        section = self._sections.get(name)
        if section is None:
            raise DamagedError(f"{name} is missing")
        return section

    def _column(self, name: str, length: int | None = None) -> Column:
        """A column of its own, which may be written to."""
        section, dtype = self._section(name), np.dtype(DTYPES[name])
        _demand(len(section) % dtype.itemsize == 0, f"{name} ends within a number")
        its_own = isinstance(section, bytearray) and dtype.isnative
        column = np.frombuffer(section, dtype=dtype).astype(dtype.newbyteorder("="), copy=not its_own)
        if length is not None and len(column) != length:
            raise DamagedError(f"{name} has {len(column)} elements instead of {length}")
        return column

    def _task_column(self, name: str) -> Column:
        return self._column(name, self._facts["size"])

    def _texts(self, name: str, size: int) -> tuple[bytearray, Column, int]:
        section, ends = self._section(name), self._column(f"{name}.ends")
        data = section if isinstance(section, bytearray) else bytearray(section)
        last = int(ends[-1]) if len(ends) else 0
        fit = len(ends) <= size and last == len(data) and bool(np.all(np.diff(ends, prepend=0) >= 0))
        _demand(fit and _cut_at_characters(data, ends), f"{name} are not cut where a text ends")
        return data, ends, size


def _resources(*, fallback_queues: Iterable[str] = (), **others: Any) -> TaskResources:
    return TaskResources(**others, fallback_queues=tuple(fallback_queues))


def _listed(column: Column) -> list[Any]:
    values: list[Any] = column.tolist()
    return values


def _cut_at_characters(data: bytearray, ends: Column) -> bool:
    if data.isascii():
        return True
    data.decode()
    after = np.frombuffer(data, dtype=np.uint8)[ends[ends < len(data)]]
    return not bool(np.any((after & 0xC0) == 0x80))


def _within(numbers: Column, count: int) -> bool:
    """Whether all are from 0 to below `count`."""
    return not len(numbers) or (int(numbers.min()) >= 0 and int(numbers.max()) < count)


def _demand(holds: bool, otherwise: str) -> None:
    if not holds:
        raise DamagedError(otherwise)
