"""Registry: swarms by id, their gateways, and the end of all."""

import asyncio
from pathlib import Path

import numpy as np
import pytest

from swarmd.core.columns import TaskColumns
from swarmd.core.errors import (
    AlreadyExistsError,
    FailedPreconditionError,
    InvalidInputError,
    NotFoundError,
    StorageError,
    StorageFullError,
    UnavailableError,
)
from swarmd.core.events import Configured, SwarmSettings
from swarmd.core.explain import ObstacleKind
from swarmd.core.loading import Load
from swarmd.core.model import MAX_REASON_BYTES, Array, TaskResources
from swarmd.core.selecting import Selector
from swarmd.core.update import StateUpdate
from swarmd.gateways.catalogue import Gateways
from swarmd.gateways.contract import OutcomeUnknownError
from swarmd.gateways.pull import PullGateway
from swarmd.host.registry import Registry
from swarmd.host.swarm import HostedSwarm
from swarmd.journal.directory import StateDirectory
from swarmd.journal.store import SwarmStore
from swarmd.rpc import answers
from tests.core.builders import a_task, news, statuses
from tests.host.engine import Engine, Gate, refusing, settled


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


async def test_the_gateway_says_where_output_is(monkeypatch):
    with_logs, other = Engine(), Engine()
    monkeypatch.setattr(with_logs, "output_directory", lambda swarm_id: Path("/logs", swarm_id))
    registry = Registry({"with-logs": with_logs, "engine": other})

    assert (await registry.create(SwarmSettings("a", gateway="with-logs"))).log_directory == Path("/logs/a")
    assert (await registry.create(SwarmSettings("b", gateway="engine"))).log_directory is None


async def test_a_gateway_that_cannot_be_used_here_gets_no_swarm(monkeypatch):
    engine = Engine()

    async def trouble():
        return "its program `engine` is not installed; install it"

    monkeypatch.setattr(engine, "trouble", trouble)
    registry = Registry({"engine": engine})
    with pytest.raises(FailedPreconditionError) as error:
        await registry.create(SwarmSettings("a", gateway="engine"))
    assert error.value.reason == "GATEWAY_UNUSABLE"
    assert error.value.message == (
        "swarm.gateway: 'engine' cannot be used here: its program `engine` is not installed; install it"
    )
    assert registry.all() == []


async def test_a_gateway_that_is_made_late_is_started_once_when_the_first_swarms_need_it():
    made = []

    def make() -> Engine:
        made.append(Engine())
        return made[-1]

    registry = Registry(Gateways({"engine": Engine()}, {"late": make}))
    await registry.start()
    assert made == []
    names = ("a", "b", "c")
    await asyncio.gather(*(registry.create(SwarmSettings(name, gateway="late")) for name in names))
    (late,) = made
    assert sorted(late.swarms) == sorted(names)
    assert late.report == registry.report
    await registry.close()
    assert late.closed


async def test_a_gateway_that_does_not_start_keeps_nobody_from_starting_and_takes_no_swarm(monkeypatch):
    broken = Engine()

    async def start(report):
        raise KeyError("a fault of its own")

    monkeypatch.setattr(broken, "start", start)
    registry = Registry({"engine": Engine(), "broken": broken})
    await registry.start()
    await with_tasks(registry, "s", 1)
    with pytest.raises(FailedPreconditionError, match="could not be started: KeyError: 'a fault of its own'"):
        await registry.create(SwarmSettings("t", gateway="broken"))


async def test_a_gateway_that_does_not_close_leaves_journals_whole(tmp_path, monkeypatch):
    directory = StateDirectory(tmp_path)
    directory.claim()
    engine = Engine()

    async def close():
        raise KeyError("a fault of its own")

    monkeypatch.setattr(engine, "close", close)
    registry = Registry({"engine": engine}, directory=directory)
    swarm = await with_tasks(registry, "s", 2)
    swarm.report(news("D", [1]))
    await registry.close()
    directory.release()

    directory.claim()
    after = Registry({"engine": Engine()}, directory=directory)
    await after.recover()
    assert statuses(after.get("s").state) == "DG"
    await after.close()
    directory.release()


async def test_a_daemon_that_stops_while_the_gateway_is_asked_makes_no_swarm(monkeypatch):
    engine, asked, goes_on = Engine(), asyncio.Event(), asyncio.Event()

    async def trouble():
        asked.set()
        await goes_on.wait()
        return ""

    monkeypatch.setattr(engine, "trouble", trouble)
    registry = Registry({"engine": engine})
    creating = asyncio.create_task(registry.create(SwarmSettings("s", gateway="engine")))
    await asked.wait()
    await registry.drain(0)
    await registry.close()
    goes_on.set()
    with pytest.raises(UnavailableError, match="the daemon stops"):
        await creating
    assert engine.swarms == {}


async def test_options_that_the_gateway_does_not_take_refuse_the_swarm(monkeypatch):
    engine = Engine()

    async def add_swarm(swarm):
        assert swarm.options == {"queu": "long"}
        raise InvalidInputError("swarm.gateway_options: 'queu' is no option", field="swarm.gateway_options")

    monkeypatch.setattr(engine, "add_swarm", add_swarm)
    registry = Registry({"engine": engine})
    with pytest.raises(InvalidInputError, match="queu"):
        await registry.create(SwarmSettings("a", gateway="engine", gateway_options={"queu": "long"}))
    assert registry.all() == []


async def test_the_gateway_hears_that_a_swarm_is_finished_once_for_each_time_it_is(monkeypatch):
    monkeypatch.setattr("swarmd.host.engine.FIRST_RETRY_SECONDS", 0.01)
    engine, told = Engine(), []

    async def swarm_finished(swarm_id, *, succeeded):
        told.append((swarm_id, succeeded))
        if len(told) == 1:
            raise OSError("the engine is away")

    monkeypatch.setattr(engine, "swarm_finished", swarm_finished)
    registry = Registry({"engine": engine})
    swarm = await with_tasks(registry, "s", 2)
    await swarm.tick(None, None)
    swarm.apply(news("D", [1]))
    await asyncio.sleep(0.05)
    assert told == []
    swarm.apply(news("F", [2]))
    await settled(lambda: len(told) == 2, "the second try")
    await swarm.configure(Configured(paused=True))
    await asyncio.sleep(0.05)
    assert told == [("s", False)] * 2

    await swarm.configure(Configured(paused=False))
    await swarm.reset(Selector(task_ids=np.array([2])), include_downstreams=False, reason="")
    await swarm.tick(None, None)
    swarm.apply(news("D", [2]))
    await settled(lambda: len(told) == 3, "the second end")
    assert told[-1] == ("s", True)


async def test_what_the_engine_says_of_a_task_is_part_of_its_explanation(monkeypatch):
    engine = Engine()
    monkeypatch.setattr(engine, "standing", lambda swarm_id, task_id, attempt: f"job {task_id}_{attempt} is PENDING")
    registry = Registry({"engine": engine})
    swarm = await with_tasks(registry, "s", 2)
    swarm.apply(StateUpdate(max_concurrently_running=1))
    assert "engine says" not in swarm.explain(1).summary
    await swarm.tick(None, None)

    assert swarm.explain(1).summary == "It is QUEUED, in attempt 1. The engine says: job 1_1 is PENDING."
    assert "engine says" not in swarm.explain(2).summary

    swarm.apply(StateUpdate(workflow_run_status="B"))
    assert swarm.explain(2).summary.endswith("only a RUNNING swarm queues tasks. The engine says: job 2_0 is PENDING.")
    swarm.apply(StateUpdate(workflow_run_status="R"))

    def fails(swarm_id, task_id, attempt):
        raise KeyError(task_id)

    for wrong in (fails, lambda *_: None):
        monkeypatch.setattr(engine, "standing", wrong)
        assert swarm.explain(1).summary == "It is QUEUED, in attempt 1."


async def test_whatever_an_engine_says_fits_into_a_message(monkeypatch):
    """A file's name need not be text; and what a program says can be very long."""
    engine, odd = Engine(), "/caf\udce9 is away" + "x" * 100_000
    monkeypatch.setattr(engine, "swarm_trouble", lambda swarm_id: odd)
    monkeypatch.setattr(engine, "standing", lambda swarm_id, task_id, attempt: odd)
    swarm = await with_tasks(Registry({"engine": engine}), "s", 1)
    await swarm.tick(None, None)
    for said in ((await answers.swarm(swarm)).engine_trouble, swarm.explain(1).summary):
        assert "/caf? is away" in said
        assert len(said.encode()) < 2 * MAX_REASON_BYTES


async def test_what_the_engine_says_is_told_while_a_batch_waits_for_it_too(monkeypatch):
    engine = Engine(Gate())
    monkeypatch.setattr(engine, "standing", lambda swarm_id, task_id, attempt: "it is away")
    swarm = await with_tasks(Registry({"engine": engine}), "s", 2)
    tick = asyncio.create_task(swarm.tick(None, None))
    await settled(lambda: engine.calls_now, "the call")
    assert swarm.explain(1).summary.endswith("of 2 tasks is being queued just now. The engine says: it is away.")
    tick.cancel()


async def test_a_task_that_is_offered_again_or_in_doubt_is_not_said_to_be_refused(monkeypatch):
    """What its array was refused before stands for those that wait, and hides nothing of what becomes of it now."""
    engine = Engine(refusing(1, 2, why="no room"))
    monkeypatch.setattr(engine, "standing", lambda swarm_id, task_id, attempt: "it is away")
    swarm = await with_tasks(Registry({"engine": engine}), "s", 2)
    await swarm.tick(None, None)
    assert swarm.explain(1).summary.startswith("It is ready, but the engine refuses it: no room.")

    gate = engine.behaviour = Gate(OutcomeUnknownError("the line is dead"))
    tick = asyncio.create_task(swarm.tick(None, None))
    await settled(lambda: engine.calls_now, "the call")
    offered = swarm.explain(1)
    assert [each.kind for each in offered.obstacles] == [ObstacleKind.BEING_QUEUED]
    assert offered.summary.endswith("is being queued just now. The engine says: it is away.")

    gate.open()
    await tick
    doubted = swarm.explain(1)
    assert [each.kind for each in doubted.obstacles] == [ObstacleKind.IN_DOUBT]
    assert doubted.summary.endswith("The engine says: it is away.")


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
    monkeypatch.setattr("swarmd.host.engine.FIRST_RETRY_SECONDS", 0.01)
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
