"""Feed: changes in order and without gaps, resumed, bounded, and waiting for nobody."""

import asyncio
from collections.abc import AsyncIterator

import numpy as np
import pytest

from swarmd.core.change import Change
from swarmd.core.errors import BusyError, RevisionGoneError
from swarmd.core.status import TaskStatus
from swarmd.core.update import StatusGroup
from swarmd.host.feed import CHANGE_BYTES, DELETED, DRAINING, ID_BYTES, Feed, FeedClosedError, SlowWatcherError
from tests.host.engine import settled

IDLE = 60.0


def change(revision: int, ids: int = 0) -> Change:
    groups = [StatusGroup(TaskStatus.QUEUED, np.arange(ids, dtype=np.int64))] if ids else []
    return Change(revision=revision, task_statuses=groups)


def publish(feed: Feed, first: int, last: int, ids: int = 0) -> None:
    for revision in range(first, last + 1):
        feed.publish(change(revision, ids))


async def take(stream: AsyncIterator[Change | None], count: int) -> list[int]:
    """The next revisions."""
    revisions: list[int] = []
    async with asyncio.timeout(IDLE):
        while len(revisions) < count:
            found = await anext(stream)
            if found is not None:
                revisions.append(found.revision)
    return revisions


async def test_a_watcher_gets_every_change_in_order_whether_it_was_there_before_or_comes_after():
    feed = Feed()
    publish(feed, 1, 3)
    stream = feed.follow(1, IDLE)

    assert await take(stream, 2) == [2, 3]
    waiting = asyncio.ensure_future(take(stream, 3))
    await asyncio.sleep(0)
    publish(feed, 4, 6)
    assert await waiting == [4, 5, 6]


async def test_many_watchers_at_different_places_each_get_all():
    feed = Feed()
    publish(feed, 1, 50)
    streams = {start: feed.follow(start, IDLE) for start in (0, 10, 49, 50)}
    taking = {start: asyncio.ensure_future(take(stream, 100 - start)) for start, stream in streams.items()}
    for revision in range(51, 101):
        feed.publish(change(revision))
        if revision % 7 == 0:
            await asyncio.sleep(0)

    for start, revisions in taking.items():
        assert await revisions == list(range(start + 1, 101))


async def test_a_watcher_that_waits_hears_that_nothing_came():
    feed = Feed()
    stream = feed.follow(0, 0.01)

    async with asyncio.timeout(IDLE):
        assert await anext(stream) is None
        assert await anext(stream) is None
        feed.publish(change(1))
        found = await anext(stream)
    assert found is not None
    assert found.revision == 1


async def test_a_watcher_that_reads_too_slowly_is_ended_while_what_it_missed_is_still_there():
    feed = Feed(max_behind_bytes=50 * CHANGE_BYTES)
    publish(feed, 1, 1)
    stream = feed.follow(0, IDLE)
    assert await take(stream, 1) == [1]
    publish(feed, 2, 60)

    with pytest.raises(SlowWatcherError):
        await anext(stream)
    feed.check_resumable(1)
    resumed = feed.follow(1, IDLE)
    assert await take(resumed, 59) == list(range(2, 61))


async def test_a_watcher_is_slow_by_the_ids_that_it_missed_too():
    feed = Feed(max_behind_bytes=50 * CHANGE_BYTES)
    publish(feed, 1, 1)
    stream = feed.follow(0, IDLE)
    await take(stream, 1)
    publish(feed, 2, 4, ids=20 * CHANGE_BYTES // ID_BYTES)

    with pytest.raises(SlowWatcherError):
        await anext(stream)
    feed.check_resumable(1)


async def test_one_change_alone_is_never_too_much():
    feed = Feed(max_behind_bytes=10)
    stream = feed.follow(0, IDLE)
    feed.publish(change(1, ids=1000))

    assert await take(stream, 1) == [1]


async def test_resuming_from_far_back_does_not_end_at_once():
    feed = Feed(max_behind_bytes=50 * CHANGE_BYTES)
    publish(feed, 1, 100)
    stream = feed.follow(0, IDLE)

    assert await take(stream, 100) == list(range(1, 101))


async def test_resuming_from_far_back_goes_well_while_more_comes_at_the_same_pace():
    feed = Feed(max_behind_bytes=50 * CHANGE_BYTES)
    publish(feed, 1, 90)
    stream = feed.follow(5, IDLE)
    seen = []
    for revision in range(91, 300):
        feed.publish(change(revision))
        seen += await take(stream, 1)
    assert seen == list(range(6, 6 + 209))


async def test_resuming_from_far_back_bears_a_few_changes_that_come_before_the_first_is_read():
    feed = Feed(max_behind_bytes=50 * CHANGE_BYTES)
    publish(feed, 1, 90)
    stream = feed.follow(20, IDLE)
    assert await take(stream, 1) == [21]
    publish(feed, 91, 95)

    assert await take(stream, 74) == list(range(22, 96))


async def test_the_oldest_changes_are_forgotten_and_resuming_from_there_is_refused():
    feed = Feed(max_behind_bytes=5 * CHANGE_BYTES)
    publish(feed, 1, 25)

    feed.check_resumable(15)
    feed.check_resumable(25)
    for revision in (-1, 0, 14, 26):
        with pytest.raises(RevisionGoneError) as refused:
            feed.check_resumable(revision)
        assert refused.value.metadata == {"oldest_revision": "15", "revision": "25"}
        assert refused.value.field == "after_revision"


async def test_a_swarm_that_begins_with_a_revision_can_be_resumed_from_there_only():
    feed = Feed()
    feed.start_from(7)

    feed.check_resumable(7)
    for revision in (6, 8):
        with pytest.raises(RevisionGoneError):
            feed.check_resumable(revision)


async def test_a_watcher_gets_what_there_is_before_it_hears_of_the_end():
    feed = Feed()
    publish(feed, 1, 2)
    stream = feed.follow(0, IDLE)
    feed.close(DRAINING)
    feed.close(DELETED)

    assert await take(stream, 2) == [1, 2]
    with pytest.raises(FeedClosedError) as closed:
        await anext(stream)
    assert closed.value.why == DRAINING, "the first reason counts"


async def test_a_watcher_that_waits_hears_of_the_end_at_once():
    feed = Feed()
    stream = feed.follow(0, IDLE)
    waiting = asyncio.ensure_future(anext(stream))
    await settled(lambda: feed.watchers == 1, "the watcher")
    feed.close(DELETED)

    with pytest.raises(FeedClosedError):
        await waiting
    assert feed.watchers == 0


async def test_watchers_are_counted_bounded_and_let_go():
    feed = Feed(max_watchers=2)
    first, second, third = (feed.follow(0, 0.01) for _ in range(3))
    await anext(first)
    await anext(second)
    assert feed.watchers == 2
    with pytest.raises(BusyError) as refused:
        await anext(third)
    assert refused.value.reason == "TOO_MANY_WATCHERS"
    await first.aclose()  # type: ignore[attr-defined]
    assert feed.watchers == 1
    await anext(feed.follow(0, 0.01))


async def test_a_watcher_that_is_cancelled_is_let_go():
    feed = Feed()
    waiting = asyncio.ensure_future(anext(feed.follow(0, IDLE)))
    await settled(lambda: feed.watchers == 1, "the watcher")
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert feed.watchers == 0
