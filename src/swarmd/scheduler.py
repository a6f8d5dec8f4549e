"""Scheduler: one scheduling iteration over a SwarmState and a gateway, for Python programs and for the daemon.

Takes batches while there is room, queues them several at a time, and turns each outcome into an update. It owns the
calls: neither a timeout nor a caller that gives up stops one that is under way.
"""

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from contextvars import Context, copy_context
from dataclasses import dataclass, field

from swarmd.allowance import Allowance
from swarmd.books import BatchBook, DirectBook
from swarmd.core.batch import MAX_BATCH_SIZE, Batch, BatchResult
from swarmd.core.errors import StorageError
from swarmd.core.state import SwarmState
from swarmd.core.update import StateUpdate, TaskStatuses
from swarmd.gateways.contract import (
    BatchRefusedError,
    Found,
    OutcomeUnknownError,
    Refusal,
    ServerGateway,
)
from swarmd.observing.subject import BATCH
from swarmd.outcomes import Decision, Outcomes, TickUpdate, all_taken, decision_of, described, outcome_of, shortened
from swarmd.refusals import Refusals

log = logging.getLogger(__name__)

DEFAULT_IN_FLIGHT = 8
FIRST_ASK_SECONDS = 0.2
LONGEST_ASK_SECONDS = 30.0


class Scheduler:
    """Queues what is ready, within the limits.

    >>> scheduler = Scheduler(gateway, state)
    >>> update = await scheduler.tick(timeout=30.0)
    >>> state.apply_update(update)

    With `apply` each outcome is handed to it the moment it is there (the daemon does this); without it, outcomes are
    for the caller of `tick` to apply, and those that come after their tick are part of the next one's update.
    `came_back` is called whenever tasks that the engine did not take are ready again: no update tells of that. A `book`
    of one's own takes the place of both.
    """

    MAX_BATCH_SIZE = MAX_BATCH_SIZE

    def __init__(
        self,
        gateway: ServerGateway,
        state: SwarmState,
        *,
        max_in_flight: int = DEFAULT_IN_FLIGHT,
        apply: Callable[[StateUpdate], object] | None = None,
        came_back: Callable[[], object] | None = None,
        book: BatchBook | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if max_in_flight < 1:
            raise ValueError(f"max_in_flight: {max_in_flight} is not allowed; give 1 or more")
        self._gateway = gateway
        self._state = state
        self._max_in_flight = max_in_flight
        self._book = book or DirectBook(state, apply=apply, came_back=came_back, clock=clock)
        self._taking = 0
        self._under_way = 0
        self._workers: set[asyncio.Task[None]] = set()
        self._bells: list[asyncio.Future[None]] = []
        self._asking: set[asyncio.Task[None]] = set()
        self._late = Outcomes()
        self._is_closing = False
        self.refusals = Refusals(clock)
        """What the engine refuses just now."""

    @property
    def max_concurrently_running(self) -> int:
        """The swarm's concurrency limit, which the state keeps; settable."""
        return self._state.max_concurrently_running

    @max_concurrently_running.setter
    def max_concurrently_running(self, limit: int) -> None:
        self._state.max_concurrently_running = limit

    def has_work(self) -> bool:
        """Whether a tick would now queue at least one task."""
        return self._state.has_work()

    @property
    def calls_under_way(self) -> int:
        """How many batches are being queued just now."""
        return self._under_way

    async def tick(
        self,
        timeout: float = -1,  # noqa: ASYNC109
        *,
        max_batches: int | None = None,
        most_bytes: int | None = None,
        request_id: str = "",
    ) -> TickUpdate:
        """One scheduling iteration: take batches, queue them, and return what changed.

        `timeout` in seconds: no new batch starts after it and the tick returns; -1 is unlimited. Tasks that the engine
        refused are ready again, in their old order, once the tick takes no more batches. Raises nothing that a gateway
        raised: the BatchResult tells. `request_id` is remembered with the batches: what a tick that fails handed out
        under it is for its repeat, and no later tick tells of it.
        `most_bytes`: no batch is taken any more when the names and commands of those before come to so much.
        """
        deadline = None if timeout < 0 else asyncio.get_running_loop().time() + timeout
        run, before, self._late = _Run(Outcomes()), self._late, Outcomes()
        try:
            allowance = Allowance(max_batches, most_bytes, self._state.table)
            timed_out = await self._take(run, deadline, allowance, request_id)
            await self._give_back_refused(run)
            while run.under_way and not _is_past(deadline):
                await self._until_one_is_over(deadline)
            timed_out = timed_out or run.under_way > 0
            if run.writing:  # what the answer tells is noted first, also when the time is up
                await asyncio.wait(run.writing)
        except BaseException:
            if not (request_id and self._book.hands_out):  # what was handed out is told to the repeat of this tick
                before.add(run.outcomes)  # nobody gets this tick's answer: the next one tells
            self._late = before.followed_by(self._late)
            raise
        finally:
            self._give_back_refused(run)
            run.is_over = True
        return before.followed_by(run.outcomes).as_update(timed_out=timed_out)

    async def drain(self, grace: float | None = None) -> bool:
        """Wait for the calls under way, at most `grace` seconds; True when none is left. Start no tick after it."""
        self._is_closing = True
        for task in self._asking:
            task.cancel()
        deadline = None if grace is None else asyncio.get_running_loop().time() + grace
        while self._under_way and not _is_past(deadline):
            await self._until_one_is_over(deadline)
        return not self._under_way

    # -- taking ----------------------------------------------------------------------------------------------------

    async def _take(self, run: "_Run", deadline: float | None, allowance: "Allowance", request_id: str) -> bool:
        """Start calls until nothing may go any more. Returns whether the deadline ended it."""
        size = allowance.batch_size(min(MAX_BATCH_SIZE, self._gateway.capabilities.largest_batch))
        while allowance.batches(size) and not self._is_closing:
            if _is_past(deadline):
                return self._state.has_work()
            free = self._max_in_flight - self._under_way - self._taking
            if free <= 0:
                if not self._state.has_work():
                    return False
                await self._until_one_is_over(deadline)
                continue
            wanted = min(free, allowance.batches(size))
            batches = await self._taken(wanted, size, request_id)
            if self._book.hands_out:
                for batch in batches:
                    self._tell(run, all_taken(batch)[0])
            else:
                self._start_calls(batches, run)
            if len(batches) < wanted:
                return False
            allowance.spend(batches)
        return False

    async def _taken(self, wanted: int, size: int, request_id: str) -> list[Batch]:
        self._taking += wanted
        try:
            return await self._book.take(wanted, size, request_id)
        finally:
            self._taking -= wanted
            self._ring_bells()

    async def _until_one_is_over(self, deadline: float | None) -> None:
        """Return when a call has ended, when another tick has taken its batches, or when the time is up."""
        loop = asyncio.get_running_loop()
        bell: asyncio.Future[None] = loop.create_future()
        self._bells.append(bell)
        timer = None if deadline is None else loop.call_at(deadline, _ring, (bell,))
        try:
            await bell
        finally:
            if timer is not None:
                timer.cancel()
            with contextlib.suppress(ValueError):
                self._bells.remove(bell)

    def _give_back_refused(self, run: "_Run") -> Awaitable[object]:
        """Only when the tick takes no more: what was refused must not be offered again and again in one tick."""
        run.takes_no_more = True
        back = [self._book.conclude(batch, TaskStatuses(), task_ids) for batch, task_ids in run.refused]
        run.refused.clear()
        return asyncio.gather(*back)

    # -- queueing --------------------------------------------------------------------------------------------------

    def _start_calls(self, batches: list[Batch], run: "_Run") -> None:
        self._under_way += len(batches)
        run.under_way += len(batches)
        run.waiting.extend(batches)
        self._start_worker(run)

    def _start_worker(self, run: "_Run") -> None:
        """Have what waits be queued, unless somebody is about to."""
        if run.waiting and not run.worker_is_coming:
            run.worker_is_coming = True
            worker = asyncio.create_task(self._work(run), context=run.context.copy())
            self._workers.add(worker)
            worker.add_done_callback(self._workers.discard)

    async def _work(self, run: "_Run") -> None:
        """Queue one batch after the other. While a call takes its time another worker goes on with what waits.

        So a call has a task of its own as soon as it waits for anything, and calls that do not wait share one.
        """
        run.worker_is_coming = False
        myself = asyncio.current_task()
        try:
            while run.waiting:
                batch = run.waiting.popleft()
                self._start_worker(run)
                try:
                    await self._queue(batch, run)
                finally:
                    self._one_is_over(run)
                if myself is not None and myself.cancelling():
                    return
        finally:
            self._start_worker(run)

    def _one_is_over(self, run: "_Run") -> None:
        self._under_way -= 1
        run.under_way -= 1
        self._ring_bells()

    def _ring_bells(self) -> None:
        if self._bells:
            bells, self._bells = self._bells, []
            _ring(bells)

    async def _queue(self, batch: Batch, run: "_Run") -> None:
        """One call to the gateway and what follows from its outcome."""
        BATCH.set(batch.batch_id)
        try:
            answer = await self._gateway.queue_batch(batch)
            decision = all_taken(batch) if answer is None else decision_of(batch, answer)
        except BatchRefusedError as error:
            await self._refused(batch, run, shortened(str(error)) or "refused by the engine")
        except (OutcomeUnknownError, TimeoutError) as error:
            await self._in_doubt(batch, run, described(error))
        except Exception as error:  # noqa: BLE001 - whatever a gateway raises must lose no task
            if self._gateway.capabilities.can_find:
                await self._in_doubt(batch, run, described(error))
            else:
                await self._refused(batch, run, described(error))
        except BaseException as error:
            self._in_doubt(batch, run, described(error), ask=not _is_being_cancelled())
            raise
        else:
            await self._decided(batch, run, self._noted(batch, decision))

    def _noted(self, batch: Batch, decision: "Decision") -> "Decision":
        """The same of a batch that the engine has looked at: what it did not take it refuses."""
        outcome, coming_back = decision
        if coming_back:
            self.refusals.note(batch, outcome.results[-1].error)
        else:
            self.refusals.took(batch)
        return decision

    async def _decided(self, batch: Batch, run: "_Run", decision: "Decision") -> None:
        """The engine decided: its word becomes an update, and what it did not take comes back."""
        outcome, coming_back = decision
        statuses = TaskStatuses(list(outcome.groups))
        if coming_back and not run.takes_no_more:
            run.refused.append((batch, coming_back))
            written = self._book.tell(statuses)
        else:
            written = self._book.conclude(batch, statuses, coming_back)
        self._tell(run, outcome)
        run.note(written)
        try:
            await written
        except StorageError as error:  # the daemon has ended but for this: the next one finds the batch in doubt
            log.warning("the outcome of batch %s is not written down: %s", batch.batch_id, error.message)
        if outcome.batches and self._gateway.capabilities.can_cancel:
            await self._end_cancelled(batch)

    async def _refused(self, batch: Batch, run: "_Run", why: str) -> None:
        refused = outcome_of(batch, [Refusal(batch.task_ids.tolist(), why)])
        await self._decided(batch, run, self._noted(batch, refused))

    def _in_doubt(self, batch: Batch, run: "_Run", why: str, *, ask: bool = True) -> "asyncio.Future[object]":
        result = BatchResult({}, len(batch), batch.array_id, batch.batch_id, error=f"in doubt: {why}", in_doubt=True)
        self._tell(run, Outcomes(results=[result]))
        if ask:
            self.ask(batch)
        written = self._book.doubt(batch, why)
        run.note(written)
        return written

    def ask(self, batch: Batch) -> None:
        """Ask the engine, until it says, what became of a batch in doubt."""
        if self._gateway.capabilities.can_find and not self._is_closing:
            task = asyncio.create_task(self._ask_until_known(batch), name=f"find {batch.batch_id}")
            self._asking.add(task)
            task.add_done_callback(self._asking.discard)

    async def _ask_until_known(self, batch: Batch) -> None:
        """Ask the engine what became of a batch in doubt, less and less often, until it says or news has told.

        That tasks were cancelled is no news from the engine: it may have them, and not know yet that they are to end.
        """
        pause, late = FIRST_ASK_SECONDS, _Run(Outcomes(), takes_no_more=True, is_over=True)
        while True:
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_ASK_SECONDS)
            if batch.batch_id not in self._state.open_batches and not len(self._state.cancelled_in(batch)):
                return None
            decision = await self._find(batch)
            if decision is not None:
                return await self._decided(batch, late, decision)

    async def _find(self, batch: Batch) -> "Decision | None":
        """What the engine says of a batch in doubt; None when it cannot say now, whatever it raises."""
        try:
            answer = await self._gateway.find_batch(batch)
            if answer.found is Found.QUEUED:
                return self._noted(batch, decision_of(batch, answer))
            if answer.found is Found.NOT_QUEUED:
                return outcome_of(batch, [Refusal(batch.task_ids.tolist(), "the engine does not know the batch")])
        except asyncio.CancelledError:
            if _is_being_cancelled():
                raise
        except Exception as error:  # noqa: BLE001 - the batch stays in doubt and is asked after again
            log.info("what became of batch %s cannot be told yet: %s", batch.batch_id, described(error))
        return None

    def _tell(self, run: "_Run", outcome: "Outcomes") -> None:
        """Hand an outcome to the answer of its tick or, when that is over, of the next."""
        (self._late if run.is_over else run.outcomes).add(outcome)

    async def _end_cancelled(self, batch: Batch) -> None:
        """Tasks that were cancelled while their batch was being queued: the engine has them now, so tell it."""
        places = self._state.cancelled_in(batch)
        if len(places):
            ids, attempts = batch.task_ids[places].tolist(), batch.attempts[places].tolist()
            try:
                await self._gateway.cancel_tasks(batch.swarm_id, ids, attempts, "cancelled while it was being queued")
            except Exception:
                log.exception("the engine could not be told that tasks of batch %s were cancelled", batch.batch_id)


@dataclass(eq=False)
class _Run:
    """One tick while it goes on."""

    outcomes: Outcomes
    context: Context = field(default_factory=copy_context)
    """What its calls are part of."""
    waiting: deque[Batch] = field(default_factory=deque)
    """Batches that no worker has begun with."""
    worker_is_coming: bool = False
    """A worker was started that has not begun yet."""
    under_way: int = 0
    """How many of its batches are being queued, or wait for that."""
    refused: list[tuple[Batch, list[int]]] = field(default_factory=list)
    """Held until the tick takes no more batches."""
    writing: set[asyncio.Future[object]] = field(default_factory=set)
    """What is being noted of its outcomes."""
    takes_no_more: bool = False
    is_over: bool = False

    def note(self, written: "asyncio.Future[object]") -> None:
        if not written.done():
            self.writing.add(written)
            written.add_done_callback(self.writing.discard)


def _is_past(deadline: float | None) -> bool:
    return deadline is not None and asyncio.get_running_loop().time() >= deadline


def _ring(bells: Iterable["asyncio.Future[None]"]) -> None:
    for bell in bells:
        if not bell.done():
            bell.set_result(None)


def _is_being_cancelled() -> bool:
    """Whether somebody cancels us; otherwise a CancelledError is the gateway's own."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
