"""Between daemon and engine answers are swallowed and connections cut, and every task runs once all the same."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable

import pytest
import pytest_asyncio

from swarmd.client import LiveSwarm, Swarm, SwarmClient, SwarmStatus
from swarmd.gateways.contract import Found, OutcomeUnknownError
from tests.client.relay import Relay
from tests.daemon import running
from tests.gateways.recording import batch_of
from tests.gateways.remote.conftest import DURABLE, config_for
from tests.gateways.remote.engines import python_engine

TASKS = 200
SECTION = "[gateways.remote]\nqueue_timeout = 1\ncall_timeout = 1\nprogress_interval = 0.3\n"


@pytest.fixture
def example(home):
    with python_engine(home, cores=4) as engine:
        engine.start()
        yield engine


@pytest_asyncio.fixture
async def relay(home, example):
    relay = Relay(home / "relay.sock", home / "engine.sock")
    server = await relay.serve()
    yield relay
    server.close()
    relay.cut()


async def test_a_batch_whose_answer_was_lost_is_found_and_ran_once(relay, gateways, record, tmp_path):
    config = config_for(relay.address, queue_timeout=1.0, call_timeout=1.0)
    gateway = await gateways.begin(config, record.report, DURABLE)
    await gateway.queue_batch(batch_of("true", first_id=2))
    await record.ended(2)
    relay.swallows_answers = True
    batch = batch_of(f"echo ran >>{tmp_path}/record")
    with pytest.raises(OutcomeUnknownError):
        await gateway.queue_batch(batch)
    assert (await gateway.find_batch(batch)).found is Found.UNKNOWN
    relay.cut()
    found = Found.UNKNOWN
    async with asyncio.timeout(30):
        while found is Found.UNKNOWN:
            found = (await gateway.find_batch(batch)).found
            await asyncio.sleep(0.1)
    assert found is Found.QUEUED
    await record.ended(1)
    assert (tmp_path / "record").read_text() == "ran\n"


async def status_when(swarm: LiveSwarm, condition: Callable[[SwarmStatus], object]) -> SwarmStatus:
    """How it stands as soon as this holds."""
    async with asyncio.timeout(60):
        while True:
            status = await swarm.status()
            if condition(status):
                return status
            await asyncio.sleep(0.01)


@pytest.mark.e2e
async def test_a_workflow_is_done_once_whatever_becomes_of_the_connection(relay, home, tmp_path):
    chance = random.Random(7)
    (home / "config.toml").write_text(SECTION)
    (home / "config.toml").chmod(0o600)
    limit = 5
    plan = Swarm("lossy", gateway="remote", gateway_options={"address": relay.address}, max_concurrently_running=limit)
    plan.array("a", command=f"sleep 0.05; echo {{task_id}} >>{tmp_path}/record", tasks=TASKS)
    doubts = 0
    with running("--config", str(home / "config.toml"), home=home) as daemon:
        async with SwarmClient(daemon.address) as client:
            swarm = await client.submit(plan)
            while (await status_when(swarm, lambda status: not status.engine_trouble)).counts.ready:
                relay.swallows_answers = True
                limit += 5
                await swarm.configure(max_concurrently_running=limit)  # so that a batch goes out
                await status_when(swarm, lambda status: status.counts.reserved or not status.counts.ready)
                await asyncio.sleep(chance.uniform(0.0, 0.8))
                relay.cut()
                await asyncio.sleep(0.05)
                doubts += (await swarm.status()).counts.in_doubt
                await asyncio.sleep(chance.uniform(0.0, 0.4))
            status = await swarm.wait(timeout=100)
    assert status.outcome == "DONE"
    assert doubts, "what nobody knows was asked after"
    times = Counter((tmp_path / "record").read_text().split())
    assert times == {str(task_id): 1 for task_id in range(1, TASKS + 1)}
