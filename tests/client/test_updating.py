"""A stream of news: pipelined, in order, with errors that are told in time."""

import asyncio
import signal

import numpy as np
import pytest

from swarmd._pb.swarm.v1 import state_pb2
from swarmd.client import NotFoundError, RpcError, Swarm, SwarmClient, updating
from swarmd.client.encoding import status_group
from swarmd.client.updating import MAX_UNANSWERED, MOST_IDS, is_repeatable, status_updates
from swarmd.core.status import TaskStatus
from tests.client.conftest import PullSwarm
from tests.daemon import DaemonProcess, running


async def test_more_news_than_may_be_unanswered_at_once(pull_swarm: PullSwarm):
    swarm = await pull_swarm(3 * MAX_UNANSWERED)
    async with swarm.updates() as updates:
        for task_id in range(1, 3 * MAX_UNANSWERED + 1):
            await updates.running(task_id)
            await updates.done(task_id)
    assert (await swarm.status()).counts.done == 3 * MAX_UNANSWERED


async def test_an_answer_can_be_waited_for(pull_swarm: PullSwarm):
    swarm = await pull_swarm()
    async with swarm.updates() as updates:
        await updates.running([1, 2])
        result = await updates.apply({1: "D", 2: "F"})
        assert result.changed_count == 2
        with pytest.raises(NotFoundError):
            await updates.apply({99: "D"})
        await updates.done(3)
    counts = (await swarm.status()).counts
    assert (counts.done, counts.error_fatal) == (2, 1)


async def test_refused_news_is_told_by_the_next_call_or_at_the_end(pull_swarm: PullSwarm):
    swarm = await pull_swarm()
    with pytest.raises(NotFoundError):
        async with swarm.updates() as updates:
            await updates.done(99)
    updates = swarm.updates()
    await updates.done(99)
    with pytest.raises(NotFoundError):
        await updates.flush()
    await updates.done(1)
    await updates.close()
    assert (await swarm.status()).counts.done == 1


async def test_a_closed_stream_takes_no_news(pull_swarm: PullSwarm):
    updates = (await pull_swarm()).updates()
    await updates.close()
    await updates.close(flush=False)
    with pytest.raises(RpcError, match="was closed"):
        await updates.done(1)


async def test_the_end_of_the_client_is_the_end_of_waiting(daemon, pull_swarm: PullSwarm):
    swarm = await pull_swarm()
    async with SwarmClient(daemon.address) as client:
        await client.swarm(swarm.swarm_id).done([1])
    assert (await swarm.status()).counts.done == 1


async def test_news_of_an_unknown_swarm_is_an_error(client: SwarmClient):
    with pytest.raises(NotFoundError):
        await client.swarm("nobody").done([1])


def test_large_news_is_split_with_its_attempts():
    ids = np.arange(2 * MOST_IDS + 1)
    parts = [each.task_statuses[0] for each in status_updates(TaskStatus.DONE, ids, ids)]
    assert [len(part.task_ids) for part in parts] == [MOST_IDS, MOST_IDS, 1]
    assert all(list(part.task_ids) == list(part.attempts) for part in parts)
    shared = [each.task_statuses[0] for each in status_updates(TaskStatus.DONE, ids, 2)]
    assert [set(part.attempts) for part in shared] == [{2}] * 3


@pytest.mark.parametrize("status", TaskStatus)
def test_only_news_with_its_attempts_is_repeated(status: TaskStatus):
    def repeatable(attempts: list[int] | None) -> bool:
        return is_repeatable(state_pb2.StateUpdate(task_statuses=[status_group(status, [1, 2], attempts)]))

    assert repeatable([1, 1])
    assert not repeatable(None)
    assert not repeatable([1, 0])


async def test_an_error_of_the_block_does_not_throw_away_what_was_told(pull_swarm: PullSwarm):
    swarm = await pull_swarm(50)
    (batch,) = (await swarm.tick()).batches

    async def tell() -> None:
        async with swarm.updates() as updates:
            for place in range(50):
                await updates.done(batch.task_ids[place], batch.attempts[place])
            await updates.done(999)  # an error of the news does not take the place of the block's
            raise KeyError("its own")

    with pytest.raises(KeyError, match="its own"):
        await tell()
    assert (await swarm.status()).counts.done == 50


@pytest.mark.parametrize("kind", [KeyboardInterrupt, asyncio.CancelledError])
async def test_an_interrupted_block_ends_at_once(
    daemon: DaemonProcess, pull_swarm: PullSwarm, kind: type[BaseException]
):
    updates = (await pull_swarm()).updates()
    daemon.signal(signal.SIGSTOP)
    try:
        await updates.done(1, 1)
        async with asyncio.timeout(1):
            await updates.__aexit__(kind, kind(), None)
    finally:
        daemon.signal(signal.SIGCONT)


async def test_a_block_with_an_error_does_not_wait_for_ever(
    daemon: DaemonProcess, pull_swarm: PullSwarm, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(updating, "FLUSH_SECONDS", 0.2)
    swarm = await pull_swarm()

    async def tell() -> None:
        async with asyncio.timeout(5), swarm.updates() as updates:
            await updates.done(1, 1)
            raise KeyError("its own")

    daemon.signal(signal.SIGSTOP)
    try:
        with pytest.raises(KeyError, match="its own"):
            await tell()
    finally:
        daemon.signal(signal.SIGCONT)


async def test_news_that_tells_of_an_older_refusal_is_sent_itself(pull_swarm: PullSwarm):
    swarm = await pull_swarm()
    updates = swarm.updates()
    for send in (updates.done(1), updates.apply({2: "D"})):
        await updates.done(99)
        async with asyncio.timeout(10):
            while updates._refusal is None:  # noqa: ASYNC110 - until it was refused
                await asyncio.sleep(0.01)
        with pytest.raises(NotFoundError):
            await send
    await updates.close()
    assert (await swarm.status()).counts.done == 2


async def test_all_swarms_of_a_client_share_their_streams():
    with running("--max-concurrent-streams", "10") as daemon:
        async with SwarmClient(daemon.address) as client, SwarmClient(daemon.address) as other:
            for number in range(30):
                plan = Swarm(f"short-{number}", gateway="pull")
                plan.task("one", command="x")
                swarm = await client.submit(plan)
                assert (await client.swarm().done(1)).changed_count == 1  # the only one there is
                assert (await swarm.apply({1: "D"})).changed_count == 0
                await swarm.delete()
            async with asyncio.timeout(10):
                assert await other.swarms() == []
