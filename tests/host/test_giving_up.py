"""Callers that give up, disks that are slow or full for a moment: nothing is half done, and nobody waits for ever."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

from swarmd.core.columns import TaskColumns
from swarmd.core.errors import AlreadyExistsError, StorageError
from swarmd.core.events import Configured, SwarmSettings
from swarmd.core.loading import Load
from swarmd.core.model import Array, TaskResources
from swarmd.core.selecting import Selector
from swarmd.core.update import StateUpdate
from swarmd.host.registry import Registry
from swarmd.host.swarm import HostedSwarm
from swarmd.journal.directory import StateDirectory
from swarmd.journal.journal import SwarmJournal
from swarmd.journal.segment import Record
from tests.core.builders import a_task, statuses
from tests.host.engine import Engine, settled

SLOW = 0.15
EVERYTHING = Selector(everything=True)


@dataclass
class World:
    """A registry with files."""

    registry: Registry
    engine: Engine
    directory: StateDirectory

    async def swarm(self, tasks: int = 3, **settings: Any) -> HostedSwarm:
        swarm = await self.registry.create(SwarmSettings("s", gateway="engine", **settings))
        load = Load([Array(1)], [TaskResources(1)], TaskColumns.from_tasks([a_task(n) for n in range(1, tasks + 1)]))
        await swarm.load(load)
        return swarm


@contextlib.asynccontextmanager
async def world(folder: Path, engine: Engine | None = None) -> AsyncIterator[World]:
    directory = StateDirectory(folder)
    directory.claim()
    engine = engine or Engine(can_cancel=True)
    registry = Registry({"engine": engine}, directory=directory)
    await registry.start()
    await registry.recover()
    yield World(registry, engine, directory)
    await registry.drain(0)
    await registry.close()
    directory.release()


def journal_of(swarm: HostedSwarm) -> SwarmJournal:
    return cast("SwarmJournal", swarm.journal)


def slowed(swarm: HostedSwarm, *, fails: Sequence[int] = ()) -> None:
    """Its commits take a while; those with these numbers, from 1 on, fail."""
    store = journal_of(swarm).store
    append, numbers = store.append, iter(range(1, 1000))

    def slow(records: Sequence[Record]) -> None:
        time.sleep(SLOW)  # in the journal's thread
        if next(numbers) in fails:
            raise StorageError("broken")
        append(records)

    store.append = slow  # type: ignore[method-assign]


async def given_up(work: Any, after: float = 0.0) -> None:
    """Begin something, and have enough of it."""
    task = asyncio.ensure_future(work)
    await asyncio.sleep(after)
    task.cancel()
    await asyncio.wait([task])


@pytest.fixture(autouse=True)
def tried_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swarmd.journal.journal.PROBE_SECONDS", 0.02)


async def test_a_cancel_reaches_the_engine_when_its_caller_gave_up(tmp_path):
    async with world(tmp_path) as here:
        swarm = await here.swarm()
        await swarm.tick(None, None)
        slowed(swarm)
        await given_up(swarm.cancel(EVERYTHING, "enough"))
        await settled(lambda: here.engine.cancelled, "word at the engine")
        assert statuses(swarm.state) == "XXX"


async def test_an_autopilot_flies_when_who_turned_it_on_gave_up(tmp_path):
    async with world(tmp_path) as here:
        swarm = await here.swarm()
        slowed(swarm)
        await given_up(swarm.configure(Configured(autopilot=True)))
        await settled(lambda: statuses(swarm.state) == "QQQ", "the autopilot")


async def test_a_delete_goes_on_to_its_end_when_its_caller_gave_up(tmp_path):
    async with world(tmp_path) as here:
        swarm = await here.swarm()
        slowed(swarm)
        update = swarm.apply(StateUpdate(max_concurrently_running=5))
        await given_up(here.registry.delete("s", force=True), after=SLOW / 2)
        await settled(lambda: not here.registry._deleting, "the end of the delete")
        assert here.registry.all() == []
        assert list(here.directory.swarms.iterdir()) == []
        assert update.done(), "nobody waits for ever"


async def test_two_deletes_are_one_and_spare_a_new_swarm_with_the_same_id(tmp_path, monkeypatch):
    async with world(tmp_path) as here:
        await here.swarm()

        async def slow(swarm_id: str) -> None:
            await asyncio.sleep(SLOW)

        monkeypatch.setattr(here.engine, "remove_swarm", slow)
        deletes = [asyncio.create_task(here.registry.delete("s", force=True)) for _ in range(2)]
        await asyncio.sleep(SLOW / 2)
        with pytest.raises(AlreadyExistsError):
            await here.swarm()
        await asyncio.gather(*deletes)
        swarm = await here.swarm(7)
        await asyncio.sleep(SLOW)
        assert here.registry.all() == [swarm]
        assert [path.name for path in here.directory.swarms.iterdir()] == ["s"]


async def test_an_empty_tick_on_files_at_rest_leaves_them_usable(tmp_path):
    """A snapshot is due, nothing is written, and the file in use is not open: then the next one must not be made."""
    async with world(tmp_path) as here:
        await here.swarm(paused=True)
    async with world(tmp_path) as here:
        swarm = here.registry.get("s")
        swarm.journal.count(1 << 30, 100.0)
        await swarm.tick(None, None)
        with swarm.journal.without_snapshots():
            await asyncio.sleep(0.1)
            await asyncio.wait_for(swarm.apply(StateUpdate(max_concurrently_running=5)), 10)
        assert swarm.journal.trouble is None


async def test_who_waits_for_work_hears_of_tasks_that_came_back(tmp_path):
    async with world(tmp_path) as here:
        swarm = await here.swarm()
        slowed(swarm, fails=[1])
        tick = asyncio.create_task(swarm.tick(None, None))
        await settled(lambda: not swarm.state.has_work(), "the reservation")
        waiting = asyncio.create_task(swarm.wait_for_work(None))
        with pytest.raises(StorageError):
            await tick
        assert await asyncio.wait_for(waiting, 10)


async def test_a_tick_repeated_after_trouble_is_given_its_batches(tmp_path):
    """They were taken, their outcome could not be written at first, and the same request comes as soon as it can."""
    async with world(tmp_path) as here:
        swarm = await here.swarm()
        slowed(swarm, fails=[2])
        with pytest.raises(StorageError):
            await swarm.tick(None, None, "r")
        answer = None
        while answer is None:
            with contextlib.suppress(StorageError):
                answer = await swarm.tick(None, None, "r")
            await asyncio.sleep(0)
        assert [batch.task_ids.tolist() for batch in answer.update.batches] == [[1, 2, 3]]
        assert len(here.engine.batches) == 1


async def test_a_tick_that_hands_out_what_cannot_be_written_down_hands_out_nothing(tmp_path):
    async with world(tmp_path, Engine(hands_out=True)) as here:
        swarm = await here.swarm(tasks=1200)
        revision = swarm.state.revision
        slowed(swarm, fails=[1])
        with pytest.raises(StorageError):
            await swarm.tick(None, None, "r")
        assert (swarm.state.ready_count, swarm.state.active_count, swarm.state.revision) == (1200, 0, revision)
        assert not swarm.state.open_batches
        await settled(lambda: swarm.journal.trouble is None, "the end of the trouble")
        answer = await swarm.tick(None, None, "r")
        assert [len(batch) for batch in answer.update.batches] == [500, 500, 200]
        assert swarm.state.task(1).attempt == 1


async def test_batches_are_handed_out_as_one_change_and_outlive_the_daemon(tmp_path):
    async with world(tmp_path, Engine(hands_out=True)) as here:
        swarm = await here.swarm(tasks=1200)
        revision = swarm.state.revision
        answer = await swarm.tick(None, None)
        assert swarm.state.revision == revision + 1
        assert [str(status) for status in set(answer.update.task_statuses.values())] == ["Q"]
        assert here.engine.batches == [], "there is no engine to be called"
    async with world(tmp_path, Engine(hands_out=True)) as here:
        state = here.registry.get("s").state
        assert [len(each.batch) for each in state.reservations.handed_out.values()] == [500, 500, 200]
        assert state.counts().queued == 1200


async def test_batches_that_were_being_handed_out_to_somebody_who_gave_up_are_ready_again(tmp_path):
    async with world(tmp_path, Engine(hands_out=True)) as here:
        swarm = await here.swarm()
        slowed(swarm)
        await given_up(swarm.iterate(-1), SLOW / 2)
        await settled(lambda: swarm.state.revision >= 3 and swarm.state.ready_count == 3, "what comes back")
        answer = await swarm.tick(None, None)
        assert [batch.attempts.tolist() for batch in answer.update.batches] == [[2, 2, 2]]


async def test_a_tick_whose_time_is_up_answers_what_is_on_disk(tmp_path):
    async with world(tmp_path) as here:
        swarm = await here.swarm()
        slowed(swarm)
        answer = await swarm.tick(1.5 * SLOW, None)
        told = dict(answer.update.task_statuses)
        assert {number: str(swarm.state.task(number).status) for number in told} == told


async def test_the_oldest_unanswered_tick_is_forgotten_only_by_what_is_on_disk(tmp_path, monkeypatch):
    monkeypatch.setattr("swarmd.core.swarm.UNANSWERED_TICKS", 1)
    async with world(tmp_path) as here:
        swarm = await here.swarm()
        await swarm.tick(None, 1, "first")
        await swarm.reset(EVERYTHING, include_downstreams=False, reason="")
        await swarm.cancel(EVERYTHING, "")
        await swarm.reset(EVERYTHING, include_downstreams=False, reason="")
        slowed(swarm, fails=[1])
        with pytest.raises(StorageError):
            await swarm.tick(None, 1, "second")
        assert list(swarm.swarm.unanswered) == ["first"]


async def test_batches_of_a_tick_that_failed_later_are_told_to_its_repeat_and_to_nobody_else(tmp_path, monkeypatch):
    monkeypatch.setattr("swarmd.host.swarm.HANDED_OUT_AT_ONCE", 2)
    async with world(tmp_path, Engine(hands_out=True, largest_batch=1)) as here:
        swarm = await here.swarm(5)
        slowed(swarm, fails=[2])
        with pytest.raises(StorageError):
            await swarm.tick(None, None, "mine")
        await settled(lambda: swarm.journal.trouble is None, "a disk that is well again")
        other = await swarm.tick(None, None, "another")
        again = await swarm.tick(None, None, "mine")

    handed = [sorted(task_id for batch in each.update.batches for task_id in batch.task_ids) for each in (other, again)]
    assert handed == [[3, 4, 5], [1, 2]]


async def test_batches_of_a_tick_without_a_name_that_failed_later_are_told_to_the_next(tmp_path, monkeypatch):
    monkeypatch.setattr("swarmd.host.swarm.HANDED_OUT_AT_ONCE", 2)
    async with world(tmp_path, Engine(hands_out=True, largest_batch=1)) as here:
        swarm = await here.swarm(5)
        slowed(swarm, fails=[2, 4])
        with pytest.raises(StorageError):
            await swarm.tick(None, None)
        await settled(lambda: swarm.journal.trouble is None, "a disk that is well again")
        with pytest.raises(StorageError):  # it has what the first was to be told: that is nobody's yet
            await swarm.tick(None, None, "mine")
        await settled(lambda: swarm.journal.trouble is None, "a disk that is well again")
        again, other = await swarm.tick(None, None, "mine"), await swarm.tick(None, None)

    handed = [sorted(task_id for batch in each.update.batches for task_id in batch.task_ids) for each in (again, other)]
    assert handed == [[3, 4], [1, 2, 5]]
