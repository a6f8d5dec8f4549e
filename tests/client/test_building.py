"""A workflow in plain Python becomes arrays, tasks and dependencies, and the bytes that AddTasks takes."""

import gc
from datetime import timedelta
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmd._pb.swarm.v1 import task_pb2
from swarmd._pb.swarm.v1.swarm_service_pb2 import AddTasksRequest
from swarmd.client import Swarm
from swarmd.client.building import PlanLoad
from swarmd.client.columns import TaskBlock, varints
from swarmd.client.encoding import add_tasks_chunks, ids_of, status_group
from swarmd.core.errors import InvalidInputError
from swarmd.core.model import TaskResources
from swarmd.core.status import TaskStatus


def loaded(swarm: Swarm) -> list[AddTasksRequest]:
    return [AddTasksRequest.FromString(chunk) for chunk in add_tasks_chunks("s", swarm)]


def tasks_of(swarm: Swarm) -> list[task_pb2.Task]:
    return [task for chunk in loaded(swarm) for task in chunk.tasks]


def upstreams_of(swarm: Swarm) -> dict[int, list[int]]:
    return {task.task_id: sorted(task.upstream_task_ids) for task in tasks_of(swarm) if task.upstream_task_ids}


@pytest.mark.parametrize(
    ("tasks", "expected"),
    [
        (3, [("0", ""), ("1", ""), ("2", "")]),
        (["a", "b"], [("a", ""), ("b", "")]),
        ({"a": "run a", "b": "run b"}, [("a", "run a"), ("b", "run b")]),
        (0, []),
        ([], []),
    ],
)
def test_tasks_are_a_number_names_or_names_with_commands(tasks, expected):
    swarm = Swarm()
    swarm.array("a", command="run {name}", tasks=tasks)
    assert [(task.name, task.command) for task in tasks_of(swarm)] == expected


def test_everything_that_is_said_of_an_array_is_loaded():
    swarm = Swarm()
    swarm.array(
        "simulate",
        command="run {name}",
        tasks=2,
        resources={"cores": 2, "memory": "4G", "runtime": "1h30m", "queue": "long", "account": "x"},
        max_concurrently_running=7,
        max_attempts=5,
        priority=-3,
        resource_scales={"memory": 0.5},
    )
    (chunk,) = loaded(swarm)
    (array,), (resources,), (task, _) = chunk.arrays, chunk.task_resources, chunk.tasks
    assert (array.name, array.command, array.max_concurrently_running) == ("simulate", "run {name}", 7)
    assert (resources.cores, resources.memory_mib, resources.runtime.seconds) == (2, 4096, 5400)
    assert (resources.queue, dict(resources.extra)) == ("long", {"account": "x"})
    assert (task.max_attempts, task.priority, dict(task.resource_scales)) == (5, -3, {"memory": 0.5})


def test_queues_to_fall_back_to_are_given_as_a_list():
    swarm = Swarm()
    for name, queues in (("a", ["long", "big"]), ("b", ("long", "big")), ("c", ["big"])):
        swarm.array(name, resources={"queue": "short", "fallback_queues": queues})
    assert [each.fallback_queues for each in swarm.task_resources] == [("long", "big"), ("big",)]
    assert list(loaded(swarm)[0].task_resources[0].fallback_queues) == ["long", "big"]
    for wrong in ("long", 5):
        with pytest.raises(InvalidInputError, match=f"{wrong!r} is no list of queues"):
            swarm.array("wrong", resources={"fallback_queues": wrong})


def test_equal_resources_are_one():
    swarm = Swarm()
    for number, resources in enumerate([None, {"cores": 1}, {"runtime": timedelta(minutes=1)}, {"runtime": 60}]):
        swarm.array(str(number), resources=resources)
    swarm.array("given", resources=TaskResources(99, cores=1))
    assert [task.task_resources_id for task in tasks_of(swarm)] == [1, 1, 2, 2, 1]


def test_ids_are_given_out_or_brought_along():
    swarm = Swarm(first_id=10)
    first = swarm.array("first", tasks=2)
    own = swarm.array("own", tasks=3, task_ids=np.array([100, 50, 75], dtype=np.int32))
    last = swarm.task("last", command="true")
    assert [list(each.task_ids) for each in (first, own, last)] == [[10, 11], [100, 50, 75], [101]]
    assert (first.array_id, last.task_id, swarm["own"]) == (10, 101, own)


def test_orders_between_arrays_and_tasks():
    swarm = Swarm()
    a, b, c = (swarm.array(name, tasks=2) for name in "abc")  # 1 2, 3 4, 5 6
    d = swarm.array("d", tasks=3, after=[a, b[0]])  # 7 8 9
    assert (a >> b >> c) is c
    a[0] >> c[1]
    [b[1], a["1"]] >> d[[0, 2]]
    d[1:] >> [swarm.task("e", command="true"), swarm.task("f", command="true")]  # 10, 11
    assert upstreams_of(swarm) == {
        3: [1, 2],
        4: [1, 2],
        5: [3, 4],
        6: [1, 3, 4],
        7: [1, 2, 2, 3, 4],
        8: [1, 2, 3],
        9: [1, 2, 2, 3, 4],
        10: [8, 9],
        11: [8, 9],
    }


def test_nothing_selected_is_nothing_ordered():
    swarm = Swarm()
    a, b = swarm.array("a", tasks=2), swarm.array("b", tasks=2)
    for none in ([], np.array([], dtype=bool)[:0], [False, False]):
        selected = a[none]
        assert len(selected) == 0
        selected >> b
    assert upstreams_of(swarm) == {}


def test_one_to_one():
    swarm = Swarm()
    a, b = swarm.array("a", tasks=3), swarm.array("b", tasks=3)
    b.after(a, one_to_one=True)
    c = swarm.array("c", tasks=2)
    c[[1, 0]].after(a[1:], one_to_one=True)
    d = swarm.array("d", tasks=3)
    d[1:].after(a[:2], one_to_one=True)
    assert upstreams_of(swarm) == {4: [1], 5: [2], 6: [3], 7: [3], 8: [2], 10: [1], 11: [2]}


def test_a_task_that_is_selected_twice_waits_once_and_no_other_does():
    swarm = Swarm()
    u, v = swarm.array("u", tasks=3), swarm.array("v", tasks=3)
    u >> v[[0, 0, 1]]
    v[[2, 1, 0, 2]].after(u[0])
    assert upstreams_of(swarm) == {4: [1, 1, 2, 3], 5: [1, 1, 2, 3], 6: [1]}


def test_one_to_one_takes_each_task_once():
    swarm = Swarm()
    u, v = swarm.array("u", tasks=3), swarm.array("v", tasks=3)
    with pytest.raises(InvalidInputError, match="several times") as refused:
        v[[0, 0, 1]].after(u, one_to_one=True)
    assert (refused.value.reason, upstreams_of(swarm)) == ("REPEATED_TASKS", {})
    v.after(u[[0, 0, 1]], one_to_one=True)
    assert upstreams_of(swarm) == {4: [1], 5: [1], 6: [2]}


def test_an_array_without_tasks_passes_on_what_it_waits_for():
    swarm = Swarm()
    a, b, z = swarm.array("a"), swarm.array("b"), swarm.array("z", tasks=2)
    empty, other = swarm.array("empty", tasks=0), swarm.array("other", tasks=[])
    a >> empty >> other >> z[0]
    assert upstreams_of(swarm) == {3: [1]}
    b >> empty  # said afterwards, and a circle without tasks is none
    other >> empty
    assert upstreams_of(swarm) == {3: [1, 2]}
    swarm.array("last", after=[empty, z[1]])
    assert upstreams_of(swarm) == {3: [1, 2], 5: [1, 2, 4]}


def test_selections():
    array = Swarm().array("a", tasks=["x", "y", "z"], task_ids=[5, 6, 7])
    assert [list(array[which].task_ids) for which in (0, -1, "y", slice(1, None), [0, 2])] == [
        [5],
        [7],
        [6],
        [6, 7],
        [5, 7],
    ]
    assert list(array[np.array([True, False, True])].task_ids) == [5, 7]
    assert [task.task_id for task in array] == [5, 6, 7]
    with pytest.raises(IndexError):
        array[3]
    with pytest.raises(KeyError):
        array["w"]
    with pytest.raises(ValueError, match="not one task"):
        _ = array.task_id


def test_very_many_edges_go_through_a_barrier():
    swarm = Swarm()
    a, b = swarm.array("a", tasks=2000), swarm.array("b", tasks=2000, resources={"memory": "4G", "queue": "long"})
    a >> b
    barrier = swarm["a -> b barrier"]
    tasks = {task.task_id: task for task in tasks_of(swarm)}
    assert list(tasks[barrier.task_id].upstream_task_ids) == list(range(1, 2001))
    assert all(list(tasks[number].upstream_task_ids) == [barrier.task_id] for number in range(2001, 4001))
    (resources,) = (each for each in swarm.task_resources if each.queue == "long" and not each.memory_mib)
    assert tasks[barrier.task_id].task_resources_id == resources.task_resources_id
    assert swarm.arrays[-1].command == "true"


def test_the_name_of_a_barrier_is_not_too_long():
    swarm = Swarm()
    u, v = swarm.array("u" + 127 * "ü", tasks=1002), swarm.array("v" * 256, tasks=1000)
    u >> v
    u[1:] >> v
    names = [array.name for array in swarm.arrays[2:]]
    assert [(name[:2], " -> vvv" in name, len(name.encode()) <= 256) for name in names] == [("uü", True, True)] * 2
    assert {task.name for task in tasks_of(swarm)} >= set(names)


def test_a_million_edges_need_no_barrier():
    swarm = Swarm()
    swarm.array("b", tasks=1000, after=swarm.array("a", tasks=1000))
    assert len(swarm.arrays) == 2
    assert sum(len(task.upstream_task_ids) for task in tasks_of(swarm)) == 1_000_000


def what_goes(load: PlanLoad) -> tuple[list[str], list[int], list[int]]:
    ids = [number for block in load.blocks for number in block.task_ids.tolist()]
    return [array.name for array in load.arrays], [each.cores for each in load.task_resources], ids


def test_what_a_swarm_has_is_not_loaded_into_it_again_and_waits_for_nothing_more():
    swarm = Swarm()
    a = swarm.array("a", resources={"cores": 2})
    with swarm.loading(("s", 1)) as load:
        b = swarm.array("b", after=a, resources={"cores": 3})
        assert what_goes(load) == (["a"], [2], [1])
        with pytest.raises(InvalidInputError, match="in the daemon already"):
            b >> a
    with swarm.loading(("s", 1)) as load:
        assert what_goes(load) == (["b"], [3], [2])
    with swarm.loading(("s", 2)) as load:  # the same name, and another swarm
        assert what_goes(load) == (["a", "b"], [2, 3], [1, 2])


def test_a_load_that_failed_has_loaded_nothing():
    swarm = Swarm()
    a, b = swarm.array("a"), swarm.array("b")
    with pytest.raises(KeyError), swarm.loading(("s", 1)):
        raise KeyError
    a >> b
    with swarm.loading(("s", 1)) as load:
        assert what_goes(load) == (["a", "b"], [1], [1, 2])


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"name": "taken"}, "ARRAY_EXISTS"),
        ({"tasks": -1}, "INVALID_TASKS"),
        ({"tasks": "abc"}, "INVALID_TASKS"),
        ({"tasks": True}, "INVALID_TASKS"),
        ({"tasks": np.True_}, "INVALID_TASKS"),
        ({"tasks": 2.0}, "INVALID_TASKS"),
        ({"tasks": None}, "INVALID_TASKS"),
        ({"task_ids": np.array([2**63 + 5], dtype=np.uint64)}, "INVALID_IDS"),
        ({"task_ids": [np.uint64(2**63)]}, "INVALID_IDS"),
        ({"task_ids": [2**64]}, "INVALID_IDS"),
        ({"after": "taken"}, "INVALID_UPSTREAM"),
        ({"after": ["taken"]}, "INVALID_UPSTREAM"),
        ({"after": 5}, "INVALID_UPSTREAM"),
        ({"after": Swarm().array("elsewhere")}, "ANOTHER_SWARM"),
        ({"resources": {"cores": 1.0}}, "INVALID_RESOURCES"),
        ({"tasks": 2, "task_ids": [1]}, "INVALID_IDS"),
        ({"task_ids": [1.5]}, "INVALID_IDS"),
        ({"resources": {"memory": "much"}}, "INVALID_RESOURCES"),
        ({"resources": {"cores": 0}}, "INVALID_RESOURCES"),
        ({"resources": {"runtime": "soon"}}, "INVALID_RESOURCES"),
    ],
)
def test_what_makes_no_array_is_refused(wrong, reason):
    swarm = Swarm()
    swarm.array("taken")
    with pytest.raises(InvalidInputError) as refused:
        swarm.array(**{"name": "new", **wrong})
    assert refused.value.reason == reason
    if reason != "ARRAY_EXISTS":  # and nothing of it is there
        array = swarm.array("new", after=swarm["taken"])
        assert (array.array_id, array.task_id, len(swarm.task_resources)) == (2, 2, 1)


def test_numbers_of_numpy_are_numbers():
    swarm = Swarm()
    resources: dict[str, Any] = {"cores": np.int64(2), "memory": np.int32(100), "runtime": np.float64(60)}
    task_ids: list[Any] = [np.uint64(5), 7]
    array = swarm.array("a", tasks=np.int64(2), task_ids=task_ids, resources=resources)
    assert (array.names[1], list(array.task_ids)) == ("1", [5, 7])
    (found,) = swarm.task_resources
    assert (found.cores, found.memory_mib, found.runtime_seconds) == (2, 100, 60)


def test_of_several_upstreams_all_are_checked_before_one_is_waited_for():
    swarm = Swarm()
    a, b = swarm.array("a"), swarm.array("b")
    with pytest.raises(InvalidInputError, match=r"swarm\['c'\]"):
        b.after(a, "c")  # type: ignore[arg-type]
    assert upstreams_of(swarm) == {}


def test_dependencies_stay_in_their_swarm_and_fit():
    swarm = Swarm()
    a = swarm.array("a", tasks=2)
    with pytest.raises(InvalidInputError, match="another swarm"):
        a.after(Swarm().array("b"))
    with pytest.raises(InvalidInputError, match="same size"):
        swarm.array("c", tasks=3).after(a, one_to_one=True)


@given(st.lists(st.integers(0, (1 << 63) - 1)))
def test_numbers_are_written_as_protobuf_writes_them(numbers):
    written = varints(np.array(numbers, dtype=np.int64))
    assert [task_pb2.Task.FromString(b"\x08" + each).task_id for each in written] == numbers


texts = st.one_of(st.text(max_size=20), st.text(min_size=100, max_size=300))
ids = st.integers(1, (1 << 62) - 1)


@given(
    st.lists(st.tuples(ids, texts, texts, ids), max_size=5),
    st.lists(ids, max_size=3),
    st.integers(1, 9),
    st.integers(-(1 << 31), (1 << 31) - 1),
)
def test_columns_are_written_as_messages_are(rows, shared, attempts, priority):
    block = TaskBlock(
        array_id=3,
        task_resources_id=4,
        task_ids=np.array([row[0] for row in rows], dtype=np.int64),
        names=[row[1] for row in rows],
        commands=[row[2] for row in rows],
        max_attempts=attempts,
        priority=priority,
        resource_scales={"memory": 0.5},
        upstreams=[np.array(shared, dtype=np.int64)],
        paired_upstreams=[np.array([row[3] for row in rows], dtype=np.int64)],
        own_upstreams={0: [np.array([7], dtype=np.int64)]},
    )
    expected = [
        task_pb2.Task(
            task_id=task_id,
            array_id=3,
            task_resources_id=4,
            name=name,
            command=command,
            upstream_task_ids=[*shared, pair, *([7] if place == 0 else [])],
            max_attempts=attempts,
            priority=priority,
            resource_scales={"memory": 0.5},
        )
        for place, (task_id, name, command, pair) in enumerate(rows)
    ]
    assert [task_pb2.Task.FromString(each) for part in block.encoded() for each in part] == expected


@pytest.mark.parametrize(
    ("given_ids", "expected"),
    [
        (5, [5]),
        ([3, 1], [3, 1]),
        (range(3), [0, 1, 2]),
        ({4}, [4]),
        (iter([1, 2]), [1, 2]),
        ([], []),
        (np.array([7, 8], dtype=np.uint16), [7, 8]),
        ([np.uint64(7), 8], [7, 8]),
        ([np.uint64(2**62 + 1), 8], [2**62 + 1, 8]),
        (np.array([], dtype=np.float64), []),
    ],
)
def test_ids_come_in_many_shapes(given_ids, expected):
    assert ids_of(given_ids).tolist() == expected
    assert ids_of(expected or given_ids).dtype == np.int64


@pytest.mark.parametrize(
    "wrong",
    [[1.5], ["a"], [[1, 2]], [True], None, [1, 2.0], 2**64, np.array([2**63], dtype=np.uint64), [np.array(1.0), 2.0]],
)
def test_what_are_no_ids_is_refused(wrong):
    with pytest.raises(InvalidInputError):
        ids_of(wrong)


def test_attempts_are_one_for_all_or_one_for_each():
    assert list(status_group(TaskStatus.DONE, [1, 2], 3).attempts) == [3, 3]
    assert list(status_group(TaskStatus.DONE, [1, 2], [3, 4]).attempts) == [3, 4]
    assert not status_group(TaskStatus.DONE, [1, 2]).attempts
    with pytest.raises(InvalidInputError, match="attempts: 3 for 2 tasks"):
        status_group(TaskStatus.DONE, [1, 2], [1, 2, 3])


def test_a_million_tasks_are_no_million_objects():
    before = len(gc.get_objects())
    swarm = Swarm()
    arrays = [swarm.array(f"a{number}", tasks=100_000) for number in range(10)]
    for first, second in pairwise(arrays):
        second.after(first, one_to_one=True)
    size = sum(map(len, add_tasks_chunks("s", swarm)))
    assert size > 1_000_000
    assert len(gc.get_objects()) - before < 1000
