"""Two swarms that are the same differ in nothing; a change of anything is told."""

from collections.abc import Callable
from dataclasses import replace
from unittest.mock import patch

import numpy as np
import pytest

from swarmd.core import history
from swarmd.core.columns import TaskColumns
from swarmd.core.comparing import differences
from swarmd.core.events import LoadPart, SwarmSettings
from swarmd.core.freezing import DTYPES
from swarmd.core.history import AttemptRecord
from swarmd.core.status import RunStatus, TaskStatus
from swarmd.core.swarm import LoadAnswer, Swarm, TickRecord
from tests.core.builders import a_task
from tests.core.test_freezing import lived


def a_pair() -> tuple[Swarm, Swarm]:
    """Two swarms to which the same happened."""
    with patch.multiple(history, BULK_FROM=4):
        return lived().swarm, lived().swarm


def test_swarms_to_which_the_same_happened_differ_in_nothing():
    assert differences(*a_pair()) == []


def test_a_swarm_in_which_one_thing_more_happened_differs():
    one, other = lived(), lived()
    other.load(1, 1)
    assert differences(one.swarm, other.swarm) != []


def in_created(**changes: object) -> Callable[[Swarm], None]:
    def change(swarm: Swarm) -> None:
        swarm.created = replace(swarm.created, **changes)  # type: ignore[arg-type]

    return change


def of(path: str, value: object) -> Callable[[Swarm], None]:
    """Sets the attribute at the end of a dotted path."""

    def change(swarm: Swarm) -> None:
        *owners, name = path.split(".")
        owner: object = swarm
        for each in owners:
            owner = getattr(owner, each)
        assert getattr(owner, name) != value
        setattr(owner, name, value)

    return change


def first_open(**changes: object) -> Callable[[Swarm], None]:
    def change(swarm: Swarm) -> None:
        known = swarm.state.open_batches
        batch_id = next(iter(known))
        known[batch_id] = replace(known[batch_id], **changes)  # type: ignore[arg-type]

    return change


def first_batch(**changes: object) -> Callable[[Swarm], None]:
    def change(swarm: Swarm) -> None:
        known = swarm.state.open_batches
        batch_id = next(iter(known))
        known[batch_id] = replace(known[batch_id], batch=replace(known[batch_id].batch, **changes))  # type: ignore[arg-type]

    return change


def first_record(**changes: object) -> Callable[[Swarm], None]:
    def change(swarm: Swarm) -> None:
        records = next(iter(swarm.state.history._records.values()))
        serial, record = records[0]
        records[0] = serial, replace(record, **changes)  # type: ignore[arg-type]

    return change


def first_bulk(**changes: object) -> Callable[[Swarm], None]:
    def change(swarm: Swarm) -> None:
        bulks = swarm.state.history._bulks
        bulks[0] = replace(bulks[0], **changes)  # type: ignore[arg-type]

    return change


CHANGES: dict[str, Callable[[Swarm], None]] = {
    "settings": in_created(settings=SwarmSettings("s", "another study")),
    "token": in_created(token="t2"),
    "request_id": in_created(request_id="made by another"),
    "asked": in_created(asked="something else"),
    "created_at": of("created_at", 7.0),
    "autopilot": lambda swarm: setattr(swarm, "autopilot", not swarm.autopilot),
    "display_name": of("display_name", "renamed"),
    "answer_bytes": of("answer_bytes", -1),
    "swarm id": of("state.swarm_id", "another"),
    "prefix of batches": of("state.batch_prefix", "another"),
    "revision": of("state.revision", -1),
    "fail_fast": of("state.fail_fast", True),
    "paused": of("state.paused", True),
    "run_status": of("state.run_status", RunStatus.TERMINATED),
    "sync_time": of("state.sync_time", None),
    "swarm_limit": of("state.table.usage.swarm_limit", 7),
    "load_count": of("state.table.load_count", 99),
    "batch_count": of("state.reservations.count", 99),
    "queue_counters": of("state.table.queue._next_front", -99),
    "count of ready tasks": of("state.table.queue.live", 99),
    "arrays": lambda swarm: swarm.state.table.arrays.reverse(),
    "resources": lambda swarm: swarm.state.table.resources.reverse(),
    "scale_sets": lambda swarm: swarm.state.table.scale_sets.sets.append({"cores": 1.0}),
    "adjusted": lambda swarm: swarm.state.table._adjusted.clear(),
    "queue_limits": lambda swarm: swarm.state.table.queues.known.clear(),
    "batches": first_batch(priority=77),
    "batches.rows": lambda swarm: first_batch(rows=_first(swarm).rows + 1)(swarm),
    "batches.seqs": lambda swarm: first_batch(seqs=_first(swarm).seqs + 1)(swarm),
    "batches.attempts": lambda swarm: first_batch(attempts=_first(swarm).attempts + 1)(swarm),
    "batches.queued_before": lambda swarm: first_open(queued_before=np.full(len(_first(swarm)), 99.0))(swarm),
    "open": first_open(doubt="another"),
    "handed_out": lambda swarm: swarm.state.reservations.handed_out.clear(),
    "unanswered": lambda swarm: swarm.unanswered.clear(),
    "loads": lambda swarm: swarm.loads.update(more=LoadAnswer("asked", 1, 2, 3, 4, 5)),
    "ticks": lambda swarm: swarm.ticks.update(more=TickRecord("asked", b"")),
    "answers": lambda swarm: swarm.ticks.update({key: _answered_otherwise(each) for key, each in swarm.ticks.items()}),
    "last_serial": of("state.history._next_serial", 99_999),
    "texts": lambda swarm: swarm.state.history._texts.clear(),
    "history.attempts": first_record(attempt=77),
    "history.statuses": first_record(status=TaskStatus.QUEUED),
    "history.queued_at": first_record(queued_at=77.0),
    "history.changed_at": first_record(changed_at=77.0),
    "history.resources": first_record(resources=77),
    "reasons": first_record(reason="never heard of"),
    "history.rows": lambda swarm: swarm.state.history.add(0, AttemptRecord(1, TaskStatus.DONE, 0.0, 0.0)),
    "bulks": first_bulk(reason="another"),
    "bulks.rows": lambda swarm: first_bulk(rows=swarm.state.history._bulks[0].rows[::-1])(swarm),
    "bulks.resources": lambda swarm: first_bulk(resources=swarm.state.history._bulks[0].resources + 1)(swarm),
    "names": lambda swarm: swarm.state.table.names._buffer.reverse(),
    "commands": lambda swarm: swarm.state.table.commands._buffer.reverse(),
    "counts by array and status": lambda swarm: _raise(swarm.state.table.usage._counts),
    "active tasks by array": lambda swarm: _raise(swarm.state.table.usage._active),
    "arrays.limit": lambda swarm: swarm.state.table.usage._limits.fill(77),
    "upstreams.rows": lambda swarm: _raise(swarm.state.table.upstreams._targets),
    "upstreams_left": lambda swarm: _raise(swarm.state.table.upstreams_left),
    "downstreams": lambda swarm: swarm.state.table.downstreams._segments.clear(),
    "lane": lambda swarm: _raise(swarm.state.table.lanes.of_task),
    "lanes.priority": lambda swarm: _raise(swarm.state.table.lanes.priority),
    "lanes.array": lambda swarm: _raise(swarm.state.table.lanes.array_row),
    "lanes.resources": lambda swarm: _raise(swarm.state.table.lanes.resources_row),
    "ready_seq": lambda swarm: _raise(swarm.state.table.queue.ready_seq),
    "tasks in lanes": lambda swarm: swarm.state.table.queue._lanes.clear(),
}  # fmt: skip
"""By the name of what then differs."""


def _first(swarm: Swarm):
    return next(iter(swarm.state.open_batches.values())).batch


def _answered_otherwise(tick: TickRecord) -> TickRecord:
    return replace(tick, answer=tick.answer[::-1])


def _raise(column: np.ndarray) -> None:
    column[0] += 1


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_of_anything_is_told(name):
    one, other = a_pair()
    CHANGES[name](other)
    assert [each for each in differences(one, other) if each.startswith(f"{name} ")]


@pytest.mark.parametrize("name", ["task_id", "status", "attempt", "failures", "max_attempts", "scales", "changed_at"])
def test_a_change_in_one_place_of_a_column_is_told_with_its_place(name):
    one, other = a_pair()
    getattr(other.state.table, name)[2] += 1
    told = [each for each in differences(one, other) if each.startswith(f"{name} differs in 1 places, first in 2: ")]
    assert len(told) == 1
    assert name in DTYPES


def test_rows_without_text_are_the_same_however_they_are_kept():
    one, other = a_pair()
    texts = one.state.table.names
    skipped, ends = texts._skipped, texts._ends[: texts._used]
    assert skipped, "the first tasks have names: there is nothing to see"
    texts.fill(texts._buffer, np.concatenate((np.zeros(skipped, dtype=np.int64), ends)), texts.size)
    assert differences(one, other) == []


def test_swarms_with_a_load_under_way_can_be_compared():
    one, other = a_pair()
    one.apply(LoadPart("more", TaskColumns.from_tasks([a_task(9000)])), 99.0)
    assert differences(one, other) == ["parts under way differs: 1 and 0"]
