"""How many tasks a second the local gateway runs, beside a bare Popen loop and, where it is there, HyperQueue.

    python benchmarks/local_gateway.py [--tasks 2000] [--rounds 3] [--hyperqueue PYTHON] [--json FILE]

`--hyperqueue` is the Python of a virtual environment with `pip install hyperqueue`. The contenders take turns, so that
a busy machine is unfair to all of them alike; the best of each counts. Their files are removed only at the end: ext4
needs 0.5 ms instead of 0.02 to make a file for some seconds after thousands were removed.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from swarmd.core.model import Array, Task, TaskResources
from swarmd.core.state import SwarmState
from swarmd.core.update import StateUpdate
from swarmd.gateways.contract import SwarmInfo
from swarmd.gateways.local import LocalGateway

COMMAND = "/bin/true"
SHELL_COMMAND = "exec /bin/true"
"""The same for a command that really needs the shell: the gateway leaves it out where it would do nothing."""
TOKEN = "bench"
"""Of a swarm whose tasks survive the daemon: each keeps a status file."""
CORES = len(os.sched_getaffinity(0))

HYPERQUEUE_PROGRAM = """
import sys, time
from hyperqueue import Job, LocalCluster
from hyperqueue.cluster import WorkerConfig
tasks, cores = int(sys.argv[1]), int(sys.argv[2])
with LocalCluster() as cluster:
    cluster.start_worker(WorkerConfig(cores=cores))
    client = cluster.client()
    job = Job()
    for _ in range(tasks):
        job.program(["/bin/true"])
    begin = time.perf_counter()
    client.wait_for_jobs([client.submit(job)])
    print("SECONDS", time.perf_counter() - begin)
"""


class Run:
    """One workflow of equal tasks, from the first batch to the last DONE."""

    def __init__(self, tasks: int, command: str) -> None:
        self.state = SwarmState("bench")
        self.state.load([Array(1, command=command)], [TaskResources(1)], [Task(i, 1, 1) for i in range(1, tasks + 1)])
        self.reports = 0
        self.finished = asyncio.Event()

    def report(self, swarm_id: str, update: StateUpdate) -> None:
        del swarm_id
        self.reports += 1
        self.state.apply_update(update)
        if self.state.finished:
            self.finished.set()

    async def seconds(self, log_directory: Path, token: str) -> float:
        gateway = LocalGateway(log_directory)
        await gateway.start(self.report)
        await gateway.add_swarm(SwarmInfo("bench", token=token))
        begin = time.perf_counter()
        while batch := self.state.take_batch():
            await gateway.queue_batch(batch)
            self.state.settle(batch)
        await self.finished.wait()
        took = time.perf_counter() - begin
        await gateway.close()
        return took


def local_gateway(folder: Path, name: str, tasks: int, command: str, token: str = "") -> float:
    async def measure() -> tuple[float, int]:
        run = Run(tasks, command)
        return await run.seconds(folder, token), run.reports

    seconds, reports = asyncio.run(measure())
    print(f"  {name:22}{tasks / seconds:8.0f} tasks/s  ({reports} reports)", flush=True)
    return tasks / seconds


def bare_popen(name: str, tasks: int) -> float:
    """The same shell and process groups without output files, limits, reports and an event loop."""
    begin = time.perf_counter()
    running: list[subprocess.Popen[bytes]] = []
    for _ in range(tasks):
        if len(running) == CORES:
            running.pop(0).wait()
        running.append(
            subprocess.Popen(
                ["/bin/sh", "-c", COMMAND],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                process_group=0,
            )
        )
    for child in running:
        child.wait()
    rate = tasks / (time.perf_counter() - begin)
    print(f"  {name:22}{rate:8.0f} tasks/s", flush=True)
    return rate


def hyperqueue(folder: Path, name: str, python: str, tasks: int) -> float:
    command = [python, "-c", HYPERQUEUE_PROGRAM, str(tasks), str(CORES)]
    done = subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    rate = tasks / float(done.stdout.rpartition("SECONDS")[2])
    print(f"  {name:22}{rate:8.0f} tasks/s", flush=True)
    return rate


def compare(options: argparse.Namespace, folder: Path) -> dict[str, float]:
    """The best rate of each contender over all rounds."""
    tasks: int = options.tasks
    contenders: dict[str, Callable[[Path, str], float]] = {
        "local gateway": lambda place, name: local_gateway(place, name, tasks, COMMAND),
        "with a shell": lambda place, name: local_gateway(place, name, tasks, SHELL_COMMAND),
        "surviving": lambda place, name: local_gateway(place, name, tasks, COMMAND, TOKEN),
        "surviving with a shell": lambda place, name: local_gateway(place, name, tasks, SHELL_COMMAND, TOKEN),
        "bare Popen": lambda _, name: bare_popen(name, tasks),
    }
    if options.hyperqueue:
        contenders["HyperQueue"] = lambda place, name: hyperqueue(place, name, options.hyperqueue, tasks)
    best = dict.fromkeys(contenders, 0.0)
    for number in range(1, options.rounds + 1):
        print(f"round {number}: {options.tasks} x {COMMAND}, {CORES} cores")
        for name, measure in contenders.items():
            place = folder / f"{name}-{number}"
            place.mkdir()
            best[name] = max(best[name], measure(place, name))
    return best


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--tasks", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--hyperqueue", metavar="PYTHON", help="a Python that has HyperQueue")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        best = compare(options, Path(folder))
    for name, rate in best.items():
        print(f"{name:22} {rate:6.0f} tasks/s   local gateway / {name}: {best['local gateway'] / rate:.2f}")
    if options.json:
        options.json.write_text(json.dumps({"tasks": options.tasks, "tasks_per_second": best}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
