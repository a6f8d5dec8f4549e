"""Simulated makespans, on workflows whose makespan can be reckoned by hand."""

import itertools
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from benchmarks.suite import makespan
from benchmarks.suite.makespan import BEST, POLICIES, Recording, measure, recorded_workflows, simulated
from benchmarks.suite.results import Results
from benchmarks.suite.setting import QUICK, Peers, Setting
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmd.core.model import Array, Task, TaskResources
from swarmd.core.policy import SchedulingPolicy
from swarmd.workflow import WorkflowPlan

FIRST, LONGEST, _ = SchedulingPolicy


def recording(*tasks: tuple[float, tuple[int, ...]]) -> Recording:
    """Tasks 1, 2, ... with their seconds and what they wait for."""
    return Recording.of(
        WorkflowPlan(
            "made up",
            arrays=[Array(1)],
            task_resources=[TaskResources(1)],
            tasks=[
                Task(number, 1, 1, command=f"sleep {seconds}", upstream_task_ids=upstreams)
                for number, (seconds, upstreams) in enumerate(tasks, 1)
            ],
        )
    )


CHAIN = recording((1, ()), (2, (1,)), (3, (2,)))
FORK = recording((1, ()), (4, (1,)), (4, (1,)), (4, (1,)), (1, (2, 3, 4)))
EQUAL = recording((4, ()), (4, ()), (4, ()), (4, ()), (4, ()))
BACKWARDS = recording((3, (2,)), (2, (3,)), (1, ()))


@pytest.mark.parametrize("policy", SchedulingPolicy)
@pytest.mark.parametrize(
    ("workflow", "cores", "seconds"),
    [(CHAIN, 1, 6.0), (CHAIN, 100, 6.0), (FORK, 1, 14.0), (FORK, 2, 10.0), (FORK, 3, 6.0), (BACKWARDS, 2, 6.0)],
)
def test_the_makespan(policy, workflow: Recording, cores: int, seconds: float):
    assert simulated(workflow, cores, policy) == seconds


@pytest.mark.parametrize(
    ("workflow", "cores", "bound"),
    [(CHAIN, 4, 6.0), (FORK, 1, 14.0), (FORK, 2, 7.0), (FORK, 3, 6.0), (BACKWARDS, 1, 6.0)],
)
def test_no_order_can_beat_the_longest_chain_or_the_work_of_each_core(workflow: Recording, cores: int, bound: float):
    assert workflow.bound(cores) == bound


@pytest.mark.parametrize(
    ("workflow", "cores", "bound"),
    [(CHAIN, 4, 6.0), (FORK, 2, 10.0), (FORK, 3, 6.0), (EQUAL, 3, 8.0), (EQUAL, 2, 12.0), (EQUAL, 5, 4.0)],
)
def test_the_sharper_bound_knows_what_some_core_must_do_alone_and_one_after_the_other(
    workflow: Recording, cores: int, bound: float
):
    assert workflow.sharper_bounds([7, cores])[1] == bound


@pytest.mark.parametrize("workflow", [CHAIN, FORK, BACKWARDS, EQUAL])
@pytest.mark.parametrize("cores", [1, 2, 3, 50])
def test_bounds_are_bounds(workflow: Recording, cores: int):
    span = simulated(workflow, cores, FIRST)
    assert workflow.bound(cores) <= workflow.sharper_bounds([cores])[0] <= span


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_no_order_beats_the_sharper_bound(data: st.DataObject):
    seconds = data.draw(st.lists(st.integers(1, 9), min_size=2, max_size=7))
    tasks = []
    for number, each in enumerate(seconds, 1):
        upstreams = data.draw(st.sets(st.integers(1, number - 1), max_size=2)) if number > 1 else set()
        tasks.append((float(each), tuple(sorted(upstreams))))
    workflow = recording(*tasks)
    for cores, bound in zip((1, 2, 3), workflow.sharper_bounds([1, 2, 3]), strict=True):
        assert workflow.bound(cores) <= bound <= least(tasks, cores)


def least(tasks: list[tuple[float, tuple[int, ...]]], cores: int) -> float:
    """The shortest makespan of all orders in which tasks can be begun."""
    return min(listed(tasks, cores, order) for order in itertools.permutations(range(1, len(tasks) + 1)))


def listed(tasks: list[tuple[float, tuple[int, ...]]], cores: int, order: Sequence[int]) -> float:
    ends: dict[int, float] = {}
    now, running = 0.0, dict[int, float]()
    while len(ends) < len(tasks):
        for each in order:
            if (
                len(running) < cores
                and each not in ends
                and each not in running
                and set(tasks[each - 1][1]) <= set(ends)
            ):
                running[each] = now + tasks[each - 1][0]
        now = min(running.values())
        for each in [each for each, end in running.items() if end <= now]:
            ends[each] = running.pop(each)
    return now


RECORDED = {
    "name": "made up",
    "schemaVersion": "1.5",
    "workflow": {
        "specification": {
            "tasks": [{"name": f"t{n}", "id": f"t_{n}", "parents": [], "children": []} for n in (1, 2, 3)]
        },
        "execution": {
            "makespanInSeconds": 1,
            "executedAt": "2024-01-01T00:00:00Z",
            "tasks": [{"id": f"t_{n}", "runtimeInSeconds": s, "priority": 30 - n} for n, s in ((1, 1), (2, 1), (3, 2))],
        },
    },
}


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    file = tmp_path / "short-first.json"
    file.write_text(json.dumps(RECORDED))
    return file


def test_a_row_says_how_near_the_best_order_comes_and_the_curves_show_all(recorded: Path):
    results = Results()
    measure(results, recorded, [2, 3])
    (row,) = results.rows
    assert row.name == "makespan of short, longest path first"
    assert (row.ours.median, row.peer.median if row.peer else None) == (2.0, 2.0)
    assert row.met is True
    assert "no order can be above 1.000x there; 100% or more of what can be" in row.note
    assert "first come, first served 0.667x" in row.note
    curves = {curve.name: curve.ys for curve in results.curves}
    assert list(curves) == [*(policy.name for policy in POLICIES), "no order can be below"]
    assert curves["first come, first served"] == [1.5, 1.0]
    assert curves[BEST.name] == curves["no order can be below"] == [1.0, 1.0]


def test_the_worst_number_of_cores_makes_the_row(tmp_path: Path):
    data = json.loads(json.dumps(RECORDED))
    for task in data["workflow"]["execution"]["tasks"]:
        task["runtimeInSeconds"] = 4
    file = tmp_path / "equal-3.json"
    file.write_text(json.dumps(data))
    results = Results()
    measure(results, file, [1, 2, 3])
    (row,) = results.rows
    assert (row.ours.median, row.peer.median if row.peer else None) == (8.0, 6.0)
    assert row.met is False
    assert "at 2 cores, the worst; within 5% at 2 of 3 numbers" in row.note
    assert "no order can be above 0.750x there; 100% or more of what can be" in row.note


def test_what_is_measured_is_what_a_replay_with_that_policy_loads(recorded: Path):
    stated, learned, first = (policy.plan(recorded) for policy in POLICIES)
    assert all(each.runtime_seconds > 0 for each in stated.task_resources)
    assert not any(each.runtime_seconds for each in learned.task_resources)
    assert {task.priority for plan in (stated, learned) for task in plan.tasks} == {0}
    assert [task.priority for task in first.tasks] == [29, 28, 27]


def test_without_recordings_it_is_said(tmp_path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(makespan, "RECORDINGS", tmp_path)
    results = Results()
    recorded_workflows(results, Setting(QUICK, tmp_path, Peers(None)))
    assert not results.rows
    assert "not beside this checkout" in results.remarks[0]
