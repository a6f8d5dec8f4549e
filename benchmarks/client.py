"""What the Python client costs: a workflow of a million tasks built, encoded and loaded, and calls of either kind.

    python benchmarks/client.py [--tasks 1000000] [--json FILE]

Starts a daemon of its own. Encoding is measured alone, without a daemon; a load is measured until it is answered, so
that most of it is the daemon's own work.
"""

import argparse
import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np

from swarmd import embedded
from swarmd.client import Swarm, SwarmClient
from swarmd.client.encoding import add_tasks_chunks

ARRAYS = 10
T = TypeVar("T")
CALLS = 1000
GROUP = 500


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=1_000_000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    result = measure(options.tasks)
    for name, value in result.items():
        print(f"{name:<48} {value:>12,.1f}")
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(result, indent=2) + "\n")


def measure(tasks: int) -> dict[str, float]:
    result: dict[str, float] = {}
    plan, result["build, s"] = timed(lambda: workflow(tasks))
    size, result["encode, s"] = timed(lambda: sum(map(len, add_tasks_chunks("s", plan))))
    result["encoded, bytes a task"] = size / tasks
    with embedded(in_memory=True) as daemon:
        asyncio.run(over_asyncio(daemon.client(), plan, tasks, result))
        with daemon.blocking_client() as client:
            _, seconds = timed(lambda: [client.swarms() for _ in range(CALLS)])
            result["a blocking call, us"] = seconds / CALLS * 1e6
    return result


def workflow(tasks: int) -> Swarm:
    plan = Swarm("large", gateway="pull", max_concurrently_running=tasks)
    before = None
    for number in range(ARRAYS):
        array = plan.array(f"array-{number}", command="run {name}", tasks=tasks // ARRAYS)
        if before is not None:
            array.after(before, one_to_one=True)
        before = array
    return plan


async def over_asyncio(client: SwarmClient, plan: Swarm, tasks: int, result: dict[str, float]) -> None:
    async with client:
        await client.connect()
        begun = time.perf_counter()
        live = await client.submit(plan)
        result["load, s"] = time.perf_counter() - begun
        ids = np.arange(1, tasks // ARRAYS + 1)
        begun = time.perf_counter()
        async with live.updates() as updates:
            for part in np.array_split(ids, max(1, len(ids) // GROUP)):
                await updates.done(part)
        result[f"news in groups of {GROUP}, tasks/s"] = len(ids) / (time.perf_counter() - begun)
        await live.delete(force=True)
        begun = time.perf_counter()
        for _ in range(CALLS):
            await client.swarms()
        result["an asyncio call, us"] = (time.perf_counter() - begun) / CALLS * 1e6


def timed(work: Callable[[], T]) -> tuple[T, float]:
    begun = time.perf_counter()
    made = work()
    return made, time.perf_counter() - begun


if __name__ == "__main__":
    main()
