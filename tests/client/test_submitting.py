"""A submission that nobody can take back says what it may have left behind."""

import asyncio

import pytest

from swarmd.client import NoDaemonError, Swarm, SwarmClient
from tests.client.relay import scene


async def test_a_daemon_that_is_lost_for_too_long_may_have_the_swarm():
    async with scene() as stage, SwarmClient(stage.relay.address, patience=0.5) as client:
        plan = Swarm("half", gateway="pull")
        plan.array("many", tasks=300_000)
        submitting = asyncio.ensure_future(client.submit(plan))
        async with SwarmClient(stage.address) as other:
            while not await other.swarms():  # noqa: ASYNC110 - the daemon has no event for it
                await asyncio.sleep(0.01)
        assert not submitting.done()
        stage.kill()
        with pytest.raises(NoDaemonError, match="was lost; the swarm 'half' may be there"):
            await submitting
        with pytest.raises(NoDaemonError, match="; a swarm may be there"):
            await client.submit(Swarm())
        await stage.start()
        async with SwarmClient(stage.address) as other:
            assert [swarm.counts.total for swarm in await other.swarms()] == [0]
