import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmd.workflow import WorkflowPlan, dependencies
from swarmd.workflow.dependencies import find_cycle


def upstreams(plan: WorkflowPlan) -> dict[str, tuple[int, ...]]:
    return {task.name: task.upstream_task_ids for task in plan.tasks}


def after(
    entry: str, downstream: str = "parameters: {l: [s, n]}", upstream: str = "parameters: {l: [n, s], d: [1, 2]}"
):
    return f"""
name: w
arrays:
  up:
    {upstream}
    command: x
  down:
    {downstream}
    command: x
    after: [{entry}]
"""


def test_after_an_array_is_after_all_of_its_tasks(load):
    assert upstreams(load(after("up")))["down_s"] == (1, 2, 3, 4)
    assert upstreams(load(after("{array: up}")))["down_n"] == (1, 2, 3, 4)


def test_by_equal_parameters(load):
    assert upstreams(load(after("{array: up, by: [l]}"))) == {
        "up_n_1": (),
        "up_n_2": (),
        "up_s_1": (),
        "up_s_2": (),
        "down_s": (3, 4),
        "down_n": (1, 2),
    }


def test_numbers_and_texts_that_read_alike_are_equal(load):
    plan = load(after("{array: up, by: [d]}", "parameters: {d: ['2', '1']}"))
    assert upstreams(plan)["down_2"] == (2, 4)


def test_one_to_one_is_by_position(load):
    plan = load(after("{array: up, one_to_one: true}", "count: 4"))
    assert [upstreams(plan)[f"down_{index}"] for index in range(4)] == [(1,), (2,), (3,), (4,)]


def test_an_array_may_come_after_one_that_is_written_below_it(load):
    plan = load("name: w\narrays: {a: {command: x, after: [b]}, b: {command: x}}")
    assert upstreams(plan) == {"a": (2,), "b": ()}


def test_several_entries_add_up(load):
    plan = load("""
        name: w
        arrays:
          a: {count: 2, command: x}
          b: {count: 2, command: x}
          c: {count: 2, command: x, after: [a, {array: b, by: [index]}]}
    """)
    assert upstreams(plan)["c_1"] == (1, 2, 4)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("upp", "flow.yaml:10: arrays.down.after[0]: there is no array 'upp'; did you mean 'up'?"),
        ("up, up", "flow.yaml:10: arrays.down.after[1]: 'up' is named twice; keep one entry for an array"),
        ("down", "flow.yaml:10: arrays.down.after[0]: down (line 7) waits for itself"),
        ("{array: up, by: [k]}", "arrays.down.after[0].by: 'up' has no parameter 'k'; its parameters: l, d"),
        ("{array: up, by: [d]}", "arrays.down.after[0].by: 'down' has no parameter 'd'; its parameters: l"),
        ("{array: up, one_to_one: true}", "one_to_one needs arrays of the same size; 'down' has 2 tasks, 'up' 4"),
    ],
)
def test_a_dependency_that_cannot_be_is_told(refusal, entry, message):
    assert message in refusal(after(entry))


def test_equal_parameters_must_exist_on_the_other_side(refusal):
    text = refusal(after("{array: up, by: [l]}", "parameters: {l: [n, west]}"))
    assert text.endswith("arrays.down.after[0]: 'up' has no task with l = west, which 'down' has")


def test_every_listed_task_needs_the_parameter_of_by(refusal):
    text = refusal(after("{array: up, by: [l]}", "tasks: [{l: n}, {m: s}]"))
    assert "task 1 of 'down' (counted from 0) has no parameter 'l'" in text


def test_arrays_that_wait_for_each_other_are_named_with_their_lines(refusal):
    text = refusal("""name: w
arrays:
  a:
    command: x
    after: [c]
  b: {command: x, after: [a]}
  c: {command: x, after: [b]}
""")
    assert text == (
        "flow.yaml:5: arrays.a.after[0]: arrays wait for each other: "
        "a (line 3) after c (line 7) after b (line 6) after a"
    )


@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), max_size=20))
def test_a_cycle_is_found_exactly_when_there_is_one(edges):
    graph = {str(node): [str(b) for a, b in edges if a == node] for node in range(8)}
    cycle = find_cycle(graph)
    assert all(second in graph[first] for first, second in zip(cycle, [*cycle[1:], *cycle[:1]], strict=True))
    remaining = dict(graph)
    while free := [node for node, others in remaining.items() if not set(others) & remaining.keys()]:
        for node in free:
            del remaining[node]
    assert bool(cycle) == bool(remaining)


def test_a_large_dependency_goes_through_one_barrier_task(load, monkeypatch):
    monkeypatch.setattr(dependencies, "MAX_DIRECT_EDGES", 7)
    plan = load(
        after("up").replace("name: w", "name: w\ndefaults: {resources: {queue: q, memory: 4G, fallback_queues: [r]}}")
    )
    barrier = plan.tasks[-1]
    assert plan.arrays[-1].name == barrier.name == "up -> down barrier"
    assert plan.arrays[-1].command == "true"
    assert barrier.upstream_task_ids == (1, 2, 3, 4)
    assert upstreams(plan)["down_n"] == (barrier.task_id,) == (7,)
    resources = plan.task_resources[barrier.task_resources_id - 1]
    assert (resources.queue, resources.cores, resources.memory_mib, resources.fallback_queues) == ("q", 1, 0, ())


def test_below_the_bound_there_is_no_barrier(load, monkeypatch):
    monkeypatch.setattr(dependencies, "MAX_DIRECT_EDGES", 8)
    assert len(load(after("up")).arrays) == 2


def test_large_groups_of_equal_parameters_get_a_barrier_task_each(load, monkeypatch):
    monkeypatch.setattr(dependencies, "MAX_DIRECT_EDGES", 10)
    plan = load(after("{array: up, by: [l]}", "parameters: {l: [n, s], d: [1, 2, 3]}"))
    assert [task.upstream_task_ids for task in plan.tasks[-2:]] == [(1, 2), (3, 4)]
    assert upstreams(plan)["down_n_1"] == (11,)
    assert upstreams(plan)["down_s_3"] == (12,)


def test_barriers_of_several_dependencies_have_ids_of_their_own(load, monkeypatch):
    monkeypatch.setattr(dependencies, "MAX_DIRECT_EDGES", 3)
    plan = load("""
        name: w
        arrays:
          a: {count: 3, command: x}
          b: {count: 3, command: x, after: [a]}
          c: {count: 3, command: x, after: [a, b]}
    """)
    assert [task.task_id for task in plan.tasks] == list(range(1, 13))
    assert [array.array_id for array in plan.arrays] == [1, 2, 3, 4, 5, 6]
    by_id = {task.task_id: task for task in plan.tasks}
    assert [by_id[up].name for up in upstreams(plan)["c_0"]] == ["a -> c barrier", "b -> c barrier"]


def test_a_grid_of_a_hundred_thousand_tasks_is_linear(load):
    plan = load("""
        name: w
        arrays:
          a: {parameters: {l: {from: 1, to: 1000}, d: {from: 1, to: 100}}, command: 'x {l} {d}'}
          b: {parameters: {l: {from: 1, to: 1000}}, command: 'x {l}', after: [{array: a, by: [l]}]}
          c: {parameters: {l: {from: 1, to: 1000}}, command: 'x {l}', after: [a]}
    """)
    assert len(plan.tasks) == 102_001
    assert sum(len(set(task.upstream_task_ids)) for task in plan.tasks) == 100_000 + 1_000 + 100_000
