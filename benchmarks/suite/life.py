"""A swarm's whole life over gRPC, durable: loaded, ticked, run and done; then a crash and a restart."""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
from benchmarks.suite.raw import APPLY_UPDATE, TICK, answers, channel_to, unary
from benchmarks.suite.results import Results, Row, Spread, at_most
from benchmarks.suite.servers import Daemon, daemon
from benchmarks.suite.setting import Setting
from benchmarks.suite.swarms import Plan, create, get, load, read_chunks, update, write_chunks

from swarmd._pb.swarm.v1 import scheduler_service_pb2 as pb
from swarmd._pb.swarm.v1 import state_pb2, swarm_pb2, task_pb2

GROUP = 500
EDGES_A_TASK = 1.1 / 1.5
SWARM = "life"
RUNNING, DONE = task_pb2.TASK_STATUS_RUNNING, task_pb2.TASK_STATUS_DONE


@dataclass
class Life:
    """What a life took: seconds of each part, and the daemon's memory at its peak."""

    load: float = 0.0
    ticks: float = 0.0
    updates: float = 0.0
    memory_mib: float = 0.0

    @property
    def seconds(self) -> float:
        return self.load + self.ticks + self.updates


def plan_of(tasks: int, arrays: int) -> Plan:
    """A workflow of this many tasks, with 1.1 edges for every 1.5 of them."""
    return Plan(tasks, arrays, int(tasks * EDGES_A_TASK) // 2 * 2)


def whole_life(results: Results, setting: Setting) -> None:
    """The life of a large swarm, and its restart when it is half done."""
    sizes = setting.sizes
    plan = plan_of(sizes.swarm_tasks, sizes.swarm_arrays)
    life, restart = _lived(setting, plan)
    what = f"{plan.tasks:,} tasks, {plan.arrays:,} arrays, {plan.edges:,} edges"
    results.rows.append(Row(f"whole life over gRPC, durable: {what}", "s", Spread.of(life.seconds), goal=at_most(30)))
    for part, seconds in (("load", life.load), ("ticks", life.ticks), ("updates", life.updates)):
        results.rows.append(Row(f"the same: its {part}", "s", Spread.of(seconds)))
    results.rows.append(
        Row("the same: the daemon's memory at its peak", "MiB", Spread.of(life.memory_mib), goal=at_most(500e6 / 2**20))
    )
    results.rows.append(Row(f"restart with {plan.tasks:,} tasks, half done", "s", Spread.of(restart), goal=at_most(10)))
    if setting.large:
        _large(results, setting, life, plan)


def _large(results: Results, setting: Setting, small: Life, small_plan: Plan) -> None:
    factor = setting.sizes.large_tasks / small_plan.tasks
    plan = plan_of(setting.sizes.large_tasks, int(small_plan.arrays * factor))
    life, _ = _lived(setting, plan, restart=False)
    what = f"{plan.tasks:,} tasks, {plan.arrays:,} arrays, {plan.edges:,} edges"
    note = f"load {life.load:.1f}, ticks {life.ticks:.1f}, updates {life.updates:.1f}"
    results.rows.append(
        Row(
            f"the same life with {what}",
            "s",
            Spread.of(life.seconds),
            Spread.of(small.seconds * factor),
            f"{small_plan.tasks:,} tasks, in proportion",
            note=note,
        )
    )
    results.rows.append(
        Row("the same: memory at its peak", "MiB", Spread.of(life.memory_mib), goal=at_most(3e9 / 2**20))
    )


def _lived(setting: Setting, plan: Plan, *, restart: bool = True) -> tuple[Life, float]:
    """A life from start to end; with `restart` another one that a crash cuts short, and the seconds to be ready."""
    chunks = setting.folder / f"chunks-{plan.tasks}"
    write_chunks(plan, SWARM, chunks)
    try:
        with daemon(setting.place("l")) as served:
            life = asyncio.run(_live(served, plan, chunks))
        if not restart:
            return life, 0.0
        home = setting.place("r")
        with daemon(home) as served:
            asyncio.run(_live(served, plan, chunks, until=plan.tasks // 2))
            served.kill()
        with daemon(home) as again:
            counts = asyncio.run(_counts(again))
            if counts.done < plan.tasks // 2:
                raise RuntimeError(f"{counts.done} tasks are DONE after a restart; {plan.tasks // 2} were before")
            return life, again.seconds
    finally:
        chunks.unlink()


async def _counts(served: Daemon) -> state_pb2.TaskCounts:
    async with channel_to(served.address) as channel:
        return (await get(channel, SWARM)).task_counts


async def _live(served: Daemon, plan: Plan, chunks: Path, until: int | None = None) -> Life:
    """Load it, then tick, and tell of what was queued that it runs and that it is done, until so many are."""
    life, wanted, done = Life(), until or plan.tasks, 0
    async with channel_to(served.address) as channel:
        await create(channel, SWARM)
        begun = time.perf_counter()
        if await load(channel, read_chunks(chunks)) != plan.tasks:
            raise RuntimeError("not all tasks were loaded")
        life.load = time.perf_counter() - begun
        while done < wanted:
            begun = time.perf_counter()
            groups = await tick(channel)
            ticked = time.perf_counter()
            count = sum(len(group) for group in groups)
            if not count:
                raise RuntimeError(f"nothing is ready, and {done} of {plan.tasks} tasks are done")
            await tell(channel, groups)
            done += count
            life.ticks += ticked - begun
            life.updates += time.perf_counter() - ticked
        if until is None and not (await get(channel, SWARM)).outcome == swarm_pb2.SWARM_OUTCOME_DONE:
            raise RuntimeError("the swarm is not DONE at its end")
    life.memory_mib = served.memory_mib("VmHWM")
    return life


async def tick(channel: grpc.aio.Channel) -> list[np.ndarray]:
    """One tick; the ids that it queued, in groups of 500."""
    answer = await unary(channel, TICK)(pb.TickRequest(swarm_id=SWARM).SerializeToString())
    batches = pb.TickResponse.FromString(answer).batches
    if not batches:
        return []
    ids = np.concatenate([np.array(batch.task_ids) for batch in batches])
    return [ids[place : place + GROUP] for place in range(0, len(ids), GROUP)]


async def tell(channel: grpc.aio.Channel, groups: list[np.ndarray]) -> None:
    """RUNNING and then DONE of each group, through one stream."""

    def messages() -> Iterator[bytes]:
        for group in groups:
            ids = group.tolist()
            yield update(SWARM, RUNNING, ids)
            yield update(SWARM, DONE, ids)

    answered = 0
    async for answer in answers(channel, APPLY_UPDATE, messages()):
        answered += 1
        if pb.ApplyUpdateResponse.FromString(answer).HasField("error"):
            raise RuntimeError(f"news was refused: {pb.ApplyUpdateResponse.FromString(answer).error}")
    if answered != 2 * len(groups):
        raise RuntimeError(f"{answered} answers to {2 * len(groups)} messages")
