"""Batches on their way to an engine: what is taken, what comes back, and what nobody knows."""

import asyncio
import errno
import time
from unittest.mock import Mock

import grpc
import pytest

from swarmd._pb.swarm.v1 import gateway_service_pb2 as pb
from swarmd.core.model import TaskResources
from swarmd.gateways.contract import BatchRefusedError, Found, OutcomeUnknownError, SwarmInfo
from swarmd.gateways.remote import bookmark, messages
from swarmd.gateways.trace import TRACEPARENT
from tests.gateways.recording import SWARM, batch_of, eventually
from tests.gateways.remote.conftest import DURABLE, config_for
from tests.gateways.remote.scripted import NOT_QUEUED, QUEUED, ScriptedEngine, group

Code = grpc.StatusCode


def ending(code: Code):
    """A QueueBatch that ends with this code."""

    async def queue(request, context):
        await context.abort(code, "by the test")

    return queue


def answering(*refusals: pb.TaskRefusal):
    async def queue(request, context):
        return pb.QueueBatchResponse(refusals=refusals)

    return queue


# -- what is sent ------------------------------------------------------------------------------------------------------


async def test_a_batch_has_all_that_is_needed_to_run_it(gateway, engine):
    resources = TaskResources(3, cluster="c", queue="q", cores=2, memory_mib=512, runtime_seconds=90, extra={"a": "b"})
    batch = batch_of("echo 1", "echo 2", first_id=5, attempt=4, name="n", resources=resources)
    assert await gateway.queue_batch(batch) is None
    sent = engine.batches[0].batch
    assert sent.batch_id == batch.batch_id
    assert (sent.array_id, sent.task_resources_id, list(sent.task_ids), list(sent.attempts)) == (7, 3, [5, 6], [4, 4])
    assert [(each.task_id, each.attempt, each.name, each.command) for each in sent.tasks] == [
        (5, 4, "n", "echo 1"),
        (6, 4, "n", "echo 2"),
    ]
    told = sent.task_resources
    assert (told.cluster, told.queue, told.cores, told.memory_mib, told.runtime.seconds) == ("c", "q", 2, 512, 90)
    assert dict(told.extra) == {"a": "b"}


async def test_the_engine_never_takes_one_swarm_for_another_of_the_same_id(gateways, engine, record):
    first = await gateways.begin(config_for(engine.address), record.report, SwarmInfo(SWARM, token="one"))
    await first.queue_batch(batch_of("true"))
    await first.remove_swarm(SWARM)
    await first.add_swarm(SwarmInfo(SWARM, token="two"))
    await first.queue_batch(batch_of("true"))
    names = [request.swarm_id for request in engine.batches]
    assert names == [f"{SWARM}~one", f"{SWARM}~two"]


async def test_swarms_in_memory_have_such_a_name_as_well(gateways, engine, record):
    for _ in range(2):
        gateway = await gateways.begin(config_for(engine.address), record.report, SwarmInfo(SWARM))
        await gateway.queue_batch(batch_of("true"))
    assert len({request.swarm_id for request in engine.batches}) == 2


async def test_the_trace_of_the_call_goes_with_it(gateway, engine):
    TRACEPARENT.set("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    await gateway.queue_batch(batch_of("true"))
    assert engine.headers[0]["traceparent"] == TRACEPARENT.get()


async def test_what_does_not_fit_into_a_message_comes_back_and_the_rest_is_queued(gateway, engine):
    batch = batch_of(*["x" * 100_000] * 60)
    outcome = await gateway.queue_batch(batch)
    (refusal,) = outcome.refusals
    sent = list(engine.batches[0].batch.task_ids)
    assert sent == list(range(1, len(sent) + 1))
    assert list(refusal.task_ids) == list(range(len(sent) + 1, 61))
    assert not refusal.permanent
    assert refusal.reason == messages.TOO_LARGE
    assert engine.batches[0].ByteSize() < 4 << 20


async def test_of_a_large_batch_in_doubt_the_same_tasks_come_back(gateway, engine):
    batch = batch_of(*["x" * 100_000] * 60)
    engine.queue = ending(Code.INTERNAL)
    with pytest.raises(OutcomeUnknownError):
        await gateway.queue_batch(batch)
    engine.found = pb.FindBatchResponse(outcome=QUEUED)
    found = await gateway.find_batch(batch)
    assert found.found is Found.QUEUED
    assert set(found.refusals[0].task_ids) == set(range(1, 61)) - set(engine.batches[0].batch.task_ids)


# -- what the engine says ----------------------------------------------------------------------------------------------


async def test_refusals_are_those_of_the_batch(gateway, engine):
    engine.queue = answering(
        pb.TaskRefusal(task_ids=[2, 99], reason="not here", permanent=True), pb.TaskRefusal(task_ids=[3])
    )
    outcome = await gateway.queue_batch(batch_of("a", "b", "c"))
    told = [(list(each.task_ids), each.reason, each.permanent) for each in outcome.refusals]
    assert told == [([2], "not here", True), ([3], "refused by the engine", False)]


@pytest.mark.parametrize(
    "code",
    [
        Code.INVALID_ARGUMENT,
        Code.FAILED_PRECONDITION,
        Code.RESOURCE_EXHAUSTED,
        Code.UNIMPLEMENTED,
        Code.UNAUTHENTICATED,
        Code.PERMISSION_DENIED,
    ],
)
async def test_these_errors_say_that_nothing_was_queued(gateway, engine, code):
    engine.queue = ending(code)
    with pytest.raises(BatchRefusedError, match=f"{code.name}: by the test"):
        await gateway.queue_batch(batch_of("true"))


@pytest.mark.parametrize(
    "code",
    [
        Code.UNAVAILABLE,
        Code.INTERNAL,
        Code.UNKNOWN,
        Code.ABORTED,
        Code.DEADLINE_EXCEEDED,
        Code.CANCELLED,
        Code.DATA_LOSS,
    ],
)
async def test_after_any_other_error_nobody_knows(gateway, engine, code):
    engine.queue = ending(code)
    with pytest.raises(OutcomeUnknownError, match=code.name):
        await gateway.queue_batch(batch_of("true"))


async def test_an_answer_that_does_not_come_in_time_leaves_it_in_doubt(gateways, engine, record):
    async def queue(request, context):
        await asyncio.sleep(60)
        return pb.QueueBatchResponse()

    engine.queue = queue
    config = config_for(engine.address, queue_timeout=0.3)
    gateway = await gateways.begin(config, record.report, DURABLE)
    with pytest.raises(OutcomeUnknownError, match="DEADLINE_EXCEEDED"):
        await gateway.queue_batch(batch_of("true"))


async def test_a_connection_that_is_lost_in_the_call_leaves_it_in_doubt(gateway, engine):
    async def queue(request, context):
        stopping = asyncio.create_task(engine.stop())
        await asyncio.sleep(60)
        return await stopping

    engine.queue = queue
    with pytest.raises(OutcomeUnknownError):
        await gateway.queue_batch(batch_of("true"))


# -- what is not sent --------------------------------------------------------------------------------------------------


async def test_an_engine_that_is_not_there_gets_nothing_and_refuses_nothing_for_good(gateways, home, record):
    absent = ScriptedEngine(home)
    gateway = await gateways.begin(config_for(absent.address), record.report, DURABLE)
    with pytest.raises(BatchRefusedError, match=r"the engine at unix:.* cannot be reached since"):
        await gateway.queue_batch(batch_of("true"))
    await absent.start()
    async with asyncio.timeout(20):
        while True:
            try:
                assert await gateway.queue_batch(batch_of("true")) is None
                break
            except BatchRefusedError:
                await asyncio.sleep(0.1)
    assert len(absent.batches) == 1
    await absent.stop()


async def test_it_is_told_whether_the_engine_of_the_config_file_can_be_reached(gateways, home, record):
    absent = ScriptedEngine(home)
    gateway = await gateways.begin(config_for(absent.address, connect_timeout=0.5), record.report)
    words = await gateway.obstacle()
    assert words.startswith(f"the engine at {absent.address} cannot be reached; look whether it runs there")
    assert await gateway.trouble() == ""  # its swarms are taken, and wait
    await absent.start()
    gateway = await gateways.begin(config_for(absent.address, connect_timeout=20.0), record.report)
    assert await gateway.obstacle() == ""
    await absent.stop()
    missing = home / "nowhere.pem"
    gateway = await gateways.begin(config_for("127.0.0.1:1", tls_ca=missing), record.report)
    assert str(missing) in await gateway.obstacle()


async def test_a_server_of_something_else_is_said_to_be_no_engine(gateways, home, record):
    other = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    other.add_insecure_port(f"unix:{home}/other.sock")
    await other.start()
    gateway = await gateways.begin(config_for(f"unix:{home}/other.sock", connect_timeout=0.5), record.report, DURABLE)
    with pytest.raises(BatchRefusedError):
        await gateway.queue_batch(batch_of("a"))
    await eventually(lambda: "Is it a GatewayService that listens there?" in gateway.standing(SWARM, 1, 1))
    await other.stop(None)


async def test_engines_that_only_swarms_name_are_not_looked_for(gateways, record):
    gateway = await gateways.begin(config_for(""), record.report)
    assert await gateway.obstacle() == ""


async def test_no_batch_goes_before_its_news_would_be_heard(gateways, engine, record):
    engine.be_silent()
    config = config_for(engine.address, connect_timeout=0.5)
    gateway = await gateways.begin(config, record.report, DURABLE)
    with pytest.raises(BatchRefusedError):
        await gateway.queue_batch(batch_of("true"))
    assert engine.batches == []
    engine.be_silent(silent=False)
    async with asyncio.timeout(20):
        while not engine.batches:
            try:
                await gateway.queue_batch(batch_of("true"))
            except BatchRefusedError:
                await asyncio.sleep(0.1)


async def test_no_batch_goes_when_its_place_cannot_be_written_down(gateways, engine, record, monkeypatch):
    with monkeypatch.context() as full_disk:
        full_disk.setattr(bookmark, "write_whole", Mock(side_effect=OSError(errno.ENOSPC, "no space left")))
        gateway = await gateways.begin(config_for(engine.address), record.report, DURABLE)
        with pytest.raises(BatchRefusedError, match="no space left"):
            await gateway.queue_batch(batch_of("true"))
    assert engine.batches == []
    async with asyncio.timeout(20):
        while not engine.batches:
            try:
                await gateway.queue_batch(batch_of("true"))
            except BatchRefusedError:
                await asyncio.sleep(0.1)


async def test_an_unknown_swarm_gets_nothing(gateway, engine):
    with pytest.raises(BatchRefusedError, match="'stranger' is not known"):
        await gateway.queue_batch(batch_of("true", swarm_id="stranger"))


# -- what became of it -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (pb.FindBatchResponse(outcome=QUEUED), Found.QUEUED),
        (pb.FindBatchResponse(outcome=NOT_QUEUED), Found.NOT_QUEUED),
        (pb.FindBatchResponse(), Found.UNKNOWN),
    ],
)
async def test_the_engine_is_asked_after_a_batch(gateway, engine, answer, found):
    engine.found = answer
    batch = batch_of("true")
    assert (await gateway.find_batch(batch)).found is found
    assert engine.asked == [batch.batch_id]


async def test_what_was_not_taken_of_a_batch_is_told_when_it_is_found(gateway, engine):
    refusal = pb.TaskRefusal(task_ids=[2], reason="no", permanent=True)
    engine.found = pb.FindBatchResponse(outcome=QUEUED, refusals=[refusal])
    found = await gateway.find_batch(batch_of("a", "b"))
    assert [(list(each.task_ids), each.permanent) for each in found.refusals] == [([2], True)]


@pytest.mark.parametrize("code", [Code.UNAVAILABLE, Code.UNIMPLEMENTED, Code.UNAUTHENTICATED, Code.INTERNAL])
async def test_an_engine_that_cannot_say_is_asked_again_later(gateway, engine, code):
    engine.code = code
    assert (await gateway.find_batch(batch_of("true"))).found is Found.UNKNOWN


async def test_an_engine_that_is_gone_cannot_say(gateway, engine):
    await engine.stop()
    assert (await gateway.find_batch(batch_of("true"))).found is Found.UNKNOWN


# -- several engines ---------------------------------------------------------------------------------------------------


async def test_a_slow_engine_holds_up_nobody_else(gateway, engine, home):
    held = asyncio.Event()

    async def slowly(request, context):
        await held.wait()
        return pb.QueueBatchResponse()

    engine.queue = slowly
    (home / "other").mkdir()
    other = ScriptedEngine(home / "other")
    await other.start()
    await gateway.add_swarm(SwarmInfo("quick", token="q", options={"address": other.address}))
    waiting = [asyncio.create_task(gateway.queue_batch(batch_of("true"))) for _ in range(8)]
    for _ in range(5):
        await gateway.queue_batch(batch_of("true", swarm_id="quick"))
    assert not any(task.done() for task in waiting)
    held.set()
    await asyncio.gather(*waiting)
    await other.stop()


async def test_swarms_at_the_same_engine_share_its_stream(gateway, engine, record):
    for number in range(3):
        swarm_id = f"s{number}"
        await gateway.add_swarm(SwarmInfo(swarm_id, token="t", options={"address": engine.address}))
        await gateway.queue_batch(batch_of("true", swarm_id=swarm_id))
        await engine.tell(engine.swarm_id, group("DONE", 1))
    await record.until(lambda: len(record.news) == 3)
    assert {swarm_id for swarm_id, *_ in record.news} == {"s0", "s1", "s2"}
    assert len(engine.places) == 1


async def test_close_does_not_wait_for_an_engine_that_is_away(gateway, engine):
    await gateway.queue_batch(batch_of("true"))
    await engine.stop()
    begun = time.monotonic()
    await gateway.close()
    assert time.monotonic() - begun < 30
