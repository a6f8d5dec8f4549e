"""Batches to give to a gateway, and a record of what it reports."""

import asyncio
import time
from collections.abc import Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import psutil

from swarmd.core.model import TaskResources
from swarmd.gateways.contract import SwarmInfo
from swarmd.gateways.local import LocalGateway
from swarmd.gateways.local.connection import PROGRAM
from swarmd.gateways.local.procfs import command_of
from swarmd.testing.recording import ENDS, PATIENCE, SWARM, Record, batch_of

__all__ = [
    "ENDS",
    "PATIENCE",
    "SWARM",
    "Engine",
    "Record",
    "batch_of",
    "eventually",
    "file_with_text",
    "guardians",
    "is_alive",
    "kill_all",
    "launchers",
    "launchers_below",
    "local_engine",
    "the_guardian",
    "the_launcher",
]


class Engine:
    """A local gateway with its record, for a test of a few lines."""

    def __init__(self, gateway: LocalGateway, record: Record) -> None:
        self.gateway = gateway
        self.record = record

    async def run(self, *commands: str, resources: TaskResources | None = None, first_id: int = 1) -> None:
        """Queue these, and wait until all have ended."""
        await self.gateway.queue_batch(batch_of(*commands, first_id=first_id, resources=resources))
        await self.record.ended(*range(first_id, first_id + len(commands)))

    async def queue(self, *commands: str, resources: TaskResources | None = None, first_id: int = 1) -> None:
        await self.gateway.queue_batch(batch_of(*commands, first_id=first_id, resources=resources))

    async def cancel(self, *task_ids: int, attempt: int = 1) -> None:
        await self.gateway.cancel_tasks(SWARM, task_ids, [attempt] * len(task_ids), "by the test")


@asynccontextmanager
async def local_engine(
    folder: Path,
    *,
    cores: int = 2,
    memory_mib: int | None = None,
    kill_grace: float = 0.3,
    swarm: SwarmInfo | None = None,
    leave_on_close: bool = False,
):
    gateway = LocalGateway(
        folder / "logs", cores=cores, memory_mib=memory_mib, kill_grace=kill_grace, leave_on_close=leave_on_close
    )
    record = Record()
    await gateway.start(record.report)
    await gateway.add_swarm(swarm or SwarmInfo(SWARM))
    try:
        yield Engine(gateway, record)
    finally:
        await gateway.close()


async def file_with_text(path: Path) -> None:
    """Wait for a file that a task writes."""
    await eventually(lambda: path.exists() and path.read_text().endswith("\n"))


async def eventually(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - nobody tells what other processes do
            await asyncio.sleep(0.005)


def is_alive(pid: int) -> bool:
    """Whether the process is there and not a zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] not in "ZX"


def the_launcher() -> psutil.Process:
    """That of the gateways in this process, which may have daemons of other tests as children."""
    (found,) = launchers()
    return found


def launchers() -> list[psutil.Process]:
    """All that there are just now: one that was killed is soon followed by another."""
    return [child for guardian in guardians() for child in launchers_below(guardian)]


def the_guardian() -> psutil.Process:
    """The launcher's parent."""
    (found,) = guardians()
    return found


def guardians() -> list[psutil.Process]:
    return launchers_below(psutil.Process())


def launchers_below(parent: psutil.Process) -> list[psutil.Process]:
    """Those children that are launchers or guardians."""
    name = PROGRAM[-1].encode()
    with suppress(psutil.NoSuchProcess):
        return [child for child in parent.children() if name in command_of(child.pid) and is_alive(child.pid)]
    return []


def kill_all(*processes: psutil.Process) -> None:
    """One after the other, each when the one before is gone."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
        while is_alive(process.pid):
            time.sleep(0.001)
