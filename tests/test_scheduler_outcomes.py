"""What becomes of a batch that the engine refuses, doubts, loses, or is told to forget: DESIGN 4.3."""

import asyncio
from collections.abc import Callable

import pytest

from swarmd import Scheduler, SwarmState
from swarmd import refusals as remembered
from swarmd.core.batch import Batch
from swarmd.core.status import Code
from swarmd.gateways.contract import (
    BatchRefusedError,
    FindOutcome,
    Found,
    OutcomeUnknownError,
    QueueOutcome,
    Refusal,
)
from swarmd.refusals import Refusals, StandingRefusal
from tests.core.builders import a_swarm, a_task, code_of, is_ready, only, ready_order, statuses, tell, well
from tests.host.engine import Answer, Engine, Gate, raising, refusing, settled
from tests.ticking import LONG, many_arrays, quick_asking, ticked  # noqa: F401 - a fixture

# -- refusal -----------------------------------------------------------------------------------------------------------


async def test_a_refused_batch_comes_back_in_its_old_order_and_the_result_says_why():
    state, engine = a_swarm(5), Engine(raising(BatchRefusedError("no room")), largest_batch=2)

    update = await ticked(Scheduler(engine, state), state)

    assert ready_order(state) == [1, 2, 3, 4, 5]
    assert {result.error for result in update.batch_results} == {"no room"}
    assert update.batch_results[0].task_statuses == {1: "G", 2: "G"}
    assert not update.task_statuses
    assert update.batches == []
    assert state.active_count == 0


async def test_what_was_refused_is_not_offered_again_in_the_same_tick_and_others_still_go():
    state = a_swarm([a_task(number, array=1 + (number > 3)) for number in range(1, 7)], arrays={1: 2, 2: None})

    async def full_for_the_first_array(batch: Batch) -> Answer:
        if batch.array_id == 1:
            raise BatchRefusedError("this array is not wanted")
        return None

    engine = Engine(full_for_the_first_array)
    update = await ticked(Scheduler(engine, state), state)

    assert engine.offered == [[1, 2], [4, 5, 6]]
    assert update.task_statuses == {4: "Q", 5: "Q", 6: "Q"}
    assert ready_order(state) == [1, 2, 3]
    await ticked(Scheduler(engine, state), state)
    assert engine.offered[2:] == [[1, 2]], "the next tick offers it again"


async def test_what_an_engine_refuses_is_remembered_until_it_takes_it():
    state, now, answers = a_swarm(4), [100.0], {"1": "no room", "2": "still none"}

    async def moody(batch: Batch) -> Answer:
        if answers:
            raise BatchRefusedError(answers.pop(min(answers)))
        return None

    scheduler = Scheduler(Engine(moody), state, clock=lambda: now[0])
    assert scheduler.refusals.all() == []
    await ticked(scheduler, state)
    now[0] = 105.0
    await ticked(scheduler, state)
    [standing] = scheduler.refusals.all()
    assert standing == StandingRefusal(1, 1, "still none", 2, 100.0, 105.0)
    assert scheduler.refusals.of(1, 1) is standing
    assert scheduler.refusals.of(1, 2) is None
    await ticked(scheduler, state)
    assert scheduler.refusals.all() == []


async def test_a_batch_that_comes_back_in_part_is_refused_and_one_of_another_array_is_not():
    state = a_swarm(
        [a_task(number, array=number) for number in (1, 2)] + [a_task(3, array=1)], arrays={1: None, 2: None}
    )
    scheduler = Scheduler(Engine(refusing(3, why="too large")), state)
    await ticked(scheduler, state)
    assert [(each.array_id, each.reason) for each in scheduler.refusals.all()] == [(1, "too large")]


async def test_that_an_engine_does_not_know_a_batch_is_no_refusal_and_what_it_refused_before_stands():
    scheduler, state, engine = await in_doubt(FindOutcome(Found.NOT_QUEUED))
    await settled(lambda: not state.open_batches, "an answer")
    assert scheduler.refusals.all() == []

    engine.behaviour = refusing(1, 2, 3, why="too large")
    await scheduler.tick()
    engine.behaviour = raising(OutcomeUnknownError("?"))
    await scheduler.tick()
    await settled(lambda: not state.open_batches, "an answer")
    assert [(each.reason, each.times) for each in scheduler.refusals.all()] == [("too large", 1)]

    engine.answers = [FindOutcome(Found.QUEUED)]
    await scheduler.tick()
    await settled(lambda: not state.open_batches, "an answer")
    assert scheduler.refusals.all() == []


def test_the_oldest_of_very_many_refusals_are_forgotten(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(remembered, "MOST", 3)
    state, refusals = (
        a_swarm([a_task(number, array=number) for number in range(1, 6)], arrays=dict.fromkeys(range(1, 6))),
        Refusals(),
    )
    batches = list(iter(lambda: state.take_batch(1), None))
    for batch in (*batches, batches[2]):
        refusals.note(batch, "no")
    assert [each.array_id for each in refusals.all()] == [3, 5, 4]
    assert refusals.all()[0].times == 2


async def test_a_part_of_a_batch_is_refused():
    state, engine = a_swarm(5), Engine(refusing(2, 4, why="too large"))

    update = await ticked(Scheduler(engine, state), state)

    assert update.task_statuses == {1: "Q", 3: "Q", 5: "Q"}
    assert update.batch_results[0].task_statuses == {1: "Q", 3: "Q", 5: "Q", 2: "G", 4: "G"}
    assert update.batch_results[0].error == "too large"
    assert [batch.batch_id for batch in update.batches] == [engine.batches[0].batch_id]
    assert ready_order(state) == [2, 4]
    assert state.open_batches == {}


async def test_a_permanent_refusal_ends_the_tasks_with_its_reason():
    state, engine = (
        a_swarm([a_task(1), a_task(2), a_task(3, 2)]),
        Engine(refusing(2, why="1 TiB of memory", permanent=True)),
    )

    update = await ticked(Scheduler(engine, state), state)

    assert update.task_statuses == {1: "Q", 2: "F"}
    assert state.task(2).reason == "1 TiB of memory"
    assert engine.offered == [[1, 2]]
    tell(state, "D", 1)
    assert state.finished
    assert state.blocked_count == 1


async def test_a_refusal_with_a_very_long_reason_leaks_nothing():
    """A reason longer than a task may keep must not cost the whole outcome."""
    state = a_swarm(2)
    engine = Engine(refusing(1, why="é" * 10_000, permanent=True))

    update = await ticked(Scheduler(engine, state, apply=state.apply_update), state)

    assert update.task_statuses == {1: "F", 2: "Q"}
    assert statuses(state) == "FQ"
    assert state.task(1).reason.startswith("éé")


async def test_ids_that_the_engine_was_not_asked_for_change_nothing():
    state, engine = a_swarm(3), Engine(None)

    async def confused(batch: Batch) -> Answer:
        return QueueOutcome([Refusal([99, 2, 2, 1 << 70, -5], "?"), Refusal([2], "again", permanent=True)])

    engine.behaviour = confused
    update = await ticked(Scheduler(engine, state), state)

    assert update.task_statuses == {1: "Q", 3: "Q"}
    assert ready_order(state) == [2]


# -- exceptions and doubt ----------------------------------------------------------------------------------------------


class OddError(BaseException):
    """Neither an Exception nor anything that asyncio knows."""


ODD: list[Callable[[], BaseException]] = [
    lambda: RuntimeError("boom"),
    lambda: ExceptionGroup("several", [ValueError("a"), KeyError("b")]),
    lambda: ConnectionResetError(104, "reset"),
    lambda: StopAsyncIteration("odd"),
    lambda: AssertionError(),
]


@pytest.mark.parametrize("make", ODD, ids=lambda make: type(make()).__name__)
async def test_an_exception_of_an_engine_that_cannot_be_asked_gives_the_tasks_back(make: Callable[[], BaseException]):
    state, engine = a_swarm(3), Engine(raising(make()))

    update = await ticked(Scheduler(engine, state), state)

    assert type(make()).__name__ in update.batch_results[0].error
    assert ready_order(state) == [1, 2, 3]
    assert state.active_count == 0


@pytest.mark.parametrize("make", ODD, ids=lambda make: type(make()).__name__)
async def test_an_exception_of_an_engine_that_can_be_asked_is_doubt(make: Callable[[], BaseException]):
    state, engine = a_swarm(3), Engine(raising(make()), can_find=True)
    scheduler = Scheduler(engine, state)

    update = await ticked(scheduler, state)

    assert update.batch_results[0].in_doubt
    assert not update.task_statuses
    assert state.counts().in_doubt == 3
    assert not scheduler.has_work()
    await scheduler.drain()


@pytest.mark.parametrize(
    "make",
    [
        lambda: OutcomeUnknownError("the line is dead"),
        lambda: TimeoutError("slow"),
        lambda: asyncio.CancelledError(),
        lambda: OddError("odd"),
    ],
    ids=["unknown", "timeout", "cancelled", "base exception"],
)
@pytest.mark.parametrize("can_find", [True, False])
async def test_an_outcome_that_nobody_knows_keeps_the_tasks_reserved(make: Callable[[], BaseException], can_find: bool):
    state, engine = many_arrays(3), Engine(can_find=can_find)

    async def fails_for_the_first(batch: Batch) -> Answer:
        if batch.array_id == 1:
            raise make()
        return None

    engine.behaviour = fails_for_the_first
    scheduler = Scheduler(engine, state)
    update = await ticked(scheduler, state)

    assert update.task_statuses == {2: "Q", 3: "Q"}
    result = next(each for each in update.batch_results if each.array_id == 1)
    assert result.in_doubt
    assert result.error.startswith("in doubt: ")
    assert code_of(state, 1) is Code.RESERVED
    assert state.active_count == 3
    await ticked(scheduler, state)
    assert engine.offered.count([1]) == 1, "never simply queued again"
    await scheduler.drain()


async def test_an_answer_that_is_none_of_the_contract_is_doubt():
    state, engine = a_swarm(2), Engine(can_find=True)

    async def wrong(batch: Batch) -> Answer:
        return {"Q": [1]}  # type: ignore[return-value]

    engine.behaviour = wrong
    scheduler = Scheduler(engine, state)
    update = await ticked(scheduler, state)

    assert update.batch_results[0].in_doubt
    engine.answers = [FindOutcome(Found.NOT_QUEUED)]
    await settled(lambda: state.ready_count == 2, "the tasks back")
    assert well(state)


NONSENSE = {"none": [None], "words": ["1", object()], "lists": [[1, 2]], "fractions": [1.5]}


@pytest.mark.parametrize("wrong", NONSENSE.values(), ids=NONSENSE.keys())
async def test_a_refusal_that_names_nonsense_loses_nothing(wrong: list[object]):
    state, engine = a_swarm(2), Engine(can_find=True)

    async def behave(batch: Batch) -> Answer:
        return QueueOutcome([Refusal(wrong, "?")])  # type: ignore[arg-type]

    engine.behaviour = behave
    scheduler = Scheduler(engine, state)
    update = await ticked(scheduler, state)

    assert state.active_count + state.ready_count == 2
    assert len(update.batch_results) == 1
    await scheduler.drain()


async def in_doubt(*answers: FindOutcome | Exception, tasks: int = 3) -> tuple[Scheduler, SwarmState, Engine]:
    """A swarm whose only batch is in doubt, with an engine that will answer so."""
    state = a_swarm(tasks)
    engine = Engine(raising(OutcomeUnknownError("?")), can_find=True, can_cancel=True)
    engine.answers = list(answers)
    scheduler = Scheduler(engine, state, apply=state.apply_update)
    await scheduler.tick()
    assert state.counts().in_doubt == tasks
    return scheduler, state, engine


async def test_doubt_ends_when_the_engine_says_that_it_has_the_batch():
    scheduler, state, engine = await in_doubt(FindOutcome(Found.QUEUED))

    await settled(lambda: not state.open_batches, "an answer")

    assert statuses(state) == "QQQ"
    assert engine.asked == [engine.batches[0].batch_id]
    update = await scheduler.tick()
    assert update.task_statuses == {1: "Q", 2: "Q", 3: "Q"}, "the next tick tells"
    assert len(update.batches) == 1
    assert well(state)


async def test_doubt_ends_with_a_part_of_the_batch():
    _, state, _ = await in_doubt(
        FindOutcome(Found.QUEUED, [Refusal([2], "lost"), Refusal([3], "never", permanent=True)])
    )

    await settled(lambda: not state.open_batches, "an answer")

    assert statuses(state) == "QGF"
    assert ready_order(state) == [2]
    assert well(state)


async def test_doubt_ends_when_the_engine_says_that_it_does_not_have_the_batch():
    scheduler, state, engine = await in_doubt(FindOutcome(Found.NOT_QUEUED))

    await settled(lambda: state.ready_count == 3, "the tasks back")

    assert ready_order(state) == [1, 2, 3]
    engine.behaviour = None
    update = await scheduler.tick()
    assert update.task_statuses == {1: "Q", 2: "Q", 3: "Q"}
    assert [result.error for result in update.batch_results] == ["the engine does not know the batch", ""]
    assert well(state)


async def test_the_engine_is_asked_again_while_it_cannot_say_or_fails():
    unknown = FindOutcome(Found.UNKNOWN)
    _, state, engine = await in_doubt(unknown, RuntimeError("down"), unknown, OSError(), FindOutcome(Found.NOT_QUEUED))

    await settled(lambda: state.ready_count == 3, "the tasks back")

    assert len(engine.asked) == 5
    assert well(state)


async def test_a_find_that_is_cancelled_or_answers_nonsense_is_asked_again():
    state = a_swarm(1)
    engine = Engine(raising(OutcomeUnknownError("?")), can_find=True)
    said = [asyncio.CancelledError(), None, FindOutcome(Found.NOT_QUEUED)]

    async def find(batch: Batch) -> FindOutcome:
        answer = said.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer  # type: ignore[return-value]

    engine.find_batch = find  # type: ignore[method-assign]
    await Scheduler(engine, state).tick()

    await settled(lambda: state.ready_count == 1, "the task back")
    assert well(state)


async def test_news_ends_doubt_too_and_the_late_answer_is_stale():
    _, state, engine = await in_doubt(FindOutcome(Found.UNKNOWN))

    tell(state, "R", 1, 2, attempts=[1, 1])
    assert len(state.open_batches) == 1, "nothing is known of task 3 yet"
    tell(state, "D", 3, attempts=[1])
    assert state.open_batches == {}
    asked = len(engine.asked)
    engine.answers = [FindOutcome(Found.NOT_QUEUED)]
    await asyncio.sleep(0.06)

    assert statuses(state) == "RRD"
    assert len(engine.asked) <= asked + 1
    assert well(state)


async def test_not_queued_gives_back_only_what_no_news_has_reached():
    _, state, engine = await in_doubt(FindOutcome(Found.UNKNOWN))
    tell(state, "R", 2, attempts=[1])
    engine.answers = [FindOutcome(Found.NOT_QUEUED)]

    await settled(lambda: not state.open_batches, "an answer")

    assert statuses(state) == "GRG"
    assert ready_order(state) == [1, 3]
    assert well(state)


async def test_drain_stops_asking_and_takes_nothing_more():
    scheduler, state, engine = await in_doubt(FindOutcome(Found.UNKNOWN))

    assert await scheduler.drain()
    asked = len(engine.asked)
    await asyncio.sleep(0.05)

    assert len(engine.asked) == asked
    state.load(tasks=[a_task(10)])
    await scheduler.tick()
    assert len(engine.batches) == 1


async def test_drain_waits_for_calls_only_as_long_as_it_may():
    gate = Gate()
    engine, state = Engine(gate), a_swarm(2)
    scheduler = Scheduler(engine, state, apply=state.apply_update)
    await scheduler.tick(timeout=0.01)

    assert not await scheduler.drain(0.01)
    gate.open()
    assert await scheduler.drain(LONG)
    assert statuses(state) == "QQ"


# -- news that overtakes -----------------------------------------------------------------------------------------------


async def test_news_that_overtakes_the_answer_counts():
    gate = Gate()
    engine, state = Engine(gate), a_swarm(3)
    tick = asyncio.create_task(Scheduler(engine, state).tick())
    await settled(lambda: engine.calls_now, "the call")
    tell(state, "R", 1, attempts=[1])
    tell(state, "D", 2, attempts=[1])
    gate.open()
    change = state.apply_update(await tick)

    assert statuses(state) == "RDQ"
    assert sorted(task_id for each in change.ignored for task_id in each.task_ids.tolist()) == [1, 2]
    assert well(state)


async def test_a_task_that_ran_and_failed_before_the_answer_is_not_queued_by_it():
    gate = Gate()
    engine, state = Engine(gate), a_swarm(1)
    tick = asyncio.create_task(Scheduler(engine, state).tick())
    await settled(lambda: engine.calls_now, "the call")
    tell(state, "E", 1, attempts=[1])
    assert is_ready(state, 1)
    gate.open()
    state.apply_update(await tick)

    assert statuses(state) == "G"
    assert is_ready(state, 1)
    assert well(state)


async def test_a_refusal_after_the_task_ran_gives_nothing_back():
    gate = Gate(BatchRefusedError("no"))
    engine, state = Engine(gate), a_swarm(2)
    tick = asyncio.create_task(Scheduler(engine, state).tick())
    await settled(lambda: engine.calls_now, "the call")
    tell(state, "R", 1, attempts=[1])
    gate.open()
    state.apply_update(await tick)

    assert statuses(state) == "RG"
    assert state.active_count == 1
    assert well(state)


# -- cancelling --------------------------------------------------------------------------------------------------------


async def test_a_task_that_is_cancelled_while_its_batch_is_queued_is_cancelled_at_the_engine_too():
    gate = Gate()
    engine, state = Engine(gate, can_cancel=True), a_swarm(3)
    scheduler = Scheduler(engine, state)
    tick = asyncio.create_task(scheduler.tick())
    await settled(lambda: engine.calls_now, "the call")
    state.cancel(only(2), reason="not wanted")
    gate.open()
    state.apply_update(await tick)

    assert [(each.task_ids, each.attempts) for each in engine.cancelled] == [([2], [1])]
    assert statuses(state) == "QXQ"
    assert well(state)


async def test_a_task_that_was_cancelled_and_reset_while_its_batch_was_queued_is_ended_in_the_old_attempt():
    gate = Gate()
    engine, state = Engine(gate, can_cancel=True), a_swarm(1)
    scheduler = Scheduler(engine, state)
    tick = asyncio.create_task(scheduler.tick())
    await settled(lambda: engine.calls_now, "the call")
    state.cancel(only(1), reason="oops")
    state.reset(only(1))
    gate.open()
    state.apply_update(await tick)

    assert [(each.task_ids, each.attempts) for each in engine.cancelled] == [([1], [1])]
    assert is_ready(state, 1), "the reset task waits for an attempt of its own"
    assert (await ticked(scheduler, state)).task_statuses == {1: "Q"}
    assert state.task(1).attempt == 2


async def test_a_cancelled_task_of_a_refused_batch_stays_cancelled():
    gate = Gate(BatchRefusedError("no"))
    engine, state = Engine(gate, can_cancel=True), a_swarm(2)
    tick = asyncio.create_task(Scheduler(engine, state).tick())
    await settled(lambda: engine.calls_now, "the call")
    state.cancel(only(1))
    gate.open()
    state.apply_update(await tick)

    assert statuses(state) == "XG"
    assert engine.cancelled == []
    assert well(state)


async def test_a_cancelled_task_in_doubt_is_ended_at_the_engine_once_it_is_known_to_be_there():
    _, state, engine = await in_doubt(FindOutcome(Found.UNKNOWN))
    state.cancel(only(1, 2, 3))
    assert state.finished
    engine.answers = [FindOutcome(Found.QUEUED)]

    await settled(lambda: engine.cancelled, "the cancellation")

    assert engine.cancelled[0].task_ids == [1, 2, 3]
    assert statuses(state) == "XXX"
    assert state.open_batches == {}


async def test_what_was_cancelled_in_doubt_is_asked_after_though_news_of_others_came_meanwhile():
    """A daemon that was just restarted hears of the cancel before its engine has found the batch again."""
    _, state, engine = await in_doubt(FindOutcome(Found.UNKNOWN), tasks=3)
    state.cancel(only(1, 2, 3))
    state.load([], [], [a_task(4)])
    tell(state, "F", 4)
    assert state.open_batches == {}
    engine.answers = [FindOutcome(Found.QUEUED)]

    await settled(lambda: engine.cancelled, "the cancellation")

    assert engine.cancelled[0].task_ids == [1, 2, 3]
    assert statuses(state) == "XXXF"
    asked = len(engine.asked)
    await asyncio.sleep(0.06)
    assert len(engine.asked) == asked, "it is known now"
    assert well(state)


async def test_an_engine_that_fails_to_cancel_harms_nothing(caplog: pytest.LogCaptureFixture):
    gate = Gate()
    engine, state = Engine(gate, can_cancel=True), a_swarm(2)

    async def fail(*_: object) -> None:
        raise RuntimeError("no such job")

    engine.cancel_tasks = fail  # type: ignore[method-assign,assignment]
    tick = asyncio.create_task(Scheduler(engine, state).tick())
    await settled(lambda: engine.calls_now, "the call")
    state.cancel(only(1))
    gate.open()
    state.apply_update(await tick)

    assert statuses(state) == "XQ"
    assert "could not be told" in caplog.text
