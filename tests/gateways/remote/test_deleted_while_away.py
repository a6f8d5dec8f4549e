"""A swarm that is deleted while its engine is away: its tasks are ended when that is back, whatever ends meanwhile."""

import asyncio
import json
import time
from dataclasses import replace
from pathlib import Path

import grpc
import pytest

from swarmd._pb.swarm.v1 import gateway_service_pb2 as pb
from swarmd.client import Swarm, SwarmClient
from swarmd.config import DaemonConfig
from swarmd.gateways.catalogue import made_gateways
from swarmd.gateways.contract import BatchRefusedError, OutcomeUnknownError, SwarmInfo
from swarmd.gateways.remote import gateway as remote
from swarmd.gateways.remote import untold
from swarmd.gateways.remote.cancelling import GIVE_UP_SECONDS
from swarmd.gateways.remote.gateway import RemoteGateway
from swarmd.gateways.remote.options import engine_options
from swarmd.gateways.remote.untold import spelt_out
from tests.crash.restarting import RestartedDaemon, restarted
from tests.daemon import short_home
from tests.gateways.recording import SWARM, batch_of, eventually, file_with_text, is_alive
from tests.gateways.remote.conftest import DURABLE, ENGINES, MAKERS, config_for
from tests.gateways.remote.engines import BUILD_SECONDS
from tests.gateways.remote.scripted import NOT_QUEUED, QUEUED

PATIENCE = 120.0

pytestmark = pytest.mark.timeout(BUILD_SECONDS + 300)


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(remote, "CANCEL_PATIENCE_SECONDS", 0.2)


def left(folder: Path) -> list[Path]:
    return list((folder / "remote").glob("*.left"))


def told(engine) -> list[tuple[str, int, int]]:
    return [
        (request.swarm_id, task_id, attempt)
        for request in engine.cancels
        for task_id, attempt in zip(request.task_ids, request.attempts, strict=True)
    ]


async def deleted_while_away(gateways, engine, record, *, cancelled_before: bool = False) -> str:
    """The swarm is gone, the engine has not heard it, and neither has the gateway's end. Gives what it was known by."""
    gateway = await gateways.begin(config_for(engine.address), record.report, DURABLE)
    await gateway.queue_batch(batch_of("a", "b", attempt=3))
    await engine.stop()
    await eventually(lambda: "cannot be reached" in gateway.standing(SWARM, 1, 3))
    if cancelled_before:
        await gateway.cancel_tasks(SWARM, [1, 2], [3, 3], "the swarm was deleted")
    await gateway.remove_swarm(SWARM)
    await gateway.close()
    return str(engine.swarm_id)


@pytest.mark.parametrize("cancelled_before", [True, False])
async def test_the_next_daemon_tells_the_engine_once(gateways, engine, record, home, cancelled_before):
    swarm_id = await deleted_while_away(gateways, engine, record, cancelled_before=cancelled_before)
    assert len(left(home)) == 1
    await gateways.begin(config_for(engine.address), record.report)
    assert engine.cancels == []
    await engine.start()
    await eventually(lambda: not left(home))
    assert told(engine) == [(swarm_id, 1, 3), (swarm_id, 2, 3)]


async def test_it_needs_no_section_and_outlives_several_daemons(gateways, engine, record, home):
    await deleted_while_away(gateways, engine, record)
    for _ in range(2):
        await (await gateways.begin(config_for(""), record.report)).close()
    assert len(left(home)) == 1
    await engine.start()
    await gateways.begin(config_for(""), record.report)
    await eventually(lambda: len(told(engine)) == 2)


async def test_the_same_daemon_that_tells_it_leaves_nothing(gateways, engine, record, home):
    gateway = await gateways.begin(config_for(engine.address), record.report, DURABLE)
    await gateway.queue_batch(batch_of("a"))
    await engine.stop()
    await gateway.remove_swarm(SWARM)
    assert len(left(home)) == 1
    await engine.start()
    await eventually(lambda: not left(home))
    assert [key[1:] for key in told(engine)] == [(1, 1)]


async def test_nothing_is_written_when_the_engine_hears_it(gateway, engine, home):
    await gateway.queue_batch(batch_of("a"))
    await gateway.remove_swarm(SWARM)
    assert len(told(engine)) == 1
    assert left(home) == []


async def test_a_batch_that_is_on_its_way_then_is_ended_by_the_next_daemon(gateways, engine, record, home):
    came = asyncio.Event()

    async def queue(request: pb.QueueBatchRequest, context) -> pb.QueueBatchResponse:
        came.set()
        await asyncio.sleep(PATIENCE)
        return pb.QueueBatchResponse()

    engine.queue = queue
    gateway = await gateways.begin(config_for(engine.address, queue_timeout=60.0), record.report, DURABLE)
    on_its_way = asyncio.create_task(gateway.queue_batch(batch_of("a")))
    await came.wait()
    await gateway.cancel_tasks(SWARM, [1], [1], "heard before the batch is taken")
    await gateway.remove_swarm(SWARM)
    assert len(left(home)) == 1
    await gateway.close()
    with pytest.raises((BatchRefusedError, asyncio.CancelledError)):
        await on_its_way
    engine.cancels.clear()
    engine.found = pb.FindBatchResponse(outcome=QUEUED)
    await gateways.begin(config_for(engine.address), record.report)
    await eventually(lambda: not left(home))
    assert told(engine) == [(engine.swarm_id, 1, 1)] * 2, "before it was asked after the batch, and after that"


async def in_doubt(gateways, engine, record, swarm: SwarmInfo) -> RemoteGateway:
    """A batch that the engine has not answered for in time, and may take yet."""

    async def queue(request: pb.QueueBatchRequest, context) -> pb.QueueBatchResponse:
        await asyncio.sleep(PATIENCE)
        return pb.QueueBatchResponse()

    engine.queue = queue
    gateway: RemoteGateway = await gateways.begin(config_for(engine.address, queue_timeout=0.5), record.report, swarm)
    with pytest.raises(OutcomeUnknownError):
        await gateway.queue_batch(batch_of("a", "b"))
    return gateway


@pytest.mark.parametrize("swarm", [DURABLE, SwarmInfo(SWARM)], ids=["durable", "in memory"])
async def test_a_batch_in_doubt_is_asked_after_and_ended_again_when_the_engine_has_it(
    gateways, engine, record, home, swarm
):
    gateway = await in_doubt(gateways, engine, record, swarm)
    await gateway.cancel_tasks(SWARM, [1, 2], [1, 1], "heard before the batch is taken")
    await gateway.remove_swarm(SWARM)
    await eventually(lambda: len(engine.asked) >= 2)
    before = len(told(engine))
    assert len(left(home)) == (1 if swarm.token else 0)
    engine.found = pb.FindBatchResponse(outcome=QUEUED)
    await eventually(lambda: len(told(engine)) == before + 2)
    await eventually(lambda: not left(home))


async def test_a_batch_in_doubt_is_asked_after_by_the_next_daemon_and_ended(gateways, engine, record, home):
    gateway = await in_doubt(gateways, engine, record, DURABLE)
    await gateway.remove_swarm(SWARM)
    await gateway.close()
    engine.asked.clear()
    engine.cancels.clear()
    await gateways.begin(config_for(""), record.report)
    await eventually(lambda: len(engine.asked) >= 2)
    assert len(left(home)) == 1
    assert len(told(engine)) == 2
    engine.found = pb.FindBatchResponse(outcome=NOT_QUEUED)
    await eventually(lambda: not left(home))
    assert len(told(engine)) == 4


@pytest.mark.parametrize("is_heard_first", [True, False])
async def test_a_batch_that_is_just_asked_after_is_ended_when_the_engine_has_it(
    gateways, engine, record, home, monkeypatch, is_heard_first
):
    """The answer tells of the batch; what was to be ended, the engine may have heard before it had that."""
    gateway = await in_doubt(gateways, engine, record, DURABLE)
    engine.found = pb.FindBatchResponse(outcome=QUEUED)
    answers, asked = asyncio.Event(), asyncio.Event()
    find_batch = gateway._swarms[SWARM].engine.calls.find_batch

    async def slow(*which: str) -> pb.FindBatchResponse:
        answer = await find_batch(*which)
        asked.set()
        await answers.wait()
        return answer

    monkeypatch.setattr(gateway._swarms[SWARM].engine.calls, "find_batch", slow)
    batch = batch_of("a", "b")
    finding = asyncio.create_task(gateway.find_batch(replace(batch, batch_id=engine.batches[-1].batch.batch_id)))
    await asked.wait()
    if is_heard_first:
        removing = asyncio.create_task(gateway.remove_swarm(SWARM))
        await eventually(lambda: len(told(engine)) == 2)
        answers.set()
        await removing
    else:
        await gateway.remove_swarm(SWARM)
        await eventually(lambda: len(engine.asked) == 2)
        answers.set()
    await finding
    await eventually(lambda: len(told(engine)) == 4)
    await eventually(lambda: not left(home))


async def test_what_the_engine_has_answered_for_is_not_asked_after(gateways, engine, record, home):
    gateway = await in_doubt(gateways, engine, record, DURABLE)
    engine.found = pb.FindBatchResponse(outcome=NOT_QUEUED)
    await gateway.find_batch(batch := batch_of("a"))
    swarm = gateway._swarms[SWARM]
    assert batch.batch_id not in swarm.in_doubt
    swarm.in_doubt.clear()
    engine.asked.clear()
    await gateway.remove_swarm(SWARM)
    assert left(home) == []
    assert engine.asked == []


async def test_swarms_in_memory_leave_nothing(gateways, engine, record, home):
    gateway = await gateways.begin(config_for(engine.address), record.report, SwarmInfo(SWARM))
    await gateway.queue_batch(batch_of("a"))
    await engine.stop()
    await gateway.remove_swarm(SWARM)
    assert left(home) == []


async def test_after_a_day_it_is_given_up_with_words(gateways, engine, record, home, caplog):
    await deleted_while_away(gateways, engine, record)
    (path,) = left(home)
    kept = json.loads(path.read_text())
    path.write_text(json.dumps({**kept, "since": time.time() - GIVE_UP_SECONDS - 1}))
    await gateways.begin(config_for(""), record.report)
    await eventually(lambda: not left(home))
    assert (
        f"2 tasks of swarm {engine.swarm_id}, which is gone, may run on at the engine at {engine.address}"
        in caplog.text
    )
    assert engine.cancels == []


async def test_a_damaged_file_stops_nobody(gateways, engine, record, home, caplog):
    await deleted_while_away(gateways, engine, record)
    (home / "remote" / "damaged.left").write_text('{"wire_id": 7')
    await engine.start()
    await gateways.begin(config_for(""), record.report)
    await eventually(lambda: len(told(engine)) == 2)
    assert "damaged.left cannot be read" in caplog.text


async def test_an_engine_that_cannot_be_called_is_tried_again(gateways, engine, record, home, caplog, monkeypatch):
    monkeypatch.setattr(untold, "RETRY_SECONDS", 0.1)
    await deleted_while_away(gateways, engine, record)
    (path,) = left(home)
    kept = json.loads(path.read_text())
    token = home / "token"
    path.write_text(json.dumps({**kept, "options": {**kept["options"], "token_file": str(token)}}))
    await gateways.begin(config_for(""), record.report)
    await eventually(lambda: f"{token} cannot be read" in caplog.text)
    token.touch(mode=0o600)
    token.write_text("a-secret\n")
    await engine.start()
    await eventually(lambda: not left(home))
    assert len(told(engine)) == 2


async def test_what_cannot_be_written_is_said(gateways, engine, record, home, caplog):
    gateway = await gateways.begin(config_for(engine.address), record.report, DURABLE)
    await gateway.queue_batch(batch_of("a"))
    await engine.stop()
    gateway._untold_files()._folder = Path("/proc/nowhere")
    await gateway.remove_swarm(SWARM)
    assert "cannot be written down" in caplog.text
    assert "it runs on if the daemon ends" in caplog.text


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL])
async def test_an_error_of_the_engine_is_not_heard(gateways, engine, record, home, code):
    await deleted_while_away(gateways, engine, record)
    engine.code = code
    await engine.start()
    await gateways.begin(config_for(""), record.report)
    await asyncio.sleep(0.5)
    assert len(left(home)) == 1
    engine.code = None
    await eventually(lambda: not left(home))


def test_the_gateway_is_made_with_the_daemon_when_something_is_left(tmp_path):
    assert "remote" not in made_gateways(DaemonConfig(state_dir=tmp_path)).made
    (tmp_path / "remote").mkdir()
    (tmp_path / "remote" / "0123.left").touch()
    assert "remote" in made_gateways(DaemonConfig(state_dir=tmp_path)).made


def test_options_are_spelt_out_so_that_the_section_may_change():
    config = config_for("localhost:7000", tls_ca="/ca.pem", token_file="/token", tls_server_name="engine")
    options = engine_options({}, config)
    again = engine_options(spelt_out(options), config_for("localhost:9"))
    for name in ("address", "tls", "tls_ca", "tls_cert", "tls_key", "tls_server_name", "token_file", "insecure"):
        assert getattr(again, name) == getattr(options, name)


# -- the real things ---------------------------------------------------------------------------------------------------


@pytest.mark.e2e
@pytest.mark.parametrize("engine", ENGINES)
async def test_daemon_and_engine_are_killed_and_the_task_of_the_deleted_swarm_is_ended(engine, tmp_path):
    with (
        short_home() as theirs,
        MAKERS[engine](theirs, cores=2) as example,
        short_home() as home,
        restarted(home) as daemon,
    ):
        example.start()
        daemon.serve()
        await begin_task(daemon, example.address, tmp_path / "pid")
        pid = int((tmp_path / "pid").read_text())
        example.kill()
        async with SwarmClient(daemon.address) as client, asyncio.timeout(PATIENCE):
            await client.swarm("gone").delete(force=True)
        daemon.kill()
        assert is_alive(pid), "it outlives the engine, and nobody has told it to end"

        daemon.serve()
        example.start()
        async with asyncio.timeout(PATIENCE):
            while is_alive(pid) or left(home / "state" / "swarmd"):  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.05)


async def begin_task(daemon: RestartedDaemon, address: str, file: Path) -> None:
    """A swarm `gone` with one task that runs, and has written its process into the file."""
    async with SwarmClient(daemon.address) as client, asyncio.timeout(PATIENCE):
        plan = Swarm("gone", gateway="remote", gateway_options={"address": address})
        plan.array("work", command=f"echo $$ >{file}; exec sleep 600", tasks=1)
        await client.submit(plan)
        await file_with_text(file)
