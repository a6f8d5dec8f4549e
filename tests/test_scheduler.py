"""The Scheduler over a real SwarmState and hand-written gateways: DESIGN 4.3 and 8."""

import asyncio

import pytest

from swarmd import BatchResult, Scheduler, StateUpdate, SwarmState, TaskStatus
from swarmd.books import DirectBook
from swarmd.core.batch import Batch
from swarmd.core.errors import InvalidInputError
from swarmd.core.model import Array, TaskResources
from swarmd.core.status import Code
from swarmd.gateways.contract import (
    BatchRefusedError,
)
from tests.core.builders import a_swarm, a_task, code_of, ready_order, statuses, tell, well
from tests.host.engine import Answer, Engine, Gate, settled
from tests.ticking import LONG, many_arrays, quick_asking, ticked  # noqa: F401 - a fixture

# -- the face of section 8 ---------------------------------------------------------------------------------------------


async def test_one_iteration_queues_what_is_ready_and_returns_letters_by_task_id():
    state = a_swarm(3)
    engine = Engine()

    update = await Scheduler(engine, state).tick(timeout=LONG)

    assert update.task_statuses == {1: "Q", 2: "Q", 3: "Q"}
    assert isinstance(update, StateUpdate)
    assert update
    assert statuses(state) == "GGG", "the caller applies it"
    state.apply_update(update)
    assert statuses(state) == "QQQ"
    assert engine.offered == [[1, 2, 3]]
    assert well(state)


async def test_a_tick_without_work_returns_an_update_that_is_false():
    update = await Scheduler(Engine(), a_swarm(0)).tick()

    assert not update
    assert update.batch_results == []


def test_the_limit_is_the_states_own_and_can_be_set():
    state = a_swarm(3, max_concurrently_running=7)
    scheduler = Scheduler(Engine(), state)

    assert scheduler.max_concurrently_running == 7
    scheduler.max_concurrently_running = 2
    assert state.max_concurrently_running == 2
    state.max_concurrently_running = 5
    assert scheduler.max_concurrently_running == 5
    with pytest.raises(InvalidInputError):
        scheduler.max_concurrently_running = -1
    assert scheduler.max_concurrently_running == 5


async def test_a_batch_has_at_most_500_tasks_and_says_what_became_of_it():
    state = a_swarm(1001)
    engine = Engine()

    update = await Scheduler(engine, state).tick()

    assert Scheduler.MAX_BATCH_SIZE == 500
    assert [len(ids) for ids in engine.offered] == [500, 500, 1]
    assert [result.batch_size for result in update.batch_results] == [500, 500, 1]
    assert update.batch_results[2].task_statuses == {1001: "Q"}
    assert update.batch_results[2].array_id == 1
    assert BatchResult() == BatchResult({}, 0, 0)


async def test_an_engine_that_takes_less_at_once_gets_less():
    engine = Engine(largest_batch=2)

    await Scheduler(engine, a_swarm(5)).tick()

    assert engine.offered == [[1, 2], [3, 4], [5]]


async def test_a_batch_has_tasks_of_one_array_and_the_same_resources():
    tasks = [a_task(number, array=1 + number % 2, resources=1 + number // 4) for number in range(8)[1:]]
    engine = Engine()

    await Scheduler(engine, a_swarm(tasks, arrays=2)).tick()

    assert engine.offered == [[1, 3], [2], [4, 6], [5, 7]]
    assert [(batch.array_id, batch.task_resources.task_resources_id) for batch in engine.batches] == [
        (2, 1),
        (1, 1),
        (1, 2),
        (2, 2),
    ]


async def test_no_limit_is_exceeded_and_what_cannot_go_keeps_its_place():
    state = a_swarm(
        [a_task(number, array=1 + (number > 3)) for number in range(1, 7)],
        arrays={1: 2, 2: None},
        max_concurrently_running=4,
    )
    engine = Engine()
    scheduler = Scheduler(engine, state)

    await ticked(scheduler, state)
    assert engine.offered == [[1, 2], [4, 5]]
    assert not scheduler.has_work()

    tell(state, "D", 1, 4)
    assert scheduler.has_work()
    await ticked(scheduler, state)
    assert engine.offered[2:] == [[3], [6]]


@pytest.mark.parametrize("change", ["pause", "limit", "run status"])
async def test_nothing_is_queued_while_the_swarm_is_held(change: str):
    state = a_swarm(3)
    if change == "pause":
        state.configure(paused=True)
    elif change == "limit":
        state.max_concurrently_running = 0
    else:
        state.apply_update(StateUpdate(workflow_run_status="S"))
    engine = Engine()

    assert not Scheduler(engine, state).has_work()
    assert not await Scheduler(engine, state).tick()
    assert engine.offered == []


async def test_max_batches_bounds_a_tick():
    state = many_arrays(5)
    engine = Engine()

    update = await Scheduler(engine, state).tick(max_batches=2)

    assert engine.offered == [[1], [2]]
    assert not update.timed_out
    assert state.has_work()


def test_a_scheduler_without_calls_in_flight_is_refused():
    with pytest.raises(ValueError, match="max_in_flight"):
        Scheduler(Engine(), a_swarm(), max_in_flight=0)


# -- concurrency -------------------------------------------------------------------------------------------------------


async def test_eight_calls_are_under_way_at_once_and_never_more():
    gate = Gate()
    engine = Engine(gate)
    state = many_arrays(20)
    tick = asyncio.create_task(Scheduler(engine, state).tick())

    await settled(lambda: engine.calls_now == 8, "8 calls at once")
    for _ in range(20):
        await asyncio.sleep(0)
    assert engine.calls_now == 8
    gate.open()
    update = await tick

    assert engine.most_at_once == 8
    assert len(update.task_statuses) == 20


async def test_one_slow_call_does_not_stop_the_others():
    gate = Gate()

    async def first_is_slow(batch: Batch) -> Answer:
        return await gate(batch) if 1 in batch.task_ids else None

    engine, state = Engine(first_is_slow), many_arrays(30)
    tick = asyncio.create_task(Scheduler(engine, state, max_in_flight=2).tick())

    await settled(lambda: len(engine.batches) == 30, "all other batches, through the one place that is left")
    assert not tick.done()
    gate.open()

    assert len((await tick).task_statuses) == 30


async def test_two_ticks_at_once_never_pick_the_same_task():
    gate = Gate()
    engine, state = Engine(gate, largest_batch=3), a_swarm(50)
    scheduler = Scheduler(engine, state)
    ticks = [asyncio.create_task(scheduler.tick()) for _ in range(3)]
    await settled(lambda: engine.calls_now == 8, "calls under way")
    gate.open()
    updates = await asyncio.gather(*ticks)

    offered = [task_id for ids in engine.offered for task_id in ids]
    assert sorted(offered) == list(range(1, 51))
    assert sum(len(update.task_statuses) for update in updates) == 50
    for update in updates:
        state.apply_update(update)
    assert statuses(state) == "Q" * 50
    assert well(state)


async def test_what_becomes_ready_while_a_tick_waits_goes_with_it():
    """A downstream freed by news is not held up by the slowest call of the tick."""
    gate = Gate()

    async def behave(batch: Batch) -> Answer:
        return await gate(batch) if batch.array_id == 1 else None

    tasks = [a_task(number, array=1) for number in range(1, 6)]
    engine, state = (
        Engine(behave, largest_batch=1),
        a_swarm([*tasks, a_task(9, 8, array=2), a_task(8, array=2)], arrays=2),
    )
    scheduler = Scheduler(engine, state, apply=state.apply_update, max_in_flight=3)
    tick = asyncio.create_task(scheduler.tick())
    await settled(lambda: engine.calls_now == 3, "three slow calls")
    gate.open()
    await tick

    assert [8] in engine.offered
    tell(state, "D", 8)
    assert (await scheduler.tick()).task_statuses == {9: "Q"}


# -- time --------------------------------------------------------------------------------------------------------------


async def test_a_timeout_of_0_queues_nothing():
    state, engine = a_swarm(3), Engine()

    update = await Scheduler(engine, state).tick(timeout=0)

    assert engine.offered == []
    assert not update
    assert update.timed_out
    assert statuses(state) == "GGG"


async def test_a_timeout_of_0_without_work_has_not_timed_out():
    assert not (await Scheduler(Engine(), a_swarm(0)).tick(timeout=0)).timed_out


async def test_a_call_that_outlives_its_tick_is_not_cancelled_and_shows_in_the_next_one():
    gate = Gate()
    engine, state = Engine(gate), a_swarm(3)
    scheduler = Scheduler(engine, state)

    update = await ticked(scheduler, state, timeout=0.01)
    assert update.timed_out
    assert not update
    assert [code_of(state, each) for each in (1, 2, 3)] == [Code.RESERVED] * 3
    assert scheduler.calls_under_way == 1
    assert not scheduler.has_work(), "its tasks use capacity and are not offered again"

    gate.open()
    await settled(lambda: not scheduler.calls_under_way, "the end of the call")
    update = await ticked(scheduler, state, timeout=0)
    assert update.task_statuses == {1: "Q", 2: "Q", 3: "Q"}
    assert [result.batch_size for result in update.batch_results] == [3]
    assert len(update.batches) == 1
    assert not await ticked(scheduler, state), "an outcome is told once"


async def test_late_refusals_come_back_where_they_were_and_the_next_tick_says_why():
    gate = Gate(BatchRefusedError("the queue is full"))
    engine, state = Engine(gate, largest_batch=2), a_swarm(4)
    scheduler = Scheduler(engine, state, max_in_flight=1)
    await ticked(scheduler, state, timeout=0.01)
    gate.open()
    await settled(lambda: not scheduler.calls_under_way, "the end of the call")

    assert ready_order(state) == [1, 2, 3, 4]
    update = await scheduler.tick(timeout=0)
    assert [(result.error, result.task_statuses) for result in update.batch_results] == [
        ("the queue is full", {1: "G", 2: "G"})
    ]


async def test_no_batch_starts_after_the_timeout_even_when_a_place_is_free_again():
    gate = Gate()
    engine, state = Engine(gate), many_arrays(10)
    scheduler = Scheduler(engine, state, max_in_flight=2)

    update = await ticked(scheduler, state, timeout=0.02)
    assert update.timed_out
    gate.open()
    await settled(lambda: not scheduler.calls_under_way, "the end of both calls")
    assert len(engine.batches) == 2


async def test_a_tick_of_another_swarms_hanging_engine_is_not_waited_for():
    """Only this tick's own calls are waited for, not those that an earlier one left behind."""
    gate = Gate()

    async def behave(batch: Batch) -> Answer:
        return await gate(batch) if 1 in batch.task_ids else None

    engine, state = Engine(behave), many_arrays(2, max_concurrently_running=1)
    scheduler = Scheduler(engine, state)
    await ticked(scheduler, state, timeout=0.01)
    state.max_concurrently_running = 2

    async with asyncio.timeout(LONG):
        update = await scheduler.tick()
    assert update.task_statuses == {2: "Q"}
    gate.open()
    await settled(lambda: not scheduler.calls_under_way, "the end of the call")


# -- callers that are late, go away, or apply twice --------------------------------------------------------------------


async def test_an_update_applied_late_or_twice_changes_nothing_more():
    state, engine = a_swarm(4, max_concurrently_running=3), Engine()
    scheduler = Scheduler(engine, state)

    first = await scheduler.tick()
    assert not await scheduler.tick(), "what was taken is reserved, also while nothing is applied"
    assert engine.offered == [[1, 2, 3]]
    state.apply_update(first)
    again = state.apply_update(first)
    assert again.is_empty
    assert not again.ignored
    tell(state, "D", 1)
    late = state.apply_update(first)
    assert late.is_empty
    assert statuses(state) == "DQQG"
    tell(state, "E", 2, attempts=[1])
    state.apply_update(first)
    assert statuses(state) == "DGQG"
    assert well(state)


async def test_a_tick_that_is_cancelled_loses_nothing():
    gate = Gate()
    engine, state = Engine(gate), many_arrays(4)
    scheduler = Scheduler(engine, state, max_in_flight=2)
    tick = asyncio.create_task(scheduler.tick())
    await settled(lambda: engine.calls_now == 2, "two calls")

    tick.cancel()
    with pytest.raises(asyncio.CancelledError):
        await tick
    assert engine.calls_now == 2, "calls under way go on"
    assert well(state)
    gate.open()
    await settled(lambda: not scheduler.calls_under_way, "the end of the calls")
    update = await ticked(scheduler, state)

    assert update.task_statuses == {1: "Q", 2: "Q", 3: "Q", 4: "Q"}, "the next tick tells what the cancelled one did"
    assert sorted(engine.offered) == [[1], [2], [3], [4]]


async def test_a_cancelled_tick_gives_back_what_was_refused_before():
    gate = Gate()

    async def behave(batch: Batch) -> Answer:
        if batch.array_id == 1:
            raise BatchRefusedError("no")
        return await gate(batch)

    engine, state = Engine(behave), many_arrays(2)
    scheduler = Scheduler(engine, state, max_in_flight=1)
    tick = asyncio.create_task(scheduler.tick())
    await settled(lambda: len(engine.batches) == 2, "the second call")
    tick.cancel()
    with pytest.raises(asyncio.CancelledError):
        await tick

    assert ready_order(state) == [1]
    gate.open()
    await settled(lambda: not scheduler.calls_under_way, "the end of the call")
    assert [result.error for result in (await ticked(scheduler, state)).batch_results][:2] == ["no", ""]


async def test_a_tick_that_times_out_while_refusals_come_leaks_nothing():
    gates = [Gate(BatchRefusedError("no")), Gate()]

    async def behave(batch: Batch) -> Answer:
        return await gates[batch.array_id - 1](batch)

    engine, state = Engine(behave), many_arrays(2)
    scheduler = Scheduler(engine, state)
    gates[0].open()
    update = await ticked(scheduler, state, timeout=0.05)
    assert [result.error for result in update.batch_results] == ["no"]
    assert ready_order(state) == [1]
    gates[1].open()
    await settled(lambda: not scheduler.calls_under_way, "the end of the call")
    await ticked(scheduler, state, timeout=0)
    assert statuses(state) == "GQ"
    assert state.open_batches == {}


async def test_each_outcome_is_applied_the_moment_it_is_there_when_the_daemon_ticks():
    gate = Gate()

    async def second_is_slow(batch: Batch) -> Answer:
        return await gate(batch) if batch.array_id == 2 else None

    engine, state = Engine(second_is_slow), many_arrays(2)
    tick = asyncio.create_task(Scheduler(engine, state, apply=state.apply_update).tick())

    await settled(lambda: statuses(state) == "QG", "the first task QUEUED while the second call hangs")
    gate.open()
    state.apply_update(await tick)
    assert statuses(state) == "QQ"


# -- all together ------------------------------------------------------------------------------------------------------


async def test_a_study_runs_to_its_end_over_an_engine_that_refuses_now_and_then():
    """1,000 tasks in layers; every third call is refused, and every task fails once."""
    tasks = [a_task(n, *([n - 100] if n > 100 else []), array=1 + n % 4, max_attempts=2) for n in range(1, 1001)]
    state = SwarmState("study", max_concurrently_running=90)
    state.load([Array(n, max_concurrently_running=30) for n in range(1, 5)], [TaskResources(1)], tasks)
    calls = 0

    async def behave(batch: Batch) -> Answer:
        nonlocal calls
        calls += 1
        if calls % 3 == 0:
            raise BatchRefusedError("busy")
        await asyncio.sleep(0)
        return None

    engine = Engine(behave, largest_batch=20)
    scheduler = Scheduler(engine, state)
    ran: dict[int, int] = {}
    async with asyncio.timeout(LONG):
        while not state.finished:
            update = await scheduler.tick()
            state.apply_update(update)
            assert state.active_count <= 90
            for batch in update.batches:
                for task_id in batch.task_ids.tolist():
                    ran[task_id] = ran.get(task_id, 0) + 1
            queued = [batch.task_ids.tolist() for batch in update.batches]
            for ids in queued:
                failed = [task_id for task_id in ids if ran[task_id] == 1]
                tell(state, "E", *failed)
                tell(state, "D", *(set(ids) - set(failed)))
    assert well(state)
    assert state.outcome == "DONE"
    assert set(ran.values()) == {2}
    assert all(state.task(task_id).status is TaskStatus.DONE for task_id in range(1, 1001))


async def test_a_tick_that_waits_for_another_one_to_take_its_batches_sleeps_meanwhile():
    engine, state, gate = Engine(), many_arrays(3), asyncio.Event()
    looked, taking = [0], list[int]()

    class Slow(DirectBook):
        async def take(self, most: int, size: int, request_id: str) -> list[Batch]:
            taking.append(most)
            await gate.wait()
            return await super().take(most, size, request_id)

    def look() -> bool:
        looked[0] += 1
        return SwarmState.has_work(state)

    state.has_work = look  # type: ignore[method-assign]
    slow = Slow(state, apply=state.apply_update, came_back=None, clock=lambda: 1.0)
    scheduler = Scheduler(engine, state, max_in_flight=1, book=slow)
    ticks = [asyncio.create_task(scheduler.tick()) for _ in range(2)]
    late = await asyncio.wait_for(scheduler.tick(timeout=0.05), LONG)
    assert late.timed_out
    assert (taking, looked[0] < 10) == ([1], True)
    gate.set()
    updates = await asyncio.wait_for(asyncio.gather(*ticks), LONG)
    assert sorted(task_id for update in updates for task_id in update.task_statuses) == [1, 2, 3]
