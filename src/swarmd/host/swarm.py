"""HostedSwarm: one swarm in the daemon. A change is written down, applied, published, and wakes who waits for it."""

import asyncio
import contextlib
import gc
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from swarmd.core.change import Change
from swarmd.core.columns import parts_of
from swarmd.core.errors import FailedPreconditionError, LimitExceededError
from swarmd.core.events import (
    BatchConcluded,
    BatchDoubted,
    BatchesHandedOut,
    Cancelled,
    Configured,
    Event,
    Loaded,
    LoadPart,
    Reset,
    SwarmSettings,
    TickAnswered,
    Updated,
)
from swarmd.core.explain import Explanation
from swarmd.core.loading import KnownIds, Load, plan_load
from swarmd.core.model import ALL_TEXTS, TextLimits
from swarmd.core.selecting import Selector
from swarmd.core.status import TaskStatus
from swarmd.core.swarm import LoadAnswer, Swarm
from swarmd.core.update import StateUpdate, TaskStatuses
from swarmd.gateways.contract import ServerGateway
from swarmd.host.autopilot import Autopilot
from swarmd.host.book import HandingOutBook, JournaledBook
from swarmd.host.complaints import Complaints
from swarmd.host.engine import EngineSide
from swarmd.host.feed import DELETED, DRAINING, MAX_BEHIND_BYTES, Closing, Feed
from swarmd.host.requests import RequestLog, to_its_end
from swarmd.host.ticks import TickAnswer, answer_again, unless_in_trouble
from swarmd.journal.contract import Journal, MemoryJournal
from swarmd.journal.encoding import encode, encode_update
from swarmd.journal.faults import reach
from swarmd.loggers import get_logger
from swarmd.observing.observer import UNOBSERVED, Observer
from swarmd.outcomes import TickUpdate
from swarmd.refusals import StandingRefusal
from swarmd.scheduler import DEFAULT_IN_FLIGHT, Scheduler

log = get_logger("swarmd.swarm")

OTHERS_TURN_SECONDS = 0.005
"""Between the steps of a load: time for calls that came meanwhile to be answered."""
FULL_ANSWER_BYTES = 2 * 1024 * 1024
"""About so much of an answer says what to run: half of what clients of gRPC take in one message by default."""
TICK_TASKS = 100_000
"""About how many tasks one tick of a client queues at most, so that its answer fits into a message."""
HANDED_OUT_AT_ONCE = 50
"""So many batches are written down together where no engine is called."""
LOAD_PART_BYTES = 4 * 1024 * 1024
"""About how much of a load is written down at once: others wait for it."""
TASK_BYTES = 64
"""What a task takes there at least."""


@dataclass(frozen=True, slots=True)
class HostLimits:
    """Bounds of the daemon that concern a swarm."""

    max_tasks: int = 20_000_000
    max_watchers: int = 1000
    max_in_flight: int = DEFAULT_IN_FLIGHT
    max_queued_bytes: int = MAX_BEHIND_BYTES
    """How far a watcher may fall behind, in bytes of changes that wait for it."""
    texts: TextLimits = ALL_TEXTS


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


class HostedSwarm:
    """One swarm with everything around it."""

    def __init__(
        self,
        swarm: Swarm,
        gateway: ServerGateway,
        *,
        journal: Journal | None = None,
        feed: Feed | None = None,
        limits: HostLimits | None = None,
        observer: Observer = UNOBSERVED,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`swarm` as it was made or recovered. Without a journal it lives in memory. `start` sets it going."""
        self.swarm = swarm
        self.state = swarm.state
        self.state.batch_prefix = f"{swarm.state.swarm_id}-{secrets.token_hex(4)}"  # new, whatever the journal has lost
        self.gateway = gateway
        self.journal = journal or MemoryJournal()
        self.engine = EngineSide(swarm, gateway, in_memory=self.in_memory)
        self.limits = limits or HostLimits()
        self._observer = observer
        self._clock = clock
        self.scheduler = self._made_scheduler()
        self.feed = feed or Feed(max_watchers=self.limits.max_watchers, max_behind_bytes=self.limits.max_queued_bytes)
        self.ticks: RequestLog[bytes] = RequestLog(self._answered_tick)
        self.loads: RequestLog[LoadAnswer] = RequestLog(self._answered_load)
        self._loading = asyncio.Lock()
        self._waiting: set[asyncio.Future[None]] = set()
        self._draining = False
        self._autopilot = Autopilot(self)
        self._complaints = Complaints(self.swarm_id)

    def _made_scheduler(self) -> Scheduler:
        swarm, journal, in_flight = self.swarm, self.journal, self.limits.max_in_flight
        if not self.gateway.capabilities.hands_out:
            book = JournaledBook(swarm, journal, self._note, self._clock, came_back=self.wake)
            return Scheduler(self.gateway, self.state, max_in_flight=in_flight, book=book)
        handing = HandingOutBook(swarm, journal, self._note, self._clock, came_back=self.wake, apply=self._hand_out)
        return Scheduler(self.gateway, self.state, max_in_flight=HANDED_OUT_AT_ONCE, book=handing)

    @property
    def settings(self) -> SwarmSettings:
        """What it was created with."""
        return self.swarm.created.settings

    @property
    def swarm_id(self) -> str:
        return self.settings.swarm_id

    @property
    def in_memory(self) -> bool:
        """Whether it ends with the daemon."""
        return not self.journal.durable

    @property
    def log_directory(self) -> Path | None:
        """Where the output of its tasks is, for gateways that keep it on this machine."""
        return self.gateway.output_directory(self.swarm_id)

    @property
    def autopilot(self) -> bool:
        """Whether the daemon ticks by itself."""
        return self.swarm.autopilot

    def now(self) -> float:
        """The clock by which its changes are stamped: seconds since the epoch."""
        return self._clock()

    # -- starting --------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Set it going."""
        self._autopilot.turn(on=self.autopilot)

    async def resume(self, *, paused: bool = False) -> None:
        """Take up what an earlier daemon left: what the engine has, and batches whose outcome nobody knows.

        `paused` when the journal has lost events: the engine may have tasks of which nothing is known here.
        """
        if paused:
            log.warning("the swarm is paused: look what its engine has, then resume it", swarm=self.swarm_id)
            await self._noted(Configured(paused=True))
        await self.engine.take_up()
        for known in list(self.state.open_batches.values()):
            batch = known.batch
            if self.gateway.capabilities.hands_out:
                update = StateUpdate(TaskStatuses())
                update.task_statuses.add(TaskStatus.QUEUED, batch.task_ids, batch.attempts)
                await self._noted(BatchConcluded(batch.batch_id, update, handed_out=True))
                continue
            if not known.in_doubt:
                await self._noted(BatchDoubted(batch.batch_id, "the daemon ended while it was being queued"))
            self.scheduler.ask(batch)
        self.start()

    async def _noted(self, event: Event) -> None:
        """Note it, and wait until it is applied; not on a full disk, where others are to be served meanwhile."""
        noted, trouble = self._note(event), asyncio.ensure_future(self.journal.in_trouble.wait())
        await asyncio.wait((noted, trouble), return_when=asyncio.FIRST_COMPLETED)
        trouble.cancel()

    # -- changes ---------------------------------------------------------------------------------------------------

    def apply(self, update: StateUpdate, told: bytes = b"") -> "asyncio.Future[Change]":
        """Fold news into the state; done when it is durable. Raises InvalidInputError or NotFoundError at once.

        `told`: the message that says just this, which is written down as it is.
        """
        return self._submit(self.swarm.check(Updated(update)), encoded=encode_update(told) if told else None)

    def report(self, update: StateUpdate) -> "asyncio.Future[Change] | None":
        """News from the gateway: like `apply`, but nobody is there to be told that it is wrong, or to be refused.

        None: it is wrong, and the log says so.
        """
        try:
            return self._submit(self.swarm.check(Updated(update)), must=True)
        except Exception as error:  # noqa: BLE001 - it is in the log
            self._complaints.refused(error)
        return None

    def _note(self, event: Event) -> "asyncio.Future[Change]":
        """Something that happened already. Outcomes of batches do not wait behind the news of others."""
        return self._submit(event, must=True, first=isinstance(event, (BatchConcluded, BatchDoubted)))

    def _submit(
        self, event: Event, *, must: bool = False, first: bool = False, encoded: bytes | None = None
    ) -> "asyncio.Future[Change]":
        """Write an event down, then apply it."""
        at = self._clock()
        return self.journal.append(event, at, partial(self._apply, event, at), must=must, first=first, encoded=encoded)

    def _apply(self, event: Event, at: float) -> Change:
        return self._publish(self.swarm.apply(event, at))

    def _hand_out(self, event: Event, at: float) -> Change:
        if isinstance(event, BatchesHandedOut):
            for size in event.sizes:
                self._observer.batch_over(self.gateway.name, "queued", size, 0)
        return self._apply(event, at)

    async def load(self, load: Load, request_id: str = "", asked: str = "") -> LoadAnswer:
        """Add arrays, resources and tasks as one unit. Checked in another thread; other swarms go on meanwhile."""
        async with self._loading:
            total = self.state.task_count + len(load.tasks)
            if total > self.limits.max_tasks:
                message = f"tasks: {total} would be more than max_tasks_per_swarm {self.limits.max_tasks} allows"
                metadata = {"limit": "max_tasks_per_swarm"}
                raise LimitExceededError(message, reason="TOO_MANY_TASKS", metadata=metadata)
            plan = await asyncio.to_thread(plan_load, KnownIds.of(self.state.table), load, self.limits.texts)
            load_id = secrets.token_hex(8)
            event = Loaded(load_id, load.arrays, load.task_resources, request_id, asked, plan)
            with self.journal.without_snapshots():
                encoded = await self._write_parts(event, load) if self.journal.durable else None
                at = self._clock()
                change: Change = await self.journal.append(event, at, lambda: self._commit(event, at), encoded=encoded)
            return LoadAnswer(
                asked,
                change.added_task_count,
                len(load.arrays),
                len(load.task_resources),
                change.newly_ready_count,
                change.revision,
            )

    async def _write_parts(self, event: Loaded, load: Load) -> bytes:
        """Write the tasks of a load down, part by part. Gives back the event itself, before which nothing happens."""
        tasks = load.tasks
        bytes_a_task = TASK_BYTES + (len(tasks.names.data) + len(tasks.commands.data)) // max(1, len(tasks))
        for part in parts_of(tasks, max(1, LOAD_PART_BYTES // bytes_a_task)):
            part_event = LoadPart(event.load_id, part)
            encoded = await asyncio.to_thread(encode, part_event)
            await self.journal.append(part_event, self._clock(), _nothing, encoded=encoded)
            reach("load.part")
        return await asyncio.to_thread(encode, event)

    async def _commit(self, event: Loaded, at: float) -> Change:
        """Apply a load in two steps, with a turn for others before each."""
        if event.plan is not None:
            await asyncio.sleep(OTHERS_TURN_SECONDS)
            self.state.stage_load(event.plan)
        await asyncio.sleep(OTHERS_TURN_SECONDS)
        with _no_garbage_collection():  # so many new lanes would set one off in the middle
            return self._publish(self.swarm.apply(event, at))

    async def cancel(self, selector: Selector, reason: str) -> Change:
        """Cancel tasks; at the engine, too, as soon as it can be reached."""
        event = self.swarm.check(Cancelled(selector, reason))
        return await to_its_end(lambda: self._cancel(event, reason))

    async def _cancel(self, event: Event, reason: str) -> Change:
        change = await self._submit(event)
        self.engine.cancel(change, reason)
        return change

    async def reset(self, selector: Selector, *, include_downstreams: bool, reason: str) -> Change:
        """Take final tasks back to REGISTERED.

        Not before the engine has been told of what was cancelled: otherwise a crash in between could leave an attempt
        running that nobody remembers. An engine that does not answer is not waited for very long.
        """
        await self.engine.until_cancelled()
        event = Reset(selector, include_downstreams=include_downstreams, reason=reason)
        return await self._submit(self.swarm.check(event))

    async def configure(self, wanted: Configured) -> Change:
        """Set switches and limits: all that is asked, or nothing when any of it is wrong."""
        if wanted.autopilot and self.gateway.capabilities.hands_out:
            message = f"autopilot: the gateway {self.gateway.name!r} hands batches to whoever ticks; call Tick instead"
            raise FailedPreconditionError(message, reason="AUTOPILOT_NEEDS_ENGINE", field="autopilot")
        event = self.swarm.check(wanted)
        return await to_its_end(lambda: self._configure(event))

    async def _configure(self, event: Event) -> Change:
        change = await self._submit(event)
        self._autopilot.turn(on=self.autopilot and not self._draining)
        return change

    def _publish(self, change: Change) -> Change:
        if not change.is_empty:
            self.feed.publish(change)
            self.engine.look_at_end()
        self.wake()
        return change

    def explain(self, task_id: int) -> Explanation:
        """Why a task is not running, with what the engine says of it. Raises NotFoundError."""
        return self.engine.explained(self.state.explain(task_id, autopilot=self.autopilot), self.scheduler.refusals)

    def refusals(self) -> list[StandingRefusal]:
        """What the engine refuses just now, of arrays that have ready tasks; the newest first."""
        ids, queue = self.state.table.array_ids, self.state.table.queue
        return [each for each in self.scheduler.refusals.all() if queue.live_of(ids.find_one(each.array_id))]

    # -- scheduling ------------------------------------------------------------------------------------------------

    async def tick(
        self,
        timeout: float | None,  # noqa: ASYNC109
        max_batches: int | None,
        request_id: str = "",
        *,
        full: bool = False,
    ) -> TickAnswer:
        """One scheduling iteration for a client, bounded so that its answer fits into a message.

        `full`: the answer will also say what to run.

        Raises StorageError when its batches cannot be written down, and when their outcomes cannot be for now.
        """
        while self._outcome_is_under_way(request_id):
            if self.journal.trouble is not None:
                raise self.journal.trouble
            await self.wait_for_change(1.0)
        if request_id in self.swarm.unanswered:
            return answer_again(self.swarm, request_id)  # its batches were taken, and nobody was told
        most = TICK_TASKS // max(1, min(self.scheduler.MAX_BATCH_SIZE, self.gateway.capabilities.largest_batch))
        bounded, seconds = min(max_batches or most, most), -1 if timeout is None else timeout
        most_bytes = FULL_ANSWER_BYTES if full else None
        update = await unless_in_trouble(self.journal, self.iterate(seconds, bounded, request_id, most_bytes))
        self.wake()
        return TickAnswer(update, self.state.ready_count, self.state.revision)

    async def iterate(
        self, seconds: float, max_batches: int | None = None, request_id: str = "", most_bytes: int | None = None
    ) -> TickUpdate:
        """One scheduling iteration, as `Scheduler.tick` does it."""
        with self._observer.tick(self.swarm_id):
            return await self.scheduler.tick(
                seconds, max_batches=max_batches, most_bytes=most_bytes, request_id=request_id
            )

    def _outcome_is_under_way(self, request_id: str) -> bool:
        """Whether batches were taken for this request whose outcome is at the engine, or on its way to the disk."""
        batches = self.swarm.unanswered.get(request_id, ())
        known = (self.state.open_batches.get(batch.batch_id) for batch in batches)
        return not self._draining and any(each is not None and not each.in_doubt for each in known)

    async def remember_tick(self, request_id: str, asked: str, answer: bytes) -> bytes:
        """Keep the answer of a tick for the one who asks again; it may be given when this returns."""
        await self._submit(TickAnswered(request_id, asked, answer), first=True)
        return answer

    def _answered_tick(self, request_id: str) -> tuple[str, bytes] | None:
        known = self.swarm.ticks.get(request_id)
        return None if known is None else (known.asked, known.answer)

    def _answered_load(self, request_id: str) -> tuple[str, LoadAnswer] | None:
        known = self.swarm.loads.get(request_id)
        return None if known is None else (known.asked, known)

    async def wait_for_work(self, seconds: float | None) -> bool:
        """Wait until a tick would queue something or the swarm is finished; False when the time is up first."""
        deadline = None if seconds is None else asyncio.get_running_loop().time() + seconds
        while not (self.state.has_work() or self.state.finished or self._draining):
            left = None if deadline is None else deadline - asyncio.get_running_loop().time()
            if left is not None and left <= 0:
                return False
            await self.wait_for_change(left)
        return True

    async def wait_for_change(self, seconds: float | None) -> None:
        """Return at the next change, or when the time is up."""
        bell: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(bell)
        try:
            async with asyncio.timeout(seconds):
                await bell
        except TimeoutError:
            pass
        finally:
            self._waiting.discard(bell)

    def wake(self) -> None:
        """Something may have changed: let those who wait look again."""
        for bell in self._waiting:
            if not bell.done():
                bell.set_result(None)
        self._waiting.clear()

    # -- the end ---------------------------------------------------------------------------------------------------

    async def drain(self, grace: float) -> None:
        """No new ticks; calls under way finish within the grace time; those who wait are let go."""
        self._draining = True
        self._autopilot.turn(on=False)
        self.wake()
        until = time.monotonic() + grace
        await self.scheduler.drain(max(0.0, grace))
        await self.engine.drain(until - time.monotonic())

    @property
    def is_draining(self) -> bool:
        return self._draining

    def close(self, why: Closing = DRAINING) -> None:
        """End all watches."""
        self.feed.close(why)

    async def delete(self, *, force: bool) -> None:
        """End it for good; its files are the caller's. Raises FailedPreconditionError while tasks are active."""
        active = self.state.active_count
        if active and not force:
            message = f"swarm {self.swarm_id}: {active} tasks are active; cancel them first, or set force"
            raise FailedPreconditionError(message, reason="SWARM_IS_ACTIVE", field="force")
        if self.state.task_count and self.journal.trouble is None:
            await self.cancel(Selector(everything=True), "the swarm was deleted")
        await self.drain(0)
        await self.engine.remove()
        await self.journal.close()
        self.journal = MemoryJournal()  # outcomes that come yet are nobody's any more
        self.close(DELETED)


def _nothing() -> None:
    return
