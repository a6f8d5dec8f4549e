"""What the core costs, in process, without gRPC: load, one tick that takes everything, updates, the steady state.

    python benchmarks/core.py [--tasks 1500000] [--arrays 10000] [--json FILE]

Prints tasks a second, bytes a task, the worst single call of each kind, and how the times grow with the number of
tasks. Goals are those that the project set itself for a machine with two cores.
"""

import argparse
import gc
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from swarmd.core.columns import TaskColumns
from swarmd.core.model import Array, TaskResources
from swarmd.core.state import SwarmState
from swarmd.core.status import TaskStatus
from swarmd.core.update import StateUpdate, TaskStatuses

GROUP = 500


@dataclass
class Figure:
    name: str
    value: float
    unit: str
    goal: float
    worst_call_ms: float = 0.0
    at_least: bool = True

    @property
    def met(self) -> bool:
        return self.value >= self.goal if self.at_least else self.value <= self.goal


@dataclass
class Timed:
    seconds: float
    worst: float


def timed(calls: list[Callable[[], object]]) -> Timed:
    worst = total = 0.0
    for call in calls:
        begin = time.perf_counter()
        call()
        took = time.perf_counter() - begin
        worst, total = max(worst, took), total + took
    return Timed(total, worst)


def make_columns(tasks: int, arrays: int, *, scattered: bool = False) -> TaskColumns:
    """The first half has no upstreams; each task of the second half has 3 in the first half.

    Near by, as a study has them, or scattered over the whole first half, which is the worst for caches and lanes.
    """
    half = tasks // 2
    per_array = max(1, tasks // arrays)
    ids = np.arange(1, tasks + 1)
    if scattered:
        upstreams = np.random.default_rng(1).integers(1, half + 1, size=(tasks - half, 3))
    else:
        base = np.arange(tasks - half)[:, None]
        upstreams = (base + np.array([0, 1, 2])) % half + 1
    return TaskColumns.of(
        ids,
        np.minimum((ids - 1) // per_array, arrays - 1) + 1,
        1,
        upstream_counts=np.where(ids > half, 3, 0),
        upstream_ids=upstreams.reshape(-1),
    )


def loaded(columns: TaskColumns, arrays: int, limit: int) -> tuple[SwarmState, float]:
    state = SwarmState("bench", max_concurrently_running=limit)
    array_list = [Array(number) for number in range(1, arrays + 1)]
    begin = time.perf_counter()
    state.load(array_list, [TaskResources(1)], columns)
    return state, time.perf_counter() - begin


def tick(state: SwarmState) -> list[StateUpdate]:
    """Take all that may go, and the news that it is queued."""
    updates = []
    while (batch := state.take_batch()) is not None:
        state.settle(batch)
        news = TaskStatuses()
        news.add(TaskStatus.QUEUED, batch.task_ids, batch.attempts)
        updates.append(StateUpdate(news))
    return updates


def news(status: TaskStatus, ids: np.ndarray) -> StateUpdate:
    statuses = TaskStatuses()
    statuses.add(status, ids)
    return StateUpdate(statuses)


def whole_life(tasks: int, arrays: int, *, scattered: bool = False) -> dict[str, Timed | float]:
    columns = make_columns(tasks, arrays, scattered=scattered)
    gc.collect()
    state, load_seconds = loaded(columns, arrays, 2**31 - 1)
    figures: dict[str, Timed | float] = {"load": Timed(load_seconds, load_seconds)}
    taken = state.ready_count
    begin = time.perf_counter()
    queued = tick(state)
    seconds = time.perf_counter() - begin
    figures["tick"], figures["taken"] = Timed(seconds, seconds), float(taken)
    figures["queued"] = timed([lambda update=update: state.apply_update(update) for update in queued])  # type: ignore[misc]
    half = tasks // 2
    groups = [np.arange(first, min(first + GROUP, half + 1)) for first in range(1, half + 1, GROUP)]
    done = [news(TaskStatus.DONE, ids) for ids in groups]
    figures["done"] = timed([lambda update=update: state.apply_update(update) for update in done])  # type: ignore[misc]
    figures["bytes"] = state.table.nbytes / tasks
    assert state.ready_count == tasks - half
    return figures


def steady_state(tasks: int, arrays: int, ticks: int = 2000) -> np.ndarray:
    """The limit full; 100 tasks done and 100 queued a tick. Seconds of each tick."""
    columns = make_columns(tasks, arrays)
    state, _ = loaded(columns, arrays, 10_000)
    active = np.concatenate([update.task_statuses.groups[0].task_ids for update in tick(state)])
    gc.collect()
    gc.freeze()
    seconds = np.zeros(ticks)
    for number in range(ticks):
        done, active = active[:100], active[100:]
        begin = time.perf_counter()
        state.apply_update(news(TaskStatus.DONE, done))
        updates = tick(state)
        for update in updates:
            state.apply_update(update)
        seconds[number] = time.perf_counter() - begin
        active = np.concatenate([active, *(update.task_statuses.groups[0].task_ids for update in updates)])
    gc.unfreeze()
    return seconds


def full_arrays(arrays: int, ticks: int = 1000) -> np.ndarray:
    """Every array full with tasks waiting: a tick finds nothing to do. Seconds of each."""
    columns = TaskColumns.of(np.arange(1, arrays * 5 + 1), np.repeat(np.arange(1, arrays + 1), 5), 1)
    state = SwarmState("full", max_concurrently_running=2**31 - 1)
    state.load(
        [Array(number, max_concurrently_running=2) for number in range(1, arrays + 1)], [TaskResources(1)], columns
    )
    tick(state)
    assert state.ready_count == 3 * arrays
    seconds = np.zeros(ticks)
    for number in range(ticks):
        begin = time.perf_counter()
        assert not tick(state)
        seconds[number] = time.perf_counter() - begin
    return seconds


def per_second(count: float, spent: Timed | float) -> float:
    assert isinstance(spent, Timed)
    return count / spent.seconds


def worst_ms(spent: Timed | float) -> float:
    assert isinstance(spent, Timed)
    return spent.worst * 1000


def measure(tasks: int, arrays: int) -> list[Figure]:
    whole_life(min(tasks, 20_000), min(arrays, 200))  # warm-up
    small, large = whole_life(tasks // 2, arrays // 2), whole_life(tasks, arrays)
    wild = whole_life(tasks, arrays, scattered=True)
    half = tasks // 2
    figures = [
        Figure("load", per_second(tasks, large["load"]), "tasks/s", 500_000, worst_ms(large["load"])),
        Figure(
            "one tick of all that is ready",
            per_second(half, large["tick"]),
            "tasks/s",
            2_000_000,
            worst_ms(large["tick"]),
        ),
        Figure("QUEUED in batches", per_second(half, large["queued"]), "tasks/s", 500_000, worst_ms(large["queued"])),
        Figure("DONE in groups of 500", per_second(half, large["done"]), "tasks/s", 500_000, worst_ms(large["done"])),
        Figure(
            "load, scattered upstreams", per_second(tasks, wild["load"]), "tasks/s", 500_000, worst_ms(wild["load"])
        ),
        Figure("DONE, scattered upstreams", per_second(half, wild["done"]), "tasks/s", 500_000, worst_ms(wild["done"])),
    ]
    assert isinstance(large["bytes"], float)
    figures.append(Figure("memory", large["bytes"], "bytes/task", 200, at_least=False))
    for name in ("load", "tick", "done"):
        before, after = small[name], large[name]
        assert isinstance(before, Timed)
        assert isinstance(after, Timed)
        ratio = after.seconds / (2 * before.seconds)
        figures.append(Figure(f"{name}: time for twice the tasks / twice the time", ratio, "x", 1.2, at_least=False))
    steady = steady_state(tasks, arrays) * 1000
    figures.append(
        Figure("steady state, p99", float(np.percentile(steady, 99)), "ms/tick", 5, float(steady.max()), at_least=False)
    )
    full = full_arrays(arrays) * 1000
    figures.append(
        Figure(
            f"{arrays:,} full arrays, p99",
            float(np.percentile(full, 99)),
            "ms/tick",
            1,
            float(full.max()),
            at_least=False,
        )
    )
    return figures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("--tasks", type=int, default=1_500_000)
    parser.add_argument("--arrays", type=int, default=10_000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    figures = measure(options.tasks, options.arrays)
    print(f"{options.tasks:,} tasks over {options.arrays:,} arrays\n")
    print(f"{'what':<52}{'measured':>14}  {'unit':<11}{'goal':>12}  {'worst call':>11}  met")
    for each in figures:
        worst = f"{each.worst_call_ms:,.1f} ms" if each.worst_call_ms else ""
        sign = ">=" if each.at_least else "<="
        goal = f"{sign} {each.goal:,.4g}" if each.goal < 1000 else f"{sign} {each.goal:,.0f}"
        shown = f"{each.value:,.0f}" if each.value >= 1000 else f"{each.value:,.3f}"
        print(f"{each.name:<52}{shown:>14}  {each.unit:<11}{goal:>12}  {worst:>11}  {'yes' if each.met else 'NO'}")
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps([{**asdict(each), "met": each.met} for each in figures], indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
