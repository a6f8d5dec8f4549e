"""Tick and HasWork over the wire."""

import asyncio

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from swarmd._pb.swarm.v1 import array_pb2, batch_pb2, state_pb2, swarm_pb2, swarm_service_pb2, task_pb2
from swarmd._pb.swarm.v1 import scheduler_service_pb2 as pb
from swarmd._pb.swarm.v1.scheduler_service_pb2_grpc import SchedulerServiceStub
from swarmd.gateways.contract import BatchRefusedError, OutcomeUnknownError
from tests.host.engine import Gate, raising, refusing, settled
from tests.rpc.harness import PATIENCE, Rpc, a_chunk, a_task, duration, refused, status_value, whole

Q, G = status_value("QUEUED"), status_value("REGISTERED")

# -- Tick --------------------------------------------------------------------------------------------------------------


async def test_a_tick_queues_what_is_ready_and_says_so(rpc: Rpc):
    await rpc.create()
    await rpc.add(whole([a_task(1), a_task(2), a_task(3, 1)]))

    answer = await rpc.tick()

    (group,) = answer.update.task_statuses
    assert (group.status, list(group.task_ids), list(group.attempts)) == (Q, [1, 2], [1, 1])
    (result,) = answer.batch_results
    assert (result.array_id, result.batch_size, result.error, result.in_doubt) == (1, 2, "", False)
    (batch,) = answer.batches
    assert (list(batch.task_ids), list(batch.attempts), batch.batch_id) == ([1, 2], [1, 1], result.batch_id)
    assert not batch.tasks
    assert not answer.timed_out
    assert answer.ready_to_run_count == 0
    swarm = await rpc.get()
    assert answer.revision == swarm.revision
    assert (swarm.task_counts.queued, swarm.task_counts.active) == (2, 2), "the daemon applied it itself"


async def test_applying_the_update_of_a_tick_once_more_changes_nothing(rpc: Rpc):
    await rpc.create()
    await rpc.add(whole(3))
    answer = await rpc.tick()

    (response,) = await rpc.apply(pb.ApplyUpdateRequest(update=answer.update))

    assert (response.changed_count, response.revision) == (0, answer.revision)
    assert not response.ignored


async def test_the_full_view_has_all_that_is_needed_to_run_a_batch(rpc: Rpc):
    await rpc.create(gateway="pull")
    chunk = a_chunk([a_task(7, name="seven"), a_task(8, command="true")])
    chunk.arrays.add(array_id=1, name="sim", command="run {name} {task_id} {attempt}")
    chunk.task_resources.add(task_resources_id=1, cores=2, memory_mib=300, runtime=duration(90), extra={"a": "b"})
    await rpc.add(chunk)

    (batch,) = (await rpc.tick(view=batch_pb2.BATCH_VIEW_FULL)).batches

    assert [(each.task_id, each.name, each.command, each.attempt) for each in batch.tasks] == [
        (7, "seven", "run seven 7 1", 1),
        (8, "", "true", 1),
    ]
    assert batch.array_name == "sim"
    assert batch.task_resources == chunk.task_resources[0]


@pytest.mark.parametrize("concurrent", [False, True])
async def test_a_tick_that_is_repeated_gets_the_same_answer_and_queues_nothing_twice(rpc: Rpc, concurrent: bool):
    await rpc.create()
    await rpc.add(whole(5))
    gate = Gate()
    rpc.engine.behaviour = gate
    if not concurrent:
        gate.open()
    ticks = [asyncio.ensure_future(rpc.tick(request_id="t-1", max_batches=1)) for _ in range(5)]
    if not concurrent:
        await asyncio.gather(*ticks)
    await settled(lambda: rpc.engine.batches, "the call")
    gate.open()
    answers = await asyncio.gather(*ticks)
    await rpc.add(a_chunk([a_task(10)]))
    late = await rpc.tick(request_id="t-1", max_batches=1)

    assert len(rpc.engine.batches) == 1
    assert all(answer == answers[0] for answer in answers)
    assert late == answers[0], "also when the swarm has moved on"


async def test_a_tick_whose_caller_vanished_is_answered_to_the_repeat(rpc: Rpc):
    await rpc.create()
    await rpc.add(whole(5))
    gate = Gate()
    rpc.engine.behaviour = gate
    with refused("DEADLINE_EXCEEDED"):
        await rpc.scheduler.Tick(pb.TickRequest(request_id="t"), timeout=0.3)
    gate.open()

    answer = await rpc.tick(request_id="t")

    assert len(rpc.engine.batches) == 1
    assert len(answer.update.task_statuses[0].task_ids) == 5


async def test_a_request_id_for_another_tick_is_refused(rpc: Rpc):
    await rpc.create()
    await rpc.tick(request_id="t")
    with refused("INVALID_ARGUMENT", "REQUEST_ID_REUSED", "request_id"):
        await rpc.tick(request_id="t", max_batches=3)
    with refused("INVALID_ARGUMENT", "TEXT_TOO_LONG", "request_id"):
        await rpc.tick(request_id="x" * 129)


async def test_request_ids_belong_to_their_swarm(rpc: Rpc):
    for name in ("a", "b"):
        await rpc.create(name)
        await rpc.add(whole(2, swarm_id=name))
        assert len((await rpc.tick(name, request_id="t")).batches) == 1


async def test_a_caller_with_a_deadline_loses_nothing(rpc: Rpc):
    """The client's deadline ends the call, not the batches: they are queued, and the next Tick tells."""
    await rpc.create()
    await rpc.add(whole([a_task(n, array=n) for n in range(1, 13)], arrays=range(1, 13)))
    gate = Gate()
    rpc.engine.behaviour = gate
    with refused("DEADLINE_EXCEEDED"):
        await rpc.scheduler.Tick(pb.TickRequest(), timeout=0.3)
    gate.open()
    await settled(lambda: rpc.state().counts().queued == 12, "all batches queued")

    answer = await rpc.tick()
    assert not answer.batches, "nothing is left to queue"
    assert len(rpc.engine.batches) == 12


async def test_late_outcomes_show_in_the_next_tick(rpc: Rpc):
    await rpc.create()
    await rpc.add(whole(2))
    gate = Gate()
    rpc.engine.behaviour = gate
    first = await rpc.tick(timeout=duration(0.05))
    assert first.timed_out
    assert not first.update.task_statuses
    assert (await rpc.get()).task_counts.reserved == 2
    gate.open()
    await settled(lambda: rpc.state().counts().queued == 2, "the late outcome, applied when it came")

    second = await rpc.tick(timeout=duration(0))
    assert list(second.update.task_statuses[0].task_ids) == [1, 2]


async def test_a_timeout_of_0_queues_nothing(rpc: Rpc):
    await rpc.create()
    await rpc.add(whole(2))

    answer = await rpc.tick(timeout=duration(0))

    assert answer.timed_out
    assert answer.ready_to_run_count == 2
    assert rpc.engine.batches == []


async def test_a_refusal_says_why_and_what_came_back(rpc: Rpc):
    await rpc.create()
    await rpc.add(whole(3))
    rpc.engine.behaviour = refusing(2, why="too large \ud800" + "é" * 5000)

    (result,) = (await rpc.tick()).batch_results

    assert [(each.status, list(each.task_ids)) for each in result.task_statuses] == [(Q, [1, 3]), (G, [2])]
    assert result.error.startswith("too large ?éé")
    assert not result.in_doubt


async def test_an_engine_that_raises_anything_is_no_error_of_the_call(rpc: Rpc):
    await rpc.create()
    await rpc.add(whole(3))
    for error in (BatchRefusedError("no"), RuntimeError("boom")):
        rpc.engine.behaviour = raising(error)
        answer = await rpc.tick()
        assert answer.batch_results[0].error
        assert answer.ready_to_run_count == 3


async def test_doubt_shows_in_the_answer_in_counts_and_in_explain(rpc: Rpc):
    await rpc.create()
    await rpc.add(whole(3))
    rpc.engine.behaviour = raising(OutcomeUnknownError("the line is dead"))

    answer = await rpc.tick()

    assert answer.batch_results[0].in_doubt
    assert "the line is dead" in answer.batch_results[0].error
    counts = (await rpc.get()).task_counts
    assert (counts.in_doubt, counts.reserved, counts.active, counts.registered, counts.ready) == (3, 3, 3, 3, 0)
    told = await rpc.swarms.ExplainTask(swarm_service_pb2.ExplainTaskRequest(task_id=1))
    assert [each.kind for each in told.obstacles] == [swarm_service_pb2.Obstacle.KIND_IN_DOUBT]
    assert told.batch_id == answer.batch_results[0].batch_id
    await rpc.tell("RUNNING", 1, 2, 3)
    assert (await rpc.get()).task_counts.in_doubt == 0


async def test_wrong_numbers_are_refused_by_their_field(rpc: Rpc):
    await rpc.create()
    with refused("INVALID_ARGUMENT", "INVALID_INPUT", "max_batches"):
        await rpc.tick(max_batches=-1)
    with refused("INVALID_ARGUMENT", "INVALID_INPUT", "timeout"):
        await rpc.tick(timeout=duration(-1))
    with refused("NOT_FOUND", "UNKNOWN_SWARM", "swarm_id"):
        await rpc.tick("nobody")


async def test_one_tick_queues_100000_tasks_at_most_and_its_answer_fits_into_a_message(rpc: Rpc):
    """gRPC's default limit is 4 MiB: a client that sets nothing must be able to read every answer."""
    await rpc.create(max_concurrently_running=1_000_000)
    base = 1 << 61
    chunks = [a_chunk([a_task(base + n) for n in range(start, start + 20_000)]) for start in range(0, 120_000, 20_000)]
    await rpc.add(a_chunk(arrays=[1], resources=[1]), *chunks)
    async with grpc.aio.insecure_channel(rpc.address.target) as channel:
        answer = await SchedulerServiceStub(channel).Tick(pb.TickRequest(), timeout=PATIENCE)

    assert sum(len(batch.task_ids) for batch in answer.batches) == 100_000
    assert answer.ready_to_run_count == 20_000


# -- HasWork -----------------------------------------------------------------------------------------------------------


def numbers(answer: pb.HasWorkResponse) -> tuple[bool, int, int, int]:
    return answer.has_work, answer.ready_to_run_count, answer.available_capacity, answer.active_count


async def test_has_work_is_true_exactly_when_a_tick_would_queue_something(rpc: Rpc):
    await rpc.create(max_concurrently_running=2)
    assert not (await rpc.has_work()).has_work
    await rpc.add(whole(3))

    before = await rpc.has_work()
    assert (before.has_work, before.ready_to_run_count, before.available_capacity, before.active_count) == (
        True,
        3,
        2,
        0,
    )
    await rpc.tick()
    assert numbers(await rpc.has_work()) == (False, 1, 0, 2)
    await rpc.tell("DONE", 1)
    assert (await rpc.has_work()).has_work
    await rpc.tick()
    await rpc.tell("DONE", 2, 3)
    end = await rpc.has_work()
    assert (end.has_work, end.finished, end.active_count) == (False, True, 0)
    assert end.revision == (await rpc.get()).revision


async def waiting(rpc: Rpc, seconds: float) -> "asyncio.Task[pb.HasWorkResponse]":
    """A call that has begun to wait."""
    call = asyncio.create_task(rpc.has_work(wait=seconds))
    await settled(lambda: rpc.hosted()._waiting, "a call that waits")
    return call


async def test_has_work_waits_until_there_is_work(rpc: Rpc):
    await rpc.create()
    await rpc.add(whole([a_task(1), a_task(2, 1)]))
    await rpc.tick()
    call = await waiting(rpc, PATIENCE)

    await rpc.tell("RUNNING", 1)
    await asyncio.sleep(0.05)
    assert not call.done(), "a change that brings no work does not end it"
    await rpc.tell("DONE", 1)

    assert (await call).has_work


@pytest.mark.parametrize("last", ["DONE", "ERROR_FATAL"])
async def test_has_work_waits_until_the_swarm_is_finished(rpc: Rpc, last: str):
    await rpc.create()
    await rpc.add(whole(1))
    await rpc.tick()
    call = await waiting(rpc, PATIENCE)
    await rpc.tell(last, 1)

    answer = await call
    assert (answer.has_work, answer.finished) == (False, True)


async def test_has_work_answers_when_the_time_is_up(rpc: Rpc):
    await rpc.create()

    answer = await rpc.has_work(wait=0.05)

    assert not answer.has_work
    assert not answer.finished
    with refused("INVALID_ARGUMENT", "INVALID_INPUT", "wait"):
        await rpc.has_work(wait=-1)


NEWS = pb.ApplyUpdateRequest(update=state_pb2.StateUpdate(array_limits=[state_pb2.ArrayLimit(array_id=1)]))
HELD = {
    "limit": swarm_pb2.Swarm(max_concurrently_running=0),
    "pause": swarm_pb2.Swarm(paused=True),
    "run status": swarm_pb2.Swarm(workflow_run_status=state_pb2.WORKFLOW_RUN_STATUS_STOPPED),
}


@pytest.mark.parametrize("holding", sorted(HELD))
async def test_a_switch_that_opens_the_swarm_wakes_who_waits(rpc: Rpc, holding: str):
    await rpc.create()
    await rpc.add(whole(1))
    await rpc.swarms.UpdateSwarm(swarm_service_pb2.UpdateSwarmRequest(swarm=HELD[holding]))
    call = await waiting(rpc, PATIENCE)

    mask = FieldMask(paths=["max_concurrently_running", "paused", "workflow_run_status"])
    await rpc.swarms.UpdateSwarm(swarm_service_pb2.UpdateSwarmRequest(update_mask=mask))

    assert (await call).has_work


async def test_a_load_wakes_who_waits(rpc: Rpc):
    await rpc.create()
    await rpc.add(a_chunk(arrays=[1], resources=[1]))
    call = await waiting(rpc, PATIENCE)
    await rpc.add(a_chunk([a_task(1)]))

    assert (await call).has_work


async def test_room_in_an_array_wakes_who_waits(rpc: Rpc):
    await rpc.create()
    await rpc.add(whole(1, arrays=[array_pb2.Array(array_id=1, max_concurrently_running=0)]))
    call = await waiting(rpc, PATIENCE)
    await rpc.apply(NEWS)

    assert (await call).has_work


async def test_a_reset_wakes_who_waits(rpc: Rpc):
    await rpc.create()
    await rpc.add(whole(2))
    await rpc.tick()
    await rpc.tell("ERROR_FATAL", 1)
    call = await waiting(rpc, PATIENCE)
    selector = task_pb2.TaskSelector(task_ids=[1])
    await rpc.swarms.ResetTasks(swarm_service_pb2.ResetTasksRequest(selector=selector))

    assert (await call).has_work


async def test_a_late_refusal_wakes_who_waits(rpc: Rpc):
    """The call outlives its tick and is refused: the tasks are ready again, and nothing else would tell of it."""
    await rpc.create()
    await rpc.add(whole(2))
    gate = Gate(BatchRefusedError("no"))
    rpc.engine.behaviour = gate
    await rpc.tick(timeout=duration(0.02))
    call = await waiting(rpc, PATIENCE)
    gate.open()

    assert (await call).has_work


async def test_who_waits_does_not_hold_up_anybody(rpc: Rpc):
    await rpc.create("idle")
    await rpc.create("busy")
    calls = [asyncio.create_task(rpc.has_work("idle", wait=PATIENCE)) for _ in range(50)]
    await settled(lambda: len(rpc.hosted("idle")._waiting) == 50, "50 calls that wait")
    await rpc.add(whole(2, swarm_id="busy"))
    assert (await rpc.tick("busy")).batches
    await rpc.add(whole(1, swarm_id="idle"))

    assert all(answer.has_work for answer in await asyncio.gather(*calls))
    assert not rpc.hosted("idle")._waiting


async def test_a_full_answer_fits_into_a_message_however_long_the_commands_are(rpc: Rpc):
    """Where the client takes no more than gRPC's own 4 MiB; what does not fit is left for the next tick."""
    count, command = 2000, "x" * 5000
    await rpc.create(gateway="pull", max_concurrently_running=count)
    chunk = a_chunk([a_task(n, command=command if n % 2 else "") for n in range(1, count + 1)])
    chunk.arrays.add(array_id=1, name="sim", command="short {task_id}")
    chunk.task_resources.add(task_resources_id=1)
    for start in range(0, count, 500):
        part = a_chunk(list(chunk.tasks)[start : start + 500])
        if start == 0:
            part.arrays.extend(chunk.arrays)
            part.task_resources.extend(chunk.task_resources)
        await rpc.add(part)
    seen: list[int] = []
    while (answer := await rpc.tick(view=batch_pb2.BATCH_VIEW_FULL)).batches:
        assert answer.ByteSize() < 4 * 1024 * 1024
        seen += [task.task_id for batch in answer.batches for task in batch.tasks]
        assert answer.ready_to_run_count == count - len(seen)
    assert sorted(seen) == list(range(1, count + 1))
    assert seen[:3] == [1, 2, 3]


async def test_a_basic_answer_is_not_bounded_by_what_it_does_not_say(rpc: Rpc):
    await rpc.create(gateway="pull", max_concurrently_running=2000)
    chunk = a_chunk([a_task(n) for n in range(1, 2001)])
    chunk.arrays.add(array_id=1, name="sim", command="x" * 100_000)
    chunk.task_resources.add(task_resources_id=1)
    await rpc.add(chunk)
    assert sum(len(batch.task_ids) for batch in (await rpc.tick()).batches) == 2000
