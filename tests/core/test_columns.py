"""Columns of tasks: of values, of arrays, of chunks."""

import numpy as np

from swarmd.core.columns import TaskColumns
from swarmd.core.model import Task
from swarmd.core.status import Code, TaskStatus
from tests.core.builders import a_swarm, a_task


def test_single_values_hold_for_all_tasks():
    columns = TaskColumns.of([1, 2, 3], 7, 9, priorities=4)
    assert columns.array_ids.tolist() == [7, 7, 7]
    assert columns.priorities.tolist() == [4, 4, 4]
    assert columns.max_attempts.tolist() == [3, 3, 3]


def test_columns_can_be_written_to_without_touching_one_another():
    columns = TaskColumns.of([1, 2, 3], 7, 9)
    columns.array_ids[0] = 1
    assert columns.array_ids.tolist() == [1, 7, 7]


def test_chunks_are_joined_with_their_upstreams_texts_and_scales():
    first = [a_task(1, name="one", scales={"memory": 0.5}), a_task(2, 1)]
    second = [a_task(3, 1, 2, command="c", scales={"cores": 1.0}), a_task(4, scales={"memory": 0.5})]
    joined = TaskColumns.joined([TaskColumns.from_tasks(first), TaskColumns.from_tasks(second)])
    at_once, by_chunks = a_swarm([*first, *second]), a_swarm()
    by_chunks.load(tasks=joined)
    assert by_chunks.tasks() == at_once.tasks()


def test_no_tasks_make_empty_columns():
    assert len(TaskColumns.from_tasks([])) == 0
    assert len(TaskColumns.joined([TaskColumns.from_tasks([]), TaskColumns.from_tasks([])])) == 0


def test_the_same_scales_are_kept_once():
    columns = TaskColumns.from_tasks([a_task(n, scales={"memory": 0.5, "cores": 1.0}) for n in (1, 2)] + [a_task(3)])
    assert columns.scales.tolist() == [1, 1, 0]
    assert columns.scale_sets == [{}, {"memory": 0.5, "cores": 1.0}]


def test_a_failed_attempt_is_loaded_as_registered():
    columns = TaskColumns.from_tasks([Task(n, 1, 1, status=TaskStatus(each)) for n, each in enumerate("EAG", 1)])
    assert np.all(columns.statuses == Code.REGISTERED)


def test_a_task_comes_back_as_it_was_loaded():
    state = a_swarm(
        [a_task(1), a_task(9, 1, name="n", command="c", priority=-4, max_attempts=2, scales={"cores": 1.5})]
    )
    view = state.task(9)
    assert (view.task_id, view.array_id, view.task_resources_id, view.upstream_task_ids) == (9, 1, 1, (1,))
    assert (view.name, view.command, view.priority, view.max_attempts) == ("n", "c", -4, 2)
    assert view.resource_scales == {"cores": 1.5}
    assert (view.status, view.attempt, view.failed_attempts, view.reason) == (TaskStatus.REGISTERED, 0, 0, "")
