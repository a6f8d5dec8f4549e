"""Real daemons on this machine, one and two at a time, beside what the model says of them.

    python -m benchmarks.scaling.check ADDRESS PID TASKS CHUNKS     drives one daemon, when a line comes in

The costs come from the run with one daemon; what two take when they share the machine is the model's to say.
"""

import asyncio
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

from benchmarks.scaling.costs import Costs
from benchmarks.scaling.model import Setup, simulated
from benchmarks.suite.life import DONE, GROUP, RUNNING, SWARM, plan_of, tell, tick
from benchmarks.suite.raw import channel_to
from benchmarks.suite.servers import Daemon, daemon
from benchmarks.suite.setting import ROOT, cores
from benchmarks.suite.swarms import create, load, read_chunks, update, write_chunks

TASKS_AN_ARRAY = 150
DRIVE_SECONDS = 300.0
NEAR = 0.3
"""So far off may the model be: a small machine does other things, too."""


@dataclass
class Driven:
    """What one daemon and its client took: seconds by the clock, and seconds of processors by part."""

    seconds: float = 0.0
    load: float = 0.0
    ticks: float = 0.0
    updates: float = 0.0
    client: float = 0.0


@dataclass(frozen=True, slots=True)
class Measured:
    """Daemons that were driven at the same time."""

    tasks: int
    """Of each."""
    driven: list[Driven]
    disk_bytes: float
    memory_bytes: float
    wire_bytes: float

    @property
    def seconds(self) -> float:
        return max(each.seconds for each in self.driven)

    def costs(self, costs: Costs) -> Costs:
        """These costs, with what this run says of a task."""
        one = self.driven[0]
        return replace(
            costs,
            load_us=1e6 * one.load / self.tasks,
            tick_us=1e6 * one.ticks / self.tasks,
            update_us=1e6 * one.updates / self.tasks,
            client_us=1e6 * one.client / self.tasks,
            disk_bytes=self.disk_bytes / self.tasks,
            memory_bytes=max(0.0, self.memory_bytes - costs.idle_mib * 2**20) / self.tasks,
            wire_bytes=self.wire_bytes / self.tasks,
        )


async def drive(served: Daemon, tasks: int, chunks: Path) -> Driven:
    """A whole life, as the suite measures it."""
    driven, done = Driven(), 0
    async with channel_to(served.address) as channel:
        await create(channel, SWARM)
        begun, own, before = time.perf_counter(), time.process_time(), served.processor_seconds()
        await load(channel, read_chunks(chunks))
        driven.load = served.processor_seconds() - before
        while done < tasks:
            before = served.processor_seconds()
            groups = await tick(channel)
            between = served.processor_seconds()
            await tell(channel, groups)
            driven.ticks += between - before
            driven.updates += served.processor_seconds() - between
            done += sum(map(len, groups))
        driven.seconds, driven.client = time.perf_counter() - begun, time.process_time() - own
    return driven


def measured(tasks: int, daemons: int) -> Measured:
    """Drive so many daemons at once, each by a process of its own."""
    with tempfile.TemporaryDirectory(prefix="sws-") as folder, contextlib.ExitStack() as stack:
        chunks = Path(folder) / "chunks"
        plan = plan_of(tasks, tasks // TASKS_AN_ARRAY)
        write_chunks(plan, SWARM, chunks)
        homes = [Path(folder) / str(number) for number in range(daemons)]
        for home in homes:
            home.mkdir(mode=0o700)
        served = [stack.enter_context(daemon(home)) for home in homes]
        idle = _used(homes[0])
        drivers = [stack.enter_context(_driver(each, tasks, chunks)) for each in served]
        driven = _driven(drivers)
        disk, memory = _used(homes[0]) - idle, served[0].memory_mib("VmHWM") * 2**20
        return Measured(tasks, driven, disk, memory, chunks.stat().st_size + _told_bytes(tasks))


@contextlib.contextmanager
def _driver(served: Daemon, tasks: int, chunks: Path) -> "Iterator[subprocess.Popen[str]]":
    arguments = (served.address, str(served.process.pid), str(tasks), str(chunks))
    command = [sys.executable, "-m", "benchmarks.scaling.check", *arguments]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def _driven(drivers: "list[subprocess.Popen[str]]") -> list[Driven]:
    """Let them begin together when all are ready."""
    for each in drivers:
        if each.stdout is None or not each.stdout.readline():
            raise RuntimeError("a client did not start")
    for each in drivers:
        if each.stdin is not None:
            each.stdin.write("\n")
            each.stdin.flush()
    found = [each.communicate(timeout=DRIVE_SECONDS)[0] for each in drivers]
    if any(each.returncode for each in drivers):
        raise RuntimeError("a client failed")
    return [Driven(**json.loads(text)) for text in found]


def _used(folder: Path) -> float:
    return float(sum(each.stat().st_size for each in folder.rglob("*") if each.is_file()))


def _told_bytes(tasks: int) -> float:
    """Of the news, and of ticks, whose answers name as many tasks in as many groups."""
    last = range(tasks - GROUP + 1, tasks + 1)
    return sum(len(update(SWARM, status, last)) for status in (RUNNING, DONE, RUNNING)) * tasks / GROUP


def compared(tasks: int, costs: Costs, rounds: int) -> tuple[list[tuple[int, float, float]], Costs]:
    """(daemons, seconds measured, seconds simulated) of one and of two, the least of the rounds; and the costs."""
    found = {1: measured(tasks, 1), 2: measured(tasks, 2)}
    for _ in range(rounds - 1):
        for daemons, before in found.items():
            again = measured(tasks, daemons)
            found[daemons] = min(before, again, key=lambda each: each.seconds)
    real = found[1].costs(costs)
    rows = []
    for daemons, each in found.items():
        setup = Setup(f"{daemons} here", tasks * daemons, daemons, cores=cores())
        rows.append((daemons, each.seconds, simulated(setup, real).seconds))
    return rows, real


def main() -> None:
    address, pid, tasks, chunks = sys.argv[1:]
    served = Daemon(cast("subprocess.Popen[bytes]", SimpleNamespace(pid=int(pid))), address, 0.0)
    print("ready", flush=True)
    sys.stdin.readline()
    print(json.dumps(asdict(asyncio.run(drive(served, int(tasks), Path(chunks))))), flush=True)


if __name__ == "__main__":
    main()
