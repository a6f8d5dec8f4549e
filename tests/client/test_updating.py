"""A stream of news: pipelined, in order, with errors that are told in time."""

import numpy as np
import pytest

from swarmd._pb.swarm.v1 import state_pb2
from swarmd.client import NotFoundError, RpcError, SwarmClient
from swarmd.client.encoding import status_group
from swarmd.client.updating import MAX_UNANSWERED, MOST_IDS, is_repeatable, status_updates
from swarmd.core.status import TaskStatus
from tests.client.conftest import PullSwarm


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
