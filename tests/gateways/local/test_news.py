"""News are gathered, kept in order, and reported in few groups."""

import asyncio
from pathlib import Path

import pytest

from swarmd.core.batch import TaskSpec
from swarmd.core.status import TaskStatus
from swarmd.gateways.contract import SwarmInfo
from swarmd.gateways.local.attempt import Attempt, LocalSwarm
from swarmd.gateways.local.machine import Shape
from swarmd.gateways.local.news import News
from tests.gateways.recording import Record

RUNNING, DONE, FAILED = TaskStatus.RUNNING, TaskStatus.DONE, TaskStatus.ERROR_RECOVERABLE


@pytest.fixture
def record():
    return Record()


@pytest.fixture
async def news(record):
    return News(record.report)


def attempt(task_id: int, number: int = 1, swarm_id: str = "s") -> Attempt:
    return Attempt(
        LocalSwarm(SwarmInfo(swarm_id), {}, Path("logs")),
        1,
        TaskSpec(task_id, number, "", ""),
        Shape(1, 0),
        0.0,
        task_id,
    )


async def test_news_wait_a_few_milliseconds_for_more(news, record):
    for task_id in range(1, 101):
        news.started(attempt(task_id))
    assert record.updates == []
    async with asyncio.timeout(1):
        await record.running(*range(1, 101))
    assert len(record.updates) == 1
    assert len(record.updates[0][1].task_statuses.groups) == 1


async def test_starts_come_before_ends_and_every_start_is_told(news, record):
    news.started(attempt(1))
    news.started(attempt(2))
    news.ended(attempt(1), DONE)
    news.started(attempt(3))
    news.flush()
    told = [(task_id, status) for _, task_id, _, status, _ in record.news]
    assert told == [(1, RUNNING), (2, RUNNING), (3, RUNNING), (1, DONE)]


async def test_failures_are_grouped_by_their_reason(news, record):
    for task_id, reason in ((1, "exit code 1"), (2, "exit code 2"), (3, "exit code 1")):
        news.ended(attempt(task_id), FAILED, reason)
    news.flush()
    groups = record.updates[0][1].task_statuses.groups
    assert [(group.task_ids.tolist(), group.reason) for group in groups] == [
        ([1, 3], "exit code 1"),
        ([2], "exit code 2"),
    ]


async def test_the_next_attempt_starts_after_the_end_of_the_last(news, record):
    news.ended(attempt(1, 1), FAILED, "exit code 1")
    news.started(attempt(1, 2))
    news.flush()
    assert [(number, status) for _, _, number, status, _ in record.news] == [(1, FAILED), (2, RUNNING)]


async def test_a_start_that_was_not_told_is_forgotten_with_its_attempt(news, record):
    news.started(attempt(1, 2))
    news.forget_start(attempt(1, 1))
    news.started(attempt(2, 1))
    news.forget_start(attempt(2, 1))
    news.forget_start(attempt(3, 1, "other"))
    news.flush()
    assert [(task_id, number) for _, task_id, number, _, _ in record.news] == [(1, 2)]


async def test_a_swarm_that_is_forgotten_is_not_reported(news, record):
    news.started(attempt(1))
    news.started(attempt(2, swarm_id="other"))
    news.forget_swarm("s")
    news.flush()
    assert [swarm_id for swarm_id, *_ in record.news] == ["other"]


async def test_nothing_is_reported_when_there_is_nothing_to_say(news, record):
    news.started(attempt(1))
    news.forget_start(attempt(1))
    news.flush()
    news.flush()
    assert record.updates == []
