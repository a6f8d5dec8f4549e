"""`cancel`, `reset`, `pause`, `resume`, `delete`, `tick`, `has-work`: what commands change."""

import asyncio

import pytest

from swarmd._pb.swarm.v1 import state_pb2, swarm_pb2, task_pb2
from swarmd.client import ProtocolClient, UpdateStream
from swarmd.core.model import Array, Task, TaskResources
from swarmd.workflow import WorkflowPlan
from tests.cli.conftest import Swarmd
from tests.daemon import DaemonProcess


@pytest.fixture
def by_hand(daemon: DaemonProcess, request: pytest.FixtureRequest) -> str:
    """A swarm for the pull gateway, with two arrays of three and two tasks, that nobody ticks by himself."""
    swarm_id = str(request.node.name).removeprefix("test_")[:60]
    arrays = [Array(1, "first", command="echo {name}"), Array(2, "second", command="true")]
    tasks = [Task(1, 1, 1, "one"), Task(2, 1, 1, "two"), Task(3, 1, 1, "three")]
    tasks += [Task(4, 2, 1, "four", upstream_task_ids=(1,)), Task(5, 2, 1, "four")]
    plan = WorkflowPlan("by hand", arrays=arrays, task_resources=[TaskResources(1)], tasks=tasks)

    async def load() -> None:
        async with ProtocolClient(daemon.address) as client:
            await client.create_swarm(swarm_pb2.Swarm(swarm_id=swarm_id, gateway="pull"))
            await client.add_tasks(swarm_id, plan)

    asyncio.run(load())
    return swarm_id


def test_a_tick_hands_out_what_is_ready(swarmd: Swarmd, by_hand):
    answer = swarmd("tick", by_hand, "--full")
    assert answer.code == 0
    assert "4 tasks queued in 2 batches, 0 still ready" in answer.out
    assert "echo two" in answer.out


def test_a_tick_in_json_and_within_limits(swarmd: Swarmd, by_hand):
    assert swarmd("tick", by_hand, "--timeout", 0, "--json").json["batches"] == []
    first = swarmd("tick", by_hand, "--max-batches", 1, "--json").json
    assert (len(first["batches"]), first["readyToRunCount"]) == (1, 1)
    assert first["batches"][0]["taskIds"] == ["1", "2", "3"]


def test_what_attempts_asked_for_is_shown_where_it_differs(swarmd: Swarmd, daemon: DaemonProcess):
    asked = TaskResources(1, "", "short", 2, 1024, 5400.0, fallback_queues=("long",))
    tasks = [Task(1, 1, 1, resource_scales={"memory": 0.5, "runtime": 1.0}), Task(2, 1, 1)]
    plan = WorkflowPlan("grows", arrays=[Array(1, command="true")], task_resources=[asked], tasks=tasks)
    limits = task_pb2.QueueLimits(queue="short", memory_mib=1200)
    ran_out = state_pb2.TaskStatusGroup(status=task_pb2.TASK_STATUS_ADJUSTING_RESOURCES, task_ids=[1])

    async def run_out() -> None:
        async with ProtocolClient(daemon.address) as client:
            await client.create_swarm(swarm_pb2.Swarm(swarm_id="grows", gateway="pull"))
            await client.add_tasks("grows", plan)
            await client.tick("grows")
            async with UpdateStream(client, "grows") as updates:
                await updates.apply_message(state_pb2.StateUpdate(queue_limits=[limits]))
                await updates.apply_message(state_pb2.StateUpdate(task_statuses=[ran_out]))
            await client.tick("grows")

    asyncio.run(run_out())
    lines = swarmd("explain", "grows", 1).out.splitlines()
    assert any(line.startswith("asked for") and line.endswith("2 cores, 1,536 MiB, 3 h on long") for line in lines)
    first, second = lines[-2:]
    assert "2 cores, 1,024 MiB, 1 h 30 min on short" in first
    assert "2 cores, 1,536 MiB, 3 h on long" in second
    lines = swarmd("explain", "grows", 2).out.splitlines()
    assert any(line.endswith("2 cores, 1,024 MiB, 1 h 30 min on short") for line in lines)
    assert "ASKED FOR" not in "\n".join(lines)


def test_whether_there_is_work(swarmd: Swarmd, by_hand):
    answer = swarmd("has-work", by_hand)
    assert (answer.code, answer.out) == (0, "yes: 4 tasks ready, room for 10,000, 0 active\n")
    swarmd("tick", by_hand)
    answer = swarmd("has-work", by_hand, "--wait", 0.1, "--json")
    assert (answer.code, answer.json["hasWork"], answer.json["activeCount"]) == (1, False, 4)


def test_a_paused_swarm_has_no_work(swarmd: Swarmd, by_hand):
    assert swarmd("pause", by_hand).out == f"{by_hand} is paused\n"
    assert swarmd("has-work", by_hand).code == 1
    assert "the swarm is paused" in swarmd("status", by_hand).out
    assert swarmd("resume", by_hand, "--json").json["paused"] is False
    assert swarmd("has-work", by_hand).code == 0


def test_cancelling_and_resetting_what_is_selected(swarmd: Swarmd, by_hand):
    assert swarmd("cancel", by_hand, "--task", 1, "--task", 2, "--reason", "typo").out == "2 tasks cancelled\n"
    assert swarmd("tasks", by_hand, "-s", "X", "--json").json_lines[0]["reason"] == "typo"
    assert swarmd("cancel", by_hand, "--array", "first", "--status", "G", "--json").json["cancelledCount"] == 1
    assert swarmd("reset", by_hand, "--task", 1).out.startswith("1 task reset, 1 ready")
    assert swarmd("reset", by_hand, "--status", "cancelled", "--downstreams", "--json").json["resetCount"] == 2
    assert swarmd("cancel", by_hand, "--all").out == "5 tasks cancelled\n"
    assert swarmd("cancel", by_hand, "--all").out == "0 tasks cancelled; 5 had ended already\n"


def test_unknown_tasks_are_refused(swarmd: Swarmd, by_hand):
    answer = swarmd("cancel", by_hand, "--task", 99)
    assert answer.code == 4
    assert "99" in answer.err


def test_a_name_that_several_tasks_have_is_refused(swarmd: Swarmd, by_hand):
    answer = swarmd("explain", by_hand, "four")
    assert (answer.code, answer.err) == (2, "swarmd: 2 tasks are called 'four'; give the id of one: 4, 5\n")


def test_output_of_another_gateway_is_not_here(swarmd: Swarmd, by_hand):
    swarmd("tick", by_hand)
    answer = swarmd("logs", by_hand, 1)
    assert answer.code == 4
    assert "Traceback" not in answer.err


def test_a_deleted_swarm_is_gone(swarmd: Swarmd, by_hand):
    assert swarmd("delete", by_hand, "--json").json == {"deleted": by_hand}
    assert swarmd("status", by_hand).code == 4
