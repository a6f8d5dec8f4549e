"""Attempts that are to be ended: the engine is told until it has heard it."""

import asyncio

import grpc
import pytest

from swarmd._pb.swarm.v1 import gateway_service_pb2 as pb
from swarmd.gateways.contract import BatchRefusedError, SwarmInfo
from swarmd.gateways.remote import cancelling
from swarmd.gateways.remote import gateway as remote
from tests.gateways.recording import SWARM, batch_of, eventually
from tests.gateways.remote.conftest import config_for
from tests.gateways.remote.scripted import group

Code = grpc.StatusCode


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(remote, "CANCEL_PATIENCE_SECONDS", 0.2)
    monkeypatch.setattr(remote, "CLOSE_SECONDS", 0.2)
    monkeypatch.setattr(cancelling, "LONGEST_PAUSE_SECONDS", 0.2)


def told(engine) -> list[tuple[int, int]]:
    """The attempts that the engine was to end."""
    pairs = [zip(each.task_ids, each.attempts, strict=True) for each in engine.cancels]
    return [pair for each in pairs for pair in each]


async def test_the_engine_has_heard_it_on_return(gateway, engine):
    await gateway.queue_batch(batch_of("a", "b", attempt=3))
    await gateway.cancel_tasks(SWARM, [1, 2], [3, 3], "enough")
    (request,) = engine.cancels
    assert told(engine) == [(1, 3), (2, 3)]
    assert request.reason == "enough"
    assert request.swarm_id == engine.swarm_id


async def test_many_are_told_in_several_calls(gateway, engine, monkeypatch):
    monkeypatch.setattr(cancelling, "MOST_AT_ONCE", 10)
    await gateway.cancel_tasks(SWARM, list(range(1, 26)), [1] * 25, "enough")
    assert [len(request.task_ids) for request in engine.cancels] == [10, 10, 5]


async def test_an_engine_that_is_away_hears_it_when_it_is_back(gateway, engine, impatient):
    await gateway.queue_batch(batch_of("a"))
    await engine.stop()
    await gateway.cancel_tasks(SWARM, [1], [1], "enough")
    assert engine.cancels == []
    await engine.start()
    await eventually(lambda: told(engine) == [(1, 1)])


async def test_that_it_has_not_heard_is_in_the_log_once(gateway, engine, impatient, caplog):
    caplog.set_level("INFO")
    engine.code = Code.INTERNAL
    await gateway.cancel_tasks(SWARM, [1], [1], "enough")
    await asyncio.sleep(1.0)
    assert caplog.text.count("has not heard yet") == 1


@pytest.mark.parametrize("code", [Code.UNAVAILABLE, Code.INTERNAL, Code.DEADLINE_EXCEEDED, Code.UNAUTHENTICATED])
async def test_after_an_error_it_is_told_again(gateway, engine, impatient, code):
    engine.code = code
    await gateway.cancel_tasks(SWARM, [1], [1], "enough")
    engine.code = None
    await eventually(lambda: told(engine) == [(1, 1)])


@pytest.mark.parametrize(("code", "words"), [(Code.UNIMPLEMENTED, "may run on"), (Code.NOT_FOUND, "")])
async def test_there_is_an_end_to_telling_it(gateway, engine, caplog, code, words):
    engine.code = code
    await gateway.cancel_tasks(SWARM, [1], [1], "enough")
    engine.code = None
    await gateway.cancel_tasks(SWARM, [2], [1], "enough")
    assert told(engine) == [(2, 1)]
    assert words in caplog.text


async def test_after_a_restart_the_engine_is_told_once_more(gateway, engine):
    batch = batch_of("a", "b", attempt=2)
    await gateway.resume([], [batch])
    await eventually(lambda: told(engine) == [(1, 2), (2, 2)])


async def test_a_swarm_that_is_removed_is_ended_there(gateway, engine, record):
    await gateway.queue_batch(batch_of("a", "b", "c"))
    await engine.tell(engine.swarm_id, group("RUNNING", 1, 2), group("DONE", 2))
    await record.ended(2)
    await gateway.remove_swarm(SWARM)
    assert sorted(told(engine)) == [(1, 1), (3, 1)]
    await engine.tell(engine.swarm_id, group("DONE", 1))
    await asyncio.sleep(0.1)
    assert record.ended_ids() == {2}


async def test_what_an_earlier_daemon_queued_is_ended_with_its_swarm(gateway, engine):
    await gateway.resume([batch_of("a", "b", attempt=4)])
    await gateway.remove_swarm(SWARM)
    assert sorted(told(engine)) == [(1, 4), (2, 4)]


async def test_what_was_not_taken_is_not_cancelled(gateway, engine):
    async def queue(request, context):
        await context.abort(Code.RESOURCE_EXHAUSTED, "full")

    engine.queue = queue
    with pytest.raises(Exception, match="full"):
        await gateway.queue_batch(batch_of("a"))
    await gateway.remove_swarm(SWARM)
    assert engine.cancels == []


@pytest.mark.parametrize("code", [None, Code.INTERNAL])
async def test_a_batch_on_its_way_when_its_swarm_is_removed_is_ended_there_and_nobody_elses(gateway, engine, code):
    came, goes_on = asyncio.Event(), asyncio.Event()

    async def queue(request, context):
        came.set()
        await goes_on.wait()
        if code is not None:
            await context.abort(code, "by the test")
        return pb.QueueBatchResponse()

    engine.queue = queue
    on_its_way = asyncio.create_task(gateway.queue_batch(batch_of("a")))
    await came.wait()
    theirs = engine.swarm_id
    await gateway.remove_swarm(SWARM)
    engine.cancels.clear()
    await gateway.add_swarm(SwarmInfo(SWARM, token="another"))
    goes_on.set()
    with pytest.raises(BatchRefusedError, match="was deleted"):
        await on_its_way
    await eventually(lambda: engine.cancels)
    assert told(engine) == [(1, 1)]
    assert engine.cancels[0].swarm_id == theirs


async def test_an_engine_without_swarms_is_kept_while_a_batch_is_on_its_way(gateway, engine, monkeypatch):
    monkeypatch.setattr(remote, "LINGER_SECONDS", 0.05)
    came, goes_on = asyncio.Event(), asyncio.Event()

    async def queue(request, context):
        came.set()
        await goes_on.wait()
        return pb.QueueBatchResponse()

    engine.queue = queue
    on_its_way = asyncio.create_task(gateway.queue_batch(batch_of("a")))
    await came.wait()
    await gateway.remove_swarm(SWARM)
    engine.cancels.clear()
    await asyncio.sleep(0.3)
    goes_on.set()
    with pytest.raises(BatchRefusedError, match="was deleted"):
        await on_its_way
    await eventually(lambda: told(engine) == [(1, 1)])
    await eventually(lambda: not gateway._engines)


async def test_removing_a_swarm_does_not_wait_for_ever(gateway, engine, impatient, caplog):
    await gateway.queue_batch(batch_of("a"))
    await engine.stop()
    await gateway.remove_swarm(SWARM)
    assert "run on until it is back: the engine at" in caplog.text
    await engine.start()
    await eventually(lambda: told(engine) == [(1, 1)])


async def test_swarms_in_memory_end_with_the_daemon_and_others_go_on(gateways, engine, record):
    gateway = await gateways.begin(
        config_for(engine.address), record.report, SwarmInfo(SWARM), SwarmInfo("kept", token="t")
    )
    await gateway.queue_batch(batch_of("a", swarm_id="kept"))
    await gateway.queue_batch(batch_of("a", "b"))
    in_memory = engine.swarm_id
    await gateway.close()
    assert {request.swarm_id for request in engine.cancels} == {in_memory}
    assert sorted(told(engine)) == [(1, 1), (2, 1)]
