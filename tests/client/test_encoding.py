"""Plans become chunks that fit, and lose nothing on the way."""

from typing import Any

import pytest

from swarmd._pb.swarm.v1 import task_pb2
from swarmd._pb.swarm.v1.swarm_service_pb2 import AddTasksRequest
from swarmd.cli.run.session import swarm_message
from swarmd.client.decoding import task_resources
from swarmd.client.encoding import (
    ColumnLoad,
    Loadable,
    add_tasks_chunks,
    task_message,
    task_resources_message,
    update_message,
)
from swarmd.core.errors import InvalidInputError
from swarmd.core.model import Array, QueueLimits, Task, TaskResources
from swarmd.core.status import TaskStatus
from swarmd.core.update import StateUpdate
from swarmd.wire import from_proto
from swarmd.workflow import WorkflowPlan


def chunks_of(load: Loadable | ColumnLoad, **given: Any) -> list[AddTasksRequest]:
    return [AddTasksRequest.FromString(each) for each in add_tasks_chunks("s", load, **given)]


def plan_of(tasks: int, command: str = "") -> WorkflowPlan:
    return WorkflowPlan(
        "plan",
        arrays=[Array(1, "first", max_concurrently_running=7, command="true"), Array(2, "second")],
        task_resources=[TaskResources(1, cores=2)],
        tasks=[Task(number, 1, 1, f"task_{number}", command) for number in range(1, tasks + 1)],
    )


@pytest.mark.parametrize(("tasks", "command", "chunk"), [(0, "", 1000), (5000, "", 1000), (50, "x" * 131_072, 1 << 20)])
def test_chunks_stay_below_their_size_and_hold_everything_once(tasks, command, chunk):
    chunks = chunks_of(plan_of(tasks, command), request_id="r", chunk_bytes=chunk)
    assert max(each.ByteSize() for each in chunks) <= chunk
    assert [task.task_id for each in chunks for task in each.tasks] == list(range(1, tasks + 1))
    assert [array.array_id for each in chunks for array in each.arrays] == [1, 2]
    assert sum(len(each.task_resources) for each in chunks) == 1


def test_only_the_first_chunk_names_the_swarm_and_the_request():
    chunks = chunks_of(plan_of(5000), request_id="r", chunk_bytes=1000)
    assert len(chunks) > 10
    assert [(each.swarm_id, each.request_id) for each in chunks[:2]] == [("s", "r"), ("", "")]


def test_a_chunk_is_never_empty_even_when_one_task_is_larger_than_it():
    chunks = chunks_of(plan_of(3, "x" * 5000), chunk_bytes=1000)
    assert all(each.tasks or each.arrays for each in chunks)


def test_a_task_keeps_all_its_fields():
    task = Task(
        7,
        2,
        3,
        "name",
        "echo",
        (1, 2),
        TaskStatus.DONE,
        max_attempts=5,
        priority=-4,
        resource_scales={"memory": 0.5},
        attempt=6,
        failed_attempts=1,
    )
    assert task_message(task) == task_pb2.Task(
        task_id=7,
        array_id=2,
        task_resources_id=3,
        name="name",
        command="echo",
        upstream_task_ids=[1, 2],
        status=task_pb2.TASK_STATUS_DONE,
        max_attempts=5,
        priority=-4,
        resource_scales={"memory": 0.5},
        attempt=6,
        failed_attempts=1,
    )


def test_resources_keep_all_their_fields():
    resources = TaskResources(1, "c", "q", 4, 512, 90.5, {"account": "x"}, ("long", ""))
    message = task_resources_message(resources)
    assert task_resources(message) == resources
    assert (message.cluster, message.queue, message.cores, message.memory_mib) == ("c", "q", 4, 512)
    assert (message.runtime.ToNanoseconds(), dict(message.extra)) == (90_500_000_000, {"account": "x"})
    assert list(message.fallback_queues) == ["long", ""]
    assert not task_resources_message(TaskResources(1)).HasField("runtime")


def test_what_queues_can_hold_is_sent_as_it_is_told():
    limits = [QueueLimits("c", "q", 4, 512, 90.5), QueueLimits()]
    message = update_message(StateUpdate(queue_limits=limits))
    assert from_proto.state_update(message).queue_limits == limits
    with pytest.raises(InvalidInputError) as caught:
        update_message(StateUpdate(queue_limits=[QueueLimits(runtime_seconds=float("nan"))]))
    assert caught.value.field == "runtime_seconds"


def test_limits_that_are_not_set_stay_unset():
    chunk = chunks_of(plan_of(1))[0]
    assert [array.HasField("max_concurrently_running") for array in chunk.arrays] == [True, False]
    assert not swarm_message(plan_of(0)).HasField("max_concurrently_running")
    assert swarm_message(WorkflowPlan("x", max_concurrently_running=0)).HasField("max_concurrently_running")
