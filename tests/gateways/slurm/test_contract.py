"""The contract of all gateways, kept by a real Slurm."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from swarmd.gateways.contract import ServerGateway
from tests.gateways.contract_suite import FarEngineContract
from tests.gateways.slurm.cluster import Cluster
from tests.gateways.slurm.engine import PatientRecord, gateway_for


class TestSlurmGateway(FarEngineContract):
    @pytest.fixture(autouse=True)
    def _real_slurm(self, cluster: Cluster) -> None:
        self.cluster = cluster

    @pytest_asyncio.fixture
    async def record(self):
        return PatientRecord()

    def make_gateway(self, folder: Path) -> ServerGateway:
        return gateway_for(self.cluster, folder)

    @contextlib.asynccontextmanager
    async def engine_away(self) -> AsyncIterator[None]:
        await asyncio.to_thread(self.cluster.stop_controller)
        yield
        await asyncio.to_thread(self.cluster.start_controller)
