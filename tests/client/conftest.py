"""A daemon for the whole folder, and swarms that nobody else uses."""

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest
import pytest_asyncio

from swarmd.client import LiveSwarm, Swarm, SwarmClient
from tests.daemon import DaemonProcess, running

PullSwarm = Callable[..., Awaitable[LiveSwarm]]

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def daemon() -> Iterator[DaemonProcess]:
    with running("--local-cores", "4", "--kill-grace", "0.2") as process:
        yield process
        assert process.stop() == 0


@pytest_asyncio.fixture
async def client(daemon: DaemonProcess) -> AsyncIterator[SwarmClient]:
    async with SwarmClient(daemon.address) as connected:
        yield connected


@pytest.fixture
def pull_swarm(client: SwarmClient) -> PullSwarm:
    """Makes a swarm with tasks that the test runs itself, in an array `simulate`."""

    async def make(tasks: int = 4, **settings: int) -> LiveSwarm:
        plan = Swarm(f"pull-{next(_numbers)}", gateway="pull", max_concurrently_running=settings.get("limit"))
        plan.array("simulate", command="simulate {name}", tasks=tasks)
        return await client.submit(plan)

    return make
