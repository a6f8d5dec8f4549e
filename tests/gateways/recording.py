"""Batches to give to a gateway, and a record of what it reports."""

import asyncio
import secrets
from collections.abc import Callable
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import psutil

from swarmd.core.batch import Batch
from swarmd.core.model import Array, Task, TaskResources
from swarmd.core.state import SwarmState
from swarmd.core.status import TaskStatus
from swarmd.core.update import StateUpdate
from swarmd.gateways.contract import SwarmInfo
from swarmd.gateways.local import LocalGateway, launcher
from swarmd.gateways.local.procfs import command_of

SWARM = "swarm-1"
PATIENCE = 15.0

ENDS = frozenset({TaskStatus.DONE, TaskStatus.ERROR_RECOVERABLE, TaskStatus.ADJUSTING_RESOURCES, TaskStatus.REGISTERED})


def batch_of(
    *commands: str,
    first_id: int = 1,
    swarm_id: str = SWARM,
    resources: TaskResources | None = None,
    attempt: int = 1,
    name: str = "",
) -> Batch:
    """One batch of tasks with these commands, numbered from `first_id`, of array 7."""
    resources = resources or TaskResources(1)
    tasks = [
        Task(first_id + place, 7, resources.task_resources_id, name=name, command=command, attempt=attempt - 1)
        for place, command in enumerate(commands)
    ]
    state = SwarmState(swarm_id, batch_prefix=f"{swarm_id}-{secrets.token_hex(4)}")
    state.load([Array(7, command="true")], [resources], tasks)
    batch = state.take_batch()
    assert batch is not None
    assert len(batch) == len(commands)
    return batch


class Record:
    """Everything a gateway said, in order."""

    patience = PATIENCE
    """Seconds that it waits for something to be said."""

    def __init__(self) -> None:
        self.updates: list[tuple[str, StateUpdate]] = []
        self.news: list[tuple[str, int, int, TaskStatus, str]] = []
        self._more = asyncio.Event()

    def report(self, swarm_id: str, update: StateUpdate) -> None:
        self.updates.append((swarm_id, update))
        for group in update.task_statuses.groups:
            assert group.attempts is not None
            assert group.task_ids.dtype == np.int64
            for task_id, attempt in zip(group.task_ids.tolist(), group.attempts.tolist(), strict=True):
                self.news.append((swarm_id, task_id, attempt, group.status, group.reason))
        self._more.set()

    def statuses(self, task_id: int) -> list[TaskStatus]:
        return [status for _, other, _, status, _ in self.news if other == task_id]

    def ended_ids(self) -> set[int]:
        return {task_id for _, task_id, _, status, _ in self.news if status in ENDS}

    def end_of(self, task_id: int) -> tuple[TaskStatus, str]:
        (end,) = [(status, reason) for _, other, _, status, reason in self.news if other == task_id and status in ENDS]
        return end

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(self.patience):
            while not condition():
                self._more.clear()
                await self._more.wait()

    async def ended(self, *task_ids: int) -> None:
        await self.until(lambda: self.ended_ids().issuperset(task_ids))

    async def running(self, *task_ids: int) -> None:
        await self.until(lambda: all(TaskStatus.RUNNING in self.statuses(task_id) for task_id in task_ids))


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
    program = launcher.__file__.encode()
    (found,) = [child for child in psutil.Process().children() if program in command_of(child.pid)]
    return found
