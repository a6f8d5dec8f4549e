"""The held load: 200,000 tasks through the remote gateway, with an engine that answers after 50 ms a batch.

    python benchmarks/remote.py [--tasks 200000] [--delay 0.05] [--rounds 3] [--in-memory] [--profile FILE]

The engine is a process of its own. It answers each QueueBatch after the delay and reports the batch RUNNING and DONE at
once, so whatever takes longer than the delays themselves, 8 batches side by side, is the daemon's own share. The
daemon's processor time is told beside it. `--profile`: the daemon runs under cProfile, which makes it slower, and the
file is for `python -m pstats`.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import psutil

from swarmd._pb.swarm.v1 import gateway_service_pb2 as pb
from swarmd._pb.swarm.v1 import swarm_pb2, swarm_service_pb2, task_pb2
from swarmd._pb.swarm.v1.gateway_service_pb2_grpc import GatewayServiceServicer, add_GatewayServiceServicer_to_server
from swarmd._pb.swarm.v1.swarm_service_pb2_grpc import SwarmServiceStub

SWARM = "held"
IN_FLIGHT = 8
BATCH = 500
CHUNK = 20_000
LOOK_SECONDS = 0.05
Context = grpc.aio.ServicerContext[Any, Any]


class InstantEngine(GatewayServiceServicer):
    """Takes everything after a delay, and has it done at once."""

    def __init__(self, delay: float) -> None:
        self._delay = delay
        self._news: list[pb.WatchUpdatesResponse] = []
        self._more = asyncio.Event()

    async def QueueBatch(  # noqa: N802
        self, request: pb.QueueBatchRequest, context: Context
    ) -> pb.QueueBatchResponse:
        del context
        await asyncio.sleep(self._delay)
        for status in (task_pb2.TASK_STATUS_RUNNING, task_pb2.TASK_STATUS_DONE):
            message = pb.WatchUpdatesResponse(swarm_id=request.swarm_id, resume_token=str(len(self._news) + 1))
            message.update.task_statuses.add(
                status=status, task_ids=request.batch.task_ids, attempts=request.batch.attempts
            )
            self._news.append(message)
        self._more.set()
        return pb.QueueBatchResponse()

    async def FindBatch(  # noqa: N802
        self, request: pb.FindBatchRequest, context: Context
    ) -> pb.FindBatchResponse:
        del request, context
        return pb.FindBatchResponse()  # nothing is ever in doubt here: nobody is killed

    async def CancelTasks(  # noqa: N802
        self, request: pb.GatewayServiceCancelTasksRequest, context: Context
    ) -> pb.GatewayServiceCancelTasksResponse:
        del request, context
        return pb.GatewayServiceCancelTasksResponse()

    async def WatchUpdates(  # noqa: N802
        self, request: pb.WatchUpdatesRequest, context: Context
    ) -> AsyncIterator[pb.WatchUpdatesResponse]:
        del context
        place = int(request.resume_token or len(self._news))
        yield pb.WatchUpdatesResponse(resume_token=str(place))
        while True:
            self._more.clear()
            while place < len(self._news):
                place += 1
                yield self._news[place - 1]
            try:
                async with asyncio.timeout(request.progress_interval.ToTimedelta().total_seconds()):
                    await self._more.wait()
            except TimeoutError:
                yield pb.WatchUpdatesResponse(resume_token=str(place))


async def serve_engine(address: str, delay: float) -> None:
    server = grpc.aio.server()
    add_GatewayServiceServicer_to_server(InstantEngine(delay), server)
    server.add_insecure_port(address)
    await server.start()
    print("ready", flush=True)
    await server.wait_for_termination()


@contextmanager
def process(*command: str) -> Iterator[tuple[psutil.Process, str]]:
    """A child with the first line that it prints."""
    child = subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE)
    assert child.stdout is not None
    try:
        yield psutil.Process(child.pid), child.stdout.readline().decode()
    finally:
        child.terminate()
        try:
            child.wait(30)
        finally:
            child.kill()
            child.stdout.close()


def cpu_seconds(of: psutil.Process) -> float:
    times = of.cpu_times()
    return times.user + times.system


def load(swarms: SwarmServiceStub, engine: str, tasks: int, arrays: int) -> None:
    """A swarm that is paused, with tasks that are ready at once."""
    swarm = swarm_pb2.Swarm(
        swarm_id=SWARM, gateway="remote", gateway_options={"address": engine}, autopilot=True, paused=True
    )
    swarms.CreateSwarm(swarm_service_pb2.CreateSwarmRequest(swarm=swarm))
    swarms.AddTasks(chunks(tasks, arrays))


def chunks(tasks: int, arrays: int) -> Iterator[swarm_service_pb2.AddTasksRequest]:
    first = swarm_service_pb2.AddTasksRequest(swarm_id=SWARM)
    first.task_resources.add(task_resources_id=1)
    for number in range(1, arrays + 1):
        first.arrays.add(array_id=number, command="simulate --member {task_id}")
    yield first
    for start in range(1, tasks + 1, CHUNK):
        yield swarm_service_pb2.AddTasksRequest(
            tasks=[
                task_pb2.Task(task_id=number, array_id=1 + number % arrays, task_resources_id=1)
                for number in range(start, min(start + CHUNK, tasks + 1))
            ]
        )


def wait_until_done(swarms: SwarmServiceStub, tasks: int) -> None:
    while True:
        counts = swarms.GetSwarm(swarm_service_pb2.GetSwarmRequest(swarm_id=SWARM)).swarm.task_counts
        if counts.done == tasks:
            return
        time.sleep(LOOK_SECONDS)


def measure(options: argparse.Namespace) -> dict[str, float]:
    """One round, with an engine and a daemon of its own."""
    with tempfile.TemporaryDirectory(prefix="swb-") as home:
        engine = f"unix:{home}/engine.sock"
        serve = ["-m", "swarmd", "serve", "--ready-json", "--log-level", "warning"]
        serve += ["--listen", f"unix:{home}/s.sock", "--state-dir", f"{home}/state"]
        serve += ["--in-memory"] if options.in_memory else []
        serve = ["-m", "cProfile", "-o", str(options.profile), *serve] if options.profile else serve
        with (
            process(__file__, "--engine", engine, "--delay", str(options.delay)) as (engine_process, _),
            process(*serve) as (daemon, ready),
            grpc.insecure_channel(json.loads(ready)["address"]) as channel,
        ):
            swarms = SwarmServiceStub(channel)
            begin, cpu = time.perf_counter(), cpu_seconds(daemon)
            load(swarms, engine, options.tasks, options.arrays)
            loaded, loaded_cpu, engine_cpu = time.perf_counter(), cpu_seconds(daemon), cpu_seconds(engine_process)
            swarm = swarm_pb2.Swarm(swarm_id=SWARM, paused=False)
            request = swarm_service_pb2.UpdateSwarmRequest(swarm=swarm)
            request.update_mask.paths.append("paused")
            swarms.UpdateSwarm(request)
            wait_until_done(swarms, options.tasks)
            took, used = time.perf_counter() - loaded, cpu_seconds(daemon) - loaded_cpu
            engine_used = cpu_seconds(engine_process) - engine_cpu
    batches = options.arrays * -(-(options.tasks // options.arrays) // BATCH)
    ideal = batches * options.delay / IN_FLIGHT
    return {
        f"load of {options.tasks:,} tasks, s": loaded - begin,
        "load, daemon's processor time, s": loaded_cpu - cpu,
        "all queued and DONE, s": took,
        f"the delays alone ({batches} batches, {IN_FLIGHT} at once), s": ideal,
        "daemon's own share of the time, s": took - ideal,
        "daemon's own share, % of the whole": 100 * (took - ideal) / took,
        "daemon's processor time, s": used,
        "daemon's processor time, us a task": used / options.tasks * 1e6,
        "engine's processor time, s": engine_used,
        "tasks a second": options.tasks / took,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=200_000)
    parser.add_argument("--arrays", type=int, default=4)
    parser.add_argument("--delay", type=float, default=0.05)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--in-memory", action="store_true")
    parser.add_argument("--profile", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--engine", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.engine:
        asyncio.run(serve_engine(options.engine, options.delay))
        return
    rounds = [measure(options) for _ in range(options.rounds)]
    best = min(rounds, key=lambda each: each["all queued and DONE, s"])
    for name, value in best.items():
        print(f"{name:<52} {value:>10,.2f}")
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps({"rounds": rounds, "best": best}, indent=1) + "\n")


if __name__ == "__main__":
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    main()
