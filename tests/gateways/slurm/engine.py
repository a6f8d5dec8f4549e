"""A Slurm gateway with its record, for a test of a few lines."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from swarmd.core.batch import Batch
from swarmd.core.model import TaskResources
from swarmd.core.status import TaskStatus
from swarmd.gateways.contract import FindOutcome, Found, QueueOutcome, SwarmInfo
from swarmd.gateways.slurm.gateway import SlurmGateway
from swarmd.gateways.slurm.options import SlurmOptions
from tests.gateways.recording import SWARM, Record, batch_of
from tests.gateways.slurm.cluster import Cluster

TOKEN = "token"
QUICK: dict[str, Any] = {
    "poll_min": 0.1,
    "poll_max": 0.5,
    "command_timeout": 20.0,
    "find_patience": 0.5,
    "lost_after": 1.0,
}
PROGRAMS = ("sbatch", "squeue", "scancel", "scontrol", "sinfo", "sacct")


class PatientRecord(Record):
    """A cluster takes its time."""

    patience = 60.0


class Engine:
    """A gateway, what it said, and the cluster behind it."""

    def __init__(self, cluster: Cluster, gateway: SlurmGateway, folder: Path) -> None:
        self.cluster = cluster
        self.gateway = gateway
        self.folder = folder
        self.record = PatientRecord()

    async def queue(
        self, *commands: str, resources: TaskResources | None = None, first_id: int = 1, attempt: int = 1
    ) -> Batch:
        """Queue these, all of which are to be taken."""
        batch = batch_of(*commands, resources=resources, first_id=first_id, attempt=attempt)
        outcome = await self.gateway.queue_batch(batch)
        assert outcome is None or not outcome.refusals
        return batch

    async def offer(self, *commands: str, resources: TaskResources | None = None) -> QueueOutcome:
        """Queue these; some may be refused."""
        return await self.gateway.queue_batch(batch_of(*commands, resources=resources)) or QueueOutcome()

    async def run(self, *commands: str, resources: TaskResources | None = None) -> list[tuple[TaskStatus, str]]:
        """Queue these, and give the end of each."""
        await self.queue(*commands, resources=resources)
        return await self.ends(*range(1, len(commands) + 1))

    async def ends(self, *task_ids: int) -> list[tuple[TaskStatus, str]]:
        await self.record.ended(*task_ids)
        return [self.record.end_of(task_id) for task_id in task_ids]

    async def find(self, batch: Batch) -> FindOutcome:
        """What the gateway says of a batch in doubt, asked until it can say."""
        async with asyncio.timeout(60):
            while True:
                outcome = await self.gateway.find_batch(batch)
                if outcome.found is not Found.UNKNOWN:
                    return outcome
                await asyncio.sleep(0.1)

    async def cancel(self, *task_ids: int, attempt: int = 1) -> None:
        await self.gateway.cancel_tasks(SWARM, task_ids, [attempt] * len(task_ids), "by the test")

    def job_of(self, task_id: int, attempt: int = 1) -> str:
        """What Slurm calls it."""
        return self.gateway._swarms[SWARM].elements[task_id, attempt].name

    def output(self, task_id: int, attempt: int = 1, ending: str = "out") -> Path:
        return self.folder / "logs" / SWARM / "7" / f"{task_id}.{attempt}.{ending}"

    def status_file(self, task_id: int, attempt: int = 1) -> Path:
        return self.output(task_id, attempt, f"{TOKEN}.status")


def gateway_for(cluster: Cluster, folder: Path, **options: Any) -> SlurmGateway:
    """A gateway that was not started."""
    settings = SlurmOptions(**{**QUICK, "conf": cluster.conf, **options})
    return SlurmGateway(settings, batches=folder / "batches", output=folder / "logs")


@asynccontextmanager
async def slurm_engine(
    cluster: Cluster, folder: Path, *, swarm: SwarmInfo | None = None, **options: Any
) -> AsyncIterator[Engine]:
    """A gateway that runs, with one swarm that survives it."""
    engine = Engine(cluster, gateway_for(cluster, folder, **options), folder)
    await engine.gateway.start(engine.record.report)
    await engine.gateway.add_swarm(swarm or SwarmInfo(SWARM, token=TOKEN, working_directory=folder))
    try:
        yield engine
    finally:
        await engine.gateway.close()


def wrapped_programs(folder: Path, **scripts: str) -> Path:
    """A bin_directory with Slurm's programs, some of them behind a line of shell: `$real` is the program itself.

    Every call is noted in the file `calls` there.
    """
    import shutil

    folder.mkdir(parents=True, exist_ok=True)
    for name in PROGRAMS:
        real = shutil.which(name)
        if real is not None:
            script = scripts.get(name, 'exec "$real" "$@"')
            text = f'#!/bin/sh\nreal={real}\necho "{name} $*" >>{folder}/calls\n{script}\n'
            (folder / name).write_text(text)
            (folder / name).chmod(0o700)
    return folder


def calls_of(folder: Path, name: str) -> Sequence[str]:
    """What a program was called with, so far."""
    path = folder / "calls"
    lines = path.read_text().splitlines() if path.exists() else []
    return [line for line in lines if line.split()[0] == name]
