"""One daemon, swarms of different gateways at once: none waits for another's engine."""

import asyncio
from pathlib import Path

import pytest

from swarmd.client import Swarm, SwarmClient
from tests.daemon import running, short_home
from tests.gateways.installing import install
from tests.gateways.remote.engines import BUILD_SECONDS, NO_GO, go_engine, has_go, python_engine

SLUGGISH = '''
import asyncio

from swarmd.gateways import ServerGateway, StateUpdate, TaskStatus, TaskStatuses


class Sluggish(ServerGateway):
    """Takes a batch when a file is there, and has done it at once."""

    async def start(self, report):
        self.report = report

    async def add_swarm(self, swarm):
        self.gate = swarm.options["gate"]

    async def queue_batch(self, batch):
        import os

        while not os.path.exists(self.gate):
            await asyncio.sleep(0.01)
        news = TaskStatuses()
        news.add(TaskStatus.DONE, batch.task_ids, batch.attempts)
        self.report(batch.swarm_id, StateUpdate(news))

    def __init__(self, context):
        pass
'''
PATIENCE = 60.0

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(BUILD_SECONDS + 300)]


async def test_each_swarm_goes_its_own_way(tmp_path: Path):
    gate = tmp_path / "gate"
    site = install(tmp_path / "site", "sluggish", SLUGGISH, sluggish="sluggish:Sluggish")
    with short_home() as home, running(home=home, environment={"PYTHONPATH": str(site)}) as daemon:
        async with SwarmClient(daemon.address) as client, asyncio.timeout(PATIENCE):
            plans = {name: Swarm(name, gateway=name) for name in ("local", "pull")}
            plans["sluggish"] = Swarm("sluggish", gateway="sluggish", gateway_options={"gate": str(gate)})
            for plan in plans.values():
                plan.array("work", command="true", tasks=20)
            swarms = {name: await client.submit(plan) for name, plan in plans.items()}

            assert (await swarms["local"].wait()).counts.done == 20
            handed_out = await swarms["pull"].tick()
            assert sum(len(batch.task_ids) for batch in handed_out.batches) == 20
            waiting = await swarms["sluggish"].status()
            assert (waiting.gateway, dict(waiting.gateway_options)) == ("sluggish", {"gate": str(gate)})
            assert (waiting.counts.done, waiting.counts.reserved) == (0, 20)

            gate.touch()
            assert (await swarms["sluggish"].wait()).counts.done == 20
            assert {(await swarm.status()).gateway for swarm in swarms.values()} == set(plans)


@pytest.mark.skipif(not has_go(), reason=NO_GO)
async def test_swarms_of_two_engines_and_of_this_machine_run_side_by_side_and_one_that_is_away_holds_up_none(
    tmp_path: Path,
):
    with (
        short_home() as python_home,
        python_engine(python_home, cores=4) as in_python,
        short_home() as go_home,
        go_engine(go_home, cores=4) as in_go,
        running() as daemon,
    ):
        in_python.start()
        in_go.start()
        where = {
            "local": ("local", {}),
            "python": ("remote", {"address": in_python.address}),
            "go": ("remote", {"address": in_go.address}),
            "away": ("remote", {"address": f"unix:{tmp_path}/away.sock"}),
        }
        async with SwarmClient(daemon.address) as client, asyncio.timeout(PATIENCE):
            swarms = {}
            for name, (gateway, options) in where.items():
                plan = Swarm(name, gateway=gateway, gateway_options=options)
                plan.array("work", command=f"echo $SWARM_ID $SWARM_TASK_ID >>{tmp_path}/{name}", tasks=20)
                swarms[name] = await client.submit(plan)
            for name in ("local", "python", "go"):
                assert (await swarms[name].wait()).counts.done == 20
                assert sorted((tmp_path / name).read_text().splitlines()) == sorted(
                    f"{name} {task_id}" for task_id in range(1, 21)
                )
            assert (await swarms["away"].status()).counts.done == 0
            while "cannot be reached" not in (await swarms["away"].explain(1)).summary:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.05)
