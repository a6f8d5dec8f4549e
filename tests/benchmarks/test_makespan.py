"""Simulated makespans, on workflows whose makespan can be reckoned by hand."""

import pytest
from benchmarks.suite import makespan
from benchmarks.suite.makespan import POLICIES, Recording, measure, recorded_workflows, simulated
from benchmarks.suite.results import Results
from benchmarks.suite.setting import QUICK, Peers, Setting

from swarmd.core.model import Array, Task, TaskResources
from swarmd.workflow import WorkflowPlan


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
BACKWARDS = recording((3, (2,)), (2, (3,)), (1, ()))


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.name)
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


@pytest.mark.parametrize(("workflow", "cores", "bound"), [(CHAIN, 4, 6.0), (FORK, 2, 8.0), (FORK, 3, 6.0)])
def test_the_sharper_bound_knows_what_only_one_core_can_do(workflow: Recording, cores: int, bound: float):
    assert workflow.sharper_bound(cores) == bound


@pytest.mark.parametrize("workflow", [CHAIN, FORK, BACKWARDS])
@pytest.mark.parametrize("cores", [1, 2, 3, 50])
def test_bounds_are_bounds(workflow: Recording, cores: int):
    span = simulated(workflow, cores, POLICIES[0])
    assert workflow.bound(cores) <= workflow.sharper_bound(cores) <= span


def test_the_worst_number_of_cores_makes_the_row():
    results = Results()
    measure(results, "fork", FORK, POLICIES[0], [1, 2, 3])
    (row,) = results.rows
    assert (row.ours.median, row.peer.median if row.peer else None) == (10.0, 7.0)
    assert row.met is False
    assert "at 2 cores" in row.note
    (curve,) = results.curves
    assert curve.ys == pytest.approx([1.0, 10 / 7, 1.0])


def test_without_recordings_it_is_said(tmp_path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(makespan, "RECORDINGS", tmp_path)
    results = Results()
    recorded_workflows(results, Setting(QUICK, tmp_path, Peers(None)))
    assert not results.rows
    assert "not beside this checkout" in results.remarks[0]
