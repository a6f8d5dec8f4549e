"""A real server for the whole folder, a stand-in for each test, and a gateway with its record."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from swarmd.core.batch import Batch
from swarmd.gateways.contract import FindOutcome, Found, SwarmInfo
from swarmd.gateways.jobmon.gateway import JobmonGateway
from swarmd.gateways.jobmon.settings import JobmonSettings
from tests.gateways.jobmon.fake import FakeJobmon
from tests.gateways.jobmon.real import Jobmon, NoJobmonError, Workflow, server
from tests.gateways.recording import SWARM, Record

QUICK = {
    "start_poll_seconds": 0.1,
    "heartbeat_seconds": 0.5,
    "fastest_sync_seconds": 0.05,
    "slowest_sync_seconds": 0.2,
    "doubt_seconds": 1.0,
    "limits_seconds": 0.2,
    "triage_seconds": 0.3,
    "sync_overlap_seconds": 2.0,
}
"""Settings for tests: everything often."""


@pytest.fixture(scope="session")
def jobmon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jobmon]:
    """The real server, with an empty database."""
    try:
        with server(tmp_path_factory.mktemp("jobmon")) as running:
            yield running
    except NoJobmonError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(error))


@pytest_asyncio.fixture
async def fake():
    async with FakeJobmon().serving() as server:
        yield server


class Driven:
    """A gateway with one swarm, driven by a test."""

    def __init__(
        self, url: str, run_id: int, workflow_id: int, record: Record, folder: Path, **options: object
    ) -> None:
        extra: dict[str, str] = {
            name: str(options.pop(name)) for name in ("route_prefix", "client_version") if name in options
        }
        self.gateway = JobmonGateway(JobmonSettings.model_validate({**QUICK, **options}), folder)
        self.record = record
        self.info = SwarmInfo(
            SWARM,
            options={"server": url, "workflow_run_id": str(run_id), "workflow_id": str(workflow_id), **extra},
        )

    async def start(self) -> None:
        await self.gateway.start(self.record.report)
        await self.gateway.add_swarm(self.info)

    async def found(self, batch: Batch) -> FindOutcome:
        """What became of a batch in doubt: asked until it is known, as the scheduler does."""
        async with asyncio.timeout(60):
            while True:
                answer = await self.gateway.find_batch(batch)
                if answer.found is not Found.UNKNOWN:
                    return answer
                await asyncio.sleep(0.05)

    @property
    def run_statuses(self) -> list[str]:
        return [update.workflow_run_status for _, update in self.record.updates if update.workflow_run_status]


@pytest_asyncio.fixture
async def drive(tmp_path):
    """Makes gateways for runs, started, and closes them at the end."""
    made: list[Driven] = []

    async def begin(url: str, run: int | Workflow = 1, workflow: int = 1, **options: object) -> Driven:
        if isinstance(run, Workflow):
            driven = Driven(url, run.run_id, run.workflow_id, Record(), tmp_path / "jobmon", **options)
        else:
            driven = Driven(url, run, workflow, Record(), tmp_path / "jobmon", **options)
        made.append(driven)
        await driven.start()
        return driven

    yield begin
    for driven in made:
        await driven.gateway.close()
