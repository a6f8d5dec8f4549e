"""A hosted swarm over an engine that does everything wrong and a disk that is slow, fails, and is cut off in the act.

Hypothesis directs. After each crash the swarm is made again of what was committed, and goes on with the same engine:
no attempt is ever offered twice, nothing that was acknowledged is gone, and what is replayed is what was lived.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from swarmd.core.batch import Batch
from swarmd.core.checks import inconsistencies
from swarmd.core.columns import TaskColumns
from swarmd.core.comparing import differences
from swarmd.core.errors import StorageError, StorageFullError, SwarmdError
from swarmd.core.events import BatchTaken, Configured, Created, SwarmSettings
from swarmd.core.loading import Load
from swarmd.core.model import Array, TaskResources
from swarmd.core.swarm import Swarm
from swarmd.core.update import StateUpdate
from swarmd.gateways.contract import FindOutcome, Found
from swarmd.host.swarm import HostedSwarm
from swarmd.journal.encoding import decode
from swarmd.journal.journal import SwarmJournal
from swarmd.journal.segment import Record
from tests.core.builders import a_task, news, only
from tests.host.engine import Answer, Engine
from tests.test_scheduler_hostile import StoppedClock, answers, end, finds, give

TASKS = 8
ids = st.integers(1, TASKS)
at_once = st.sampled_from([0, 0, 1, 5, -1])
"""How much the disk does before anything else happens; -1: it fails."""


class Disk(Executor):
    """Does what it is asked to when the director says so, and how."""

    def __init__(self) -> None:
        self.asked: list[tuple[Future[Any], Callable[..., Any], tuple[Any, ...]]] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        done: Future[Any] = Future()
        self.asked.append((done, fn, args))
        return done

    def work(self) -> None:
        """The oldest wish, fulfilled."""
        done, fn, args = self.asked.pop(0)
        try:
            done.set_result(fn(*args))
        except StorageError as error:
            done.set_exception(error)

    def fail(self, error: StorageError) -> None:
        """The oldest wish, refused; nothing of it is there."""
        self.asked.pop(0)[0].set_exception(error)


class Kept:
    """In the place of a SwarmStore: the records that were committed."""

    folder = Path("kept")

    def __init__(self) -> None:
        self.records: list[Record] = []

    def append(self, records: Sequence[Record]) -> None:
        self.records += records

    def probe(self, seq: int) -> None:
        assert seq == len(self.records), "what was refused is not there"

    def rest(self) -> None:
        return

    def swarm(self, created: Created) -> Swarm:
        """What the records tell."""
        swarm = Swarm(created, 0.0)
        for record in self.records:
            swarm.apply(decode(record.event), record.at)
        return swarm


class World(RuleBasedStateMachine):
    """One swarm, its engine and its disk."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = StoppedClock()
        self.loop.set_exception_handler(lambda *_: None)
        self.hanging: list[tuple[Batch, asyncio.Future[Answer]]] = []
        self.calls: list[asyncio.Future[Any]] = []
        self.scripted: list[object] = []
        self.found: list[object] = []
        self.offered: dict[int, int] = {}
        self.kept = Kept()
        self.disk = Disk()

    @initialize(
        can_find=st.booleans(),
        hands_out=st.booleans(),
        largest=st.integers(1, 4),
        in_flight=st.integers(1, 3),
        limit=st.integers(1, TASKS),
        upstreams=st.lists(st.lists(st.integers(1, TASKS), max_size=2), min_size=TASKS, max_size=TASKS),
    )
    def begin(
        self,
        can_find: bool,
        hands_out: bool,
        largest: int,
        in_flight: int,
        limit: int,
        upstreams: list[list[int]],
    ) -> None:
        self.in_flight = in_flight
        self.engine = Engine(
            self.behave, can_find=can_find, can_cancel=True, largest_batch=largest, hands_out=hands_out
        )
        self.engine.find_batch = self.find  # type: ignore[method-assign]
        self.created = Created(SwarmSettings("s", max_concurrently_running=limit), "token")
        self.live(Swarm(self.created, 0.0))
        tasks = [
            a_task(number, *[each for each in upstreams[number - 1] if each < number], array=1 + number % 2)
            for number in range(1, TASKS + 1)
        ]
        load = Load([Array(1, "", 3), Array(2)], [TaskResources(1)], TaskColumns.from_tasks(tasks))
        self.loop.run_until_complete(self.loaded(load))

    async def loaded(self, load: Load) -> None:
        loading = asyncio.ensure_future(self.hosted.load(load))
        while not loading.done():
            await asyncio.sleep(0)
            self.loop.now += 0.1
            if self.disk.asked:
                self.disk.work()
        loading.result()

    def live(self, swarm: Swarm, *, again: bool = False) -> None:
        """A daemon with this swarm begins."""
        self.disk = Disk()

        async def start() -> None:
            seq = len(self.kept.records)
            journal = SwarmJournal(self.kept, self.disk, seq, swarm, lambda: None)  # type: ignore[arg-type]
            journal.start()
            self.hosted = HostedSwarm(swarm, self.engine, journal=journal, clock=lambda: self.loop.now)
            self.hosted.scheduler._max_in_flight = self.in_flight
            if again:
                self.calls.append(asyncio.ensure_future(self.hosted.resume()))

        self.loop.run_until_complete(start())
        self.state = self.hosted.state
        self.let_go()

    async def behave(self, batch: Batch) -> Answer:
        events = (decode(record.event) for record in self.kept.records)
        written = {event.batch_id for event in events if isinstance(event, BatchTaken)}
        assert batch.batch_id in written, "an engine hears of what is on disk only"
        for task_id, attempt in zip(batch.task_ids.tolist(), batch.attempts.tolist(), strict=True):
            assert attempt > self.offered.get(task_id, 0), "an attempt is offered once"
            self.offered[task_id] = attempt
        if self.scripted:
            return give(self.scripted.pop(0))
        future: asyncio.Future[Answer] = self.loop.create_future()
        self.hanging.append((batch, future))
        return await future

    async def find(self, batch: Batch) -> FindOutcome:
        answer = self.found.pop(0) if self.found else FindOutcome(Found.UNKNOWN)
        if isinstance(answer, BaseException):
            raise answer
        return answer  # type: ignore[return-value]

    def let_go(self, rounds: int = 15) -> None:
        async def turns() -> None:
            for _ in range(rounds):
                await asyncio.sleep(0)

        self.loop.run_until_complete(turns())
        for call in [call for call in self.calls if call.done()]:
            self.calls.remove(call)
            if not call.cancelled() and not isinstance(call.exception(), SwarmdError):
                call.result()

    def call(self, work: Any, disk: int) -> None:
        """Begin something, and let the disk do so much at once."""
        self.calls.append(asyncio.ensure_future(work, loop=self.loop))
        self.let_go()
        if disk < 0 and self.disk.asked:
            self.disk_fails(StorageError("broken"))
        for _ in range(disk):
            if self.disk.asked:
                self.disk.work()
                self.let_go()

    # -- what the director may do --------------------------------------------------------------------------------------

    @rule(script=st.lists(answers, max_size=3), number=st.integers(0, 3), disk=at_once)
    def tick(self, script: list[object], number: int, disk: int) -> None:
        self.scripted += script
        self.call(self.hosted.tick(None, None, f"r{number}" if number else ""), disk)

    @precondition(lambda self: self.disk.asked)
    @rule(times=st.integers(1, 4))
    def disk_works(self, times: int) -> None:
        for _ in range(times):
            if self.disk.asked:
                self.disk.work()
                self.let_go()

    @precondition(lambda self: self.disk.asked)
    @rule(error=st.sampled_from([None, None, None, StorageError("broken"), StorageFullError("full")]))
    def disk_may_fail(self, error: StorageError | None) -> None:
        self.disk_works(1) if error is None else self.disk_fails(error)

    def disk_fails(self, error: StorageError) -> None:
        self.disk.fail(error)
        self.let_go()
        self.loop.now += 0.7  # it is tried again soon
        self.let_go()

    @rule(task_id=ids, status=st.sampled_from("DDEF"), script=st.lists(answers, max_size=2), disk=at_once)
    def together(self, task_id: int, status: str, script: list[object], disk: int) -> None:
        """News that is not on disk yet, and a tick that wants to take what it concerns."""
        self.tell(task_id, status, None, must=False, disk=0)
        self.tick(script, 0, disk)

    @rule(seconds=st.sampled_from([1.0, 40.0]))
    def time_passes(self, seconds: float) -> None:
        self.loop.now += seconds
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

    @rule(
        task_id=ids,
        status=st.sampled_from("QIORDEAGF"),
        fence=st.sampled_from([None, -1, 0, 1]),
        must=st.booleans(),
        disk=at_once,
    )
    def tell(self, task_id: int, status: str, fence: int | None, must: bool, disk: int) -> None:
        attempt = None if fence is None else max(0, self.state.task(task_id).attempt + fence)
        update = news(status, [task_id], None if attempt is None else [attempt])

        async def told() -> None:
            if must:
                self.hosted.report(update)
            else:
                await self.hosted.apply(update)

        self.call(told(), disk)

    @rule(task_id=ids, reset=st.booleans(), disk=at_once)
    def cancel_or_reset(self, task_id: int, reset: bool, disk: int) -> None:
        if reset:
            self.call(self.hosted.reset(only(task_id), include_downstreams=False, reason=""), disk)
        else:
            self.call(self.hosted.cancel(only(task_id), "enough"), disk)

    @rule(limit=st.integers(1, TASKS), paused=st.sampled_from([None, False, False, True]), disk=at_once)
    def configure(self, limit: int, paused: bool | None, disk: int) -> None:
        wanted = Configured(paused=paused, update=StateUpdate(max_concurrently_running=limit))
        self.call(self.hosted.configure(wanted), disk)

    @rule(really=st.sampled_from([True, False, False]))
    def crash(self, really: bool) -> None:
        """What was not committed is gone, with all who waited; the same engine, and a swarm of what was committed."""
        if not really:
            return
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.run_until_complete(asyncio.sleep(0))
        self.hanging.clear()
        self.calls.clear()
        self.scripted.clear()
        self.disk.asked.clear()
        self.live(self.kept.swarm(self.created), again=True)

    # -- what must hold ------------------------------------------------------------------------------------------------

    @invariant()
    def agrees_with_itself(self) -> None:
        assert inconsistencies(self.state) == []

    @rule()
    def is_what_is_replayed(self) -> None:
        """When the disk has done all that it was asked to, the events tell just what there is."""
        while self.disk.asked:
            self.disk.work()
            self.let_go()
        if self.hosted.journal.trouble is None and not self.hosted.journal._pending:  # type: ignore[attr-defined]
            replayed = self.kept.swarm(self.created)
            replayed.state.batch_prefix = self.state.batch_prefix
            assert differences(replayed, self.hosted.swarm) == []

    def teardown(self) -> None:
        if hasattr(self, "hosted"):
            self.is_what_is_replayed()
            for task in asyncio.all_tasks(self.loop):
                task.cancel()
            self.let_go(5)
        self.loop.close()


@pytest.fixture(autouse=True)
def asks_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swarmd.scheduler.FIRST_ASK_SECONDS", 0.0)
    monkeypatch.setattr("swarmd.scheduler.LONGEST_ASK_SECONDS", 0.0)
    for name in ("swarmd.scheduler", "swarmd.journal.journal"):
        monkeypatch.setattr(logging.getLogger(name), "disabled", True)


class TestWorld(World.TestCase):  # type: ignore[misc,valid-type]
    """The machine above."""

    settings = settings(
        max_examples=100,
        stateful_step_count=40,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        derandomize=True,
    )
