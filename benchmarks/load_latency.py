"""How long HasWork takes on one swarm while 1.5 million tasks are loaded into another one of the same daemon.

    python benchmarks/load_latency.py [--tasks 1500000] [--json FILE] [--lag]

Three processes: the daemon, the loader, and this one, which calls HasWork again and again. Prints the latencies; the
goal is that none is over 100 ms on an idle machine with two cores. With `--lag` the daemon also tells which callbacks
held its event loop for longer than 20 ms.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import grpc

from swarmd._pb.swarm.v1 import array_pb2, swarm_pb2, swarm_service_pb2, task_pb2
from swarmd._pb.swarm.v1 import scheduler_service_pb2 as scheduler_pb
from swarmd._pb.swarm.v1.scheduler_service_pb2_grpc import SchedulerServiceStub
from swarmd._pb.swarm.v1.swarm_service_pb2_grpc import SwarmServiceStub

ARRAYS = 10_000
CHUNK = 10_000
UPSTREAMS = 3
GOAL_MS = 100.0
SHOWN = 20

LAG_PROBE = """
import asyncio.events, sys, time
run = asyncio.events.Handle._run
def timed(self):
    began = time.perf_counter()
    run(self)
    took = time.perf_counter() - began
    if took > 0.02:
        bound = getattr(self._callback, "__self__", None)
        what = repr(bound if bound is not None else self._callback)[:300]
        print(f"LAG {1000 * took:7.1f} ms  {what}", file=sys.stderr, flush=True)
asyncio.events.Handle._run = timed
from swarmd.cli.main import main
main()
"""


@dataclass
class Latencies:
    """When each call began, since the start, and how long it took, in ms."""

    calls: list[tuple[float, float]] = field(default_factory=list)

    def summary(self) -> dict[str, float]:
        taken = sorted(took for _, took in self.calls)
        return {
            "calls": len(taken),
            "median_ms": round(taken[len(taken) // 2], 2),
            "p99_ms": round(taken[int(len(taken) * 0.99)], 2),
            "worst_ms": round(taken[-1], 2),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=1_500_000)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--lag", action="store_true", help="tell which callbacks held the daemon's event loop")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sw-") as home, daemon(Path(home), lag=options.lag) as address:
        result = measure(address, options.tasks)
        if options.lag:
            lines = [line for line in (Path(home) / "stderr").read_text().splitlines() if line.startswith("LAG")]
            print(f"{len(lines)} callbacks held the loop for over 20 ms; the longest:")
            for line in sorted(lines, key=lambda line: float(line.split()[1]), reverse=True)[:SHOWN]:
                print(" ", line)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(result, indent=2) + "\n")


@contextlib.contextmanager
def daemon(home: Path, *, lag: bool) -> Iterator[str]:
    """A daemon of our own; gives its address."""
    program = ["-c", LAG_PROBE] if lag else ["-m", "swarmd"]
    listen = f"unix:{home / 'swarmd.sock'}"
    with (home / "stderr").open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, *program, "serve", "--ready-json", "--listen", listen, "--state-dir", str(home / "state")],
            stdout=subprocess.PIPE,
            stderr=errors,
        )
    try:
        assert process.stdout is not None
        if not process.stdout.readline():
            sys.exit((home / "stderr").read_text())
        yield listen
    finally:
        process.terminate()
        process.wait(60)


def measure(address: str, tasks: int) -> dict[str, object]:
    context = multiprocessing.get_context("spawn")
    events: multiprocessing.Queue[tuple[str, float]] = context.Queue()
    loader = context.Process(target=load, args=(address, tasks, events))
    loader.start()
    with grpc.insecure_channel(address) as channel:
        swarms, scheduler = SwarmServiceStub(channel), SchedulerServiceStub(channel)
        swarms.CreateSwarm(
            swarm_service_pb2.CreateSwarmRequest(swarm=swarm_pb2.Swarm(swarm_id="quiet", gateway="pull"))
        )
        marks = dict([events.get()])
        latencies = Latencies()
        while "end" not in marks and loader.is_alive():
            latencies.calls.append(timed_call(scheduler))
            while not events.empty():
                name, at = events.get()
                marks[name] = at
    loader.join()
    during = Latencies([call for call in latencies.calls if marks["begin"] <= call[0] <= marks["end"]])
    worst = sorted(during.calls, key=lambda call: -call[1])[:5]
    result: dict[str, object] = {
        "tasks": tasks,
        "load_seconds": round(marks["end"] - marks["begin"], 2),
        **during.summary(),
        "goal_ms": GOAL_MS,
        "sent_after_seconds": round(marks["sent"] - marks["begin"], 2),
        "worst_at_seconds": [[round(at - marks["begin"], 2), round(took, 1)] for at, took in worst],
    }
    for name, value in result.items():
        print(f"{name}: {value}")
    return result


def timed_call(scheduler: SchedulerServiceStub) -> tuple[float, float]:
    began = time.perf_counter()
    scheduler.HasWork(scheduler_pb.HasWorkRequest(swarm_id="quiet"))
    return began, 1000 * (time.perf_counter() - began)


def load(address: str, tasks: int, events: "multiprocessing.Queue[tuple[str, float]]") -> None:
    """The other process: everything is serialized before the load begins, so that only the daemon has work."""
    chunks = serialized(tasks)
    with grpc.insecure_channel(address) as channel:
        swarm = swarm_pb2.Swarm(swarm_id="big", gateway="pull")
        SwarmServiceStub(channel).CreateSwarm(swarm_service_pb2.CreateSwarmRequest(swarm=swarm))
        add: Any = channel.stream_unary(
            "/swarm.v1.SwarmService/AddTasks",
            request_serializer=None,
            response_deserializer=swarm_service_pb2.AddTasksResponse.FromString,
        )

        def sent() -> Iterator[bytes]:
            yield from chunks
            events.put(("sent", time.perf_counter()))

        events.put(("begin", time.perf_counter()))
        answer = add(sent())
        events.put(("end", time.perf_counter()))
        assert answer.task_count == tasks


def serialized(tasks: int) -> list[bytes]:
    arrays = [array_pb2.Array(array_id=number, command="run {name}") for number in range(1, ARRAYS + 1)]
    resources = task_pb2.TaskResources(task_resources_id=1, memory_mib=1000)
    first = swarm_service_pb2.AddTasksRequest(swarm_id="big", arrays=arrays, task_resources=[resources])
    chunks = [first.SerializeToString()]
    for start in range(1, tasks + 1, CHUNK):
        chunk = swarm_service_pb2.AddTasksRequest()
        for number in range(start, min(start + CHUNK, tasks + 1)):
            upstreams = range(max(1, number - UPSTREAMS), number) if number % 2 == 0 else ()
            chunk.tasks.add(
                task_id=number,
                array_id=1 + number % ARRAYS,
                task_resources_id=1,
                name=f"task-{number}",
                upstream_task_ids=upstreams,
            )
        chunks.append(chunk.SerializeToString())
    return chunks


if __name__ == "__main__":
    main()
