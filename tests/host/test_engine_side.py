"""What a gateway is told of a swarm besides its batches: until it is heard, and never after the end."""

import asyncio

import numpy as np
import pytest

from swarmd.core.errors import InvalidInputError, UnavailableError
from swarmd.core.events import SwarmSettings
from swarmd.core.model import QueueLimits
from swarmd.core.selecting import Selector
from swarmd.core.update import StateUpdate
from swarmd.gateways.pull import PullGateway
from swarmd.host import engine as side
from swarmd.host.registry import Registry
from swarmd.host.swarm import HostedSwarm
from swarmd.journal.directory import StateDirectory
from tests.core.builders import news, statuses
from tests.host.engine import Engine, settled
from tests.host.test_registry import with_tasks


class DeafEngine(Engine):
    """Takes up no swarm, and hears of no end, until it is told to."""

    def __init__(self) -> None:
        super().__init__(can_cancel=True)
        self.is_deaf = True
        self.asked_to_add = 0
        self.ends: list[str] = []

    async def add_swarm(self, swarm):
        self.asked_to_add += 1
        if self.is_deaf:
            raise UnavailableError("the engine is away")
        await super().add_swarm(swarm)

    async def swarm_finished(self, swarm_id, *, succeeded):
        self.ends.append(swarm_id)
        if self.is_deaf:
            raise UnavailableError("the engine is away")


@pytest.fixture
def directory(tmp_path):
    directory = StateDirectory(tmp_path)
    directory.claim()
    yield directory
    directory.release()


async def with_a_finished_swarm(engine: Engine) -> tuple[Registry, HostedSwarm]:
    registry = Registry({"engine": engine})
    swarm = await with_tasks(registry, "s", 1)
    await swarm.tick(None, None)
    await swarm.apply(news("D", [1]))
    return registry, swarm


async def of_an_earlier_daemon(directory: StateDirectory, engine: Engine) -> tuple[Registry, HostedSwarm]:
    """A swarm whose first task an earlier daemon has queued, and that this one has read."""
    before = Registry({"engine": Engine(can_cancel=True)}, directory=directory)
    swarm = await with_tasks(before, "s", 2)
    await swarm.apply(StateUpdate(max_concurrently_running=1))
    await swarm.tick(None, None)
    await before.close()
    registry = Registry({"engine": engine}, directory=directory)
    await registry.recover()
    return registry, registry.get("s")


async def test_a_swarm_that_is_gone_is_not_told_as_finished_in_the_name_of_the_next(monkeypatch):
    monkeypatch.setattr(side, "FIRST_RETRY_SECONDS", 0.05)
    engine = DeafEngine()
    engine.add_swarm = super(DeafEngine, engine).add_swarm  # type: ignore[method-assign]
    registry, _ = await with_a_finished_swarm(engine)
    await settled(lambda: engine.ends, "the first try")
    await registry.delete("s", force=True)
    await with_tasks(registry, "s", 1)
    engine.ends.clear()
    await asyncio.sleep(0.3)
    assert engine.ends == []


async def test_an_end_waits_for_nothing_that_is_to_be_tried_again(monkeypatch):
    monkeypatch.setattr(side, "FIRST_RETRY_SECONDS", 3600.0)
    engine = DeafEngine()
    engine.add_swarm = super(DeafEngine, engine).add_swarm  # type: ignore[method-assign]
    registry, _ = await with_a_finished_swarm(engine)
    await settled(lambda: engine.ends, "the first try")
    async with asyncio.timeout(30):
        await registry.drain(3600)
    await registry.close()


async def test_a_swarm_that_is_gone_is_not_taken_up_later(directory, monkeypatch):
    monkeypatch.setattr(side, "FIRST_RETRY_SECONDS", 0.5)
    engine = DeafEngine()
    registry, _ = await of_an_earlier_daemon(directory, engine)
    await settled(lambda: engine.asked_to_add, "the first try")
    engine.is_deaf = False
    await registry.delete("s", force=True)
    await asyncio.sleep(1)
    assert engine.swarms == {}
    await registry.close()


async def test_what_is_cancelled_before_the_gateway_knows_the_swarm_is_told_when_it_does(directory, monkeypatch):
    monkeypatch.setattr(side, "FIRST_RETRY_SECONDS", 0.05)
    monkeypatch.setattr(side, "CANCEL_PATIENCE_SECONDS", 0.05)
    engine = DeafEngine()
    registry, swarm = await of_an_earlier_daemon(directory, engine)
    first = Selector(task_ids=np.array([1]))
    await swarm.cancel(first, "by the test")
    await swarm.reset(first, include_downstreams=False, reason="by the test")
    assert engine.cancelled == []
    engine.is_deaf = False
    await settled(lambda: engine.cancelled, "the cancel")
    assert (engine.cancelled[0].task_ids, engine.cancelled[0].attempts) == ([1], [1])
    await registry.close()


async def test_a_gateway_hears_of_the_end_of_no_swarm_that_it_does_not_know(directory, monkeypatch):
    monkeypatch.setattr(side, "FIRST_RETRY_SECONDS", 0.05)
    engine = DeafEngine()
    registry, swarm = await of_an_earlier_daemon(directory, engine)
    await swarm.cancel(Selector(everything=True), "by the test")
    await asyncio.sleep(0.2)
    assert engine.ends == []
    engine.is_deaf = False
    await settled(lambda: engine.ends == ["s"], "the end")
    await registry.close()


@pytest.mark.parametrize(
    "wrong",
    [
        StateUpdate(queue_limits=[QueueLimits(cores=2.5)]),  # type: ignore[arg-type]
        StateUpdate(queue_limits=[QueueLimits(memory_mib=True)]),
        StateUpdate(queue_limits=[QueueLimits(queue=None)]),  # type: ignore[arg-type]
        StateUpdate(sync_time=5),  # type: ignore[arg-type]
    ],
)
async def test_news_of_a_wrong_kind_is_refused_without_an_exception(directory, wrong):
    registry = Registry({"engine": Engine()}, directory=directory)
    swarm = await with_tasks(registry, "s", 1)
    assert registry.report("s", wrong) is None
    done = registry.report("s", news("D", [1]))
    assert done is not None
    await done
    assert statuses(swarm.state) == "D"
    await registry.close()


async def test_a_gateway_that_knows_no_options_refuses_them():
    registry = Registry({"pull": PullGateway()})
    with pytest.raises(InvalidInputError, match="'adress' is no option of gateway 'pull', which has none"):
        await registry.create(SwarmSettings("s", gateway="pull", gateway_options={"adress": "x"}))
    assert registry.all() == []
