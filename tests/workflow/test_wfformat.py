import copy
import json
from pathlib import Path
from typing import Any

import pytest

from swarmd.core.policy import SchedulingPolicy
from swarmd.workflow import WorkflowFileError, read_wfformat
from swarmd.workflow.wfformat import kind_of

RECORDED = Path(__file__).parents[3] / "shared" / "workflows"

SMALL = {
    "name": "small",
    "schemaVersion": "1.5",
    "workflow": {
        "specification": {
            "tasks": [
                {"name": "cut", "id": "cut_1", "parents": [], "children": ["work_ID2", "work_ID3"]},
                {"name": "work", "id": "work_ID2", "parents": ["cut_1"], "children": []},
                {"name": "work", "id": "work_ID3", "parents": ["cut_1"], "children": []},
            ]
        },
        "execution": {
            "makespanInSeconds": 5,
            "executedAt": "2024-01-01T00:00:00Z",
            "tasks": [
                {"id": "cut_1", "runtimeInSeconds": 2, "command": {"program": "/usr/bin/cut"}},
                {
                    "id": "work_ID3",
                    "runtimeInSeconds": 0.5,
                    "coreCount": 1.5,
                    "memoryInBytes": 3_000_000,
                    "priority": 20,
                },
                {"id": "work_ID2", "runtimeInSeconds": 3, "coreCount": 2, "memoryInBytes": 2_500_000},
            ],
        },
    },
}


@pytest.fixture
def small():
    return copy.deepcopy(SMALL)


def refusal(path: Path, time_scale: float = 1) -> str:
    with pytest.raises(WorkflowFileError) as caught:
        read_wfformat(path, time_scale)
    return caught.value.message.replace(f"{path.parent}/", "")


def test_a_recorded_workflow_becomes_a_plan(write):
    plan = read_wfformat(write(json.dumps(SMALL)), 0.5)
    assert plan.name == "small"
    assert [array.name for array in plan.arrays] == ["cut", "work"]
    assert [(task.name, task.command) for task in plan.tasks] == [
        ("cut_1", "sleep 1.000"),
        ("work_ID2", "sleep 1.500"),
        ("work_ID3", "sleep 0.250"),
    ]
    assert [task.upstream_task_ids for task in plan.tasks] == [(), (1,), (1,)]
    assert [task.priority for task in plan.tasks] == [0, 0, 20]


def test_under_longest_path_first_resources_state_the_recorded_runtimes_and_priorities_are_left_out(write):
    plan = read_wfformat(write(json.dumps(SMALL)), 0.5, SchedulingPolicy.LONGEST_PATH_FIRST)
    assert plan.scheduling_policy is SchedulingPolicy.LONGEST_PATH_FIRST
    assert [task.priority for task in plan.tasks] == [0, 0, 0]
    by_id = {each.task_resources_id: each for each in plan.task_resources}
    assert [by_id[task.task_resources_id].runtime_seconds for task in plan.tasks] == [120.0, 180.0, 30.0]
    assert [task.command for task in plan.tasks] == ["sleep 1.000", "sleep 1.500", "sleep 0.250"]


@pytest.mark.parametrize(("seconds", "scale", "limit"), [(0, 1, 10), (0.1, 1, 10), (2, 10, 1216), (2, 0, 120)])
def test_no_replay_is_ended_by_the_runtime_that_is_stated(write, small, seconds, scale, limit):
    """Sixty times what it takes, ten seconds at least, at most 3% more so that tasks share resources."""
    small["workflow"]["execution"]["tasks"][0]["runtimeInSeconds"] = seconds
    plan = read_wfformat(write(json.dumps(small)), scale, SchedulingPolicy.LONGEST_PATH_FIRST)
    assert plan.task_resources[plan.tasks[0].task_resources_id - 1].runtime_seconds == limit


@pytest.mark.parametrize("policy", [SchedulingPolicy.FIRST_COME_FIRST_SERVED, SchedulingPolicy.FAIR_SHARE])
def test_other_policies_state_no_runtimes_and_keep_priorities(write, policy):
    plan = read_wfformat(write(json.dumps(SMALL)), scheduling_policy=policy)
    assert plan.scheduling_policy is policy
    assert [task.priority for task in plan.tasks] == [0, 0, 20]
    assert {each.runtime_seconds for each in plan.task_resources} == {0.0}


def test_equal_resources_are_shared_in_whole_cores_and_mebibytes(write):
    plan = read_wfformat(write(json.dumps(SMALL)))
    assert [task.task_resources_id for task in plan.tasks] == [1, 2, 2]
    assert [(each.cores, each.memory_mib) for each in plan.task_resources] == [(1, 0), (2, 3)]


def test_a_time_scale_of_0_does_nothing_and_quickly(write):
    plan = read_wfformat(write(json.dumps(SMALL)), 0)
    assert {task.command for task in plan.tasks} == {""}
    assert {array.command for array in plan.arrays} == {"true"}


def test_a_dependency_that_only_one_side_recorded_counts(write, small):
    small["workflow"]["specification"]["tasks"][1]["parents"] = []
    small["workflow"]["specification"]["tasks"][0]["children"] = ["work_ID2"]
    assert read_wfformat(write(json.dumps(small))).tasks[1].upstream_task_ids == (1,)


@pytest.mark.parametrize(
    ("name", "program", "kind"),
    [
        ("individuals_ID0000001", "", "individuals"),
        ("cpuhog_forkjoin_00000001", "", "cpuhog_forkjoin"),
        ("ID00001", "", "ID00001"),
        ("BOWTIE2", "", "BOWTIE2"),
        ("x_1", "/usr/bin/sort", "sort"),
        ("FASTQC", "mkdir out\nfastqc", "FASTQC"),
    ],
)
def test_the_kind_is_the_program_or_the_name_without_its_number(name, program, kind):
    assert kind_of(name, program) == kind


def changed(path: str, value: object):
    document = copy.deepcopy(SMALL)
    inside: Any = document
    *above, last = path.split(".")
    for part in above:
        inside = inside[int(part)] if part.isdigit() else inside[part]
    if value is None:
        del inside[last]
    else:
        inside[last] = value
    return document


TASKS, RECORDS = "workflow.specification.tasks", "workflow.execution.tasks"


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "is no recorded workflow in WfFormat 1.5; see wfcommons.org"),
        ({"name": "w", "arrays": {}}, "is no recorded workflow in WfFormat 1.5"),
        (changed("schemaVersion", "1.4"), "schemaVersion: is '1.4'; only '1.5' is read, and WfCommons' migration tool"),
        (changed("schemaVersion", None), "schemaVersion: is None; only '1.5' is read"),
        (changed("workflow.execution", None), "workflow.execution: is required: without the recorded runtimes"),
        (changed("workflow.specification", None), "workflow.specification: is required by WfFormat 1.5"),
        (changed(f"{TASKS}", []), "workflow.specification.tasks: list should have at least 1 item"),
        (changed(f"{TASKS}.1.id", None), "workflow.specification.tasks[1].id: is required by WfFormat 1.5"),
        (changed(f"{TASKS}.1.parents", ["x"]), "tasks[1].parents: 'x' is the id of no task; remove it or add the task"),
        (changed(f"{TASKS}.1.id", "cut_1"), "tasks[1].id: 'cut_1' is the id of two tasks; ids must be unique"),
        (changed(f"{TASKS}.0.parents", ["work_ID2"]), "tasks wait for each other: cut_1 after work_ID2 after cut_1"),
        (changed(f"{RECORDS}.0.id", "other"), "'cut_1' is missing in workflow.execution.tasks"),
        (changed(f"{RECORDS}.0.runtimeInSeconds", "long"), "tasks[0].runtimeInSeconds: input should be a valid number"),
        (changed(f"{RECORDS}.0.runtimeInSeconds", -1), "tasks[0].runtimeInSeconds: input should be greater than"),
    ],
)
def test_anything_else_is_refused_with_the_field_and_the_remedy(write, document, message):
    assert message in refusal(write(json.dumps(document), "record.json"))


def test_a_broken_record_is_refused_with_its_line(write, tmp_path):
    assert refusal(write('{"name": 1,\n', "r.json")).startswith("r.json:2: is not JSON: ")
    assert refusal(tmp_path / "absent.json") == "absent.json: there is no such file"


@pytest.mark.parametrize("time_scale", [-1, float("nan"), float("inf")])
def test_a_time_scale_is_0_or_more(write, time_scale):
    assert "it must be 0 or more" in refusal(write(json.dumps(SMALL)), time_scale)


@pytest.mark.parametrize(
    ("start", "tasks", "edges", "arrays"),
    [
        ("1000genome", 902, 1166, 5),
        ("blast", 303, 900, 4),
        ("helloworld", 10, 16, 1),
        ("seismology", 1001, 1000, 2),
        ("viralrecon", 203, 343, 81),
    ],
)
def test_the_recorded_workflows_are_read_whole(start, tasks, edges, arrays):
    found = list(RECORDED.glob(f"{start}*.json"))
    if not found:
        pytest.skip("the recorded workflows are not here")
    plan = read_wfformat(found[0], 0.01)
    assert len(plan.tasks) == tasks
    assert sum(len(task.upstream_task_ids) for task in plan.tasks) == edges
    assert len(plan.arrays) == arrays
    assert {task.array_id for task in plan.tasks} == {array.array_id for array in plan.arrays}
