"""The ApplyUpdate stream: one message is one unit, answered in order, and a wrong one ends nothing."""

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from swarmd._pb.swarm.v1 import scheduler_service_pb2 as pb
from swarmd._pb.swarm.v1 import state_pb2, task_pb2
from swarmd._pb.swarm.v1.scheduler_service_pb2_grpc import SchedulerServiceStub
from swarmd.rpc.scheduler_service import SchedulerServicer, told
from swarmd.rpc.streams import OpenStreams
from tests.host.engine import settled
from tests.rpc.harness import PATIENCE, Rpc, a_task, duration, group, status_value, update, whole


async def test_a_message_is_answered_with_what_it_changed(rpc: Rpc):
    await rpc.create()
    await rpc.add(whole([a_task(1), a_task(2, 1), a_task(3, 1)]))
    await rpc.tick()
    before = (await rpc.get()).revision

    (answer,) = await rpc.apply(update(42, ("DONE", [1])))

    assert answer.sequence == 42
    assert (answer.changed_count, answer.newly_ready_count) == (1, 2)
    assert answer.revision == before + 1 == (await rpc.get()).revision
    assert not answer.HasField("error")


async def test_an_invalid_message_changes_nothing_and_the_stream_goes_on(rpc: Rpc):
    await rpc.create()
    await rpc.add(whole(3))
    await rpc.tick()

    wrong, right = await rpc.apply(update(1, ("DONE", [1]), ("RUNNING", [2, 99, 98])), update(2, ("RUNNING", [2])))

    assert wrong.error.code == 5
    assert wrong.error.reason == "UNKNOWN_TASK"
    assert wrong.error.field == "update.task_statuses[1].task_ids[1]"
    assert "99" in wrong.error.message
    assert wrong.error.metadata["ids"] == "99,98"
    assert (wrong.changed_count, wrong.revision + 1) == (0, right.revision)
    assert right.changed_count == 1
    assert (await rpc.task(1)).status == status_value("QUEUED"), "nothing of the wrong message was applied"


def a_queue(**more: Any) -> task_pb2.QueueLimits:
    return task_pb2.QueueLimits(**{"queue": "all", "cores": 4, **more})


def wrong_updates() -> dict[str, tuple[state_pb2.StateUpdate, str, str]]:
    unset = state_pb2.TaskStatusGroup(task_ids=[1])
    strange = state_pb2.TaskStatusGroup(task_ids=[1])
    strange.MergeFromString(b"\x08\x63")  # status: 99
    return {
        "no status": (state_pb2.StateUpdate(task_statuses=[unset]), "INVALID_STATUS", "update.task_statuses[0].status"),
        "unknown status": (
            state_pb2.StateUpdate(task_statuses=[strange]),
            "INVALID_STATUS",
            "update.task_statuses[0].status",
        ),
        "cancelled": (
            state_pb2.StateUpdate(task_statuses=[group("CANCELLED", [1])]),
            "INVALID_STATUS",
            "update.task_statuses[0].status",
        ),
        "unknown array": (
            state_pb2.StateUpdate(array_limits=[state_pb2.ArrayLimit(array_id=9)]),
            "UNKNOWN_ARRAY",
            "update.array_limits",
        ),
        "negative limit": (state_pb2.StateUpdate(max_concurrently_running=-1), "NEGATIVE_LIMIT", ""),
        "negative array limit": (
            state_pb2.StateUpdate(array_limits=[state_pb2.ArrayLimit(array_id=1, max_concurrently_running=-2)]),
            "NEGATIVE_LIMIT",
            "",
        ),
        "attempts that do not fit": (
            state_pb2.StateUpdate(task_statuses=[group("DONE", [1, 2], [1])]),
            "ATTEMPTS_MISMATCH",
            "update.task_statuses[0].attempts",
        ),
        "negative attempt": (state_pb2.StateUpdate(task_statuses=[group("DONE", [1], [-1])]), "INVALID_VALUE", ""),
        "id 0": (state_pb2.StateUpdate(task_statuses=[group("DONE", [0])]), "UNKNOWN_TASK", ""),
        "id out of range": (state_pb2.StateUpdate(task_statuses=[group("DONE", [-(1 << 63)])]), "UNKNOWN_TASK", ""),
        "a long reason": (
            state_pb2.StateUpdate(task_statuses=[group("DONE", [1], reason="x" * 4097)]),
            "TEXT_TOO_LONG",
            "update.task_statuses[0].reason",
        ),
        "a time that is none": (
            state_pb2.StateUpdate(sync_time=Timestamp(seconds=1 << 60)),
            "INVALID_VALUE",
            "update.sync_time",
        ),
        "nanoseconds that are none": (
            state_pb2.StateUpdate(sync_time=Timestamp(nanos=-5)),
            "INVALID_VALUE",
            "update.sync_time",
        ),
        "a queue without room": (
            state_pb2.StateUpdate(queue_limits=[a_queue(), a_queue(memory_mib=-1)]),
            "INVALID_VALUE",
            "update.queue_limits[1].memory_mib",
        ),
        "a queue without time": (
            state_pb2.StateUpdate(queue_limits=[a_queue(runtime=duration(-1))]),
            "INVALID_VALUE",
            "update.queue_limits[0].runtime",
        ),
        "a queue with a long name": (
            state_pb2.StateUpdate(queue_limits=[a_queue(queue="q" * 257)]),
            "TEXT_TOO_LONG",
            "update.queue_limits[0].queue",
        ),
        "too many queues": (
            state_pb2.StateUpdate(queue_limits=[a_queue(queue=str(number)) for number in range(1001)]),
            "TOO_MANY_QUEUES",
            "update.queue_limits",
        ),
        "too many groups": (
            state_pb2.StateUpdate(task_statuses=[group("DONE", [])] * 100_001),
            "UPDATE_TOO_LARGE",
            "update.task_statuses",
        ),
        "too many ids": (
            state_pb2.StateUpdate(task_statuses=[group("DONE", [1]), group("DONE", [1] * 100_000)]),
            "UPDATE_TOO_LARGE",
            "update.task_statuses",
        ),
    }


@pytest.mark.parametrize("name", sorted(wrong_updates()))
async def test_what_is_wrong_is_named_and_changes_nothing(rpc: Rpc, name: str):
    await rpc.create()
    await rpc.add(whole(3))
    await rpc.tick()
    before = await rpc.get()
    wrong, reason, field = wrong_updates()[name]
    mixed = pb.ApplyUpdateRequest(sequence=1, update=wrong)
    mixed.update.task_statuses.append(group("DONE", [3]))

    refused, good = await rpc.apply(mixed, update(2, ("RUNNING", [3])))

    assert refused.error.reason == reason
    assert refused.error.code == {"TEXT_TOO_LONG": 8, "TOO_MANY_QUEUES": 8}.get(reason, 3) or refused.error.code == 5
    assert refused.error.message
    if field:
        assert refused.error.field == field
    assert good.changed_count == 1
    after = await rpc.get()
    assert after.revision == before.revision + 1
    assert after.max_concurrently_running == before.max_concurrently_running


async def test_what_queues_can_hold_is_a_change_once_and_shows_in_a_watch_without_more(rpc: Rpc):
    await rpc.create()
    await rpc.add(whole(1))
    before = (await rpc.get()).revision
    answers = await rpc.apply(*(update(number, queue_limits=[a_queue()]) for number in (1, 2)))
    assert [(each.revision, each.changed_count, each.HasField("error")) for each in answers] == [
        (before + 1, 0, False),
        (before + 1, 0, False),
    ]
    call = rpc.watch(after_revision=before)
    told = await call.read()
    assert (told.revision, told.change.HasField("swarm"), len(told.change.task_statuses)) == (before + 1, True, 0)
    call.cancel()


async def test_stale_news_is_listed_and_the_rest_applies(rpc: Rpc):
    await rpc.create()
    await rpc.add(whole(4))
    await rpc.tick()
    await rpc.tell("DONE", 1)
    await rpc.tell("RUNNING", 2)
    news = state_pb2.StateUpdate(
        task_statuses=[
            group("RUNNING", [1, 3]),
            group("QUEUED", [2]),
            group("DONE", [4], [1]),
            group("ERROR_RECOVERABLE", [3], [0]),
        ]
    )

    (answer,) = await rpc.apply(pb.ApplyUpdateRequest(update=news))

    assert not answer.HasField("error")
    assert [(list(each.task_ids), each.status, each.reason) for each in answer.ignored] == [
        ([1], status_value("RUNNING"), state_pb2.IgnoredNews.REASON_TASK_IS_FINAL),
        ([2], status_value("QUEUED"), state_pb2.IgnoredNews.REASON_TASK_IS_FURTHER),
    ]
    assert (await rpc.task(4)).status == status_value("DONE")
    assert (await rpc.task(3)).failed_attempts == 1


async def test_repeating_what_was_not_answered_is_harmless(rpc: Rpc):
    await rpc.create()
    await rpc.add(whole(3))
    await rpc.tick()
    requests = [update(n, (status, [n])) for n, status in ((1, "DONE"), (2, "RUNNING"), (3, "ERROR_FATAL"))]
    first = await rpc.apply(*requests)
    revision = (await rpc.get()).revision
    again = await rpc.apply(*requests)

    assert [answer.changed_count for answer in first] == [1, 1, 1]
    assert [answer.changed_count for answer in again] == [0, 0, 0]
    assert (await rpc.get()).revision == revision


async def test_a_thousand_messages_in_one_go_are_answered_in_order(rpc: Rpc):
    await rpc.create(max_concurrently_running=1000)
    await rpc.add(whole(1000))
    await rpc.tick()
    started = asyncio.Event()

    async def all_at_once() -> AsyncIterator[pb.ApplyUpdateRequest]:
        for number in range(1, 1001):
            yield update(number, ("DONE", [number]))
        started.set()

    call = rpc.scheduler.ApplyUpdate(all_at_once(), timeout=PATIENCE)
    answers = [answer async for answer in call]

    assert started.is_set()
    assert [answer.sequence for answer in answers] == list(range(1, 1001))
    revisions = [answer.revision for answer in answers]
    assert revisions == list(range(revisions[0], revisions[0] + 1000))
    assert (await rpc.has_work()).finished


async def test_a_message_is_answered_before_the_next_one_comes(rpc: Rpc):
    await rpc.create()
    await rpc.add(whole(2))
    await rpc.tick()
    call: Any = rpc.scheduler.ApplyUpdate(timeout=PATIENCE)
    for number in (1, 2):
        await call.write(update(number, ("DONE", [number])))
        answer = await call.read()
        assert answer.sequence == number
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF


async def test_two_swarms_in_one_stream_and_an_empty_id_is_the_one_before(rpc: Rpc):
    for name in ("a", "b"):
        await rpc.create(name)
        await rpc.add(whole(2, swarm_id=name))
        await rpc.tick(name)

    answers = await rpc.apply(
        update(1, ("DONE", [1])),
        update(2, ("DONE", [1]), swarm_id="b"),
        update(3, ("DONE", [2])),
        update(4, ("RUNNING", [1]), swarm_id="nobody"),
        update(5, ("RUNNING", [1]), swarm_id="a"),
        update(6, ("RUNNING", [2])),
    )

    assert [answer.error.reason for answer in answers] == ["SWARM_ID_REQUIRED", "", "", "UNKNOWN_SWARM", "", ""]
    assert rpc.state("b").finished
    assert rpc.state("a").counts().running == 2


async def test_an_empty_message_changes_nothing_and_names_the_swarm(rpc: Rpc):
    await rpc.create("a")
    await rpc.create("b")
    await rpc.add(whole(1, swarm_id="b"))

    first, second = await rpc.apply(pb.ApplyUpdateRequest(swarm_id="b"), update(1, ("RUNNING", [1])))

    assert (first.changed_count, second.changed_count) == (0, 1)


async def test_limits_run_status_and_sync_time_travel_too(rpc: Rpc):
    await rpc.create()
    await rpc.add(whole(3))
    news = state_pb2.StateUpdate(
        max_concurrently_running=7,
        array_limits=[state_pb2.ArrayLimit(array_id=1, max_concurrently_running=2)],
        workflow_run_status=state_pb2.WORKFLOW_RUN_STATUS_STOPPED,
        sync_time=Timestamp(seconds=1_700_000_000, nanos=5000),
    )
    await rpc.apply(pb.ApplyUpdateRequest(update=news))

    swarm = await rpc.get(full=True)
    assert swarm.max_concurrently_running == 7
    assert swarm.arrays[0].max_concurrently_running == 2
    assert swarm.workflow_run_status == state_pb2.WORKFLOW_RUN_STATUS_STOPPED
    assert swarm.sync_time == news.sync_time
    assert "STOPPED" in swarm.held_reason
    assert not (await rpc.has_work()).has_work
    unlimited = state_pb2.StateUpdate(array_limits=[state_pb2.ArrayLimit(array_id=1)])
    await rpc.apply(pb.ApplyUpdateRequest(update=unlimited))
    assert not (await rpc.get(full=True)).arrays[0].HasField("max_concurrently_running")


async def test_a_client_that_vanishes_mid_stream_leaves_nothing_behind(rpc: Rpc):
    await rpc.create()
    await rpc.add(whole(2))
    await rpc.tick()
    channel = rpc.another_channel()
    call = SchedulerServiceStub(channel).ApplyUpdate(timeout=PATIENCE)
    await call.write(update(1, ("RUNNING", [1])))
    await call.read()
    assert len(rpc.server._streams._waits) == 1
    await channel.close()

    await settled(lambda: not rpc.server._streams._waits, "the end of the handler")
    await rpc.tell("DONE", 1)


def test_what_this_version_does_not_know_of_an_update_is_not_written_down():
    known = update(1, ("DONE", [1, 2]))
    of_a_later_version = b"\x98\x06\x07"  # field 99
    request = pb.ApplyUpdateRequest(swarm_id="s")
    request.update.MergeFromString(known.update.SerializeToString() + of_a_later_version)
    assert of_a_later_version in request.update.SerializeToString()

    assert told(request) == known.update.SerializeToString()


@pytest.mark.parametrize("task_id", [1, 99])
async def test_a_message_is_in_memory_only_until_it_is_understood(rpc: Rpc, task_id: int):
    """However long the answer waits for its client."""
    await rpc.create()
    await rpc.add(whole(3))
    request = update(1, ("DONE", [task_id]))
    known = sys.getrefcount(request)

    begun = SchedulerServicer(rpc.registry, OpenStreams())._begin_update(request, "")

    assert sys.getrefcount(request) == known
    assert (await begun.answer()).HasField("error") == (task_id == 99)
