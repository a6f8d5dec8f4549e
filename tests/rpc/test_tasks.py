"""GetTask, ListTasks, ExplainTask, CancelTasks and ResetTasks."""

import asyncio
import base64

import pytest

from swarmd._pb.swarm.v1 import array_pb2, batch_pb2, task_pb2
from swarmd._pb.swarm.v1 import swarm_service_pb2 as pb
from swarmd.core.model import QueueLimits
from swarmd.core.update import StateUpdate
from swarmd.gateways.contract import BatchRefusedError
from tests.host.engine import Gate, settled
from tests.rpc.harness import Rpc, a_chunk, a_task, duration, refused, status_value, update, whole

Selector = task_pb2.TaskSelector
Kind = pb.Obstacle.Kind
LARGER_QUEUES = (("middle", 2), ("long", 8))


async def ids(rpc: Rpc, page_size: int = 0, **filters: object) -> list[int]:
    """The ids of all pages."""
    found: list[int] = []
    request = pb.ListTasksRequest(page_size=page_size, **filters)  # type: ignore[arg-type]
    while True:
        page = await rpc.swarms.ListTasks(request)
        assert not page_size or len(page.tasks) <= page_size
        found += [task.task_id for task in page.tasks]
        if not page.next_page_token:
            return found
        request.page_token = page.next_page_token


async def explain(rpc: Rpc, task_id: int) -> pb.ExplainTaskResponse:
    return await rpc.swarms.ExplainTask(pb.ExplainTaskRequest(task_id=task_id))


async def kinds(rpc: Rpc, task_id: int) -> list[int]:
    told = await explain(rpc, task_id)
    assert told.summary
    assert all(each.message for each in told.obstacles)
    return [each.kind for each in told.obstacles]


async def test_every_attempt_says_what_it_asked_for(rpc: Rpc):
    """Grown by the scales, capped by the queue, moved on to a fallback queue, and back in the limits of that one."""
    await rpc.create()
    chunk = a_chunk(
        [a_task(1, max_attempts=10, resource_scales={"memory": 0.5, "runtime": 1.0, "cores": 1.0})], arrays=[1]
    )
    chunk.task_resources.add(
        task_resources_id=1, cluster="c", queue="short", cores=1, memory_mib=100, runtime=duration(60),
        extra={"account": "x"}, fallback_queues=["middle", "long"],
    )  # fmt: skip
    await rpc.add(chunk)
    limits = task_pb2.QueueLimits
    await rpc.apply(
        update(1, queue_limits=[limits(cluster="c", queue="short", memory_mib=160, runtime=duration(120))]),
        update(2, queue_limits=[limits(cluster="c", queue=queue, cores=most) for queue, most in LARGER_QUEUES]),
    )
    handed_out: list[batch_pb2.Batch] = []
    for _ in range(5):
        handed_out += (await rpc.tick(view=batch_pb2.BATCH_VIEW_FULL)).batches
        await rpc.tell("RUNNING", 1)
        await rpc.tell("ADJUSTING_RESOURCES", 1)
    told = await explain(rpc, 1)
    shown = [each.task_resources for each in told.attempts]
    assert [(each.queue, each.cores, each.memory_mib, each.runtime.seconds) for each in shown] == [
        ("short", 1, 100, 60),
        ("short", 2, 150, 120),
        ("long", 4, 225, 240),
        ("long", 8, 338, 480),
        ("long", 8, 507, 960),
    ]
    assert [each.task_resources_id for each in shown] == [1, *range((1 << 40) + 1, (1 << 40) + 5)]
    assert all(dict(each.extra) == {"account": "x"} and len(each.fallback_queues) == 2 for each in shown)
    assert [batch.task_resources for batch in handed_out] == shown
    assert told.summary.endswith(
        "capped by queue 'long' of cluster 'c': an attempt asks for at most 8 cores. "
        "Its fallback queue 'middle' cannot hold what it would need."
    )


async def test_what_the_gateway_tells_of_its_queues_counts_and_what_makes_no_sense_harms_nothing(rpc: Rpc):
    await rpc.create()
    chunk = a_chunk([a_task(1, resource_scales={"cores": 1.0})], arrays=[1])
    chunk.task_resources.add(task_resources_id=1, cores=2)
    await rpc.add(chunk)
    assert rpc.engine.report is not None
    rpc.engine.report("s", StateUpdate(queue_limits=[QueueLimits(cores=3)]))
    rpc.engine.report("s", StateUpdate(queue_limits=[QueueLimits(cores=0)]))
    await rpc.tick()
    await rpc.tell("ADJUSTING_RESOURCES", 1)
    await rpc.tick()
    assert [each.task_resources.cores for each in (await explain(rpc, 1)).attempts] == [2, 3]


# -- looking -----------------------------------------------------------------------------------------------------------


async def test_a_task_is_shown_with_its_command_as_it_runs(rpc: Rpc):
    await rpc.create()
    chunk = a_chunk([a_task(4, name="four"), a_task(5, 4, command="true")], resources=[1])
    chunk.arrays.add(array_id=1, command="run {name} {task_id} in {swarm_id}")
    await rpc.add(chunk)

    assert (await rpc.task(4)).command == "run four 4 in s"
    assert (await rpc.task(5)).command == "true"
    assert list((await rpc.task(5)).upstream_task_ids) == [4]
    with refused("NOT_FOUND", "UNKNOWN_TASK", "task_id"):
        await rpc.task(6)


async def test_tasks_are_listed_page_by_page(rpc: Rpc):
    await rpc.create()
    await rpc.add(whole(1000))

    assert await ids(rpc, 7) == list(range(1, 1001))
    assert await ids(rpc, 10_000) == list(range(1, 1001))
    first = await rpc.swarms.ListTasks(pb.ListTasksRequest())
    assert len(first.tasks) == 100


async def test_lists_are_filtered_by_status_and_array_over_pages(rpc: Rpc):
    await rpc.create()
    await rpc.add(whole([a_task(n, array=1 + n % 3) for n in range(1, 31)], arrays=[1, 2, 3]))
    await rpc.tick(max_batches=2)
    await rpc.tell("DONE", 3, 6)
    queued, ready, done = (status_value(name) for name in ("QUEUED", "REGISTERED", "DONE"))

    assert await ids(rpc, 4, array_ids=[1]) == list(range(3, 31, 3))
    assert await ids(rpc, 4, array_ids=[3, 1]) == [n for n in range(1, 31) if n % 3 != 1]
    assert await ids(rpc, 3, statuses=[done]) == [3, 6]
    in_array_1 = await ids(rpc, statuses=[queued], array_ids=[1])
    assert in_array_1 == [] or set(in_array_1) <= set(range(3, 31, 3))
    assert sorted([*await ids(rpc, 4, statuses=[queued, done]), *await ids(rpc, 4, statuses=[ready])]) == list(
        range(1, 31)
    )
    assert await ids(rpc, statuses=[status_value("ERROR_RECOVERABLE")]) == []


async def test_a_token_belongs_to_its_list(rpc: Rpc):
    await rpc.create()
    await rpc.add(whole(10))
    token = (await rpc.swarms.ListTasks(pb.ListTasksRequest(page_size=3))).next_page_token
    with refused("INVALID_ARGUMENT", "INVALID_PAGE_TOKEN", "page_token"):
        await rpc.swarms.ListTasks(pb.ListTasksRequest(page_size=3, page_token=token, array_ids=[1]))


async def test_a_token_that_was_made_up_is_refused_or_shows_nothing(rpc: Rpc):
    await rpc.create()
    await rpc.add(whole(10))
    real = (await rpc.swarms.ListTasks(pb.ListTasksRequest(page_size=3))).next_page_token
    filters = base64.urlsafe_b64decode(real).decode().partition(":")[2]
    for text in ("", "x", ":", f"-1:{filters}", f"x:{filters}", "3:", "3:x"):
        token = base64.urlsafe_b64encode(text.encode()).decode() or "="
        with refused("INVALID_ARGUMENT", "INVALID_PAGE_TOKEN", "page_token"):
            await rpc.swarms.ListTasks(pb.ListTasksRequest(page_token=token))
    for position in (1 << 31, 1 << 70):
        token = base64.urlsafe_b64encode(f"{position}:{filters}".encode()).decode()
        with refused("INVALID_ARGUMENT", "INVALID_PAGE_TOKEN", "page_token"):
            await rpc.swarms.ListTasks(pb.ListTasksRequest(page_token=token))
    for position in (10, 11, (1 << 31) - 1):
        token = base64.urlsafe_b64encode(f"{position}:{filters}".encode()).decode()
        assert not (await rpc.swarms.ListTasks(pb.ListTasksRequest(page_token=token))).tasks


@pytest.mark.parametrize(
    ("wrong", "code", "reason", "field"),
    [
        ({"page_size": -1}, "INVALID_ARGUMENT", "INVALID_INPUT", "page_size"),
        ({"statuses": [1, 99]}, "INVALID_ARGUMENT", "INVALID_STATUS", "statuses[1]"),
        ({"statuses": [0]}, "INVALID_ARGUMENT", "INVALID_STATUS", "statuses[0]"),
        ({"array_ids": [1, 9]}, "NOT_FOUND", "UNKNOWN_ARRAY", "array_ids"),
    ],
)
async def test_a_list_of_something_wrong_is_refused(
    rpc: Rpc, wrong: dict[str, object], code: str, reason: str, field: str
):
    await rpc.create()
    await rpc.add(whole(3))
    with refused(code, reason, field):
        await rpc.swarms.ListTasks(pb.ListTasksRequest(**wrong))  # type: ignore[arg-type]


async def test_a_page_ends_before_it_outgrows_a_message(rpc: Rpc):
    await rpc.create()
    await rpc.add(a_chunk(arrays=[1], resources=[1]))
    for start in range(1, 6001, 3000):
        await rpc.add(a_chunk([a_task(n, name="n" * 1000) for n in range(start, start + 3000)]))
    page = await rpc.swarms.ListTasks(pb.ListTasksRequest(page_size=10_000))

    assert page.ByteSize() < 4 * 1024 * 1024
    assert page.next_page_token
    assert await ids(rpc, 10_000) == list(range(1, 6001))


# -- explaining --------------------------------------------------------------------------------------------------------


async def test_explain_says_what_stands_in_the_way(rpc: Rpc):
    await rpc.create(max_concurrently_running=3)
    limited = array_pb2.Array(array_id=2, max_concurrently_running=1)
    tasks = [a_task(1), a_task(2, array=2), a_task(3, array=2), a_task(4, 1, 2), a_task(5, 4), a_task(6)]
    await rpc.add(whole(tasks, arrays=[1, limited]))
    assert await kinds(rpc, 1) == [Kind.KIND_WAITING_FOR_TICK]
    await rpc.tick()
    assert Kind.KIND_ACTIVE in await kinds(rpc, 1)
    assert Kind.KIND_ARRAY_LIMIT in await kinds(rpc, 3)
    assert Kind.KIND_SWARM_LIMIT in await kinds(rpc, 3)
    waiting = (await explain(rpc, 4)).obstacles[0]
    assert (waiting.kind, list(waiting.task_ids), waiting.count) == (Kind.KIND_WAITING_FOR_UPSTREAMS, [1, 2], 2)
    await rpc.tell("ERROR_FATAL", 1)
    blocked = next(each for each in (await explain(rpc, 5)).obstacles if each.kind == Kind.KIND_BLOCKED_BY_FAILURE)
    assert list(blocked.task_ids) == [1]
    assert await kinds(rpc, 1) == [Kind.KIND_FINAL]
    with refused("NOT_FOUND", "UNKNOWN_TASK", "task_id"):
        await explain(rpc, 77)


async def test_explain_tells_the_history_of_attempts(rpc: Rpc):
    await rpc.create()
    await rpc.add(whole(1))
    for _ in range(2):
        await rpc.tick()
        await rpc.tell("ERROR_RECOVERABLE", 1)
    await rpc.tick()
    await rpc.tell("DONE", 1)

    attempts = (await explain(rpc, 1)).attempts
    names = [task_pb2.TaskStatus.Name(each.status).removeprefix("TASK_STATUS_") for each in attempts]
    assert [each.attempt for each in attempts] == [1, 2, 3]
    assert names == ["ERROR_RECOVERABLE", "ERROR_RECOVERABLE", "DONE"]
    assert all(each.queue_time.seconds and each.status_time.seconds for each in attempts)


async def test_explain_knows_a_batch_that_is_being_queued(rpc: Rpc):
    await rpc.create()
    await rpc.add(whole(2))
    gate = Gate(BatchRefusedError("no"))
    rpc.engine.behaviour = gate
    tick = asyncio.create_task(rpc.tick())
    await settled(lambda: rpc.engine.batches, "the call")
    told = await explain(rpc, 1)
    assert [each.kind for each in told.obstacles] == [Kind.KIND_BEING_QUEUED]
    assert told.batch_id == rpc.engine.batches[0].batch_id
    gate.open()
    await tick


# -- cancelling and resetting ------------------------------------------------------------------------------------------


async def test_tasks_are_cancelled_by_ids_arrays_and_statuses_also_at_the_engine(rpc: Rpc):
    await rpc.create()
    await rpc.add(whole([a_task(n, array=1 + n % 2) for n in range(1, 9)], arrays=[1, 2]))
    await rpc.tick(max_batches=1)
    await rpc.tell("DONE", 1)

    async def cancel(reason: str = "", **selector: object) -> tuple[int, int]:
        request = pb.CancelTasksRequest(selector=Selector(**selector), reason=reason)  # type: ignore[arg-type]
        answer = await rpc.swarms.CancelTasks(request)
        assert answer.revision == rpc.state().revision
        return answer.cancelled_count, answer.final_count

    assert await cancel("wrong", task_ids=[1, 3, 3, 4]) == (2, 1)
    assert (await rpc.task(3)).reason == "wrong"
    assert await cancel(array_ids=[1], statuses=[status_value("REGISTERED")]) == (3, 0)
    assert await cancel(all=True) == (2, 6)
    await settled(lambda: sum(len(each.task_ids) for each in rpc.engine.cancelled) == 3, "the engine told")
    assert sorted(task_id for each in rpc.engine.cancelled for task_id in each.task_ids) == [3, 5, 7]
    assert (await rpc.has_work()).finished
    with refused("INVALID_ARGUMENT", "EMPTY_SELECTOR", "selector"):
        await cancel()
    with refused("NOT_FOUND", "UNKNOWN_TASK", "selector.task_ids"):
        await cancel(task_ids=[1, 99])
    with refused("NOT_FOUND", "UNKNOWN_ARRAY"):
        await cancel(array_ids=[9])
    with refused("INVALID_ARGUMENT", "INVALID_STATUS", "selector.statuses[0]"):
        await cancel(statuses=[0])
    with refused("RESOURCE_EXHAUSTED", "TEXT_TOO_LONG", "reason"):
        await cancel("x" * 4097, all=True)


async def test_final_tasks_are_reset_with_what_comes_after_them(rpc: Rpc):
    await rpc.create()
    await rpc.add(whole([a_task(1), a_task(2, 1), a_task(3, 2), a_task(4)]))
    for number in (1, 2, 3):
        await rpc.tick()
        await rpc.tell("DONE", number)

    answer = await rpc.swarms.ResetTasks(
        pb.ResetTasksRequest(selector=Selector(task_ids=[2, 4]), include_downstreams=True, reason="new data")
    )

    assert (answer.reset_count, answer.not_final_count, answer.newly_ready_count) == (2, 1, 1)
    assert answer.revision == rpc.state().revision
    assert [list(each.task_ids) for each in (await rpc.tick()).batches] == [[2]]
    assert (await rpc.task(2)).attempt == 2
    with refused("INVALID_ARGUMENT", "EMPTY_SELECTOR", "selector"):
        await rpc.swarms.ResetTasks(pb.ResetTasksRequest())
