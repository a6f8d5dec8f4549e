"""Answers that are lost after the daemon has done what it was asked: nothing is lost, nothing is done twice.

A relay swallows the answer; when the daemon has done the work, the connection is cut, or the daemon is killed and
started again. What is safe to repeat goes on as if nothing had been; what is not ends with an error that says so.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

import numpy as np
import pytest
import pytest_asyncio

from swarmd._pb.swarm.v1 import swarm_pb2
from swarmd.client import (
    AlreadyExistsError,
    End,
    LiveSwarm,
    NoDaemonError,
    NotFoundError,
    Snapshot,
    Swarm,
    SwarmClient,
    SwarmStatus,
    TaskInfo,
)
from swarmd.core.status import TaskStatus
from swarmd.core.update import StateUpdate
from tests.client.relay import Scene, scene

T = TypeVar("T")

pytestmark = pytest.mark.e2e
FATES = ["cut", "kill"]


@pytest_asyncio.fixture
async def stage() -> AsyncIterator[Scene]:
    async with scene() as made:
        yield made


@pytest_asyncio.fixture
async def client(stage: Scene) -> AsyncIterator[SwarmClient]:
    """The client that loses its answers."""
    async with SwarmClient(stage.relay.address) as made:
        await made.connect()
        yield made


async def pull_swarm(client: SwarmClient, swarm_id: str = "study", tasks: int = 4) -> LiveSwarm:
    plan = Swarm(swarm_id, gateway="pull")
    plan.array("simulate", command="simulate {name}", tasks=tasks)
    return await client.submit(plan)


async def seen(stage: Scene, swarm_id: str, condition: Callable[[SwarmStatus], bool]) -> None:
    """Wait until the daemon has got so far, past the relay."""
    async with SwarmClient(stage.address) as witness, asyncio.timeout(30):
        while True:
            try:
                if condition(await witness.swarm(swarm_id).status()):
                    return
            except NotFoundError:
                pass
            await asyncio.sleep(0.01)


async def lost(
    stage: Scene, fate: str, call: Awaitable[T], swarm_id: str, condition: Callable[[SwarmStatus], bool]
) -> T:
    """The outcome of a call whose first answer is lost once the condition holds."""
    stage.relay.swallows_answers = True
    calling = asyncio.ensure_future(call)
    await seen(stage, swarm_id, condition)
    await stage.lose(fate)
    return await calling


async def tasks_of(swarm: LiveSwarm) -> list[TaskInfo]:
    return [task async for task in swarm.tasks()]


@pytest.mark.parametrize("fate", FATES)
async def test_a_swarm_is_made_once(stage: Scene, client: SwarmClient, fate: str):
    making = client.create_swarm("new", max_concurrently_running=7)
    swarm = await lost(stage, fate, making, "new", lambda found: True)
    assert (await swarm.status()).max_concurrently_running == 7
    assert len(await client.swarms()) == 1


@pytest.mark.parametrize("fate", FATES)
async def test_a_load_is_loaded_once(stage: Scene, client: SwarmClient, fate: str):
    swarm = await client.create_swarm("study", gateway="pull")
    plan = Swarm()
    plan.array("simulate", tasks=5000, command="true")
    loading = client.protocol.add_tasks("study", plan)  # `load` asks first which swarm it is
    result = await lost(stage, fate, loading, "study", lambda found: found.counts.total > 0)
    assert result.task_count == 5000
    assert (await swarm.status()).counts.total == 5000


@pytest.mark.parametrize("fate", FATES)
async def test_a_tick_queues_once_and_answers_as_it_would_have(stage: Scene, client: SwarmClient, fate: str):
    swarm = await pull_swarm(client)
    result = await lost(stage, fate, swarm.tick(), "study", lambda found: found.counts.queued == 4)
    assert [list(batch.task_ids) for batch in result.batches] == [[1, 2, 3, 4]]
    assert [task.command for task in result.batches[0].tasks] == [f"simulate {number}" for number in range(4)]
    assert [task.attempt for task in await tasks_of(swarm)] == [1, 1, 1, 1]


@pytest.mark.parametrize("fate", FATES)
async def test_news_is_told_again_until_it_is_answered(stage: Scene, client: SwarmClient, fate: str):
    swarm = await pull_swarm(client)
    (batch,) = (await swarm.tick()).batches
    failing = swarm.failed(batch.task_ids[:1], batch.attempts[:1], reason="exit code 1")
    await lost(stage, fate, failing, "study", lambda found: found.counts.ready == 1)
    await swarm.done(batch.task_ids[1:], batch.attempts[1:])
    first = await swarm.task(1)
    assert (first.failed_attempts, first.attempt, first.status) == (1, 1, TaskStatus.REGISTERED)
    assert (await swarm.status()).counts.done == 3


async def test_news_of_failures_without_attempts_is_not_told_twice(stage: Scene, client: SwarmClient):
    swarm = await pull_swarm(client)
    await swarm.tick()
    with pytest.raises(NoDaemonError, match="whether this news was taken is not known") as caught:
        await lost(stage, "cut", swarm.failed([1]), "study", lambda found: found.counts.ready == 1)
    assert caught.value.reason == "OUTCOME_UNKNOWN"
    assert (await swarm.done([2, 3, 4])).changed_count == 3
    assert (await swarm.task(1)).failed_attempts == 1


async def test_news_without_attempts_is_never_about_a_later_attempt(stage: Scene, client: SwarmClient):
    swarm = await pull_swarm(client, tasks=2)
    (batch,) = (await swarm.tick()).batches
    updates = swarm.updates()
    await updates.apply(StateUpdate(max_concurrently_running=2))
    stage.relay.swallows_answers = True
    await updates.running(batch.task_ids)
    await updates.failed(batch.task_ids, batch.attempts)
    await seen(stage, "study", lambda found: found.counts.ready == 2)
    await stage.lose("cut")
    with pytest.raises(NoDaemonError) as caught:
        await updates.flush()
    assert caught.value.reason == "OUTCOME_UNKNOWN"
    assert [task.status for task in await tasks_of(swarm)] == [TaskStatus.REGISTERED] * 2


async def test_news_without_attempts_does_not_end_what_was_reset_meanwhile(stage: Scene, client: SwarmClient):
    swarm = await pull_swarm(client)
    await swarm.tick()
    telling = asyncio.ensure_future(swarm.done([1]))
    stage.relay.swallows_answers = True
    await seen(stage, "study", lambda found: found.counts.done == 1)
    async with SwarmClient(stage.address) as somebody_else:
        await somebody_else.swarm("study").reset([1])
    await stage.lose("cut")
    with pytest.raises(NoDaemonError, match="whether this news was taken is not known"):
        await telling
    assert (await swarm.task(1)).status is TaskStatus.REGISTERED


async def test_a_stream_of_news_goes_on_through_the_death_of_the_daemon(stage: Scene, client: SwarmClient):
    swarm = await pull_swarm(client, tasks=6000)
    ids = np.arange(1, 6001)
    while (await swarm.has_work()).has_work:
        await swarm.tick()
    async with swarm.updates() as updates:
        for number, part in enumerate(np.array_split(ids, 60)):
            await updates.running(part, 1)
            if number == 20:
                await stage.lose("kill")
            if number == 40:
                await stage.lose("cut")
            await updates.done(part, 1)
    counts = (await swarm.status()).counts
    assert (counts.done, counts.total) == (6000, 6000)
    assert {task.attempt for task in await tasks_of(swarm)} == {1}


@pytest.mark.parametrize("fate", FATES)
async def test_settings_are_set_again(stage: Scene, client: SwarmClient, fate: str):
    swarm = await pull_swarm(client)
    changed = await lost(stage, fate, swarm.pause(), "study", lambda found: found.paused)
    assert changed.paused


async def test_cancelling_named_tasks_is_repeated(stage: Scene, client: SwarmClient):
    swarm = await pull_swarm(client)
    result = await lost(stage, "cut", swarm.cancel([1, 2]), "study", lambda found: found.counts.cancelled == 2)
    assert result.final_count == 2  # as the repeat found them
    assert (await swarm.status()).counts.cancelled == 2


async def test_cancelling_by_status_is_not_repeated(stage: Scene, client: SwarmClient):
    swarm = await pull_swarm(client)
    cancelling = swarm.cancel(statuses=[TaskStatus.REGISTERED])
    with pytest.raises(NoDaemonError, match="was lost"):
        await lost(stage, "cut", cancelling, "study", lambda found: found.counts.cancelled == 4)


async def test_a_reset_is_not_repeated(stage: Scene, client: SwarmClient):
    swarm = await pull_swarm(client)
    await swarm.apply({1: "D", 2: "D"})
    with pytest.raises(NoDaemonError, match="was lost"):
        await lost(stage, "cut", swarm.reset([1, 2]), "study", lambda found: found.counts.done == 0)
    assert (await swarm.status()).counts.registered == 4


@pytest.fixture
def swallowing_after_a_look(stage: Scene, client: SwarmClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """A deletion looks at the swarm first: that answer passes, and no other one after it."""
    look = client.protocol.get_swarm

    async def look_once(swarm_id: str = "", *, full: bool = False) -> swarm_pb2.Swarm:
        found = await look(swarm_id, full=full)
        monkeypatch.undo()
        stage.relay.swallows_answers = True
        return found

    monkeypatch.setattr(client.protocol, "get_swarm", look_once)


@pytest.mark.usefixtures("swallowing_after_a_look")
@pytest.mark.parametrize("fate", FATES)
async def test_a_deletion_that_was_done_is_done(stage: Scene, client: SwarmClient, fate: str):
    await pull_swarm(client, "other")
    swarm = await pull_swarm(client)
    deleting = asyncio.ensure_future(swarm.delete())
    await gone(stage, "study")
    await stage.lose(fate)
    await deleting
    assert [found.swarm_id for found in await client.swarms()] == ["other"]


@pytest.mark.usefixtures("swallowing_after_a_look")
async def test_a_deletion_never_hits_another_swarm_of_the_same_name(stage: Scene, client: SwarmClient):
    swarm = await pull_swarm(client)
    deleting = asyncio.ensure_future(swarm.delete())
    await gone(stage, "study")
    async with SwarmClient(stage.address) as somebody_else:
        while True:
            try:
                await pull_swarm(somebody_else, tasks=9)
                break
            except AlreadyExistsError:  # its files are being removed
                await asyncio.sleep(0.01)
    await stage.lose("cut")
    await deleting
    assert (await swarm.status()).counts.total == 9


async def gone(stage: Scene, swarm_id: str) -> None:
    """Wait until the daemon has forgotten a swarm."""
    async with SwarmClient(stage.address) as witness, asyncio.timeout(30):
        while swarm_id in await names_of(witness):  # noqa: ASYNC110 - it is another process
            await asyncio.sleep(0.01)


async def names_of(client: SwarmClient) -> list[str]:
    return [found.swarm_id for found in await client.swarms()]


async def test_a_watch_goes_on_where_it_was(stage: Scene, client: SwarmClient):
    swarm = await pull_swarm(client)
    events = swarm.watch()
    assert isinstance(await anext(events), Snapshot)
    await swarm.tick()
    seen_first = await anext(events)
    await stage.lose("kill")
    await swarm.done([1, 2, 3, 4], 1)
    rest = [event async for event in events]
    assert isinstance(rest[-1], End)
    assert [seen_first.revision, *(event.revision for event in rest[:-1])] == [2, 3]


async def test_a_daemon_that_does_not_come_back_is_waited_for_as_long_as_patience_says(stage: Scene):
    async with SwarmClient(stage.relay.address, patience=0.3) as client:
        await client.connect()
        stage.kill()
        with pytest.raises(NoDaemonError, match="was lost"):
            await client.swarms()


async def test_without_patience_nothing_is_repeated(stage: Scene):
    async with SwarmClient(stage.relay.address, patience=0) as client:
        await client.connect()
        connections = stage.relay.connections
        stage.kill()
        with pytest.raises(NoDaemonError):
            await client.swarms()
        assert stage.relay.connections <= connections + 1


@pytest.mark.parametrize("seed", range(3))
async def test_a_whole_workflow_through_many_deaths(stage: Scene, client: SwarmClient, seed: int):
    """Whoever runs the batches of ticks gets each task once, whenever the daemon dies and the connection breaks."""
    chance = random.Random(seed)
    plan = Swarm("whole", gateway="pull", max_concurrently_running=40)
    before = plan.array("array-0", tasks=60)
    for number in range(1, 10):
        before = plan.array(f"array-{number}", tasks=60).after(before, one_to_one=bool(number % 2))
    handed_out: list[int] = []

    async def work(swarm: LiveSwarm) -> None:
        while not (state := await swarm.has_work(wait=1)).is_finished:
            if state.has_work:
                for batch in (await swarm.tick()).batches:
                    handed_out.extend(batch.task_ids.tolist())
                    await swarm.running(batch.task_ids, batch.attempts)
                    await swarm.done(batch.task_ids, batch.attempts)

    async def trouble() -> None:
        for _ in range(4):
            await asyncio.sleep(chance.uniform(0, 0.3))
            stage.relay.swallows_answers = chance.random() < 0.5
            await asyncio.sleep(chance.uniform(0, 0.05))
            await stage.lose(chance.choice(FATES))

    swarm = await client.submit(plan)
    await asyncio.gather(work(swarm), trouble())
    assert sorted(handed_out) == list(range(1, 601))
    counts = (await swarm.status()).counts
    assert (counts.done, counts.total) == (600, 600)
    assert {(task.attempt, task.failed_attempts) for task in await tasks_of(swarm)} == {(1, 0)}
