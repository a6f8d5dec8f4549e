"""The contract, kept by the remote gateway with each of the example engines behind it."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from swarmd.gateways.contract import ServerGateway
from swarmd.gateways.remote.gateway import RemoteGateway
from swarmd.gateways.remote.options import RemoteConfig
from tests.daemon import short_home
from tests.gateways.contract_suite import FarEngineContract
from tests.gateways.remote.engines import BUILD_SECONDS, NO_GO, EngineProcess, go_engine, has_go, python_engine

pytestmark = pytest.mark.timeout(BUILD_SECONDS + 300)


class RemoteContract(FarEngineContract):
    engine: EngineProcess

    def make_gateway(self, folder: Path) -> ServerGateway:
        return RemoteGateway(RemoteConfig(address=self.engine.address), folder / "remote")

    @contextlib.asynccontextmanager
    async def engine_away(self) -> AsyncIterator[None]:
        self.engine.kill()
        yield
        self.engine.start()


@pytest.fixture(scope="module")
def in_python():
    with short_home() as home, python_engine(home, cores=4) as engine:
        engine.start()
        yield engine


@pytest.fixture(scope="module")
def in_go():
    with short_home() as home, go_engine(home, cores=4) as engine:
        engine.start()
        yield engine


class TestWithThePythonEngine(RemoteContract):
    @pytest.fixture(autouse=True)
    def with_engine(self, in_python):
        self.engine = in_python


@pytest.mark.skipif(not has_go(), reason=NO_GO)
class TestWithTheGoEngine(RemoteContract):
    @pytest.fixture(autouse=True)
    def with_engine(self, in_go):
        self.engine = in_go
