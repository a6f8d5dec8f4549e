"""What the policies of a swarm cost: a tick, updates, loads and memory under each, side by side in one run.

    python -m benchmarks.policies [--tasks 100000 1500000] [--arrays 1 10000] [--rounds 3] [--json FILE]

A tick takes all that is ready, or fills a limit of 10,000 of which 100 places become free each time. Each figure is the
best of the rounds, in which the policies take turns, in time of the processor. Ratios are against first come, first
served. Tasks run for two seconds and are taken for one, so that a sweep over all paths is part of "DONE by 500".
"""

import argparse
import gc
import json
import statistics
import sys
import time
from pathlib import Path

import numpy as np
from benchmarks.core import make_columns, news, tick

from swarmd.core.model import Array, TaskResources
from swarmd.core.policy import SchedulingPolicy
from swarmd.core.state import SwarmState
from swarmd.core.status import TaskStatus

GROUP = 500
STEADY_TICKS = 300
FIGURES = {
    "load": "us/task",
    "tick of all": "us/task",
    "DONE by 500": "us/task",
    "steady tick": "us/tick",
    "batches a steady tick": "",
    "memory": "bytes/task",
}


def measured(tasks: int, arrays: int, policy: SchedulingPolicy) -> dict[str, float]:
    """All figures of one policy, once."""
    columns = make_columns(tasks, arrays)
    array_list = [Array(number) for number in range(1, arrays + 1)]
    gc.collect()
    state = SwarmState("bench", max_concurrently_running=2**31 - 1, scheduling_policy=policy)
    begin = time.thread_time()
    state.load(array_list, [TaskResources(1)], columns)
    loaded = time.thread_time() - begin
    ready, half = state.ready_count, tasks // 2
    begin = time.thread_time()
    queued = tick(state)
    ticked = time.thread_time() - begin
    for update in queued:
        state.apply_update(update)
    groups = [np.arange(first, min(first + GROUP, half + 1)) for first in range(1, half + 1, GROUP)]
    for ids in groups:
        state.apply_update(news(TaskStatus.RUNNING, ids), at=1.0)
    begin = time.thread_time()
    for ids in groups:
        state.apply_update(news(TaskStatus.DONE, ids), at=3.0)
    done = time.thread_time() - begin
    memory = state.table.nbytes / tasks
    del state, queued
    seconds, batches = steady(columns, array_list, policy)
    figures = loaded / tasks * 1e6, ticked / ready * 1e6, done / half * 1e6, seconds * 1e6, batches, memory
    return dict(zip(FIGURES, figures, strict=True))


def steady(columns: object, arrays: list[Array], policy: SchedulingPolicy) -> tuple[float, float]:
    """The limit full: seconds and batches of a tick that finds room for 100, at the median and on average."""
    state = SwarmState("steady", max_concurrently_running=10_000, scheduling_policy=policy)
    state.load(arrays, [TaskResources(1)], columns)  # type: ignore[arg-type]
    active = np.concatenate([update.task_statuses.groups[0].task_ids for update in tick(state)])
    seconds, batches = [], 0
    for _ in range(STEADY_TICKS):
        done, active = active[:100], active[100:]
        state.apply_update(news(TaskStatus.DONE, done))
        begin = time.thread_time()
        updates = tick(state)
        seconds.append(time.thread_time() - begin)
        batches += len(updates)
        active = np.concatenate([active, *(update.task_statuses.groups[0].task_ids for update in updates)])
    return statistics.median(seconds), batches / STEADY_TICKS


def compared(tasks: int, arrays: int, rounds: int) -> list[dict[str, object]]:
    """A row for each policy and figure."""
    found: dict[SchedulingPolicy, list[dict[str, float]]] = {policy: [] for policy in SchedulingPolicy}
    for _ in range(rounds):
        for policy, figures in found.items():
            figures.append(measured(tasks, arrays, policy))
    rows: list[dict[str, object]] = []
    for name, unit in FIGURES.items():
        plain = min(each[name] for each in found[SchedulingPolicy.FIRST_COME_FIRST_SERVED])
        for policy, figures in found.items():
            value = min(each[name] for each in figures)
            rows.append(
                {
                    "tasks": tasks, "arrays": arrays, "name": name, "unit": unit, "policy": str(policy),
                    "value": value, "ratio": value / plain,
                }
            )  # fmt: skip
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("--tasks", type=int, nargs="+", default=[100_000, 1_500_000])
    parser.add_argument("--arrays", type=int, nargs="+", default=[1, 10_000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    measured(20_000, 10, SchedulingPolicy.FIRST_COME_FIRST_SERVED)  # warm-up
    rows = []
    for tasks in options.tasks:
        for arrays in options.arrays:
            rows += compared(tasks, arrays, options.rounds)
            print(f"\n{tasks:,} tasks over {arrays:,} arrays")
            for place in range(-len(FIGURES) * len(SchedulingPolicy), 0, len(SchedulingPolicy)):
                shown = [f"{each['policy']} {each['value']:.3f} ({each['ratio']:.2f})" for each in rows[place:][:3]]
                print(f"  {rows[place]['name']!s:<22}{rows[place]['unit']!s:<11}{'   '.join(shown)}", flush=True)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(rows, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
