"""A scripted engine, and a remote gateway that calls it."""

from pathlib import Path

import pytest
import pytest_asyncio

from swarmd.gateways.contract import Report, SwarmInfo
from swarmd.gateways.remote import gateway as remote
from swarmd.gateways.remote.gateway import RemoteGateway
from swarmd.gateways.remote.options import RemoteConfig
from tests.daemon import short_home
from tests.gateways.recording import SWARM, Record
from tests.gateways.remote.engines import NO_GO, go_engine, has_go, python_engine
from tests.gateways.remote.scripted import ScriptedEngine

MAKERS = {"python": python_engine, "go": go_engine}
ENGINES = ["python", pytest.param("go", marks=pytest.mark.skipif(not has_go(), reason=NO_GO))]

DURABLE = SwarmInfo(SWARM, token="abcdef")
PROGRESS_SECONDS = 0.2


def config_for(address: str, **more: object) -> RemoteConfig:
    """Short times: what is waited for in vain in these tests is never to come."""
    times = {"connect_timeout": 2.0, "queue_timeout": 2.0, "call_timeout": 2.0}
    return RemoteConfig(address=address, progress_interval=PROGRESS_SECONDS, **{**times, **more})  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def quick_close(monkeypatch):
    """Engines of these tests may be gone before the gateways are closed."""
    monkeypatch.setattr(remote, "CLOSE_SECONDS", 0.5)


@pytest.fixture
def home():
    with short_home() as home:
        yield home


@pytest_asyncio.fixture
async def engine(home):
    engine = ScriptedEngine(home)
    await engine.start()
    yield engine
    await engine.stop()


@pytest_asyncio.fixture
async def record():
    return Record()


class Gateways:
    """Gateways of one folder, one after the other; all are closed at the end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._made: list[RemoteGateway] = []

    async def begin(self, config: RemoteConfig, report: Report, *swarms: SwarmInfo) -> RemoteGateway:
        gateway = RemoteGateway(config, self.folder)
        self._made.append(gateway)
        await gateway.start(report)
        for swarm in swarms:
            await gateway.add_swarm(swarm)
        return gateway

    async def close(self) -> None:
        for gateway in self._made:
            await gateway.close()


@pytest_asyncio.fixture
async def gateways(home):
    gateways = Gateways(home / "remote")
    yield gateways
    await gateways.close()


@pytest_asyncio.fixture
async def gateway(gateways, engine, record):
    """It has one durable swarm at the engine."""
    return await gateways.begin(config_for(engine.address), record.report, DURABLE)


@pytest.fixture(params=ENGINES)
def maker(request):
    return MAKERS[request.param]


@pytest.fixture
def example(maker, home):
    """An engine that runs, with 4 cores."""
    with maker(home, cores=4) as engine:
        engine.start()
        yield engine
