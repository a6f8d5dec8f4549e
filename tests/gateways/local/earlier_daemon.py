"""A daemon that is killed while its tasks run, and what it leaves behind.

    python -m tests.gateways.local.earlier_daemon FOLDER RUNTIME CORES COMMAND...

It runs the commands as tasks 1, 2, ... and says so when as many run as fit.
"""

import asyncio
import subprocess
import sys
from collections.abc import Callable
from contextlib import asynccontextmanager
from pathlib import Path

import psutil

from swarmd.core.batch import Batch
from swarmd.core.model import TaskResources
from swarmd.gateways.contract import SwarmInfo
from swarmd.gateways.local import LocalGateway
from swarmd.gateways.local.adoption import is_running
from swarmd.gateways.local.leader import signal_group
from swarmd.gateways.local.status_file import Started, Unclear, read_status
from swarmd.gateways.output import output_paths, status_path
from tests.gateways.recording import SWARM, Record, batch_of, eventually, is_alive, local_engine

TOKEN = "t0ken"
DURABLE = SwarmInfo(SWARM, token=TOKEN)


class EarlierDaemon:
    """What a killed daemon left in a folder."""

    def __init__(self, folder: Path) -> None:
        self.logs = folder / "logs"
        self._folder = folder

    async def leave(
        self,
        *commands: str,
        runtime: float = 0.0,
        cores: int = 8,
        later: float = 0.0,
        before: Callable[[], None] = lambda: None,
    ) -> None:
        """Run these until they run, or as many of them as fit, and be killed, or some seconds later.

        `before`: what happens just before that.
        """
        program = [sys.executable, "-m", "tests.gateways.local.earlier_daemon"]
        arguments = [str(self._folder), str(runtime), str(cores), *commands]
        with subprocess.Popen([*program, *arguments], stdout=subprocess.PIPE) as daemon:  # noqa: ASYNC220 - it is short
            assert daemon.stdout is not None
            try:
                assert await asyncio.to_thread(daemon.stdout.readline) == b"running\n"
                await asyncio.sleep(later)
                before()
            finally:
                daemon.kill()

    def status(self, task_id: int = 1, attempt: int = 1) -> Path:
        return status_path(self.logs, SWARM, 7, task_id, attempt, TOKEN)

    def out(self, task_id: int = 1, attempt: int = 1) -> str:
        return output_paths(self.logs, SWARM, 7, task_id, attempt).out.read_text()

    def started(self, task_id: int = 1) -> Started:
        status = read_status(self.status(task_id))
        assert isinstance(status, Started)
        return status

    async def over(self, task_id: int = 1) -> None:
        """Wait until the process of a task is gone."""
        await eventually(lambda: not is_running(self.started(task_id)))

    def launchers(self) -> list[psutil.Process]:
        """That of the tasks, as far as they have one."""
        statuses = [read_status(path) for path in self.logs.rglob("*.status")]
        pids = {status.launcher for status in statuses if isinstance(status, Started | Unclear)}
        return [psutil.Process(pid) for pid in pids if pid and is_alive(pid)]

    def end_all(self) -> None:
        for path in self.logs.rglob("*.status"):
            status = read_status(path)
            if isinstance(status, Started) and is_running(status):
                signal_group(status.pid, 9)


@asynccontextmanager
async def next_daemon(folder: Path, **options):
    """An engine of a swarm whose tasks survive."""
    async with local_engine(folder, swarm=DURABLE, **options) as engine:
        yield engine


def with_runtime(seconds: float, cores: int = 1) -> TaskResources:
    return TaskResources(1, cores=cores, runtime_seconds=seconds)


def same_batch(*commands: str, runtime: float = 0.0) -> Batch:
    """What the earlier daemon had queued, as the next one is told of it."""
    return batch_of(*commands, resources=with_runtime(runtime))


async def main() -> None:
    folder, runtime, cores, *commands = sys.argv[1:]
    gateway, record = LocalGateway(Path(folder) / "logs", cores=int(cores)), Record()
    await gateway.start(record.report)
    await gateway.add_swarm(DURABLE)
    await gateway.queue_batch(same_batch(*commands, runtime=float(runtime)))
    running = range(1, min(len(commands), int(cores)) + 1)
    await record.running(*running)
    paths = [status_path(gateway.log_directory, SWARM, 7, task_id, 1, TOKEN) for task_id in running]
    await eventually(lambda: all(isinstance(read_status(path), Started) for path in paths))
    print("running", flush=True)
    await asyncio.sleep(100)


if __name__ == "__main__":
    asyncio.run(main())
