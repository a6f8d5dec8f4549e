"""WatchSwarm: a snapshot, every change in order and without gaps, signs of life, and a last word to resume from."""

import asyncio
from typing import Any

import numpy as np
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from swarmd._pb.swarm.v1 import state_pb2, swarm_pb2, swarm_service_pb2, task_pb2
from swarmd._pb.swarm.v1 import swarm_service_pb2 as pb
from swarmd._pb.swarm.v1.swarm_service_pb2_grpc import SwarmServiceStub
from swarmd.core.change import Change
from swarmd.core.status import TaskStatus
from swarmd.core.update import StatusGroup
from swarmd.host.feed import CHANGE_BYTES, ID_BYTES, Feed
from swarmd.host.swarm import HostLimits
from swarmd.rpc.watch import SHARED_IDS, SharedMessages
from tests.host.engine import settled
from tests.rpc.harness import (
    PATIENCE,
    Rpc,
    a_chunk,
    a_task,
    duration,
    group,
    refused,
    serving,
    status_value,
    update,
    whole,
)

Messages = list[pb.WatchSwarmResponse]


async def read(call: Any, count: int) -> Messages:
    """The next messages but for signs of life."""
    found: Messages = []
    async with asyncio.timeout(PATIENCE):
        while len(found) < count:
            message = await call.read()
            assert isinstance(message, pb.WatchSwarmResponse), f"the stream ended after {found}"
            if not message.HasField("progress"):
                found.append(message)
    return found


def seen(message: pb.WatchSwarmResponse) -> list[tuple[str, list[int]]]:
    """(status, ids) of one change."""
    names = [
        task_pb2.TaskStatus.Name(each.status).removeprefix("TASK_STATUS_") for each in message.change.task_statuses
    ]
    return [(name, list(each.task_ids)) for name, each in zip(names, message.change.task_statuses, strict=True)]


async def test_a_watch_begins_with_a_snapshot_and_goes_on_with_every_change(rpc: Rpc):
    await rpc.create()
    await rpc.add(whole([a_task(1), a_task(2, 1)]))
    call = rpc.watch()
    (first,) = await read(call, 1)
    assert first.snapshot.swarm == await rpc.get(full=True)
    assert first.revision == 1

    await rpc.tick()
    await rpc.tell("RUNNING", 1)
    await rpc.tell("ERROR_RECOVERABLE", 1)
    await rpc.tick()
    await rpc.tell("DONE", 1)

    changes = await read(call, 5)
    assert [change.revision for change in changes] == [2, 3, 4, 5, 6]
    assert [seen(change) for change in changes] == [
        [("QUEUED", [1])],
        [("RUNNING", [1])],
        [("ERROR_RECOVERABLE", [1]), ("REGISTERED", [1])],
        [("QUEUED", [1])],
        [("DONE", [1])],
    ]
    assert [change.change.active_count for change in changes] == [1, 1, 0, 1, 0]
    assert [list(each.attempts) for each in changes[3].change.task_statuses] == [[2]]
    assert all(change.event_time.seconds > 0 for change in changes)


async def test_everything_that_changes_is_told(rpc: Rpc):
    await rpc.create()
    call = rpc.watch()
    await read(call, 1)
    await rpc.add(whole([a_task(1), a_task(2)]))
    news = state_pb2.StateUpdate(
        max_concurrently_running=3,
        array_limits=[state_pb2.ArrayLimit(array_id=1, max_concurrently_running=1)],
        workflow_run_status=state_pb2.WORKFLOW_RUN_STATUS_STOPPED,
    )
    request = update(1)
    request.update.CopyFrom(news)
    await rpc.apply(request)
    mask = FieldMask(paths=["paused", "display_name"])
    wanted = swarm_pb2.Swarm(paused=True, display_name="new")
    await rpc.swarms.UpdateSwarm(pb.UpdateSwarmRequest(swarm=wanted, update_mask=mask))
    selector = task_pb2.TaskSelector(all=True)
    await rpc.swarms.CancelTasks(pb.CancelTasksRequest(selector=selector, reason="enough"))
    await rpc.swarms.ResetTasks(pb.ResetTasksRequest(selector=task_pb2.TaskSelector(task_ids=[2])))

    load, limits, switches, cancel, reset = [message.change for message in await read(call, 5)]
    assert load.added_task_count == 2
    assert [array.array_id for array in load.added_arrays] == [1]
    assert limits.max_concurrently_running == 3
    assert list(limits.array_limits) == list(news.array_limits)
    assert limits.workflow_run_status == news.workflow_run_status
    assert (switches.swarm.paused, switches.swarm.display_name) == (True, "new")
    assert [each.reason for each in cancel.task_statuses] == ["enough"]
    assert cancel.finished
    assert [(each.status, list(each.task_ids)) for each in reset.task_statuses] == [(status_value("REGISTERED"), [2])]
    assert not reset.finished


async def test_what_changed_nothing_is_not_told(rpc: Rpc):
    await rpc.create()
    await rpc.add(whole(2))
    call = rpc.watch()
    await read(call, 1)
    await rpc.tick(timeout=duration(0))
    await rpc.tell("REGISTERED", 1)
    await rpc.apply(update(1))
    await rpc.tick()

    (message,) = await read(call, 1)
    assert (message.revision, seen(message)) == (2, [("QUEUED", [1, 2])])


async def test_a_watch_is_resumed_from_any_revision_without_a_gap(rpc: Rpc):
    await rpc.create(max_concurrently_running=100)
    await rpc.add(whole(50))
    await rpc.tick()
    for number in range(1, 51):
        await rpc.tell("DONE", number)
    whole_story = await read(rpc.watch(after_revision=0), 52)
    assert [message.revision for message in whole_story] == list(range(1, 53))

    for after in (0, 1, 25, 51):
        resumed = await read(rpc.watch(after_revision=after), 52 - after)
        assert resumed == whole_story[after:]
    nothing_missed = rpc.watch(after_revision=52, progress_interval=duration(0.05))
    message = await nothing_missed.read()
    assert message.HasField("progress")
    assert message.revision == 52


async def test_a_revision_that_is_gone_or_not_there_yet_is_out_of_range(rpc: Rpc):
    await rpc.create()
    rpc.hosted().feed = Feed(max_behind_bytes=5 * (CHANGE_BYTES + ID_BYTES) // 2)
    await rpc.add(whole(9))
    await rpc.tick()
    for number in range(1, 9):
        await rpc.tell("RUNNING", number)
    for revision in (0, 4, 11, -1, 1 << 62):
        with refused("OUT_OF_RANGE", "REVISION_GONE", "after_revision") as found:
            await rpc.watch(after_revision=revision).read()
        assert found.metadata == {"oldest_revision": "5", "revision": "10"}
    assert (await read(rpc.watch(after_revision=5), 1))[0].revision == 6


async def test_a_quiet_swarm_gives_signs_of_life(rpc: Rpc):
    await rpc.create()
    await rpc.add(whole(3))
    call = rpc.watch(progress_interval=duration(0.05))
    assert (await call.read()).HasField("snapshot")
    for _ in range(2):
        message = await call.read()
        assert message.progress.task_counts.ready == 3
        assert message.revision == 1
    with refused("INVALID_ARGUMENT", "INVALID_INPUT", "progress_interval"):
        await rpc.watch(progress_interval=duration(-1)).read()


async def test_a_watch_until_finished_ends_with_the_outcome(rpc: Rpc):
    await rpc.create()
    await rpc.add(whole(2))
    await rpc.tick()
    call = rpc.watch(until_finished=True)
    await read(call, 1)
    await rpc.tell("DONE", 1)
    await rpc.tell("ERROR_FATAL", 2)

    _, last, end = await read(call, 3)
    assert last.change.finished
    assert end.end.reason == pb.WatchEnd.REASON_FINISHED
    assert end.end.outcome == swarm_pb2.SWARM_OUTCOME_ERROR
    assert end.end.resume_revision == last.revision
    late = await read(rpc.watch(until_finished=True), 2)
    assert [late[0].snapshot.swarm.outcome, late[1].end.outcome] == [swarm_pb2.SWARM_OUTCOME_ERROR] * 2
    resumed = await read(rpc.watch(until_finished=True, after_revision=last.revision - 1), 2)
    assert resumed == [last, resumed[1]]
    assert resumed[1].end.reason == pb.WatchEnd.REASON_FINISHED


async def test_a_watch_without_until_finished_goes_on_after_the_end(rpc: Rpc):
    await rpc.create()
    await rpc.add(whole(1))
    call = rpc.watch()
    await read(call, 1)
    await rpc.tell("DONE", 1)
    await rpc.add(a_chunk([a_task(2)]))

    first, second = await read(call, 2)
    assert first.change.finished
    assert second.change.added_task_count == 1


async def test_a_deleted_swarm_ends_its_watches_with_the_last_changes_before(rpc: Rpc):
    await rpc.create()
    await rpc.add(whole(2))
    await rpc.tick()
    call = rpc.watch()
    await read(call, 1)
    await rpc.swarms.DeleteSwarm(pb.DeleteSwarmRequest(swarm_id="s", force=True))

    change, end = await read(call, 2)
    assert seen(change) == [("CANCELLED", [1, 2])]
    assert end.end.reason == pb.WatchEnd.REASON_DELETED


async def test_a_daemon_that_drains_ends_its_watches_with_a_place_to_resume_from(rpc: Rpc):
    await rpc.create()
    await rpc.add(whole(1))
    call = rpc.watch()
    await read(call, 1)
    await rpc.registry.drain(1)
    rpc.registry.dismiss_watchers()

    (end,) = await read(call, 1)
    assert (end.end.reason, end.end.resume_revision) == (pb.WatchEnd.REASON_DRAINING, 1)
    with refused("UNAVAILABLE", "DRAINING") as found:
        await rpc.tick()
    assert found.retry_after is not None
    with refused("UNAVAILABLE", "DRAINING"):
        await rpc.add(a_chunk([a_task(2)]))
    with refused("UNAVAILABLE", "DRAINING"):
        await rpc.create("t")


async def test_a_change_of_very_many_tasks_comes_in_parts_that_can_be_resumed_from(rpc: Rpc):
    await rpc.create(gateway="pull", max_concurrently_running=1_000_000)
    count = 230_000
    chunks = [a_chunk([a_task(n) for n in range(start, start + 10_000)]) for start in range(1, count, 10_000)]
    await rpc.add(a_chunk(arrays=[1], resources=[1]), *chunks)
    call = rpc.watch()
    (snapshot,) = await read(call, 1)
    await rpc.swarms.CancelTasks(pb.CancelTasksRequest(selector=task_pb2.TaskSelector(all=True), reason="r"))

    parts = await read(call, 3)

    assert [len(ids) for part in parts for _, ids in seen(part)] == [100_000, 100_000, 30_000]
    assert [task_id for part in parts for _, ids in seen(part) for task_id in ids] == list(range(1, count + 1))
    before = snapshot.revision
    assert [part.revision for part in parts] == [before, before, before + 1]
    assert [part.change.finished for part in parts] == [False, False, True]
    assert all(part.ByteSize() < 4 * 1024 * 1024 for part in parts)
    again = await read(rpc.watch(after_revision=parts[1].revision), 3)
    assert again == parts


async def test_a_watcher_that_never_reads_holds_nobody_up_and_is_ended_with_its_resume_point(rpc: Rpc):
    """Its buffers fill, the rest goes on, and when it reads at last it is told where to go on."""
    await rpc.create(gateway="pull", max_concurrently_running=100_000)
    count = 3000
    chunks = [a_chunk([a_task(n) for n in range(start, start + 1000)]) for start in range(1, count, 1000)]
    await rpc.add(a_chunk(arrays=[1], resources=[1]), *chunks)
    rpc.hosted().feed = Feed(max_behind_bytes=200 * (CHANGE_BYTES + 3000 * ID_BYTES))
    rpc.hosted().feed.start_from(1)
    await rpc.tick()
    lazy: Any = SwarmServiceStub(rpc.another_channel()).WatchSwarm(pb.WatchSwarmRequest(), timeout=PATIENCE)
    eager = rpc.watch()
    assert (await lazy.read()).HasField("snapshot")
    await read(eager, 1)
    everything = list(range(1, count + 1))
    statuses = ["INSTANTIATING", "LAUNCHED", "RUNNING"]
    requests = [update(n, (statuses[n // 100], everything)) for n in range(300)]
    for n, request in enumerate(requests):  # each changes something: the attempt is told again with a new reason
        request.update.max_concurrently_running = 100_000 + n + 1
    reading = asyncio.create_task(read(eager, 300))
    answers = await rpc.apply(*requests)

    assert [answer.error.reason for answer in answers] == [""] * 300
    assert [message.revision for message in await reading] == [answer.revision for answer in answers]
    messages: Messages = []
    async with asyncio.timeout(PATIENCE):
        async for message in lazy_messages(lazy):
            messages.append(message)
    revisions = [message.revision for message in messages if message.HasField("change")]
    first = answers[0].revision
    assert revisions == list(range(first, first + len(revisions))), "what it got has no gap"
    if messages[-1].HasField("end"):
        assert messages[-1].end.reason == pb.WatchEnd.REASON_SLOW_WATCHER
        assert messages[-1].end.resume_revision == first + len(revisions) - 1
    else:
        assert len(revisions) == 300


async def lazy_messages(call: Any) -> Any:
    """All messages up to the end, or up to the 300th change when its buffers were large enough for all of them."""
    for _ in range(300):
        message = await call.read()
        yield message
        if message.HasField("end"):
            return


async def test_a_watcher_that_is_slow_is_told_so(rpc: Rpc):
    """The same with a feed so short that no buffer of gRPC can hide the slowness."""
    await rpc.create(gateway="pull")
    await rpc.add(whole(2))
    hosted = rpc.hosted()
    hosted.feed = Feed(max_behind_bytes=2 * CHANGE_BYTES)
    hosted.feed.start_from(1)
    call = rpc.watch()
    await read(call, 1)
    await settled(lambda: hosted.feed.watchers == 1, "the watcher")
    for limit in range(1, 51):  # all in one turn of the loop: the watcher cannot keep up
        hosted.scheduler.max_concurrently_running  # noqa: B018
        hosted.apply(from_limit(limit))

    (end,) = await read(call, 1)
    assert end.end.reason == pb.WatchEnd.REASON_SLOW_WATCHER
    assert end.end.resume_revision == 1
    assert hosted.feed.watchers == 0
    with refused("OUT_OF_RANGE", "REVISION_GONE"):
        await rpc.watch(after_revision=1).read()


def from_limit(limit: int) -> Any:
    from swarmd.core.update import StateUpdate

    return StateUpdate(max_concurrently_running=limit)


async def test_watchers_that_vanish_are_forgotten(rpc: Rpc):
    await rpc.create()
    await rpc.add(whole(2))
    channel = rpc.another_channel()
    calls = [SwarmServiceStub(channel).WatchSwarm(pb.WatchSwarmRequest(), timeout=PATIENCE) for _ in range(5)]
    for call in calls:
        await call.read()
    await settled(lambda: rpc.hosted().feed.watchers == 5, "five watchers")
    calls[0].cancel()
    await settled(lambda: rpc.hosted().feed.watchers == 4, "one less")
    await channel.close()
    await settled(lambda: rpc.hosted().feed.watchers == 0, "none left")
    assert (await rpc.tick()).batches


async def test_there_are_only_so_many_watchers(rpc: Rpc):
    async with serving(rpc.address.path.parent / "runtime", limits=HostLimits(max_watchers=1)) as small:  # type: ignore[union-attr]
        await small.create()
        first = small.watch(progress_interval=duration(0.05))
        await first.read()
        await first.read()
        second = small.watch(after_revision=0, progress_interval=duration(0.05))
        with refused("RESOURCE_EXHAUSTED", "TOO_MANY_WATCHERS"):
            await second.read()
        first.cancel()
        await settled(lambda: not small.hosted().feed.watchers, "the place")
        third = small.watch(after_revision=0, progress_interval=duration(0.05))
        assert (await third.read()).HasField("progress")


@pytest.mark.parametrize("watchers", [20])
async def test_many_watchers_see_the_same_story(rpc: Rpc, watchers: int):
    await rpc.create()
    await rpc.add(whole(100))
    calls = [rpc.watch(after_revision=0) for _ in range(watchers)]
    reading = [asyncio.create_task(read(call, 102)) for call in calls]
    await rpc.tick()
    await rpc.apply(*(update(n, ("DONE", [n])) for n in range(1, 101)))

    stories = await asyncio.gather(*reading)
    assert [message.revision for message in stories[0]] == list(range(1, 103))
    assert all(story == stories[0] for story in stories)


async def test_what_many_watch_is_encoded_once_unless_it_is_large(rpc: Rpc):
    await rpc.create()
    swarm = rpc.registry.get("")
    shared = SharedMessages()
    small = Change(revision=7, at=1.0, task_statuses=[StatusGroup(TaskStatus.DONE, np.array([1, 2]))])
    large = Change(revision=8, at=1.0, task_statuses=[StatusGroup(TaskStatus.DONE, np.arange(SHARED_IDS + 1))])

    (encoded,) = shared.of(swarm, small)

    assert isinstance(encoded, bytes)
    message = swarm_service_pb2.WatchSwarmResponse.FromString(encoded)
    assert (message.revision, seen(message)) == (7, [("DONE", [1, 2])])
    assert next(iter(shared.of(swarm, small))) is encoded
    (unshared,) = shared.of(swarm, large)
    assert isinstance(unshared, pb.WatchSwarmResponse)
    assert next(iter(shared.of(swarm, small))) is encoded
    assert list(shared.of(swarm, Change(revision=9, at=1.0, added_task_count=1))) != [encoded]


def test_the_messages_of_a_watch_are_those_of_the_contract():
    assert set(swarm_service_pb2.WatchSwarmResponse.DESCRIPTOR.oneofs_by_name) == {"event"}
    assert group("DONE", [1]).status == status_value("DONE")
