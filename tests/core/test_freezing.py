"""A swarm frozen, written down while it goes on, and thawed: the same swarm, whatever it went through before."""

import json
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from swarmd.core import history, paths, ranking
from swarmd.core.batch import Batch
from swarmd.core.checks import inconsistencies
from swarmd.core.columns import ScaleSets, TaskColumns
from swarmd.core.comparing import differences
from swarmd.core.errors import DamagedError
from swarmd.core.events import (
    BatchConcluded,
    BatchDoubted,
    BatchesHandedOut,
    BatchTaken,
    Cancelled,
    Configured,
    Created,
    Event,
    Loaded,
    LoadPart,
    Reset,
    SwarmSettings,
    TickAnswered,
    Updated,
)
from swarmd.core.freezing import DTYPES, Chunk, Facts, Frozen, freeze, make_room
from swarmd.core.history import UNKNOWN_RESOURCES, AttemptRecord, Bulk, History
from swarmd.core.ids import IdIndex
from swarmd.core.model import Array, QueueLimits, TaskResources
from swarmd.core.policy import SchedulingPolicy
from swarmd.core.reservations import OpenBatch
from swarmd.core.status import RunStatus
from swarmd.core.swarm import LoadAnswer, Swarm, TickRecord
from swarmd.core.thawing import thaw
from swarmd.core.update import StateUpdate
from tests.core.builders import a_task, news, only

PICKS = st.integers(0, 200)
QUEUES = ["", "short", "long"]
REASONS = ["", "exit code 1", "gestört: Speicher voll ☠", "again"]
CREATED = Created(
    SwarmSettings(
        "s",
        "a study",
        6,
        gateway="local",
        working_directory="/tmp",
        environment={"LANG": "C"},
        gateway_options={"partition": "short"},
    ),
    token="t1",
    request_id="made",
    asked="fingerprint",
)


POLICIES = st.sampled_from(SchedulingPolicy)
COLUMNS_OF = {
    **dict.fromkeys(
        ("paths.remaining", "arrays.done_seconds", "arrays.done_count", "arrays.estimate"),
        SchedulingPolicy.LONGEST_PATH_FIRST,
    ),
    "arrays.turn": SchedulingPolicy.FAIR_SHARE,
}
"""What only one policy goes by, and snapshots of other swarms keep nothing in."""


class Life:
    """What happens to a swarm, as events that can be told again to another."""

    def __init__(self, policy: SchedulingPolicy = SchedulingPolicy.FIRST_COME_FIRST_SERVED) -> None:
        self.created = replace(CREATED, settings=replace(CREATED.settings, scheduling_policy=policy))
        self.swarm = Swarm(self.created, 1.5)
        self.runtimes = [0.0, 40.0, 0.1] if policy is SchedulingPolicy.LONGEST_PATH_FIRST else [1.5]
        self.told: list[tuple[Event, float]] = []
        self.changes: list[Any] = []
        self.now = 2.0
        self.next_id = 1
        self.load(0, 3)

    def go_on(self, steps: Iterable[tuple[str, int, int]]) -> None:
        for step, one, other in steps:
            getattr(self, step)(one, other)

    def happens(self, event: Event) -> None:
        self.now += 0.25
        self.told.append((event, self.now))
        self.changes.append(plain(self.swarm.apply(event, self.now)))

    @property
    def ids(self) -> list[int]:
        return [int(task_id) for task_id in self.swarm.state.table.task_id[: self.swarm.state.task_count]]

    def some(self, one: int, other: int) -> list[int]:
        known = self.ids
        return list(dict.fromkeys(known[(one + place * 7) % len(known)] for place in range(1 + other % 5)))

    def batch(self, pick: int) -> Batch | None:
        known = list(self.swarm.state.open_batches.values())
        return known[pick % len(known)].batch if known else None

    # -- the steps -------------------------------------------------------------------------------------------------

    def load(self, one: int, other: int) -> None:
        first, known = self.next_id, self.ids
        arrays = [Array(first, f"array {first}", one % 3 or None, "run {task_id}")]
        queue, fallbacks = QUEUES[one % 3], tuple(QUEUES[: other % 4])
        resources = [
            TaskResources(
                first, "", queue, 1, 100 + one, self.runtimes[one % len(self.runtimes)], {"nice": "5"}, fallbacks
            )
        ]
        parts = []
        for part in range(1 + one % 2):
            start = first + part * 10
            tasks = [
                a_task(
                    start + place,
                    *([known[(one + place) % len(known)]] if known and place % 2 else []),
                    array=first if place % 3 else 1,
                    resources=first if place % 2 else 1,
                    scales={"memory": 0.5} if (one + place) % 2 else {},
                    priority=(other + place) % 3,
                    max_attempts=1 + other % 3,
                    name="" if other % 3 == 0 else f"tâche {place}",
                    command="" if one % 3 == 0 else f"model --draw {place}",
                )
                for place in range(1 + other % 6)
            ]
            parts.append(TaskColumns.from_tasks(tasks if one % 5 else tasks[::-1]))
        for columns in parts:
            self.happens(LoadPart(f"load {first}", columns))
        request_id = f"load {first}" if other % 2 else ""
        self.happens(Loaded(f"load {first}", arrays, resources, request_id, asked=request_id))
        self.next_id += 30

    def tell(self, one: int, other: int) -> None:
        ids, status = self.some(one, other), "QIORDEAFG"[one % 9]
        self.happens(Updated(news(status, ids, None, REASONS[other % 4])))

    def queues(self, one: int, other: int) -> None:
        memory = [None, 100 + one, 250 + other][other % 3]
        limits = QueueLimits("", QUEUES[one % 3], cores=4, memory_mib=memory, runtime_seconds=[None, 2.0][one % 2])
        self.happens(Updated(StateUpdate(queue_limits=[limits])))

    def fail(self, one: int, other: int) -> None:
        ids = self.some(one, other)
        self.happens(Updated(news("R", ids)))
        self.happens(Updated(news("EADF"[other % 4], ids, None, REASONS[one % 4])))

    def configure(self, one: int, other: int) -> None:
        update = StateUpdate(
            max_concurrently_running=[None, 3, 20][other % 3],
            array_limits={1: [None, 0, 2][one % 3]} if one % 2 else {},
            workflow_run_status=str(RunStatus.STOPPED) if one % 7 == 0 else str(RunStatus.RUNNING),
            sync_time=datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=one) if one % 3 else None,
        )
        switches = {"paused": one % 5 == 0, "fail_fast": one % 11 == 0, "autopilot": other % 2 == 0}
        self.happens(Configured(**switches, display_name=f"name {other}" if other % 3 else None, update=update))

    def cancel(self, one: int, other: int) -> None:
        self.happens(Cancelled(only(*self.some(one, other)), REASONS[one % 4]))

    def reset(self, one: int, other: int) -> None:
        self.happens(Reset(only(*self.some(one, other)), include_downstreams=one % 2 == 0, reason=REASONS[other % 4]))

    def take(self, one: int, other: int) -> None:
        request_id = f"tick {other % 3}" if other % 2 else ""
        batch = self.swarm.state.take_batch(1 + one % 4, request_id=request_id, at=self.now + 0.25)
        if batch is not None:
            self.happens(BatchTaken(batch.batch_id, batch.task_ids, batch.attempts, request_id))

    def hand_out(self, one: int, other: int) -> None:
        request_id = f"tick {other % 3}" if other % 2 else ""
        batches = self.swarm.state.take_batches(1 + other % 3, 1 + one % 4, request_id=request_id, at=self.now + 0.25)
        if batches:
            ids = np.concatenate([batch.task_ids for batch in batches])
            attempts = np.concatenate([batch.attempts for batch in batches])
            names, sizes = [batch.batch_id for batch in batches], [len(batch) for batch in batches]
            self.happens(BatchesHandedOut(names, sizes, ids, attempts, request_id))

    def conclude(self, one: int, other: int) -> None:
        batch = self.batch(one)
        if batch is None:
            return
        ids = batch.task_ids.tolist()
        returned, kept = ids[: other % 2], ids[other % 2 :]
        update = news("Q", kept, batch.attempts[other % 2 :].tolist()) if kept else StateUpdate()
        self.happens(BatchConcluded(batch.batch_id, update, returned, handed_out=other % 3 == 0))

    def doubt(self, one: int, other: int) -> None:
        batch = self.batch(one)
        if batch is not None:
            self.happens(BatchDoubted(batch.batch_id, "the line went dead"))

    def answer(self, one: int, other: int) -> None:
        self.happens(TickAnswered(f"tick {one % 3}", "asked", bytes(range(other))))


COMMON = ["load", "tell", "fail", "fail", "configure", "cancel", "reset", "take", "take", "conclude", "doubt", "answer"]
STEPS = [*COMMON, "queues", "fail", "hand_out"]
steps = st.lists(st.tuples(st.sampled_from(STEPS), PICKS, PICKS), max_size=25)
ITS_END = [
    ("load", 1, 5),
    ("configure", 2, 2),
    ("hand_out", 2, 1),
    ("load", 1, 5),
    *[("take", 2, pick) for pick in (1, 2, 1)],
    ("conclude", 0, 6),
]
A_LONG_LIFE = [
    *(("queues", queue, limit) for queue, limit in ((0, 2), (1, 1), (2, 2))),
    *((step, pick * 3, pick + 2) for pick, step in enumerate(COMMON * 3)),
    *ITS_END,
    ("doubt", 0, 0),
]


def plain(value: Any) -> Any:
    """A change as values that compare."""
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, np.ndarray):
        return value.tolist()
    return [plain(each) for each in value] if isinstance(value, list) else value


def told_again(told: Iterable[tuple[Event, float]], created: Created = CREATED) -> Swarm:
    """Another swarm to which the same happened."""
    swarm = Swarm(created, 1.5)
    for event, at in told:
        swarm.apply(event, at)
    return swarm


def written(frozen: Frozen) -> tuple[Facts, dict[str, bytes]]:
    """What a file would hold of it."""
    facts: Facts = json.loads(json.dumps(frozen.facts()))
    return facts, {name: b"".join(chunks) for name, chunks in frozen.sections()}


def lived(
    story: Iterable[tuple[str, int, int]] = A_LONG_LIFE,
    policy: SchedulingPolicy = SchedulingPolicy.FIRST_COME_FIRST_SERVED,
) -> Life:
    life = Life(policy)
    life.go_on(story)
    return life


@contextmanager
def small_sweeps() -> Iterator[None]:
    """Sweeps over paths that many updates take part in, even in a small graph."""
    with patch.multiple(paths, SWEPT_FREELY=3), patch.multiple(ranking, SWEPT_PER_FINISHED=1, LEAST_SLICE=1):
        yield


def lived_with(column: str) -> Life:
    """A long life that leaves something in that column."""
    return lived(policy=COLUMNS_OF.get(column, SchedulingPolicy.FIRST_COME_FIRST_SERVED))


def damaged(column: str, edit: Any) -> tuple[Facts, dict[str, Chunk]]:
    """What a long life left behind, with one column edited."""
    facts, sections = written(freeze(lived_with(column).swarm))
    values = np.frombuffer(sections[column], dtype=DTYPES[column]).copy()
    assert len(values), f"nothing to damage in {column}"
    return facts, {**sections, column: np.ascontiguousarray(edit(values), dtype=DTYPES[column]).tobytes()}


def test_a_task_that_comes_back_to_another_lane_stands_in_one_lane_after_a_replay_too():
    """Its batch was all that its lane had, and a load made the paths behind it longer before it came back."""
    life = lived([("take", 0, 0), ("load", 0, 1), ("conclude", 0, 1)], SchedulingPolicy.LONGEST_PATH_FIRST)
    again = told_again(life.told, life.created)
    assert differences(life.swarm, again) == []
    assert told_what_is_left(again) == told_what_is_left(life.swarm)


# -- there and back ----------------------------------------------------------------------------------------------------


@settings(max_examples=150, deadline=timedelta(seconds=5), suppress_health_check=[HealthCheck.too_slow])
@given(before=steps, meanwhile=steps, after=steps, policy=POLICIES)
def test_what_is_thawed_is_what_was_frozen_and_goes_on_alike(before, meanwhile, after, policy):
    with patch.multiple(history, BULK_FROM=4), small_sweeps():
        life = lived(before, policy)
        then = len(life.told)
        frozen = freeze(life.swarm)
        life.go_on(meanwhile)
        thawed = thaw(*written(frozen))
        assert differences(told_again(life.told[:then], life.created), thawed) == []
        assert inconsistencies(thawed.state) == []
        life.go_on(after)
        changes = [plain(thawed.apply(event, at)) for event, at in life.told[then:]]
        assert changes == life.changes[then:]
        assert differences(life.swarm, thawed) == []
        assert inconsistencies(thawed.state) == []
        assert told_what_is_left(thawed) == told_what_is_left(life.swarm)


def told_what_is_left(swarm: Swarm) -> list[tuple[str, list[int], TaskResources]]:
    """The batches in which everything that is ready leaves."""
    swarm.state.configure(paused=False, fail_fast=False)
    swarm.state.apply_update(StateUpdate(max_concurrently_running=10_000, workflow_run_status=str(RunStatus.RUNNING)))
    batches = []
    while (batch := swarm.state.take_batch(3)) is not None:
        batches.append((batch.batch_id, batch.task_ids.tolist(), batch.task_resources))
    return batches


@settings(max_examples=50, deadline=timedelta(seconds=5), suppress_health_check=[HealthCheck.too_slow])
@given(before=steps, meanwhile=steps)
def test_what_a_history_drops_meanwhile_is_as_if_it_had_been_dropped_after_it(before, meanwhile):
    with patch.multiple(history, BULK_FROM=4, RECORDS_PER_TASK=2, TEXT_BUDGET_BYTES=60):
        life = lived(before)
        then = len(life.told)
        frozen = freeze(life.swarm)
        life.go_on(meanwhile)
        thawed = thaw(*written(frozen))
        for event, at in life.told[then:]:
            thawed.apply(event, at)
        assert differences(life.swarm, thawed) == []


def test_a_long_life_leaves_something_in_every_section():
    """Else the tests above would prove little."""
    with patch.multiple(history, BULK_FROM=4):
        facts, sections = written(freeze(lived().swarm))
        for name in COLUMNS_OF:
            sections[name] = written(freeze(lived_with(name).swarm))[1][name]
    assert [name for name, section in sections.items() if not section] == []
    lists = ("adjusted", "queue_limits", "open", "handed_out", "unanswered", "loads", "ticks", "bulks")
    assert [name for name in lists if not facts[name]] == []


def test_a_swarm_without_tasks_comes_back():
    swarm = Swarm(CREATED, 1.5)
    assert differences(thaw(*written(freeze(swarm))), swarm) == []


def test_room_made_beforehand_is_used_where_it_is_large_enough():
    swarm = lived().swarm
    for size in (0, swarm.state.task_count - 1, swarm.state.task_count, swarm.state.task_count + 100):
        assert differences(thaw(*written(freeze(swarm, make_room(size)))), swarm) == []
    room = make_room(swarm.state.task_count)
    assert np.shares_memory(freeze(swarm, room).columns["status"], room["status"])


def test_a_frozen_swarm_is_written_down_by_another_thread():
    life = lived()
    reference = told_again(life.told)
    with ThreadPoolExecutor(1) as pool:
        for _ in range(20):
            writing = pool.submit(written, freeze(life.swarm))
            life.go_on(A_LONG_LIFE)
            assert differences(thaw(*writing.result()), reference) == []
            reference = told_again(life.told)


def test_columns_that_came_back_may_be_written_to_and_are_nobody_elses():
    facts, sections = written(freeze(lived().swarm))
    table = thaw(facts, sections).state.table
    for column in (table.status, table.attempt, table.queued_at, table.lanes.of_task, table.queue.ready_seq):
        assert column.flags.writeable
        assert not np.shares_memory(column, np.frombuffer(sections["status"], dtype=np.uint8))


def test_a_snapshot_from_before_queues_had_limits_comes_back_without_what_attempts_had_asked_for():
    with patch.multiple(history, BULK_FROM=4):
        swarm = lived([each for each in A_LONG_LIFE if each[0] != "queues"]).swarm
        facts, sections = written(freeze(swarm))
    del facts["queue_limits"], facts["settings"]["gateway_options"]
    facts["resources"] = [
        {name: value for name, value in each.items() if name != "fallback_queues"} for each in facts["resources"]
    ]
    thawed = thaw(facts, {name: data for name, data in sections.items() if not name.endswith(".resources")
                          or name == "lanes.resources"})  # fmt: skip
    records = [each for row in range(swarm.state.task_count) for each in thawed.state.history.of(row)]
    assert {each.resources for each in records} == {UNKNOWN_RESOURCES}
    assert [(each.task_resources_id, each.fallback_queues) for each in thawed.state.table.resources] == [
        (each.task_resources_id, ()) for each in swarm.state.table.resources
    ]
    assert inconsistencies(thawed.state) == []


def test_a_snapshot_from_before_there_were_policies_is_first_come_first_served():
    swarm = lived().swarm
    facts, sections = written(freeze(swarm))
    del facts["sweep"], facts["settings"]["scheduling_policy"]
    thawed = thaw(facts, {name: data for name, data in sections.items() if name not in {*COLUMNS_OF, "lanes.path"}})
    assert thawed.state.scheduling_policy is SchedulingPolicy.FIRST_COME_FIRST_SERVED
    assert differences(swarm, thawed) == []


def test_a_snapshot_whose_paths_were_of_other_classes_comes_back_with_those_of_today():
    coarse = np.array([2 ** (step / 4 - 1) for step in range(1, 4)])
    policy = SchedulingPolicy.LONGEST_PATH_FIRST
    with patch.multiple(paths, CLASSES_PER_OCTAVE=4, _STEPS=coarse):
        life = lived(policy=policy)
        facts, sections = written(freeze(life.swarm))
    del facts["classes_per_octave"]
    known = life.swarm.state.table.paths
    assert known is not None
    assert len(set(known.remaining.tolist())) > 3
    thawed = thaw(facts, sections)
    assert inconsistencies(thawed.state) == []
    left = {tuple(ids) for _, ids, _ in told_what_is_left(thawed)}
    assert {each for ids in left for each in ids} == {
        each for _, ids, _ in told_what_is_left(life.swarm) for each in ids
    }


def test_resources_that_were_adjusted_alike_twice_are_damage():
    facts, sections = written(freeze(lived().swarm))
    facts["adjusted"].append(facts["adjusted"][0])
    with pytest.raises(DamagedError, match="adjusted alike twice"):
        thaw(facts, sections)


def test_records_share_their_reasons_when_they_come_back():
    life = Life()
    life.happens(Updated(news("R", life.ids)))
    life.happens(Updated(news("E", life.ids, None, "exit code 1")))
    kept = thaw(*written(freeze(life.swarm))).state.history
    assert len({id(kept.last_reason(row)) for row in range(3)}) == 1


def test_a_swarm_that_is_being_loaded_into_is_not_frozen():
    life = Life()
    life.swarm.apply(LoadPart("more", TaskColumns.from_tasks([a_task(900)])), 3.0)
    with pytest.raises(RuntimeError, match="a load is under way"):
        freeze(life.swarm)


# -- damage ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("column", DTYPES)
def test_a_column_that_is_too_short_is_damage(column):
    with patch.multiple(history, BULK_FROM=4):
        facts, sections = damaged(column, lambda values: values[:-1])
    with pytest.raises(DamagedError):
        thaw(facts, sections)


@pytest.mark.parametrize("column", DTYPES)
def test_a_column_that_ends_within_a_number_or_is_missing_is_damage(column):
    facts, sections = written(freeze(lived_with(column).swarm))
    if np.dtype(DTYPES[column]).itemsize > 1:
        with pytest.raises(DamagedError):
            thaw(facts, {**sections, column: sections[column] + b"\1"})
    del sections[column]
    with pytest.raises(DamagedError, match=f"{column} is missing"):
        thaw(facts, sections)


@pytest.mark.parametrize(
    ("column", "edit", "sentence"),
    [
        ("status", lambda values: values + 9, "a status that no task can stand in"),
        ("scales", lambda values: values + 9, "scales that there are not"),
        ("scales", lambda values: values - 9, "scales that there are not"),
        ("task_id", lambda values: values * 0 + 5, "a task id comes twice"),
        ("lane", lambda values: values - 1, "a lane that there is not"),
        ("lanes.array", lambda values: values + 100, "an array that there is not"),
        ("lanes.resources", lambda values: values + 100, "resources that there are not"),
        ("lanes.priority", lambda values: values * 0, "a lane comes twice"),
        ("arrays.limit", lambda values: -1 - values, "a negative limit"),
        ("upstreams.rows", lambda values: values + 10_000, "the dependencies do not fit"),
        ("upstreams.offsets", lambda values: values[::-1], "the dependencies do not fit"),
        ("ready_seq", lambda values: values * 0, "not exactly the ready ones"),
        ("ready_seq", lambda values: np.minimum(values, 1), "the same place in the order of leaving"),
        ("ready_seq", lambda values: values * 1000, "a number that was not given yet"),
        ("batches.rows", lambda values: values + 10_000, "a batch has a task that there is not"),
        ("history.rows", lambda values: -1 - values, "a record is of a task that there is not"),
        ("history.statuses", lambda values: values + 20, "a record has an unknown status"),
        ("history.reasons", lambda values: values + 20, "a record has a reason that there is not"),
        ("history.budget", lambda values: values + 10_000, "a text is of a record that there is not"),
        ("history.resources", lambda values: values + 100, "an attempt asked for resources that there are not"),
        ("history.resources", lambda values: values - 100, "an attempt asked for resources that there are not"),
        ("lanes.path", lambda values: values + 1000, "paths that there cannot be"),
        ("arrays.turn", lambda values: -values, "a turn that there cannot have been"),
        ("arrays.estimate", lambda values: values * np.nan, "a path or runtime is none"),
        ("arrays.estimate", lambda values: values * 0, "estimated as nothing"),
        ("arrays.done_seconds", lambda values: values - 1000, "a path or runtime is none"),
        ("arrays.done_count", lambda values: values - 1000, "less than none of its tasks"),
        ("paths.remaining", lambda values: values * 1000, "lanes of other paths"),
        ("names.ends", lambda values: values[::-1], "names are not cut where a text ends"),
        ("names.ends", lambda values: np.append(values[:-1] - 6, values[-1]), "names are not cut where a text ends"),
    ],
)
def test_numbers_that_point_nowhere_are_damage(column, edit, sentence):
    with pytest.raises(DamagedError, match=sentence):
        thaw(*damaged(column, edit))


@settings(max_examples=300, deadline=timedelta(seconds=5), suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_no_damage_leads_to_another_error_than_that(data):
    facts, sections = json.loads(_WHOLE_FACTS), dict(_WHOLE_SECTIONS)
    for _ in range(data.draw(st.integers(1, 3))):
        name = data.draw(st.sampled_from([*sections, "facts"]))
        if name == "facts":
            key = data.draw(st.sampled_from([*facts]))
            facts[key] = data.draw(st.sampled_from([None, -1, 10**9, "x", [], {}, [[1]], [1, 2], {"a": 1}, 0.5]))
        elif sections[name]:
            at = data.draw(st.integers(0, len(sections[name]) - 1))
            new = data.draw(st.binary(min_size=1, max_size=8))
            sections[name] = sections[name][:at] + new + sections[name][at + len(new) :]
    try:
        thaw(facts, sections)
    except DamagedError:
        return


_facts, _WHOLE_SECTIONS = written(freeze(lived().swarm))
_WHOLE_FACTS = json.dumps(_facts)


# -- nothing is forgotten ----------------------------------------------------------------------------------------------

HELD = {
    "Swarm": {
        "kept": "created created_at autopilot display_name state loads ticks answer_bytes unanswered",
        "empty": "_part_of _parts",
    },
    "SwarmState": {
        "kept": "swarm_id batch_prefix revision fail_fast paused run_status sync_time history table reservations",
        "empty": "_staged",
    },
    "Reservations": {"kept": "open handed_out count", "given": "_table _history _swarm_id"},
    "Table": {
        "kept": "size load_count task_id status attempt failures max_attempts scales queued_at changed_at names"
        " commands upstreams lanes queue usage arrays resources scale_sets queues _adjusted policy paths",
        "counted": "ids upstreams_left downstreams array_ids resources_ids longest_template",
    },
    "Queues": {"kept": "known"},
    "QueueLimits": {"kept": "cluster queue cores memory_mib runtime_seconds"},
    "TextColumn": {"kept": "_buffer _ends size", "counted": "_used _skipped"},
    "Upstreams": {"kept": "_offsets _targets", "counted": "size edge_count"},
    "Downstreams": {"counted": "_segments"},
    "LaneTable": {"kept": "of_task array_row resources_row priority path", "counted": "_rows"},
    "Paths": {
        "kept": "remaining done_seconds done_count estimates unswept credit learned_then",
        "counted": "stated learned",
    },
    "ReadyQueue": {
        "kept": "ready_seq _next_back _next_front turns",
        "counted": "live _lanes _arrays _open _open_count",
        "given": "_active_of",
    },
    "Usage": {"kept": "swarm_limit _limits", "counted": "array_count totals _counts _active"},
    "History": {"kept": "_records _bulks _next_serial _texts", "counted": "_text_bytes"},
    "ScaleSets": {"kept": "sets", "counted": "_places"},
    "IdIndex": {"counted": "_runs size"},
    "Batch": {
        "kept": "batch_id array task_resources priority attempts rows seqs",
        "counted": "task_ids",
        "given": "swarm_id table",
    },
    "OpenBatch": {"kept": "batch taken_at in_doubt doubt request_id queued_before", "for undo": "turn_before"},
    "AttemptRecord": {"kept": "attempt status queued_at changed_at reason resources"},
    "Bulk": {"kept": "serial rows attempts status queued_at changed_at resources reason"},
    "Created": {"kept": "settings token request_id asked"},
    "SwarmSettings": {
        "kept": "swarm_id display_name max_concurrently_running paused autopilot fail_fast gateway run_status"
        " working_directory environment gateway_options scheduling_policy"
    },
    "LoadAnswer": {
        "kept": "asked task_count array_count task_resources_count newly_ready_count revision",
    },
    "TickRecord": {"kept": "asked answer"},
    "Array": {"kept": "array_id name max_concurrently_running command"},
    "TaskResources": {"kept": "task_resources_id cluster queue cores memory_mib runtime_seconds extra fallback_queues"},
}
"""Every attribute of everything that a swarm is made of: kept, counted anew, given by what is around it, or empty."""


def attributes(thing: object) -> set[str]:
    if isinstance(thing, type):
        return {field.name for field in fields(thing)}
    return set(getattr(thing, "__slots__", ())) or set(vars(thing))


def test_every_attribute_is_kept_or_known_to_follow_from_others():
    state = Life(SchedulingPolicy.LONGEST_PATH_FIRST).swarm.state
    table = state.table
    objects = [
        Swarm(CREATED, 1.5), state, state.reservations, table, table.names, table.upstreams, table.downstreams,
        table.lanes, table.queue, table.usage, state.history, table.scale_sets, table.ids, table.queues,
        table.paths,
    ]  # fmt: skip
    classes = [
        Batch, OpenBatch, AttemptRecord, Bulk, Created, SwarmSettings, LoadAnswer, TickRecord, Array, TaskResources,
        QueueLimits,
    ]  # fmt: skip
    found = {type(each).__name__: attributes(each) for each in objects}
    found |= {each.__name__: attributes(each) for each in classes}
    assert found == {name: set(" ".join(kinds.values()).split()) for name, kinds in HELD.items()}


def test_the_classes_that_are_looked_at_are_those_that_a_swarm_is_made_of():
    """A class of a new attribute would have to be listed above too."""
    seen: set[str] = set()
    waiting: list[object] = [lived().swarm, lived(policy=SchedulingPolicy.LONGEST_PATH_FIRST).swarm]
    done: set[int] = set()
    while waiting:
        thing = waiting.pop()
        if id(thing) in done:
            continue
        done.add(id(thing))
        module = type(thing).__module__
        if isinstance(thing, (list, tuple, set)):
            waiting.extend(thing)
        elif isinstance(thing, dict):
            waiting.extend(thing.values())
        elif module.startswith("swarmd.") and not isinstance(thing, str):
            seen.add(type(thing).__name__)
            waiting.extend(getattr(thing, name) for name in attributes(thing))
    inner = {"Segment", "_Run", "KeyHeap", "ArrayQueue", "Lane"}
    assert seen - inner == set(HELD) - {"Bulk"}
    assert inner <= seen
    assert {History.__name__, IdIndex.__name__, ScaleSets.__name__} <= seen
