"""The scheduler in this process, without gRPC: one tick that takes everything, its growth, the steady state."""

import asyncio
import gc
import time
from functools import partial

import numpy as np
from benchmarks.suite.results import Curve, Results, Row, Spread, at_most, times_as_good
from benchmarks.suite.sampling import percentile, settled_collector, slope, take_turns
from benchmarks.suite.setting import Setting
from benchmarks.suite.swarms import ready_state

from swarmd.core.batch import Batch
from swarmd.core.status import TaskStatus
from swarmd.core.update import StateUpdate, TaskStatuses
from swarmd.gateways.contract import QueueOutcome, ServerGateway
from swarmd.outcomes import TickUpdate
from swarmd.scheduler import Scheduler

JOBMON = "jobmon-client"
GROWTH = "one tick of all tasks, instant gateway"
TASKS_AN_ARRAY = 150
"""Of growing swarms: as many as 1.5 million tasks over 10,000 arrays have."""
STEADY_LIMIT = 10_000
STEADY_TASKS = 100
"""So many are done, and so many queued, between two ticks of the steady state."""
IN_FLIGHT = 8
ENGINE_SECONDS = 0.05
ENGINE_BATCHES = 40


class InstantGateway(ServerGateway):
    """Takes every batch at once."""

    async def queue_batch(self, batch: Batch) -> QueueOutcome | None:
        del batch
        return None


class SlowGateway(ServerGateway):
    """Takes every batch after so many seconds."""

    async def queue_batch(self, batch: Batch) -> QueueOutcome | None:
        del batch
        await asyncio.sleep(ENGINE_SECONDS)
        return None


def one_tick(results: Results, setting: Setting) -> None:
    """Against Jobmon's batching, in one array and over many."""
    sizes = setting.sizes
    for arrays, goal in ((1, 50.0), (sizes.tick_arrays, 200.0)):
        contenders = {"ours": partial(our_tick, sizes.tick_tasks, arrays)}
        if setting.peers.has(JOBMON):
            contenders["peer"] = partial(_jobmon_tick, setting, sizes.tick_tasks, arrays)
        our_tick(min(sizes.tick_tasks, 20_000), arrays)  # warm
        found = take_turns(sizes.jobmon_rounds, contenders)
        more = take_turns(sizes.rounds, {"ours": contenders["ours"]})
        plural = "1 array" if arrays == 1 else f"{arrays:,} arrays"
        results.rows.append(
            Row(
                f"one tick, {sizes.tick_tasks:,} tasks in {plural}",
                "ms",
                Spread.of(1e3 * each for each in (*found["ours"].values, *more["ours"].values)),
                Spread.of(1e3 * each for each in found["peer"].values) if "peer" in found else None,
                setting.peers.name(JOBMON, "Jobmon's client") if "peer" in found else "Jobmon's client",
                times_as_good(goal, f"{goal:.0f} times faster"),
            )
        )


def our_tick(tasks: int, arrays: int) -> float:
    """Seconds of a tick that queues every task, its update applied."""
    state = ready_state(tasks, arrays)
    with settled_collector():
        seconds = asyncio.run(_timed_tick(Scheduler(InstantGateway(), state)))
    if state.active_count != tasks or state.ready_count:
        raise RuntimeError(f"{state.active_count} of {tasks} tasks are queued after a tick")
    return seconds


async def _timed_tick(scheduler: Scheduler) -> float:
    begun = time.perf_counter()
    update = await scheduler.tick()
    scheduler._state.apply_update(update)  # noqa: SLF001 - as whoever made it would
    return time.perf_counter() - begun


def _jobmon_tick(setting: Setting, tasks: int, arrays: int) -> float:
    found = setting.peers.run("jobmon_batching.py", tasks, arrays)
    if found["queued"] != tasks:
        raise RuntimeError(f"Jobmon's client has queued {found['queued']} of {tasks} tasks")
    return found["seconds"]


def growth(results: Results, setting: Setting) -> None:
    """How the time of a tick grows with the tasks that it queues."""
    sizes, rounds = setting.sizes, setting.sizes.rounds
    contenders = {str(tasks): partial(our_tick, tasks, tasks // TASKS_AN_ARRAY) for tasks in sizes.growth}
    found = take_turns(rounds, contenders)
    ours = [found[str(tasks)].median for tasks in sizes.growth]
    name = f"growth of a tick from {sizes.growth[0]:,} to {sizes.growth[-1]:,} tasks"
    results.rows.append(Row(name, "slope", Spread.of(slope(sizes.growth, ours)), goal=at_most(1.1), note="log axes"))
    labels = ("tasks", "seconds")
    results.curves.append(Curve(GROWTH, "swarmd, 150 tasks an array", *labels, sizes.growth, ours))
    start = ours[0]
    ideal = [start * tasks / sizes.growth[0] for tasks in sizes.growth]
    results.curves.append(Curve(GROWTH, "in proportion", *labels, sizes.growth, ideal, is_limit=True))
    if setting.peers.has(JOBMON):
        theirs = [_jobmon_tick(setting, tasks, max(1, tasks // TASKS_AN_ARRAY)) for tasks in sizes.jobmon_growth]
        results.curves.append(Curve(GROWTH, "Jobmon's client, the same", *labels, sizes.jobmon_growth, theirs))


def steady_state(results: Results, setting: Setting) -> None:
    """A large swarm whose limit is full: tasks are done, and a tick queues as many."""
    sizes = setting.sizes
    ticks = min(sizes.steady_ticks, (sizes.swarm_tasks - STEADY_LIMIT) // STEADY_TASKS)
    seconds = asyncio.run(_steady(sizes.swarm_tasks, sizes.swarm_arrays, ticks))
    for name, value, goal in (
        ("p50", percentile(seconds, 0.5), None),
        ("p99", percentile(seconds, 0.99), None),
        ("worst", max(seconds), at_most(20.0)),
    ):
        what = f"a tick in the steady state, {sizes.swarm_tasks:,} tasks, {name} of {ticks:,}"
        results.rows.append(Row(what, "ms", Spread.of(1e3 * value), goal=goal))


async def _steady(tasks: int, arrays: int, ticks: int) -> list[float]:
    """Seconds of each tick with what is done before it and the update after it applied."""
    state = ready_state(tasks, arrays, limit=STEADY_LIMIT)
    scheduler = Scheduler(InstantGateway(), state)
    active = _ids(await _ticked(scheduler, TaskStatuses()))
    found = []
    with settled_collector():
        for _ in range(ticks):
            done = TaskStatuses()
            done.add(TaskStatus.DONE, active[:STEADY_TASKS])
            begun = time.perf_counter()
            update = await _ticked(scheduler, done)
            found.append(time.perf_counter() - begun)
            active = np.concatenate([active[STEADY_TASKS:], _ids(update)])
    if state.active_count != STEADY_LIMIT:
        raise RuntimeError(f"{state.active_count} tasks are active in the steady state of {STEADY_LIMIT}")
    gc.collect()
    return found


async def _ticked(scheduler: Scheduler, done: TaskStatuses) -> TickUpdate:
    state = scheduler._state  # noqa: SLF001
    state.apply_update(StateUpdate(done))
    update = await scheduler.tick()
    state.apply_update(update)
    return update


def _ids(update: TickUpdate) -> np.ndarray:
    return np.concatenate([group.task_ids for group in update.task_statuses.groups])


def slow_engine(results: Results, setting: Setting) -> None:
    """An engine that takes its time for every batch: several calls at a time against one."""
    arrays = ENGINE_BATCHES
    contenders = {
        "ours": partial(_slow_tick, arrays, IN_FLIGHT),
        "peer": partial(_slow_tick, arrays, 1),
    }
    found = take_turns(min(2, setting.sizes.rounds), contenders)
    results.rows.append(
        Row(
            f"Tick, an engine of {1000 * ENGINE_SECONDS:.0f} ms a batch",
            "batches/s",
            Spread.of(arrays / each for each in found["ours"].values),
            Spread.of(arrays / each for each in found["peer"].values),
            "one call at a time",
            times_as_good(7),
            more_is_better=True,
        )
    )


def _slow_tick(arrays: int, in_flight: int) -> float:
    state = ready_state(arrays * 100, arrays)
    return asyncio.run(_timed_tick(Scheduler(SlowGateway(), state, max_in_flight=in_flight)))
