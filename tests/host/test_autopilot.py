"""Autopilot: the daemon ticks by itself, asks a refusing engine less and less often, and stops when it is told."""

import asyncio

import pytest

from swarmd.core.batch import Batch
from swarmd.core.events import Configured, Created, SwarmSettings
from swarmd.core.loading import Load
from swarmd.core.model import Array, TaskResources
from swarmd.core.swarm import Swarm
from swarmd.gateways.contract import BatchRefusedError, FindOutcome, Found, OutcomeUnknownError
from swarmd.host.swarm import HostedSwarm
from tests.core.builders import a_task, news, statuses, well
from tests.host.engine import Answer, Engine, Gate, raising, settled


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swarmd.host.autopilot.FIRST_PAUSE_SECONDS", 0.005)
    monkeypatch.setattr("swarmd.host.autopilot.LONGEST_PAUSE_SECONDS", 0.04)
    monkeypatch.setattr("swarmd.host.autopilot.TICK_SECONDS", 0.02)
    monkeypatch.setattr("swarmd.scheduler.FIRST_ASK_SECONDS", 0.005)
    monkeypatch.setattr("swarmd.scheduler.LONGEST_ASK_SECONDS", 0.01)


async def hosted(engine: Engine, *tasks: object, **settings: object) -> HostedSwarm:
    from swarmd.core.columns import TaskColumns

    created = Created(SwarmSettings("s", autopilot=True, **settings), "token")  # type: ignore[arg-type]
    swarm = HostedSwarm(Swarm(created, 0.0), engine)
    swarm.start()
    columns = TaskColumns.from_tasks(tasks)  # type: ignore[arg-type]
    await swarm.load(Load([Array(1)], [TaskResources(1)], columns))
    return swarm


async def test_it_goes_on_by_itself_to_the_end():
    engine = Engine()

    async def runs_at_once(batch: Batch) -> Answer:
        loop, ids, attempts = asyncio.get_running_loop(), batch.task_ids.tolist(), batch.attempts.tolist()
        loop.call_soon(lambda: loop.call_soon(swarm.report, news("D", ids, attempts)))
        return None

    engine.behaviour = runs_at_once
    swarm = await hosted(engine, *(a_task(n, *([n - 1] if n > 1 else [])) for n in range(1, 31)))
    await settled(lambda: swarm.state.finished, "the end of the swarm")

    assert statuses(swarm.state) == "D" * 30
    assert engine.offered == [[n] for n in range(1, 31)]
    await swarm.drain(1)


async def test_it_asks_a_refusing_engine_less_and_less_often_and_goes_on_when_it_takes_again():
    engine = Engine(raising(BatchRefusedError("full")))
    swarm = await hosted(engine, a_task(1), a_task(2))
    await settled(lambda: len(engine.batches) >= 4, "some attempts")
    before = len(engine.batches)
    await asyncio.sleep(0.4)
    assert len(engine.batches) - before <= 15, "it does not spin"
    engine.behaviour = None
    await settled(lambda: statuses(swarm.state) == "QQ", "both tasks queued")
    await swarm.drain(1)
    assert well(swarm.state)


@pytest.mark.parametrize("late", ["refused", "not found", "raised"])
async def test_tasks_that_come_back_after_their_tick_go_again(late: str):
    """The call outlives its tick; nothing but its end tells that there is work again."""
    errors = {"refused": BatchRefusedError("no"), "not found": OutcomeUnknownError("?"), "raised": RuntimeError("boom")}
    gate = Gate(errors[late])
    engine = Engine(gate, can_find=late == "not found")
    engine.answers = [FindOutcome(Found.NOT_QUEUED)]
    swarm = await hosted(engine, a_task(1))
    await settled(lambda: engine.calls_now == 1, "the call")
    await asyncio.sleep(0.05)
    engine.behaviour = None
    gate.open()

    await settled(lambda: statuses(swarm.state) == "Q", "the second attempt")
    assert swarm.state.task(1).attempt == 2
    await swarm.drain(1)


async def test_a_slow_call_does_not_stop_what_becomes_ready_meanwhile():
    gate = Gate()

    async def first_is_slow(batch: Batch) -> Answer:
        return await gate(batch) if 1 in batch.task_ids else None

    engine = Engine(first_is_slow, largest_batch=1)
    swarm = await hosted(engine, a_task(1), a_task(2), a_task(3, 2))
    await settled(lambda: statuses(swarm.state) == "GQG", "the second task")
    swarm.report(news("D", [2]))
    await settled(lambda: statuses(swarm.state) == "GDQ", "the third task, with the first call under way")
    gate.open()
    await swarm.drain(10)
    assert statuses(swarm.state) == "QDQ"


async def test_turned_off_it_ticks_no_more_and_the_call_under_way_ends_by_itself():
    gate = Gate()
    engine = Engine(gate, largest_batch=1)
    swarm = await hosted(engine, *(a_task(n) for n in range(1, 20)))
    await settled(lambda: engine.calls_now == 8, "calls under way")
    await swarm.configure(Configured(autopilot=False))
    assert not swarm.autopilot
    gate.open()
    await settled(lambda: not swarm.scheduler.calls_under_way, "the end of the calls")
    await asyncio.sleep(0.05)

    assert len(engine.batches) == 8
    assert statuses(swarm.state) == "Q" * 8 + "G" * 11
    await swarm.configure(Configured(autopilot=True))
    await swarm.configure(Configured(autopilot=True))
    await settled(lambda: statuses(swarm.state) == "Q" * 19, "the rest")
    await swarm.drain(1)


async def test_it_bears_pauses_limits_and_wrong_news():
    engine = Engine()
    swarm = await hosted(engine, *(a_task(n) for n in range(1, 4)), paused=True)
    await asyncio.sleep(0.03)
    assert engine.batches == []
    swarm.report(news("D", [99]))
    await swarm.configure(Configured(paused=False))
    await settled(lambda: statuses(swarm.state) == "QQQ", "all queued")
    await swarm.drain(1)
