"""The contract of all gateways, kept by a real Slurm."""

from pathlib import Path

import pytest
import pytest_asyncio

from swarmd.gateways.contract import ServerGateway
from tests.gateways.contract_suite import GatewayContract
from tests.gateways.slurm.cluster import Cluster
from tests.gateways.slurm.engine import PatientRecord, gateway_for


class TestSlurmGateway(GatewayContract):
    @pytest.fixture(autouse=True)
    def _real_slurm(self, cluster: Cluster) -> None:
        self.cluster = cluster

    @pytest_asyncio.fixture
    async def record(self):
        return PatientRecord()

    def make_gateway(self, folder: Path) -> ServerGateway:
        return gateway_for(self.cluster, folder)
