import math
import time
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmd.core.model import TaskResources
from swarmd.core.policy import SchedulingPolicy
from swarmd.workflow import WorkflowPlan
from swarmd.workflow.model import ArrayBlock, Policy
from swarmd.workflow.rows import row_count, rows_of

GRID = """
name: grid
arrays:
  simulate:
    parameters: {location: [north, south], year: {from: 2020, to: 2022}}
    command: run {location} {year}
"""


def names(plan: WorkflowPlan) -> list[str]:
    return [task.name for task in plan.tasks]


def commands(plan: WorkflowPlan) -> list[str]:
    return [task.command for task in plan.tasks]


def test_a_product_has_a_task_for_each_combination_the_last_parameter_fastest(load):
    plan = load(GRID)
    assert commands(plan)[:4] == ["run north 2020", "run north 2021", "run north 2022", "run south 2020"]
    assert names(plan)[0] == "simulate_north_2020"
    assert [task.task_id for task in plan.tasks] == [1, 2, 3, 4, 5, 6]


def test_a_count_gives_the_parameter_index_from_0(load):
    plan = load("name: w\narrays: {a: {count: 3, command: 'run {index}'}}")
    assert commands(plan) == ["run 0", "run 1", "run 2"]
    assert names(plan) == ["a_0", "a_1", "a_2"]


def test_listed_tasks_bring_their_parameters_and_what_is_their_own(load):
    plan = load("""
        name: w
        resources: {big: {memory: 1G}}
        arrays:
          a:
            command: run {place}
            max_attempts: 2
            tasks:
              - {place: north}
              - {place: south, name: 'the {place}', priority: 7, max_attempts: 5, resources: big}
              - {command: 'other {task_id} {name}', name: last}
    """)
    assert commands(plan) == ["run north", "run south", "other 3 last"]
    assert names(plan) == ["a_north", "the south", "last"]
    assert [task.priority for task in plan.tasks] == [0, 7, 0]
    assert [task.max_attempts for task in plan.tasks] == [2, 5, 2]
    assert [task.task_resources_id for task in plan.tasks] == [1, 2, 1]


def test_listed_tasks_can_be_names_alone(load):
    plan = load("name: w\narrays: {a: {command: 'say {name}', tasks: [red, blue]}}")
    assert names(plan) == ["red", "blue"]
    assert plan.arrays[0].command == "say {name}"


def test_an_array_without_tasks_is_one_task_of_its_name(load):
    plan = load("name: w\narrays: {plot: {command: draw}}")
    assert names(plan) == ["plot"]


def test_a_command_without_parameters_is_left_to_the_array(load):
    plan = load("name: w\narrays: {a: {count: 2, command: 'run {task_id} {attempt}'}}")
    assert plan.arrays[0].command == "run {task_id} {attempt}"
    assert commands(plan) == ["", ""]


def test_a_command_with_parameters_is_rendered_and_asks_the_environment_for_the_rest(load):
    plan = load("""
        name: w
        arrays:
          a:
            count: 1
            command: 'run {index} {attempt} {swarm_id} {task_id} {name} {array_name} {{index}} ${HOME} 100% %s'
    """)
    assert commands(plan) == ["run 0 ${SWARM_ATTEMPT} ${SWARM_ID} 1 a_0 a {index} ${HOME} 100% %s"]
    assert plan.arrays[0].command == ""


def test_values_stand_in_commands_as_they_are_written(load):
    plan = load("name: w\narrays: {a: {parameters: {v: [007, no, true, 1.5, 'a b']}, command: '{v}'}}")
    assert commands(plan) == ["007", "no", "true", "1.5", "a b"]


def test_ranges_include_both_ends(load):
    text = "name: w\narrays: {{a: {{parameters: {{v: {}}}, command: '{{v}}'}}}}"
    assert commands(load(text.format("{from: 0, to: 1, step: 0.25}"))) == ["0.0", "0.25", "0.5", "0.75", "1.0"]
    assert commands(load(text.format("{from: 3, to: 1, step: -1}"))) == ["3", "2", "1"]
    assert commands(load(text.format("{from: 0, to: 0.3, step: 0.1}")))[-1] == "0.3"


def test_resources_start_from_the_defaults_and_are_shared_when_equal(load):
    plan = load("""
        name: w
        defaults: {resources: {queue: all, memory: 1G, extra: {account: x}}}
        resources: {big: {memory: 4G, extra: {gpus: 1}}}
        arrays:
          a: {command: x}
          b: {command: x, resources: big}
          c: {command: x, resources: {memory: 1024}}
          d: {command: x, resources: {runtime: 1h, cores: 2}}
    """)
    assert [task.task_resources_id for task in plan.tasks] == [1, 2, 1, 3]
    assert plan.task_resources == [
        TaskResources(1, queue="all", memory_mib=1024, extra={"account": "x"}),
        TaskResources(2, queue="all", memory_mib=4096, extra={"account": "x", "gpus": "1"}),
        TaskResources(3, queue="all", cores=2, memory_mib=1024, runtime_seconds=3600, extra={"account": "x"}),
    ]


def test_queues_to_fall_back_to_come_from_the_defaults_too(load):
    plan = load("""
        name: w
        defaults: {resources: {queue: short, fallback_queues: [long, big]}}
        arrays:
          a: {command: x}
          b: {command: x, resources: {fallback_queues: []}}
          c: {command: x, resources: {queue: other}}
    """)
    assert [(each.queue, each.fallback_queues) for each in plan.task_resources] == [
        ("short", ("long", "big")),
        ("short", ()),
        ("other", ("long", "big")),
    ]


@pytest.mark.parametrize("written", ["long", "[1]", f"[{', '.join(['q'] * 17)}]", f"[{'q' * 257}]"])
def test_queues_to_fall_back_to_that_are_none_are_named(refusal, written):
    text = f"name: w\narrays: {{a: {{command: x, resources: {{fallback_queues: {written}}}}}}}"
    assert refusal(text).startswith("flow.yaml:2: arrays.a.resources.fallback_queues")


def test_the_policies_of_the_file_are_those_of_the_core():
    assert get_args(Policy) == tuple(SchedulingPolicy)


def test_settings_reach_the_plan(load, tmp_path):
    (tmp_path / "sub").mkdir()
    plan = load("""
        name: w
        max_concurrently_running: 5
        fail_fast: true
        scheduling_policy: longest_path_first
        environment: {THREADS: 1}
        working_directory: sub
        defaults: {max_attempts: 4, resource_scales: {memory: 1}}
        arrays: {a: {command: x, max_concurrently_running: 2}, b: {command: x, resource_scales: {runtime: 2}}}
    """)
    assert (plan.name, plan.max_concurrently_running, plan.fail_fast) == ("w", 5, True)
    assert plan.scheduling_policy is SchedulingPolicy.LONGEST_PATH_FIRST
    assert plan.environment == {"THREADS": "1"}
    assert plan.working_directory == tmp_path / "sub"
    assert [array.max_concurrently_running for array in plan.arrays] == [2, None]
    assert [task.max_attempts for task in plan.tasks] == [4, 4]
    assert [task.resource_scales for task in plan.tasks] == [{"memory": 1}, {"runtime": 2}]


def test_what_is_left_out_has_jobmons_defaults(load, tmp_path):
    plan = load("name: w\narrays: {a: {command: x}}")
    assert plan.max_concurrently_running is None
    assert plan.working_directory == tmp_path
    assert plan.tasks[0].max_attempts == 3
    assert plan.tasks[0].resource_scales == {"memory": 0.5, "runtime": 0.5}


def test_json_is_read_like_yaml(write, load):
    text = '{"name": "w", "arrays": {"a": {"command": "run {index}", "count": 2}}}'
    assert commands(load(text)) == ["run 0", "run 1"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("{count: 2, command: 'x {indx}'}", "arrays.a.command: nothing fills {indx}; did you mean {index}?"),
        ("{count: 2, name: '{attempt}', command: x}", "arrays.a.name: nothing fills {attempt}"),
        ("{count: 2}", "arrays.a.command: is required"),
        ("{tasks: [b]}", "arrays.a.tasks[0]: has no command, and its array has none either"),
        ("{tasks: [{p: 1}, {q: 2}], command: '{p}'}", "arrays.a.tasks[1]: nothing fills {p}"),
        ("{tasks: [{max_attempt: 1}], command: x}", "is a parameter that nothing uses; did you mean 'max_attempts'?"),
        ("{parameters: {name: [1]}, command: x}", "arrays.a.parameters.name: {name} is filled in by swarmd"),
        ("{tasks: [{task_id: 4}], command: x}", "arrays.a.tasks[0].task_id: {task_id} is filled in by swarmd"),
        ("{command: x, resources: bigg}", "arrays.a.resources: there are no resources 'bigg'; did you mean 'big'?"),
        ("{tasks: [{resources: huge}], command: x}", "tasks[0].resources: there are no resources 'huge'; known: big"),
        ('{count: 2, command: "\\0"}', "a.command: holds a NUL character"),
    ],
)
def test_what_does_not_fit_together_is_told(refusal, body, message):
    text = refusal(f"name: w\nresources: {{big: {{}}}}\narrays:\n  a: {body}")
    assert message in text
    assert text.startswith("flow.yaml:4: ")


def test_a_rendered_command_has_a_bound(refusal):
    text = refusal("name: w\narrays: {a: {parameters: {v: [" + "x" * 1000 + "]}, command: '" + "{v}" * 200 + "'}}")
    assert text == "flow.yaml:2: arrays.a: comes to a task with a command of 200000 bytes; 131072 are allowed"


def test_variables_of_swarmd_cannot_be_set(refusal):
    text = refusal("name: w\nenvironment: {SWARM_ATTEMPT: 1}\narrays: {a: {command: x}}")
    assert text == "flow.yaml:2: environment.SWARM_ATTEMPT: is set by swarmd for each task; use another name"


def test_a_working_directory_beside_the_file_must_exist(refusal):
    assert "working_directory: there is no directory" in refusal(
        "name: w\nworking_directory: nowhere\narrays: {a: {command: x}}"
    )


def test_the_size_is_known_before_anything_is_expanded(refusal):
    ranges = ", ".join(f"p{number}: {{from: 1, to: 1000000000}}" for number in range(3))
    started = time.monotonic()
    text = refusal(f"name: w\narrays:\n  a:\n    parameters: {{{ranges}}}\n    command: x")
    assert text.startswith(f"flow.yaml:3: arrays.a: the workflow comes to {10**27:,} tasks")
    assert time.monotonic() - started < 1


def test_a_bound_on_tasks_can_be_chosen(refusal):
    assert "comes to 6 tasks, 6 of them here; 5 are allowed" in refusal(GRID, max_tasks=5)


number = st.integers(-50, 50)
ranges = st.builds(
    lambda first, length, step: {"from": first, "to": first + step * length, "step": step},
    number,
    st.integers(0, 6),
    st.integers(1, 5) | st.integers(-5, -1) | st.sampled_from([0.1, 0.25, -0.5]),
)


@given(st.dictionaries(st.sampled_from("abcd"), st.lists(number, min_size=1, max_size=4) | ranges, min_size=1))
def test_a_product_has_as_many_rows_as_its_size_says(parameters):
    array = ArrayBlock.model_validate({"command": "x", "parameters": parameters})
    rows = rows_of(array)
    assert len(rows.values) == row_count(array)
    lengths = [
        len(v) if isinstance(v, list) else 1 + round((v["to"] - v["from"]) / v["step"]) for v in parameters.values()
    ]
    assert row_count(array) == math.prod(lengths)
