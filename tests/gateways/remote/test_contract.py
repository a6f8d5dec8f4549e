"""The contract, kept by the remote gateway with the example engine behind it."""

from pathlib import Path

import pytest

from swarmd.gateways.contract import ServerGateway
from swarmd.gateways.remote.gateway import RemoteGateway
from swarmd.gateways.remote.options import RemoteConfig
from tests.daemon import short_home
from tests.gateways.contract_suite import GatewayContract
from tests.gateways.remote.engines import python_engine


@pytest.fixture(scope="module")
def engine():
    with short_home() as home, python_engine(home, cores=4) as engine:
        engine.start()
        yield engine


class TestRemoteGateway(GatewayContract):
    @pytest.fixture(autouse=True)
    def with_engine(self, engine):
        self.address = engine.address

    def make_gateway(self, folder: Path) -> ServerGateway:
        return RemoteGateway(RemoteConfig(address=self.address), folder / "remote")
