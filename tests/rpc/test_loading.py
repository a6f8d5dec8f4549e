"""AddTasks: chunks in any order, one unit, refused with the ids named, repeated without harm."""

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path

import grpc
import pytest

from swarmd._pb.swarm.v1 import array_pb2, swarm_service_pb2, task_pb2
from swarmd.host.swarm import HostLimits
from tests.host.engine import settled
from tests.rpc.harness import PATIENCE, Rpc, a_chunk, a_task, duration, refused, serving, status_value, whole


async def test_a_load_says_what_it_added(rpc: Rpc):
    await rpc.create()

    answer = await rpc.add(whole([a_task(1), a_task(2, 1), a_task(3)], arrays=[1, 2]))

    assert (answer.task_count, answer.array_count, answer.task_resources_count) == (3, 2, 1)
    assert answer.newly_ready_count == 2
    assert answer.revision == (await rpc.get()).revision == 1


async def test_chunks_may_come_in_any_order(rpc: Rpc):
    await rpc.create()
    answer = await rpc.add(
        a_chunk([a_task(3, 1, 2)]), a_chunk([a_task(1)], resources=[1]), a_chunk([a_task(2, 1)]), a_chunk(arrays=[1])
    )

    assert (answer.task_count, answer.newly_ready_count) == (3, 1)
    assert list((await rpc.task(3)).upstream_task_ids) == [1, 2]
    listed = await rpc.swarms.ListTasks(swarm_service_pb2.ListTasksRequest())
    assert [task.task_id for task in listed.tasks] == [3, 1, 2], "in the order of loading"


async def test_every_field_of_a_task_arrives(rpc: Rpc):
    await rpc.create()
    task = a_task(
        5,
        4,
        name="fünf",
        command="echo $HOME",
        max_attempts=7,
        priority=-3,
        resource_scales={"memory": 0.5, "cores": 1.0},
        attempt=2,
        failed_attempts=1,
    )
    await rpc.add(whole([a_task(4, status=status_value("DONE")), task]))

    found = await rpc.task(5)
    task.status = status_value("REGISTERED")
    assert found == task
    assert (await rpc.get()).task_counts.ready == 1


async def test_an_empty_load_is_a_valid_request(rpc: Rpc):
    await rpc.create()

    assert (await rpc.add()).task_count == 0
    assert (await rpc.add(a_chunk())).revision == 0


async def test_more_may_be_loaded_while_the_swarm_runs(rpc: Rpc):
    await rpc.create()
    await rpc.add(whole(2))
    await rpc.tick()
    await rpc.tell("DONE", 1)

    answer = await rpc.add(a_chunk([a_task(3, 1), a_task(4, 2)]))

    assert answer.newly_ready_count == 1
    with refused("ALREADY_EXISTS", "TASK_EXISTS") as found:
        await rpc.add(a_chunk([a_task(3), a_task(9)]))
    assert found.metadata["ids"] == "3"
    assert (await rpc.get()).task_counts.total == 4


WRONG: dict[str, tuple[list[swarm_service_pb2.AddTasksRequest], str, str, str]] = {
    "unknown array": ([whole([a_task(1, array=7)])], "NOT_FOUND", "UNKNOWN_ARRAY", "7"),
    "unknown resources": ([whole([a_task(1, resources=8)])], "NOT_FOUND", "UNKNOWN_TASK_RESOURCES", "8"),
    "unknown upstream": ([whole([a_task(1, 5)])], "NOT_FOUND", "UNKNOWN_UPSTREAM", "5"),
    "self-dependency": ([whole([a_task(1, 1)])], "INVALID_ARGUMENT", "SELF_DEPENDENCY", "1"),
    "cycle over chunks": (
        [whole([a_task(1, 3)]), a_chunk([a_task(2, 1)]), a_chunk([a_task(3, 2), a_task(4)])],
        "INVALID_ARGUMENT",
        "DEPENDENCY_CYCLE",
        "",
    ),
    "the same id twice": ([whole([a_task(2)]), a_chunk([a_task(2)])], "INVALID_ARGUMENT", "DUPLICATE_ID", "2"),
    "the same array twice": ([whole(1, arrays=[1, 1])], "INVALID_ARGUMENT", "DUPLICATE_ID", "1"),
    "id 0": ([whole([a_task(0)])], "INVALID_ARGUMENT", "ID_OUT_OF_RANGE", ""),
    "a negative id": ([whole([a_task(-7)])], "INVALID_ARGUMENT", "ID_OUT_OF_RANGE", ""),
    "no array": ([whole([task_pb2.Task(task_id=1, task_resources_id=1)])], "NOT_FOUND", "UNKNOWN_ARRAY", "0"),
    "a negative limit": (
        [whole(1, arrays=[array_pb2.Array(array_id=1, max_concurrently_running=-1)])],
        "INVALID_ARGUMENT",
        "NEGATIVE_LIMIT",
        "",
    ),
    "no attempts": ([whole([a_task(1, max_attempts=0)])], "INVALID_ARGUMENT", "INVALID_VALUE", ""),
    "a cancelled task may be loaded, an unknown status not": (
        [whole([task_pb2.Task.FromString(a_task(1).SerializeToString() + b"\x38\x63")])],
        "INVALID_ARGUMENT",
        "INVALID_VALUE",
        "",
    ),
    "a long name": ([whole([a_task(1, name="é" * 513)])], "RESOURCE_EXHAUSTED", "TEXT_TOO_LONG", ""),
    "a long command": ([whole([a_task(1, command="x" * 131_073)])], "RESOURCE_EXHAUSTED", "TEXT_TOO_LONG", ""),
    "a scale of something unknown": (
        [whole([a_task(1, resource_scales={"disk": 1.0})])],
        "INVALID_ARGUMENT",
        "INVALID_VALUE",
        "",
    ),
}


@pytest.mark.parametrize("name", sorted(WRONG))
async def test_a_load_with_something_wrong_in_it_is_refused_whole(rpc: Rpc, name: str):
    await rpc.create()
    chunks, code, reason, ids = WRONG[name]
    good = a_chunk([a_task(100), a_task(101, 100)])

    with refused(code, reason) as found:
        await rpc.add(good, *chunks, a_chunk([a_task(102)]))

    assert found.fields
    if ids:
        assert found.metadata["ids"] == ids
    swarm = await rpc.get(full=True)
    assert (swarm.task_counts.total, len(swarm.arrays), swarm.revision) == (0, 0, 0)
    await rpc.add(whole([a_task(100)]))


async def test_a_cycle_is_named(rpc: Rpc):
    await rpc.create()
    tasks = [a_task(n, n - 1 if n > 1 else 2000) for n in range(1, 2001)]
    with refused("INVALID_ARGUMENT", "DEPENDENCY_CYCLE", "tasks.upstream_task_ids") as found:
        await rpc.add(whole(tasks))

    assert found.metadata["count"] == "2000"
    ids = [int(each) for each in found.metadata["ids"].removesuffix(" ...").split(",")[:50]]
    assert all(after == before % 2000 + 1 for before, after in pairwise(ids))
    assert "wait for each other in a circle of 2000" in found.message


async def test_a_repeated_load_gets_the_same_answer_and_adds_nothing(rpc: Rpc):
    await rpc.create()
    first = await rpc.add(whole(3, request_id="load-1"))
    again = await rpc.add(whole(3, request_id="load-1"))
    together = await asyncio.gather(*(rpc.add(a_chunk([a_task(9)], request_id="load-2")) for _ in range(5)))

    assert first == again
    assert all(answer == together[0] for answer in together)
    assert (await rpc.get()).task_counts.total == 4
    with refused("INVALID_ARGUMENT", "REQUEST_ID_REUSED", "request_id"):
        await rpc.add(a_chunk([a_task(10)], request_id="load-1"))


async def test_a_load_that_was_refused_may_be_repeated_under_its_id(rpc: Rpc):
    await rpc.create()
    with refused("NOT_FOUND", "UNKNOWN_ARRAY"):
        await rpc.add(a_chunk([a_task(1)], resources=[1], request_id="l"))
    await rpc.add(a_chunk(arrays=[1]))

    assert (await rpc.add(a_chunk([a_task(1)], resources=[1], request_id="l"))).task_count == 1


async def test_the_first_chunk_names_the_swarm_and_no_later_one_another(rpc: Rpc):
    for name in ("a", "b"):
        await rpc.create(name)
    with refused("INVALID_ARGUMENT", "SWARM_ID_REQUIRED", "swarm_id"):
        await rpc.add(whole(1))
    with refused("INVALID_ARGUMENT", "SWARM_CHANGED", "swarm_id"):
        await rpc.add(whole(1, swarm_id="a"), a_chunk([a_task(2)], swarm_id="b"))
    with refused("NOT_FOUND", "UNKNOWN_SWARM", "swarm_id"):
        await rpc.add(whole(1, swarm_id="c"))
    answer = await rpc.add(whole(1, swarm_id="a"), a_chunk([a_task(2)]), a_chunk([a_task(3)], swarm_id="a"))
    assert answer.task_count == 3
    assert rpc.state("b").task_count == 0


async def test_a_client_that_vanishes_in_the_middle_of_a_load_adds_nothing(rpc: Rpc):
    await rpc.create()
    sent = asyncio.Event()

    async def half() -> AsyncIterator[swarm_service_pb2.AddTasksRequest]:
        yield whole(100)
        sent.set()
        await asyncio.sleep(PATIENCE)

    call = rpc.swarms.AddTasks(half(), timeout=PATIENCE)
    await sent.wait()
    await settled(lambda: rpc.server._streams._waits, "the handler that waits for more")
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call

    await settled(lambda: not rpc.server._streams._waits, "the end of the handler")
    assert (await rpc.get()).task_counts.total == 0
    assert (await rpc.add(whole(100))).task_count == 100


async def test_a_message_over_the_limit_is_refused_and_the_connection_goes_on(rpc: Rpc):
    await rpc.create()
    large = a_chunk([a_task(n, command="x" * 100_000) for n in range(1, 50)])
    much_larger = a_chunk([a_task(n, command="x" * 100_000) for n in range(1, 200)])
    for _ in range(25):  # gRPC shows the handler a stream that broke as one that ended: what came must not be applied
        with refused("RESOURCE_EXHAUSTED", "MESSAGE_TOO_LARGE"):
            await rpc.add(whole(0), large)
        with refused("RESOURCE_EXHAUSTED"):
            await rpc.add(whole(0), much_larger)

    assert (await rpc.get()).revision == 0
    assert (await rpc.add(whole(1))).task_count == 1


async def test_the_bound_on_tasks_holds_over_chunks_and_loads(home: Path):
    async with serving(home, limits=HostLimits(max_tasks=10)) as rpc:
        await rpc.create()
        await rpc.add(whole(6))
        with refused("RESOURCE_EXHAUSTED", "TOO_MANY_TASKS") as found:
            await rpc.add(a_chunk([a_task(7)]), a_chunk([a_task(n) for n in range(8, 12)]))
        assert found.metadata["limit"] == "max_tasks_per_swarm"
        with refused("RESOURCE_EXHAUSTED", "TOO_MANY_TASKS"):
            await rpc.add(a_chunk([a_task(n) for n in range(7, 12)], request_id="x"))
        assert (await rpc.add(a_chunk([a_task(n) for n in range(7, 11)]))).task_count == 4


async def test_loads_at_the_same_time_are_all_applied_or_refused_one_by_one(rpc: Rpc):
    await rpc.create()
    await rpc.add(a_chunk(arrays=[1], resources=[1]))

    def load(number: int) -> swarm_service_pb2.AddTasksRequest:
        tasks = [a_task(1000 * number + n) for n in range(1, 501)]
        return a_chunk([*tasks, a_task(7)])  # 7 is in every load: only one of them can win

    answers = await asyncio.gather(*(rpc.add(load(number)) for number in range(1, 11)), return_exceptions=True)
    errors = [answer for answer in answers if isinstance(answer, grpc.aio.AioRpcError)]
    assert [error.code() for error in errors] == [grpc.StatusCode.ALREADY_EXISTS] * 9
    assert (await rpc.get()).task_counts.total == 501


async def test_the_swarm_goes_on_while_a_load_comes_in(rpc: Rpc):
    """Chunks arrive over time; ticks, news and another load in between see nothing of it until it is complete."""
    await rpc.create()
    await rpc.add(whole(3))
    go_on = asyncio.Event()

    async def slowly() -> AsyncIterator[swarm_service_pb2.AddTasksRequest]:
        yield a_chunk([a_task(11, 1), a_task(12, 2)])
        await go_on.wait()
        yield a_chunk([a_task(13, 20)])

    call = asyncio.ensure_future(rpc.swarms.AddTasks(slowly(), timeout=PATIENCE))
    await settled(lambda: rpc.server._streams._waits, "the first chunk")
    assert len((await rpc.tick()).batches[0].task_ids) == 3
    await rpc.tell("DONE", 1)
    await rpc.add(a_chunk([a_task(20)]))
    go_on.set()

    assert (await call).newly_ready_count == 1
    assert [list(each.task_ids) for each in (await rpc.tick()).batches] == [[20, 11]]


async def test_durations_and_resources_are_checked(rpc: Rpc):
    await rpc.create()
    wrong = a_chunk()
    wrong.task_resources.add(task_resources_id=1, runtime=duration(-1))
    with refused("INVALID_ARGUMENT", "INVALID_INPUT", "task_resources[1].runtime"):
        await rpc.add(wrong)
    wrong.task_resources[0].runtime.seconds = 1 << 62
    with refused("INVALID_ARGUMENT", "INVALID_VALUE"):
        await rpc.add(wrong)
    wrong.task_resources[0].runtime.seconds = 0
    wrong.task_resources[0].cores = -1
    with refused("INVALID_ARGUMENT", "INVALID_VALUE"):
        await rpc.add(wrong)
