"""What durability costs, and how quick a restart is.

    python benchmarks/durability.py [--rounds 3] [--restart-tasks 1500000] [--only updates|restart] [--json FILE]

Updates: the same streams of ApplyUpdate go to a daemon in memory and to one that writes down, in turns; the best
round of each counts. Restart: a swarm of 1.5 million tasks over 10,000 arrays is loaded, half of it is reported DONE in
groups of 500, the daemon is killed with SIGKILL and started again. Meanwhile Tick is called all the time, on that swarm
and on another one: the longest answers say whether a snapshot ever holds anybody up, and updates for comparison.
"""

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import numpy as np

from swarmd._pb.swarm.v1 import scheduler_service_pb2 as pb
from swarmd._pb.swarm.v1 import state_pb2, swarm_pb2, swarm_service_pb2, task_pb2
from swarmd._pb.swarm.v1.scheduler_service_pb2_grpc import SchedulerServiceStub
from swarmd._pb.swarm.v1.swarm_service_pb2_grpc import SwarmServiceStub

LARGE_MESSAGES, SMALL_MESSAGES, STREAMS = 1000, 200, 64
CHANGES = 500
CHUNK = 20_000


@contextmanager
def daemon(home: Path, *options: str) -> Iterator[tuple[str, "subprocess.Popen[bytes]", float]]:
    """A daemon, its address, and how long it took to be ready."""
    begin = time.perf_counter()
    command = [sys.executable, "-m", "swarmd", "serve", "--ready-json", "--log-level", "warning"]
    command += ["--listen", f"unix:{home}/s.sock", "--state-dir", f"{home}/state", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    line = process.stdout.readline()
    took = time.perf_counter() - begin
    try:
        yield json.loads(line)["address"], process, took
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait()
        process.stdout.close()


class Client:
    """What the measurements need."""

    def __init__(self, address: str) -> None:
        self.channel = grpc.aio.insecure_channel(address)
        self.swarms = SwarmServiceStub(self.channel)
        self.scheduler = SchedulerServiceStub(self.channel)

    async def create(self, swarm_id: str, tasks: int, arrays: int) -> None:
        """A swarm whose tasks are ready at once."""
        swarm = swarm_pb2.Swarm(swarm_id=swarm_id, gateway="pull")
        await self.swarms.CreateSwarm(swarm_service_pb2.CreateSwarmRequest(swarm=swarm))
        await self.swarms.AddTasks(_chunks(swarm_id, tasks, arrays))

    async def stream(self, messages: "list[pb.ApplyUpdateRequest]") -> None:
        """Send all, and take every answer."""
        call = self.scheduler.ApplyUpdate(iter(messages))
        async for answer in call:
            assert not answer.HasField("error"), answer.error

    async def tick(self, swarm_id: str) -> float:
        """How long a tick of one batch takes."""
        begin = time.perf_counter()
        await self.scheduler.Tick(pb.TickRequest(swarm_id=swarm_id, max_batches=1))
        return time.perf_counter() - begin


async def _chunks(swarm_id: str, tasks: int, arrays: int) -> AsyncIterator[swarm_service_pb2.AddTasksRequest]:
    first = swarm_service_pb2.AddTasksRequest(swarm_id=swarm_id)
    first.task_resources.add(task_resources_id=1)
    for number in range(1, arrays + 1):
        first.arrays.add(array_id=number, command="true {task_id}")
    yield first
    for start in range(1, tasks + 1, CHUNK):
        yield swarm_service_pb2.AddTasksRequest(
            tasks=[
                task_pb2.Task(task_id=number, array_id=1 + number % arrays, task_resources_id=1)
                for number in range(start, min(start + CHUNK, tasks + 1))
            ]
        )


def done(swarm_id: str, first: int, count: int) -> pb.ApplyUpdateRequest:
    group = state_pb2.TaskStatusGroup(status=task_pb2.TASK_STATUS_DONE, task_ids=range(first, first + count))
    return pb.ApplyUpdateRequest(swarm_id=swarm_id, update=state_pb2.StateUpdate(task_statuses=[group]))


# -- updates -----------------------------------------------------------------------------------------------------------


async def large(client: Client, swarm_id: str) -> float:
    """Messages a second of one stream with 500 changes each."""
    await client.create(swarm_id, LARGE_MESSAGES * CHANGES, 100)
    messages = [done(swarm_id, 1 + place * CHANGES, CHANGES) for place in range(LARGE_MESSAGES)]
    begin = time.perf_counter()
    await client.stream(messages)
    return LARGE_MESSAGES / (time.perf_counter() - begin)


async def small(client: Client, swarm_id: str) -> float:
    """Messages a second of 64 streams with one change each."""
    await client.create(swarm_id, STREAMS * SMALL_MESSAGES, 100)
    streams = [
        [done(swarm_id, 1 + stream * SMALL_MESSAGES + place, 1) for place in range(SMALL_MESSAGES)]
        for stream in range(STREAMS)
    ]
    begin = time.perf_counter()
    await asyncio.gather(*(client.stream(messages) for messages in streams))
    return STREAMS * SMALL_MESSAGES / (time.perf_counter() - begin)


async def updates(rounds: int) -> dict[str, float]:
    """The best rate of each kind, in memory and durable."""
    best: dict[str, float] = {}
    with (
        tempfile.TemporaryDirectory(prefix="swb-") as one,
        tempfile.TemporaryDirectory(prefix="swb-") as two,
        daemon(Path(one), "--in-memory") as (memory, _, _),
        daemon(Path(two)) as (durable, _, _),
    ):
        clients = {"in memory": Client(memory), "durable": Client(durable)}
        kinds: dict[str, Callable[[Client, str], Awaitable[float]]] = {"500 changes": large, "1 change": small}
        for number in range(rounds):
            for kind, measure in kinds.items():
                for name, client in clients.items():
                    swarm_id = f"{kind[0]}-{number}"
                    rate = await measure(client, swarm_id)
                    best[f"{kind}, {name}"] = max(rate, best.get(f"{kind}, {name}", 0.0))
                    request = swarm_service_pb2.DeleteSwarmRequest(swarm_id=swarm_id, force=True)
                    await client.swarms.DeleteSwarm(request)
        for client in clients.values():
            await client.channel.close()
    return best


# -- restart -----------------------------------------------------------------------------------------------------------


async def restart(tasks: int) -> dict[str, float]:
    """Seconds to be ready again after SIGKILL, and the longest ticks while snapshots were made."""
    with tempfile.TemporaryDirectory(prefix="swb-") as home:
        with daemon(Path(home)) as (address, process, fresh):
            client = Client(address)
            await client.create("small", 100_000, 10)
            begin = time.perf_counter()
            await client.create("large", tasks, 10_000)
            loading = time.perf_counter() - begin
            quiet: dict[str, list[float]] = {"small": [], "large": []}
            ticking = asyncio.create_task(_tick_on(client, quiet))
            await asyncio.sleep(2)  # the snapshot that follows a large load is made now
            ticking.cancel()
            ticks: dict[str, list[float]] = {"small": [], "large": []}
            ticking = asyncio.create_task(_tick_on(client, ticks))
            messages = [done("large", 1 + start, CHANGES) for start in range(0, tasks // 2, CHANGES)]
            begin = time.perf_counter()
            for start in range(0, len(messages), 100):
                await client.stream(messages[start : start + 100])
            updating = time.perf_counter() - begin
            await asyncio.sleep(2)
            ticking.cancel()
            counts = (await _get(client, "large")).task_counts
            size = _size_of(Path(home))
            process.send_signal(signal.SIGKILL)
            process.wait()
            await client.channel.close()
        with daemon(Path(home)) as (address, _, again):
            client = Client(address)
            assert (await _get(client, "large")).task_counts == counts
            await client.channel.close()
    return {
        "start with nothing, s": fresh,
        f"load of {tasks:,} tasks, s": loading,
        "updates of half of them, s": updating,
        "restart after SIGKILL, s": again,
        "longest tick while a snapshot is made, the same swarm, ms": max(quiet["large"]) * 1e3,
        "longest tick while a snapshot is made, another swarm, ms": max(quiet["small"]) * 1e3,
        "longest tick under updates, the same swarm, ms": max(ticks["large"]) * 1e3,
        "longest tick under updates, another swarm, ms": max(ticks["small"]) * 1e3,
        "median tick under updates, another swarm, ms": float(np.median(ticks["small"])) * 1e3,
        "files, MB": size / 1e6,
    }


def _size_of(home: Path) -> int:
    return sum(path.stat().st_size for path in (home / "state" / "swarms").rglob("*") if path.is_file())


async def _tick_on(client: Client, ticks: dict[str, list[float]]) -> None:
    while True:
        for name, times in ticks.items():
            times.append(await client.tick(name))
        await asyncio.sleep(0.005)


async def _get(client: Client, swarm_id: str) -> swarm_pb2.Swarm:
    return (await client.swarms.GetSwarm(swarm_service_pb2.GetSwarmRequest(swarm_id=swarm_id))).swarm


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--restart-tasks", type=int, default=1_500_000)
    parser.add_argument("--only", choices=["updates", "restart"])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found: dict[str, float] = {}
    if options.only != "restart":
        found |= asyncio.run(updates(options.rounds))
        for kind in ("500 changes", "1 change"):
            memory, durable = found[f"{kind}, in memory"], found[f"{kind}, durable"]
            found[f"{kind}, ratio"] = durable / memory
            print(
                f"{kind} a message: {memory:,.0f} messages/s in memory, {durable:,.0f} durable: {durable / memory:.0%}"
            )
    if options.only != "updates":
        measured = asyncio.run(restart(options.restart_tasks))
        found |= measured
        for name, value in measured.items():
            print(f"{name}: {value:,.2f}")
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    main()
