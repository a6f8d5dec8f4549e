"""Loading: what is refused and how it is said, what is applied, and plans that are made while the swarm goes on."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmd.core import loading, model
from swarmd.core.columns import TaskColumns, alike
from swarmd.core.errors import AlreadyExistsError, InvalidInputError, LimitExceededError, NotFoundError, SwarmdError
from swarmd.core.loading import KnownIds, Load, plan_load
from swarmd.core.model import Array, Task, TaskResources
from swarmd.core.state import SwarmState
from swarmd.core.status import Code, TaskStatus
from tests.core.builders import (
    a_swarm,
    a_task,
    dump,
    ids_of,
    is_ready,
    only,
    queue_all,
    ready_order,
    statuses,
    take_all,
    taken,
    tell,
    well,
)

LONG_NAME, LONG_LABEL, LONG_COMMAND = "n" * 1025, "l" * 257, "c" * 131_073


def tasks(*each: Task) -> dict[str, Any]:
    return {"tasks": each}


def resources(**more: Any) -> dict[str, Any]:
    return {"task_resources": [TaskResources(5, **more)]}


def shape(**more: Any) -> dict[str, Any]:
    return tasks(a_task(50), a_task(51, **more))


REFUSED: dict[str, tuple[dict[str, Any], type[SwarmdError], str, str, str | None]] = {
    "a task twice": (
        tasks(a_task(50), a_task(51), a_task(50)), InvalidInputError, "DUPLICATE_ID", "tasks.task_id", "50",
    ),
    "a task that is there": (tasks(a_task(50), a_task(2)), AlreadyExistsError, "TASK_EXISTS", "tasks.task_id", "2"),
    "an array twice": (
        {"arrays": [Array(5), Array(5)]}, InvalidInputError, "DUPLICATE_ID", "arrays.array_id", "5",
    ),
    "an array that is there": ({"arrays": [Array(1)]}, AlreadyExistsError, "ARRAY_EXISTS", "arrays.array_id", "1"),
    "resources twice": (
        {"task_resources": [TaskResources(5), TaskResources(5)]},
        InvalidInputError, "DUPLICATE_ID", "task_resources.task_resources_id", "5",
    ),
    "resources that are there": (
        {"task_resources": [TaskResources(1)]},
        AlreadyExistsError, "TASK_RESOURCES_EXISTS", "task_resources.task_resources_id", "1",
    ),
    "an unknown array": (shape(array=9), NotFoundError, "UNKNOWN_ARRAY", "tasks.array_id", "9"),
    "unknown resources": (
        shape(resources=9), NotFoundError, "UNKNOWN_TASK_RESOURCES", "tasks.task_resources_id", "9",
    ),
    "unknown upstreams": (
        tasks(a_task(50, 1, 98), a_task(51, 99)),
        NotFoundError, "UNKNOWN_UPSTREAM", "tasks.upstream_task_ids", "98,99",
    ),
    "itself as upstream": (
        tasks(a_task(50, 1), a_task(51, 50, 51)), InvalidInputError, "SELF_DEPENDENCY", "tasks.upstream_task_ids", "51",
    ),
    "a task of id 0": (tasks(a_task(0)), InvalidInputError, "ID_OUT_OF_RANGE", "tasks.task_id", None),
    "a negative task id": (tasks(a_task(50), a_task(-3)), InvalidInputError, "ID_OUT_OF_RANGE", "tasks.task_id", None),
    "a task id out of bounds": (
        tasks(a_task(model.MAX_ID + 1)), InvalidInputError, "ID_OUT_OF_RANGE", "tasks.task_id", None,
    ),
    "a task id beyond all numbers": (tasks(a_task(2**70)), InvalidInputError, "INVALID_VALUE", "tasks", None),
    "a priority beyond all numbers": (shape(priority=2**31), InvalidInputError, "INVALID_VALUE", "tasks", None),
    "an array of id 0": ({"arrays": [Array(0)]}, InvalidInputError, "ID_OUT_OF_RANGE", "arrays.array_id", None),
    "resources of id 0": (
        {"task_resources": [TaskResources(0)]},
        InvalidInputError, "ID_OUT_OF_RANGE", "task_resources.task_resources_id", None,
    ),
    "resources with an id of adjusted ones": (
        {"task_resources": [TaskResources(1 << 40)]},
        InvalidInputError, "ID_OUT_OF_RANGE", "task_resources.task_resources_id", None,
    ),
    "no attempts": (shape(max_attempts=0), InvalidInputError, "INVALID_VALUE", "tasks[task_id=51].max_attempts", None),
    "a negative attempt": (shape(attempt=-1), InvalidInputError, "INVALID_VALUE", "tasks[task_id=51].attempt", None),
    "an attempt out of bounds": (
        shape(attempt=model.MAX_ATTEMPT + 1), InvalidInputError, "INVALID_VALUE", "tasks[task_id=51].attempt", None,
    ),
    "negative failures": (
        shape(failed_attempts=-1), InvalidInputError, "INVALID_VALUE", "tasks[task_id=51].failed_attempts", None,
    ),
    "a long name": (shape(name=LONG_NAME), LimitExceededError, "TEXT_TOO_LONG", "tasks[task_id=51].name", None),
    "a long command": (
        shape(command=LONG_COMMAND), LimitExceededError, "TEXT_TOO_LONG", "tasks[task_id=51].command", None,
    ),
    "a long name of an array": (
        {"arrays": [Array(5, name=LONG_LABEL)]}, LimitExceededError, "TEXT_TOO_LONG", "arrays[array_id=5].name", None,
    ),
    "a long command of an array": (
        {"arrays": [Array(5, command=LONG_COMMAND)]},
        LimitExceededError, "TEXT_TOO_LONG", "arrays[array_id=5].command", None,
    ),
    "an unknown placeholder": (
        {"arrays": [Array(5, command="run {year}")]},
        InvalidInputError, "UNKNOWN_PLACEHOLDER", "arrays[array_id=5].command", None,
    ),
    "a negative limit": (
        {"arrays": [Array(5, max_concurrently_running=-1)]},
        InvalidInputError, "NEGATIVE_LIMIT", "arrays[array_id=5].max_concurrently_running", None,
    ),
    "a scale of something else": (
        shape(scales={"disk": 0.5}), InvalidInputError, "INVALID_VALUE", "tasks.resource_scales[disk]", None,
    ),
    "a negative scale": (
        shape(scales={"memory": -0.5}), InvalidInputError, "INVALID_VALUE", "tasks.resource_scales[memory]", None,
    ),
    "a scale that is no number": (
        shape(scales={"cores": float("nan")}), InvalidInputError, "INVALID_VALUE", "tasks.resource_scales[cores]", None,
    ),
    "an infinite scale": (
        shape(scales={"runtime": float("inf")}),
        InvalidInputError, "INVALID_VALUE", "tasks.resource_scales[runtime]", None,
    ),
    **{
        f"{name} = {value}"[:40]: (
            resources(**{name: value}),
            LimitExceededError if reason == "TEXT_TOO_LONG" else InvalidInputError,
            reason, f"task_resources[task_resources_id=5].{shown}", None,
        )
        for name, value, reason, shown in [
            ("cores", 0, "INVALID_VALUE", "cores"),
            ("memory_mib", -1, "INVALID_VALUE", "memory_mib"),
            ("runtime_seconds", -1.0, "INVALID_VALUE", "runtime"),
            ("runtime_seconds", float("nan"), "INVALID_VALUE", "runtime"),
            ("runtime_seconds", float("inf"), "INVALID_VALUE", "runtime"),
            ("cluster", LONG_LABEL, "TEXT_TOO_LONG", "cluster"),
            ("queue", LONG_LABEL, "TEXT_TOO_LONG", "queue"),
            ("extra", {str(number): "" for number in range(65)}, "INVALID_VALUE", "extra"),
            ("extra", {"key": LONG_NAME}, "TEXT_TOO_LONG", "extra[key]"),
            ("extra", {LONG_NAME: ""}, "TEXT_TOO_LONG", "extra key"),
            ("fallback_queues", ("q",) * 17, "INVALID_VALUE", "fallback_queues"),
            ("fallback_queues", ("q", LONG_LABEL), "TEXT_TOO_LONG", "fallback_queues[1]"),
        ]
    },
}  # fmt: skip


@pytest.mark.parametrize("load, error, reason, field, ids", REFUSED.values(), ids=REFUSED.keys())  # noqa: PT006
def test_a_load_that_is_wrong_is_refused_whole_and_says_what_is_wrong(load, error, reason, field, ids):
    state = a_swarm([a_task(1), a_task(2, 1)])
    before = dump(state)
    with pytest.raises(error) as caught:
        state.load(**{"arrays": [Array(70)], "task_resources": [TaskResources(70)], "tasks": [a_task(70)], **load})
    assert (caught.value.reason, caught.value.field) == (reason, field)
    assert caught.value.metadata.get("ids") == ids
    assert field.split(".")[-1] in caught.value.message
    assert dump(state) == before


def test_what_was_refused_can_be_loaded_when_it_is_right():
    state = a_swarm()
    with pytest.raises(NotFoundError):
        state.load([Array(7)], [TaskResources(7)], [a_task(1, 2, array=7, resources=7)])
    state.load([Array(7)], [TaskResources(7)], [a_task(1, 2, array=7, resources=7), a_task(2)])
    assert statuses(state) == "GG"


def test_of_many_wrong_ids_the_first_ten_are_named_and_all_counted():
    with pytest.raises(NotFoundError, match=r"and 15 more are unknown") as caught:
        a_swarm([a_task(1, *range(100, 125))])
    assert caught.value.metadata == {"ids": ",".join(map(str, range(100, 110))), "count": "25"}


@pytest.mark.parametrize(
    ("edges", "cycle"),
    [
        ({1: [2], 2: [1]}, {1, 2}),
        ({1: [3], 2: [1], 3: [2]}, {1, 2, 3}),
        ({1: [], 2: [1, 4], 3: [2], 4: [3], 5: [4], 6: [5]}, {2, 3, 4}),
    ],
)
def test_the_ids_of_one_cycle_are_named_without_what_is_before_or_behind_it(edges, cycle):
    with pytest.raises(InvalidInputError, match="wait for each other in a circle") as caught:
        a_swarm([a_task(task_id * 10, *(each * 10 for each in upstreams)) for task_id, upstreams in edges.items()])
    assert (caught.value.reason, caught.value.field) == ("DEPENDENCY_CYCLE", "tasks.upstream_task_ids")
    named = [int(each) // 10 for each in caught.value.metadata["ids"].split(",")]
    assert set(named) == cycle
    assert all(before in edges[after] for before, after in zip(named, named[1:] + named[:1], strict=True))


def a_chain(length: int, *, backwards: bool, closed: bool = False) -> TaskColumns:
    """Task k + 1 waits for task k; loaded in that order or the other."""
    ids = np.arange(1, length + 1)
    upstreams = np.append(ids[-1:] if closed else ids[:0], ids[:-1])
    counts = np.ones(length, dtype=np.int32)
    counts[0] = closed
    if backwards:
        ids, counts, upstreams = ids[::-1], counts[::-1], upstreams[::-1]
    return TaskColumns.of(ids, 1, 1, upstream_counts=counts, upstream_ids=upstreams)


@pytest.mark.parametrize("backwards", [False, True])
def test_a_chain_of_100_000_is_loaded_in_either_order(backwards):
    state = a_swarm()
    state.load(tasks=a_chain(100_000, backwards=backwards))
    assert state.ready_count == 1
    for task_id in (1, 2, 3):
        assert queue_all(state) == [[task_id]]
        tell(state, "D", task_id)


@pytest.mark.parametrize("backwards", [False, True])
def test_a_circle_of_100_000_is_refused_in_either_order(backwards):
    with pytest.raises(InvalidInputError, match="in a circle of 100000") as caught:
        a_swarm().load(tasks=a_chain(100_000, backwards=backwards, closed=True))
    assert len(caught.value.metadata["ids"].split(",")) == 1000


def test_texts_of_exactly_their_bound_are_taken():
    state = a_swarm()
    extra = {"k" * 1024: "v" * 1024}
    state.load(
        [Array(5, name="l" * 256)], [TaskResources(5, cluster="ä" * 128, extra=extra)],
        [a_task(1, name="ä" * 512, command="c" * 131_072)],
    )  # fmt: skip
    assert state.task(1).name == "ä" * 512


def test_the_order_within_a_load_does_not_matter():
    state = a_swarm([a_task(3, 2), a_task(2, 1), a_task(1)])
    assert ready_order(state) == [1]
    tell(state, "D", 1)
    assert ready_order(state) == [2]


def test_huge_scattered_unsorted_ids_over_several_loads_are_all_found():
    state = a_swarm()
    rng = np.random.default_rng(3)
    ids = (rng.permutation(3000) + 1) * (model.MAX_ID // 3001)
    for part in np.array_split(ids, 13):
        before = state.task_count
        upstreams = ids[: min(before, len(part))]
        counts = np.zeros(len(part), dtype=np.int32)
        counts[: len(upstreams)] = 1
        state.load(tasks=TaskColumns.of(part, 1, 1, upstream_counts=counts, upstream_ids=upstreams))
    assert [state.task(int(each)).row for each in ids[::100]] == list(range(0, 3000, 100))
    assert tell(state, "D", *ids.tolist()).changed_count == 3000
    assert state.outcome == "DONE"
    assert well(state)


def test_a_later_load_may_wait_for_tasks_arrays_and_resources_of_an_earlier_one():
    state = a_swarm([a_task(1), a_task(2)])
    tell(state, "D", 1)
    state.load(tasks=[a_task(11, 1), a_task(12, 2), a_task(13, 1, 2, 11)])
    assert ready_order(state) == [2, 11]
    assert [state.table.upstreams_left[row] for row in (2, 3, 4)] == [0, 1, 2]
    assert well(state)


def test_a_load_of_nothing_is_no_change():
    state = a_swarm(1)
    before = dump(state)
    assert state.load().is_empty
    assert dump(state) == before


@pytest.mark.parametrize(
    ("given", "stands"),
    [("G", "G"), ("E", "G"), ("A", "G"), *((each, each) for each in "QIORDFX")],
)
def test_a_task_may_be_loaded_with_a_status_that_it_has_already(given, stands):
    state = a_swarm([a_task(1, status=TaskStatus(given)), a_task(2, 1)])
    assert state.task(1).status == stands
    assert is_ready(state, 1) == (stands == "G")
    assert is_ready(state, 2) == (stands == "D")
    assert state.active_count == (stands in "QIOR")
    assert state.task(1).attempt == (stands in "QIOR")
    assert well(state)


def test_nobody_can_load_a_reserved_task():
    with pytest.raises(InvalidInputError) as caught:
        a_swarm().load(tasks=TaskColumns.of([1], 1, 1, statuses=Code.RESERVED))
    assert caught.value.field == "tasks[task_id=1].status"


def test_attempts_and_failures_go_on_from_what_is_loaded():
    state = a_swarm([a_task(1, attempt=4, failed_attempts=2, max_attempts=3)])
    assert taken(state).attempts.tolist() == [5]
    tell(state, "E", 1)
    assert state.task(1).status == "F"


def test_active_tasks_that_are_loaded_fill_an_array_whose_lanes_were_open():
    state = a_swarm([a_task(1)], arrays={1: 1})
    state.load(tasks=[a_task(2, status=TaskStatus.RUNNING)])
    assert not state.has_work()
    assert state.take_batch() is None
    tell(state, "D", 2)
    assert ids_of(take_all(state)) == [[1]]


def test_a_load_above_the_limits_is_taken_and_stops_nothing_but_new_batches():
    state = a_swarm([a_task(n, status=TaskStatus.RUNNING) for n in range(1, 6)], max_concurrently_running=3)
    assert (state.active_count, state.available_capacity) == (5, 0)


# -- plans -----------------------------------------------------------------


def a_plan(
    state: SwarmState, new: Sequence[Task], arrays: Sequence[Array] = (), resources: Sequence[TaskResources] = ()
):
    return plan_load(KnownIds.of(state.table), Load(arrays, resources, TaskColumns.from_tasks(new)))


def test_a_plan_that_is_not_committed_changes_nothing():
    state = a_swarm(2)
    before = dump(state)
    a_plan(state, [a_task(10, 1)], [Array(5)], [TaskResources(5)])
    assert dump(state) == before


def test_upstreams_that_are_done_between_plan_and_commit_are_not_waited_for():
    state = a_swarm([a_task(1), a_task(2), a_task(3, status=TaskStatus.DONE)])
    plan = a_plan(state, [a_task(10, 1), a_task(11, 1, 2), a_task(12, 3), a_task(13, 3, 2)])
    tell(state, "D", 1)
    state.reset(only(3))
    assert state.commit_load(plan).newly_ready_count == 1
    assert [is_ready(state, each) for each in (10, 11, 12, 13)] == [True, False, False, False]
    assert well(state)


def test_resources_that_grew_between_plan_and_commit_do_not_get_mixed_up_with_new_ones():
    state = a_swarm([a_task(1, scales={"memory": 0.5})])
    queue_all(state)
    plan = a_plan(state, [a_task(10, resources=7), a_task(11, resources=1)], [], [TaskResources(7, memory_mib=777)])
    tell(state, "A", 1)
    state.commit_load(plan)
    told = {batch.task_ids.tolist()[0]: batch.task_resources.memory_mib for batch in take_all(state)}
    assert told == {1: 150, 10: 777, 11: 100}


@pytest.mark.parametrize(
    "between",
    [
        {"tasks": [a_task(20)]},
        {"arrays": [Array(20)]},
        {"task_resources": [TaskResources(20)]},
    ],
)
def test_a_plan_made_before_another_load_is_refused_and_changes_nothing(between):
    state = a_swarm(1)
    plan = a_plan(state, [a_task(10, array=5, resources=5)], [Array(5)], [TaskResources(5)])
    state.load(**between)
    before = dump(state)
    with pytest.raises(RuntimeError, match="after this plan was made"):
        state.commit_load(plan)
    assert dump(state) == before


def test_a_plan_keeps_nothing_of_the_columns_that_it_was_made_of():
    columns = TaskColumns.from_tasks([a_task(1), a_task(2)])
    state, other = a_swarm(), a_swarm()
    state.load(tasks=columns)
    other.load(tasks=columns)
    queue_all(state)
    tell(state, "D", 1)
    assert (statuses(state), statuses(other)) == ("DQ", "GG")
    assert columns.statuses.tolist() == [0, 0]


# -- columns in which all are alike, and lanes ------------------------------------------------------------------------

INT32S = st.integers(-(2**31), 2**31 - 1)


@given(st.lists(st.one_of(st.integers(-5, 5), INT32S), min_size=1), st.sampled_from([np.int32, np.int64]))
def test_values_are_numbered_in_their_order(values: list[int], dtype: type[np.integer]):
    found, places = loading._numbered(np.array(values, dtype=dtype))
    assert found.tolist() == sorted(set(values))
    assert found[places].tolist() == values
    assert places.dtype == np.int32


@given(st.integers(1, 3), st.integers(1, 3), st.lists(st.integers(0, 3), min_size=1, max_size=30), INT32S)
def test_the_same_is_planned_whether_or_not_alike_columns_take_memory(arrays, kinds, statuses, priority):
    size = len(statuses)
    ids = np.arange(1, size + 1)
    codes = np.array([Code.REGISTERED, Code.QUEUED, Code.RUNNING, Code.DONE], dtype=np.uint8)
    status = codes[statuses] if len(set(statuses)) > 1 else alike(codes[statuses[0]], size, np.uint8)
    array_ids = 1 + ids % arrays if arrays > 1 else alike(1, size, np.int64)
    resources_ids = 1 + ids % kinds if kinds > 1 else alike(1, size, np.int64)
    whole = TaskColumns.of(ids, array_ids, resources_ids, statuses=status, priorities=priority)
    frugal = replace(
        whole,
        array_ids=array_ids,
        task_resources_ids=resources_ids,
        statuses=status,
        priorities=alike(priority, size, np.int32),
        upstream_counts=alike(0, size, np.int32),
    )
    known = (
        [Array(number) for number in range(1, arrays + 1)],
        [TaskResources(number) for number in range(1, kinds + 1)],
    )
    table = SwarmState("s").table
    one, other = (plan_load(table, Load(*known, each)) for each in (whole, frugal))

    assert one.lane_keys == other.lane_keys
    assert one.counts.tolist() == other.counts.tolist()
    assert {name: column.tolist() for name, column in one.columns.items()} == {
        name: column.tolist() for name, column in other.columns.items()
    }
    assert all(column.flags.writeable for column in other.columns.values())
