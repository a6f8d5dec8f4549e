"""20,000 elements in the queue at once: a look is one call, and the event loop is never held for long."""

import asyncio
import gc
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from swarmd.core.status import TaskStatus
from swarmd.core.update import StateUpdate
from tests.gateways.recording import SWARM, batch_of
from tests.gateways.slurm.cluster import Cluster
from tests.gateways.slurm.engine import Engine, calls_of, slurm_engine, wrapped_programs
from tests.gateways.slurm.test_failures import until

BATCHES, BATCH_SIZE = 40, 500
TASKS = BATCHES * BATCH_SIZE
MOST_SECONDS = 0.08
"""Of processor time, which a machine that is busy with other things does not stretch. It is 3 to 15 ms."""


class Holder:
    """How long the event loop is held at most, in its thread's own processor time."""

    def __init__(self) -> None:
        self.longest = 0.0

    async def watch(self) -> None:
        while True:
            before = time.thread_time()
            await asyncio.sleep(0.001)
            self.longest = max(self.longest, time.thread_time() - before)


@asynccontextmanager
async def many(cluster: Cluster, folder: Path, news: Counter[TaskStatus]) -> AsyncIterator[tuple[Engine, Holder]]:
    """An engine with so many tasks that wait in the queue, and what holds its event loop from their submission on."""

    def report(swarm_id: str, update: StateUpdate) -> None:
        assert swarm_id == SWARM
        for group in update.task_statuses.groups:
            news[group.status] += len(group.task_ids)

    cluster.call("scontrol", "update", "nodename=n1", "state=drain", "reason=test")
    batches = [batch_of(*["true"] * BATCH_SIZE, first_id=1 + BATCH_SIZE * number) for number in range(BATCHES)]
    bin_directory = wrapped_programs(folder / "bin")
    async with slurm_engine(cluster, folder, bin_directory=bin_directory) as engine:
        news_of_the_gateway = engine.gateway._conclusions.news
        assert news_of_the_gateway is not None
        news_of_the_gateway._report = report
        holder = Holder()
        gc.collect()
        gc.freeze()  # what the tests before have left is none of the gateway's
        watching = asyncio.create_task(holder.watch())
        try:
            for start in range(0, BATCHES, 8):
                await asyncio.gather(*map(engine.gateway.queue_batch, batches[start : start + 8]))
            await until(lambda: news[TaskStatus.LAUNCHED] == TASKS, "all to be seen in the queue")
            yield engine, holder
        finally:
            watching.cancel()
            gc.unfreeze()


@pytest.mark.timeout(200)
async def test_many_elements_are_looked_at_and_cancelled(own_cluster: Cluster, tmp_path: Path):
    news: Counter[TaskStatus] = Counter()
    async with many(own_cluster, tmp_path, news) as (engine, holder):
        before = len(calls_of(tmp_path / "bin", "squeue"))
        for _ in range(3):
            assert await engine.gateway._tracker.next_look()
        assert len(calls_of(tmp_path / "bin", "squeue")) - before <= 4  # three, and one that was under way
        await engine.cancel(*range(1, TASKS + 1))
        await until(lambda: not engine.gateway._tracker._elements, "all to be over")
        assert len(calls_of(tmp_path / "bin", "scancel")) == BATCHES
        assert holder.longest < MOST_SECONDS
    assert news == {TaskStatus.LAUNCHED: TASKS}
    assert not own_cluster.call("squeue", "-h")


@pytest.mark.timeout(200)
async def test_many_elements_that_end_at_once_with_a_reason_each(own_cluster: Cluster, tmp_path: Path):
    news: Counter[TaskStatus] = Counter()
    async with many(own_cluster, tmp_path, news) as (_, holder):
        own_cluster.call("scancel", "--state=PENDING")
        await until(lambda: news[TaskStatus.ERROR_RECOVERABLE] == TASKS, "all to be over")
        assert holder.longest < MOST_SECONDS
