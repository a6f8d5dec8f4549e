"""The contract, kept with the stand-in in the place of the server."""

from dataclasses import replace
from pathlib import Path

import pytest_asyncio

from swarmd.core.batch import Batch
from swarmd.gateways.contract import QueueOutcome, ServerGateway, SwarmInfo
from swarmd.gateways.jobmon.gateway import JobmonGateway
from swarmd.gateways.jobmon.settings import JobmonSettings
from tests.gateways.contract_suite import GatewayContract
from tests.gateways.jobmon.conftest import QUICK
from tests.gateways.jobmon.fake import FakeJobmon, FakeTask


class Prepared(JobmonGateway):
    """Makes a run for each swarm and a task for each command: the suite knows nothing of either."""

    def __init__(self, fake: FakeJobmon) -> None:
        super().__init__(JobmonSettings.model_validate(QUICK))
        self._fake = fake
        self._numbers: dict[str, int] = {}

    async def add_swarm(self, swarm: SwarmInfo) -> None:
        number = self._numbers.setdefault(swarm.swarm_id, len(self._numbers) + 1)
        self._fake.add_run(number, number)
        options = {"server": self._fake.url, "workflow_run_id": str(number), "workflow_id": str(number)}
        await super().add_swarm(replace(swarm, options={**options, **swarm.options}))

    async def queue_batch(self, batch: Batch) -> QueueOutcome | None:
        if batch.swarm_id in self._numbers:
            tasks = self._fake.workflows[self._numbers[batch.swarm_id]].tasks
            for task in batch.tasks():
                tasks.setdefault(task.task_id, FakeTask(max_attempts=9)).command = task.command
        resources = replace(batch.task_resources, cluster="fake", queue="null.q")
        return await super().queue_batch(replace(batch, task_resources=resources))


class TestJobmonGateway(GatewayContract):
    NEVER_RUNS = "false"

    def noting(self, path: Path) -> str:
        return ""  # the stand-in knows `true` and `false`

    @pytest_asyncio.fixture(autouse=True)
    async def standing_in(self):
        async with FakeJobmon().serving() as fake:
            fake.runs_tasks = True
            self.fake = fake
            yield

    def make_gateway(self, folder: Path) -> ServerGateway:
        return Prepared(self.fake)
