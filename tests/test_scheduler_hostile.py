"""The Scheduler over an engine that does everything an engine must not do, with hypothesis as the director.

Whatever comes: no task is lost, no capacity leaks, no attempt is offered twice, and the state agrees with itself.
"""

import asyncio
import logging

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from swarmd import Scheduler, StateUpdate
from swarmd.core.batch import Batch
from swarmd.core.checks import inconsistencies
from swarmd.core.state import SwarmState
from swarmd.core.status import Code
from swarmd.gateways.contract import (
    BatchRefusedError,
    FindOutcome,
    Found,
    OutcomeUnknownError,
    QueueOutcome,
    Refusal,
)
from tests.core.builders import a_swarm, a_task, news, only
from tests.host.engine import Answer, Engine

TASKS = 12
ids = st.integers(1, TASKS)
odd_ids = st.lists(st.integers(-1, TASKS + 3) | st.just(1 << 80), max_size=6)
WORDS = {"short": "full", "long": "é" * 5000, "odd": "\ud800", "none": ""}


def refusal(task_ids: list[int], word: str, permanent: bool) -> Refusal:
    return Refusal(task_ids, WORDS[word], permanent)


refusals = st.lists(st.builds(refusal, odd_ids, st.sampled_from(sorted(WORDS)), st.booleans()), max_size=3)
errors = st.sampled_from(
    [
        BatchRefusedError("no"),
        BatchRefusedError(""),
        OutcomeUnknownError("?"),
        TimeoutError(),
        RuntimeError("boom\ud800"),
        asyncio.CancelledError(),
        StopAsyncIteration(),
    ]
)
answers = st.none() | st.builds(QueueOutcome, refusals) | errors | st.sampled_from([True, {"Q": [1]}, 7])
finds = st.builds(FindOutcome, st.sampled_from(list(Found)), refusals) | st.sampled_from([None, RuntimeError("down")])


class StoppedClock(asyncio.SelectorEventLoop):
    """An event loop whose time passes only when it is told, so that an example is the same every time."""

    now = 0.0

    def time(self) -> float:
        return self.now


class Hostile(RuleBasedStateMachine):
    """One swarm, one scheduler, and calls that end when and how the director likes."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = StoppedClock()
        self.loop.set_exception_handler(lambda *_: None)
        self.hanging: list[tuple[Batch, asyncio.Future[Answer]]] = []
        self.ticks: list[asyncio.Task[object]] = []
        self.scripted: list[object] = []
        self.found: list[object] = []
        self.offered: dict[int, int] = {}

    @initialize(
        applies=st.booleans(),
        can_find=st.booleans(),
        largest=st.integers(1, 5),
        in_flight=st.integers(1, 3),
        limit=st.integers(1, TASKS),
        upstreams=st.lists(st.lists(st.integers(1, TASKS), max_size=2), min_size=TASKS, max_size=TASKS),
    )
    def begin(
        self, applies: bool, can_find: bool, largest: int, in_flight: int, limit: int, upstreams: list[list[int]]
    ) -> None:
        tasks = [
            a_task(number, *[each for each in upstreams[number - 1] if each < number], array=1 + number % 2)
            for number in range(1, TASKS + 1)
        ]
        self.state: SwarmState = a_swarm(tasks, arrays={1: 3, 2: None}, max_concurrently_running=limit)
        self.highest_limit = limit
        self.applies = applies
        self.unapplied: list[StateUpdate] = []
        self.engine = Engine(self.behave, can_find=can_find, can_cancel=True, largest_batch=largest)
        self.engine.find_batch = self.find  # type: ignore[method-assign]
        self.scheduler = Scheduler(
            self.engine, self.state, max_in_flight=in_flight, apply=self.state.apply_update if applies else None
        )

    async def behave(self, batch: Batch) -> Answer:
        for task_id, attempt in zip(batch.task_ids.tolist(), batch.attempts.tolist(), strict=True):
            assert attempt > self.offered.get(task_id, 0), "an attempt is offered once"
            self.offered[task_id] = attempt
        assert self.state.active_count <= self.highest_limit
        if self.scripted:
            return give(self.scripted.pop(0))
        future: asyncio.Future[Answer] = self.loop.create_future()
        self.hanging.append((batch, future))
        return await future

    async def find(self, batch: Batch) -> FindOutcome:
        if not self.found:
            return FindOutcome(Found.UNKNOWN)
        answer = self.found.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer  # type: ignore[return-value]

    def let_go(self, rounds: int = 12) -> None:
        async def turns() -> None:
            for _ in range(rounds):
                await asyncio.sleep(0)

        self.loop.run_until_complete(turns())
        for tick in [tick for tick in self.ticks if tick.done()]:
            self.ticks.remove(tick)
            if not tick.cancelled():
                self.take(tick.result())

    def take(self, update: object) -> None:
        assert isinstance(update, StateUpdate)
        self.state.apply_update(update) if self.applies else self.unapplied.append(update)

    # -- what the director may do --------------------------------------------------------------------------------------

    @rule(script=st.lists(answers, max_size=4), timeout=st.sampled_from([-1.0, 0.0, 5.0]))
    def tick(self, script: list[object], timeout: float) -> None:
        self.scripted += script
        self.ticks.append(self.loop.create_task(self.scheduler.tick(timeout)))
        self.let_go()

    @rule(seconds=st.sampled_from([1.0, 10.0]))
    def time_passes(self, seconds: float) -> None:
        self.loop.now += seconds
        self.let_go()

    @precondition(lambda self: self.ticks)
    @rule()
    def cancel_a_tick(self) -> None:
        self.ticks[0].cancel()
        self.let_go()

    @precondition(lambda self: self.hanging)
    @rule(answer=answers, last=st.booleans())
    def end_a_call(self, answer: object, last: bool) -> None:
        _, future = self.hanging.pop(-1 if last else 0)
        end(future, answer)
        self.let_go()

    @precondition(lambda self: self.state.open_batches)
    @rule(answer=finds)
    def answer_doubt(self, answer: object) -> None:
        self.found.append(answer)
        self.let_go(40)

    @precondition(lambda self: self.unapplied)
    @rule(last=st.booleans(), keep=st.booleans())
    def apply_late_or_twice(self, last: bool, keep: bool) -> None:
        update = self.unapplied[-1 if last else 0]
        self.state.apply_update(update)
        if not keep:
            self.unapplied.remove(update)

    @rule(task_id=ids, status=st.sampled_from("QIORDEAGF"), fence=st.sampled_from([None, -1, 0, 1]))
    def tell(self, task_id: int, status: str, fence: int | None) -> None:
        attempt = None if fence is None else max(0, self.state.task(task_id).attempt + fence)
        self.state.apply_update(news(status, [task_id], None if attempt is None else [attempt]))

    @rule(task_id=ids, reset=st.booleans())
    def cancel_or_reset(self, task_id: int, reset: bool) -> None:
        self.state.reset(only(task_id)) if reset else self.state.cancel(only(task_id))

    @rule(limit=st.integers(0, TASKS), array=st.sampled_from([None, 1, 2]))
    def set_limit(self, limit: int, array: int | None) -> None:
        if array is None:
            self.highest_limit = max(self.highest_limit, limit)
            self.scheduler.max_concurrently_running = limit
        else:
            self.state.apply_update(StateUpdate(array_limits={array: limit}))

    # -- what must hold ------------------------------------------------------------------------------------------------

    @invariant()
    def agrees_with_itself(self) -> None:
        assert inconsistencies(self.state) == []

    @invariant()
    def capacity_is_accounted_for(self) -> None:
        """Whatever is reserved belongs to a call under way, to doubt, or to an update that nobody applied yet."""
        table = self.state.table
        reserved = {int(table.task_id[row]) for row in range(table.size) if table.status[row] == Code.RESERVED}
        known = {task_id for each in self.state.open_batches.values() for task_id in each.batch.task_ids.tolist()}
        told = {task_id for update in self.unapplied for task_id in update.task_statuses}
        waiting = set(self.late_ids()) | {
            task_id
            for tick in self.ticks
            if tick.done() and not tick.cancelled()
            for task_id in tick.result().task_statuses  # type: ignore[attr-defined]
        }
        running = (
            {task_id for batch in self.engine.batches for task_id in batch.task_ids.tolist() if self.ticks}
            if not self.applies
            else set()
        )
        assert reserved <= known | told | waiting | running

    def late_ids(self) -> list[int]:
        return [task_id for group in self.scheduler._late.groups for task_id in group.task_ids.tolist()]

    def teardown(self) -> None:
        """A good end: everything that hangs is answered, and an honest engine takes the rest."""
        if hasattr(self, "state"):
            try:
                self.finish()
            finally:
                for task in asyncio.all_tasks(self.loop):
                    task.cancel()
                self.let_go(3)
        self.loop.close()

    def finish(self) -> None:
        self.scripted.clear()
        self.found = []
        while self.hanging or self.ticks:
            for _, future in self.hanging:
                end(future, None)
            self.hanging.clear()
            self.let_go()
        self.engine.behaviour = None
        self.found = [FindOutcome(Found.NOT_QUEUED)] * len(self.state.open_batches)
        self.let_go(60)
        self.loop.run_until_complete(self.hand_over())
        if self.engine.capabilities.can_find:
            assert self.state.open_batches == {}
        doubtful = {task_id for each in self.state.open_batches.values() for task_id in each.batch.task_ids.tolist()}
        self.scheduler.max_concurrently_running = 10_000
        self.state.apply_update(StateUpdate(array_limits={1: None, 2: None}))
        self.loop.run_until_complete(self.to_the_end())
        assert inconsistencies(self.state) == []
        if not doubtful:
            assert self.state.finished
        assert self.state.counts().reserved <= len(doubtful)

    async def hand_over(self) -> None:
        update = await self.scheduler.tick(0)
        for each in [*self.unapplied, update]:
            self.state.apply_update(each)
        self.unapplied.clear()

    async def to_the_end(self) -> None:
        while True:
            active = [view.task_id for view in self.state.tasks()[0] if str(view.status) in "QIOR"]
            self.state.apply_update(news("D", active))
            if not self.scheduler.has_work():
                break
            self.state.apply_update(await self.scheduler.tick())


def give(answer: object) -> Answer:
    if isinstance(answer, BaseException):
        raise answer
    return answer  # type: ignore[return-value]


def end(future: "asyncio.Future[Answer]", answer: object) -> None:
    if future.done():
        return
    if isinstance(answer, asyncio.CancelledError):
        future.cancel()
    elif isinstance(answer, BaseException):
        future.set_exception(answer)
    else:
        future.set_result(answer)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def asks_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swarmd.scheduler.FIRST_ASK_SECONDS", 0.0)
    monkeypatch.setattr("swarmd.scheduler.LONGEST_ASK_SECONDS", 0.0)
    monkeypatch.setattr(logging.getLogger("swarmd.scheduler"), "disabled", True)


class TestHostile(Hostile.TestCase):  # type: ignore[misc,valid-type]
    """The machine above."""

    settings = settings(
        max_examples=80,
        stateful_step_count=25,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        derandomize=True,
    )
