"""The client with a real daemon: answers, errors, large loads, and a watch that survives the daemon's absence."""

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from swarmd._pb.swarm.v1 import scheduler_service_pb2, state_pb2, swarm_pb2, swarm_service_pb2, task_pb2
from swarmd.client import NoDaemonError, ProtocolClient, RpcError
from swarmd.client.watching import Follower
from swarmd.core.errors import InvalidInputError
from swarmd.core.model import Array, Task, TaskResources
from swarmd.workflow import WorkflowPlan
from tests.daemon import DaemonProcess, running


@pytest.fixture(scope="module")
def daemon() -> Iterator[DaemonProcess]:
    with running() as process:
        yield process
        assert process.stop() == 0


@pytest_asyncio.fixture
async def client(daemon: DaemonProcess) -> AsyncIterator[ProtocolClient]:
    async with ProtocolClient(daemon.address) as connected:
        yield connected


def plan_of(tasks: int) -> WorkflowPlan:
    rows = [Task(number, 1, 1, f"task_{number}", "true") for number in range(1, tasks + 1)]
    return WorkflowPlan("plan", arrays=[Array(1, "only")], task_resources=[TaskResources(1)], tasks=rows)


async def loaded(client: ProtocolClient, swarm_id: str, tasks: int = 3) -> str:
    await client.create_swarm(swarm_pb2.Swarm(swarm_id=swarm_id, gateway="pull"))
    await client.add_tasks(swarm_id, plan_of(tasks))
    return swarm_id


async def test_a_swarm_from_its_creation_to_its_end(client):
    made = await client.create_swarm(swarm_pb2.Swarm(swarm_id="life", gateway="pull"))
    assert made.swarm_id == "life"
    assert (await client.add_tasks("life", plan_of(2))).newly_ready_count == 2
    assert (await client.has_work("life")).has_work
    (batch,) = (await client.tick("life")).batches
    assert list(batch.task_ids) == [1, 2]
    answers = [answer async for answer in client.apply_updates(_done("life", batch.task_ids))]
    assert [answer.changed_count for answer in answers] == [2]
    assert (await client.get_swarm("life")).outcome == swarm_pb2.SWARM_OUTCOME_DONE
    assert (await client.get_task("life", 1)).status == task_pb2.TASK_STATUS_DONE
    assert (await client.explain_task("life", 1)).attempts[0].attempt == 1
    await client.delete_swarm("life")
    assert "life" not in [swarm.swarm_id for swarm in await client.list_swarms()]


async def _done(swarm_id: str, task_ids) -> AsyncIterator[scheduler_service_pb2.ApplyUpdateRequest]:
    group = state_pb2.TaskStatusGroup(status=task_pb2.TASK_STATUS_DONE, task_ids=task_ids)
    update = state_pb2.StateUpdate(task_statuses=[group])
    yield scheduler_service_pb2.ApplyUpdateRequest(swarm_id=swarm_id, sequence=1, update=update)


async def test_settings_are_changed_through_a_mask(client):
    await loaded(client, "settings")
    swarm = swarm_pb2.Swarm(swarm_id="settings", paused=True, max_concurrently_running=5)
    assert (await client.update_swarm(swarm, ["paused"])).max_concurrently_running == 10_000
    assert (await client.get_swarm("settings")).paused


async def test_cancelling_and_resetting(client):
    await loaded(client, "undone")
    everything = task_pb2.TaskSelector(all=True)
    assert (await client.cancel_tasks("undone", everything, reason="why")).cancelled_count == 3
    assert (await client.reset_tasks("undone", everything)).reset_count == 3


async def test_a_large_load_goes_in_chunks_and_comes_back_in_pages(client):
    await loaded(client, "large", 100_000)
    found = [task.task_id async for task in client.list_tasks("large", page_size=7000)]
    assert found == list(range(1, 100_001))


async def test_errors_carry_code_reason_message_and_metadata(client):
    with pytest.raises(RpcError) as caught:
        await client.get_swarm("nobody")
    error = caught.value
    assert (error.code, bool(error.reason)) == ("NOT_FOUND", True)
    assert "nobody" in error.message
    assert not isinstance(error, NoDaemonError)


async def test_the_offending_field_is_named(client):
    with pytest.raises(RpcError) as caught:
        await client.create_swarm(swarm_pb2.Swarm(swarm_id="not a name!"))
    assert caught.value.code == "INVALID_ARGUMENT"
    assert "swarm_id" in caught.value.field + caught.value.message


async def test_a_refused_load_is_an_error_with_the_ids(client):
    await client.create_swarm(swarm_pb2.Swarm(swarm_id="cyclic", gateway="pull"))
    tasks = [Task(1, 1, 1, upstream_task_ids=(2,)), Task(2, 1, 1, upstream_task_ids=(1,))]
    plan = WorkflowPlan("x", arrays=[Array(1)], task_resources=[TaskResources(1)], tasks=tasks)
    with pytest.raises(RpcError, match="2 -> 1 -> 2"):
        await client.add_tasks("cyclic", plan)


@pytest.mark.parametrize("address", ["unix:/tmp/swarmd-nobody-is-here.sock", "127.0.0.1:1"])
async def test_nobody_answers(address):
    async with ProtocolClient(address) as client:
        with pytest.raises(NoDaemonError, match='start one with "swarmd serve"') as caught:
            await client.connect()
    assert (caught.value.address, caught.value.code) == (address, "UNAVAILABLE")


def test_a_client_may_be_made_before_there_is_an_event_loop(daemon):
    client = ProtocolClient(daemon.address)

    async def use() -> int:
        async with client:
            return len(await client.list_swarms())

    assert asyncio.run(use()) >= 0
    asyncio.run(ProtocolClient(daemon.address).close())


def test_an_address_that_cannot_be_used_is_refused_before_any_call():
    with pytest.raises(InvalidInputError):
        ProtocolClient("nowhere")


async def test_following_ends_when_the_swarm_is_finished(client):
    await loaded(client, "followed")
    follower = Follower(client, "followed", until_finished=True)
    events = asyncio.ensure_future(_collected(follower))
    await asyncio.sleep(0.2)
    await client.cancel_tasks("followed", task_pb2.TaskSelector(all=True))
    kinds = [event.WhichOneof("event") for event in await events]
    assert (kinds[0], kinds[-1]) == ("snapshot", "end")
    assert follower.after_revision == (await client.get_swarm("followed")).revision


async def _collected(follower: Follower) -> list[swarm_service_pb2.WatchSwarmResponse]:
    return [event async for event in follower.events()]


async def test_following_waits_for_a_daemon_that_is_gone_and_gives_up_in_time():
    with running() as process:
        async with ProtocolClient(process.address) as client:
            await loaded(client, "lost")
            follower = Follower(client, "lost", patience=1.5)
            events = follower.events()
            assert (await anext(events)).HasField("snapshot")
            process.signal(signal.SIGKILL)
            process.wait()
            started = asyncio.get_running_loop().time()
            with pytest.raises(NoDaemonError, match=r"the connection to the daemon at .* was lost"):
                await anext(events)
            assert 1 < asyncio.get_running_loop().time() - started < 10


async def test_following_survives_a_stopped_and_continued_daemon():
    with running() as process:
        async with ProtocolClient(process.address) as client:
            await loaded(client, "frozen")
            follower = Follower(client, "frozen", progress_interval=0.2)
            events = follower.events()
            await anext(events)
            process.signal(signal.SIGSTOP)
            await asyncio.sleep(0.5)
            process.signal(signal.SIGCONT)
            async with asyncio.timeout(10):
                assert (await anext(events)).HasField("progress")


async def test_a_follower_that_reads_slowly_misses_nothing_and_needs_no_patience():
    """It is ended, and goes on from where it was; what the daemon no longer keeps is made up for by a snapshot."""
    tasks, rounds = 20_000, 150
    with running("--max-queued-bytes-per-watcher", "16384") as process:
        async with ProtocolClient(process.address) as client:
            await loaded(client, "slow", tasks)
            follower = Follower(client, "slow", patience=0)
            events = follower.events()
            assert (await anext(events)).HasField("snapshot")
            group = state_pb2.TaskStatusGroup(task_ids=range(1, tasks + 1))
            for number in range(rounds):
                group.status = (task_pb2.TASK_STATUS_QUEUED, task_pb2.TASK_STATUS_REGISTERED)[number % 2]
                request = scheduler_service_pb2.ApplyUpdateRequest(
                    swarm_id="slow", update=state_pb2.StateUpdate(task_statuses=[group])
                )
                async for _ in client.apply_updates(_one(request)):
                    pass
            last = (await client.get_swarm("slow")).revision
            at = follower.after_revision or 0
            while at < last:
                event = await anext(events)
                assert event.HasField("snapshot") or event.revision <= at + 1  # or what came between is not kept
                at = event.revision


async def _one(
    request: scheduler_service_pb2.ApplyUpdateRequest,
) -> AsyncIterator[scheduler_service_pb2.ApplyUpdateRequest]:
    yield request


async def test_following_an_unknown_swarm_is_an_error_at_once(client):
    with pytest.raises(RpcError) as caught:
        await anext(Follower(client, "nobody").events())
    assert caught.value.code == "NOT_FOUND"
