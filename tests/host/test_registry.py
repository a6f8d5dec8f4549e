"""Registry: swarms by id, their gateways, and the end of all."""

import asyncio
from pathlib import Path

import pytest

from swarmd.core.columns import TaskColumns
from swarmd.core.errors import AlreadyExistsError, NotFoundError, StorageError, StorageFullError, UnavailableError
from swarmd.core.events import SwarmSettings
from swarmd.core.loading import Load
from swarmd.core.model import Array, TaskResources
from swarmd.gateways.pull import PullGateway
from swarmd.host.registry import Registry
from swarmd.host.swarm import HostedSwarm
from swarmd.journal.directory import StateDirectory
from swarmd.journal.store import SwarmStore
from tests.core.builders import a_task, news, statuses
from tests.host.engine import Engine, Gate, settled


async def with_tasks(registry: Registry, name: str, count: int, gateway: str = "engine") -> HostedSwarm:
    swarm = await registry.create(SwarmSettings(name, gateway=gateway))
    columns = TaskColumns.from_tasks([a_task(n) for n in range(1, count + 1)])
    await swarm.load(Load([Array(1)], [TaskResources(1)], columns))
    return swarm


async def test_news_from_a_gateway_reaches_its_swarm_and_no_other():
    engine = Engine()
    registry = Registry({"engine": engine})
    await registry.start()
    first, second = [await with_tasks(registry, name, 2) for name in "ab"]
    assert engine.report is not None
    engine.report("a", news("R", [1]))
    engine.report("gone", news("R", [1]))
    engine.report("b", news("R", [77]))

    assert (statuses(first.state), statuses(second.state)) == ("RG", "GG")


async def test_names_are_made_up_and_unique_when_none_is_given():
    registry = Registry({"pull": PullGateway()})
    names = {(await registry.create(SwarmSettings("", gateway="pull"))).swarm_id for _ in range(20)}

    assert len(names) == 20
    with pytest.raises(AlreadyExistsError):
        await registry.create(SwarmSettings(next(iter(names)), gateway="pull"))


async def test_two_creations_of_one_name_at_once_make_one_swarm():
    registry = Registry({"engine": Engine()})
    made = await asyncio.gather(
        *(registry.create(SwarmSettings("s", gateway="engine")) for _ in range(5)), return_exceptions=True
    )

    assert sum(isinstance(each, HostedSwarm) for each in made) == 1
    assert len(registry.all()) == 1


async def test_batch_ids_never_come_again_also_for_a_swarm_of_the_same_name():
    registry = Registry({"engine": Engine()})
    seen = set()
    for _ in range(3):
        swarm = await with_tasks(registry, "s", 3)
        update = (await swarm.tick(None, None)).update
        seen |= {batch.batch_id for batch in update.batches}
        await registry.delete("s", force=True)

    assert len(seen) == 3
    with pytest.raises(NotFoundError):
        registry.get("s")


async def test_the_local_gateway_alone_has_a_folder_for_output():
    local, other = Engine(), Engine()
    local.name = "local"
    registry = Registry({"local": local, "engine": other}, log_directory=Path("/logs"))

    assert (await registry.create(SwarmSettings("a", gateway="local"))).log_directory == Path("/logs/a")
    assert (await registry.create(SwarmSettings("b", gateway="engine"))).log_directory is None


async def test_drain_waits_for_calls_within_the_grace_time_refuses_what_is_new_and_closes_the_gateways():
    gate = Gate()
    engine = Engine(gate)
    registry = Registry({"engine": engine})
    swarm = await with_tasks(registry, "s", 2)
    tick = asyncio.create_task(swarm.tick(None, None))
    await settled(lambda: engine.calls_now, "the call")
    draining = asyncio.create_task(registry.drain(60))
    await asyncio.sleep(0.02)
    assert not draining.done()
    with pytest.raises(UnavailableError):
        await registry.create(SwarmSettings("t", gateway="engine"))
    gate.open()
    await draining
    await tick
    await registry.close()

    assert statuses(swarm.state) == "QQ"
    assert engine.closed


async def test_idle_is_when_no_swarm_has_anything_left_to_do():
    registry = Registry({"engine": Engine()})
    assert registry.is_idle
    swarm = await with_tasks(registry, "s", 1)
    assert [registry.is_idle] == [False]
    swarm.apply(news("D", [1]))
    assert registry.is_idle


async def test_loads_of_one_swarm_wait_for_each_other_and_other_events_do_not():
    registry = Registry({"engine": Engine()})
    swarm = await with_tasks(registry, "s", 2)

    def load(start: int) -> Load:
        tasks = [a_task(n, 1) for n in range(start, start + 20_000)]
        return Load([], [], TaskColumns.from_tasks(tasks))

    loads = [asyncio.create_task(swarm.load(load(start))) for start in (100_000, 200_000, 300_000)]
    await swarm.tick(None, None)
    swarm.apply(news("D", [1]))
    revisions = [(await each).revision for each in loads]

    assert revisions == sorted(revisions)
    assert swarm.state.ready_count == 60_000


async def test_a_gateway_that_cannot_be_told_keeps_nobody_from_starting(tmp_path, monkeypatch):
    """Its engine may be away just now: it is told again later."""
    monkeypatch.setattr("swarmd.host.swarm.FIRST_RESUME_SECONDS", 0.01)
    directory = StateDirectory(tmp_path)
    directory.claim()
    before = Registry({"engine": Engine()}, directory=directory)
    swarm = await with_tasks(before, "s", 2)
    await swarm.tick(None, None)
    await before.close()
    engine, told = Engine(), []

    async def resume(batches, cancelled=()):
        told.append([len(batch) for batch in batches])
        if len(told) < 3:
            raise OSError("the engine is away")

    monkeypatch.setattr(engine, "resume", resume)
    after = Registry({"engine": engine}, directory=directory)
    await after.recover()
    assert statuses(after.get("s").state) == "QQ"
    await settled(lambda: len(told) == 3, "the third try")
    assert told == [[2]] * 3
    await after.drain(0)
    await after.close()
    directory.release()


async def test_files_that_cannot_be_removed_can_be_deleted_again(tmp_path, monkeypatch):
    directory = StateDirectory(tmp_path)
    directory.claim()
    registry = Registry({"engine": Engine()}, directory=directory)
    await with_tasks(registry, "s", 1)
    rename = Path.rename

    def fails(path: Path, target: Path) -> Path:
        raise OSError(5, "Input/output error", str(path))

    monkeypatch.setattr(Path, "rename", fails)
    with pytest.raises(StorageError):
        await registry.delete("s", force=True)
    assert list(registry.set_aside) == ["s"]
    assert registry.all() == []
    monkeypatch.setattr(Path, "rename", rename)
    await registry.delete("s", force=True)
    assert registry.set_aside == {}
    assert list(directory.swarms.iterdir()) == []
    await registry.close()
    directory.release()


def is_in_trouble(registry: Registry) -> bool:
    return registry.trouble is not None


async def test_a_full_disk_keeps_nobody_from_starting(tmp_path, monkeypatch):
    """A batch whose daemon ended is in doubt, which cannot be written down yet; all else goes on."""
    monkeypatch.setattr("swarmd.journal.journal.PROBE_SECONDS", 0.02)
    directory = StateDirectory(tmp_path)
    directory.claim()
    gate = Gate()
    before = Registry({"engine": Engine(gate)}, directory=directory)
    swarm = await with_tasks(before, "s", 2)
    tick = asyncio.create_task(swarm.tick(None, None))
    await settled(lambda: before.gateways["engine"].calls_now, "the call")  # type: ignore[attr-defined]
    await swarm.journal.close()
    append, probe = SwarmStore.append, SwarmStore.probe

    def full(*_: object) -> None:
        raise StorageFullError("full")

    monkeypatch.setattr(SwarmStore, "append", full)
    monkeypatch.setattr(SwarmStore, "probe", full)
    after = Registry({"engine": Engine()}, directory=directory)
    async with asyncio.timeout(10):
        await after.recover()
    state = after.get("s").state
    assert is_in_trouble(after)
    assert [known.in_doubt for known in state.open_batches.values()] == [False], "memory is not ahead of the disk"
    monkeypatch.setattr(SwarmStore, "append", append)
    monkeypatch.setattr(SwarmStore, "probe", probe)
    await settled(lambda: state.counts().in_doubt == 2, "the doubt")
    assert not is_in_trouble(after)
    await after.drain(0)
    await after.close()
    gate.open()
    await tick
    directory.release()


async def test_the_grace_time_of_a_drain_is_spent_once():
    """A delete and a call that both take too long are waited for together."""
    gate = Gate()
    engine = Engine(gate)
    registry = Registry({"engine": engine})
    swarm = await with_tasks(registry, "s", 2)
    other = await with_tasks(registry, "t", 1)
    forever = asyncio.Event()
    engine.remove_swarm = lambda swarm_id: forever.wait()  # type: ignore[method-assign, assignment, return-value]
    tick = asyncio.create_task(swarm.tick(None, None))
    deleting = asyncio.create_task(registry.delete(other.swarm_id, force=True))
    await settled(lambda: engine.calls_now and other.is_draining, "the call and the delete")
    begun = asyncio.get_running_loop().time()
    await registry.drain(2.0)
    assert 2.0 <= asyncio.get_running_loop().time() - begun < 3.5
    gate.open()
    forever.set()
    await asyncio.gather(tick, deleting)


async def test_a_swarm_of_which_only_files_are_left_is_gone():
    engine, removing, go_on = Engine(), asyncio.Event(), asyncio.Event()
    registry = Registry({"engine": engine})
    await with_tasks(registry, "s", 1)

    async def remove(swarm_id: str) -> None:
        removing.set()
        await go_on.wait()

    engine.remove_swarm = remove  # type: ignore[method-assign]
    deleting = asyncio.create_task(registry.delete("s", force=True))
    await removing.wait()
    with pytest.raises(NotFoundError):
        registry.get("s")
    go_on.set()
    await deleting
