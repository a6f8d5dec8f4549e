"""Scheduler: one scheduling iteration over a SwarmState and a gateway, for Python programs and for the daemon.

Takes batches while there is room, queues them several at a time, and turns each outcome into an update. It owns the
calls: neither a timeout nor a caller that gives up stops one that is under way.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from swarmd.allowance import Allowance
from swarmd.books import BatchBook, DirectBook
from swarmd.core.batch import MAX_BATCH_SIZE, Batch, BatchResult
from swarmd.core.errors import StorageError
from swarmd.core.model import MAX_REASON_BYTES
from swarmd.core.state import SwarmState
from swarmd.core.status import TaskStatus
from swarmd.core.update import StateUpdate, StatusGroup, TaskStatuses
from swarmd.gateways.contract import (
    BatchRefusedError,
    FindOutcome,
    Found,
    OutcomeUnknownError,
    QueueOutcome,
    Refusal,
    ServerGateway,
)
from swarmd.observing.subject import BATCH

log = logging.getLogger(__name__)

DEFAULT_IN_FLIGHT = 8
FIRST_ASK_SECONDS = 0.2
LONGEST_ASK_SECONDS = 30.0


@dataclass
class TickUpdate(StateUpdate):
    """What a tick changed, and what became of each of its batches."""

    batch_results: list[BatchResult] = field(default_factory=list)
    batches: list[Batch] = field(default_factory=list)
    """The batches that the engine took, wholly or in part."""
    timed_out: bool = False
    """The timeout passed with work left to start, or calls still under way."""


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
        self._calls: set[asyncio.Task[None]] = set()
        self._asking: set[asyncio.Task[None]] = set()
        self._late = _Outcomes()
        self._is_closing = False

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
        return len(self._calls)

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
        raised: the BatchResult tells. `request_id` is remembered with the batches.
        `most_bytes`: no batch is taken any more when the names and commands of those before come to so much.
        """
        deadline = None if timeout < 0 else asyncio.get_running_loop().time() + timeout
        run = _Run(self._late)
        self._late = _Outcomes()
        try:
            allowance = Allowance(max_batches, most_bytes, self._state.table)
            timed_out = await self._take(run, deadline, allowance, request_id)
            await self._give_back_refused(run)
            if run.calls:
                _, pending = await asyncio.wait(run.calls, timeout=_left(deadline))
                timed_out = timed_out or bool(pending)
            if run.writing:  # what the answer tells is noted first, also when the time is up
                await asyncio.wait(run.writing)
        except BaseException:
            self._late = run.outcomes.followed_by(self._late)  # nobody gets this tick's answer: the next one tells
            raise
        finally:
            self._give_back_refused(run)
            run.is_over = True
        return run.outcomes.as_update(timed_out=timed_out)

    async def drain(self, grace: float | None = None) -> bool:
        """Wait for the calls under way, at most `grace` seconds; True when none is left. Start no tick after it."""
        self._is_closing = True
        for task in self._asking:
            task.cancel()
        if self._calls:
            await asyncio.wait(self._calls, timeout=grace)
        return not self._calls

    # -- taking ----------------------------------------------------------------------------------------------------

    async def _take(self, run: "_Run", deadline: float | None, allowance: "Allowance", request_id: str) -> bool:
        """Start calls until nothing may go any more. Returns whether the deadline ended it."""
        loop = asyncio.get_running_loop()
        size = allowance.batch_size(min(MAX_BATCH_SIZE, self._gateway.capabilities.largest_batch))
        while allowance.batches(size) and not self._is_closing:
            if deadline is not None and loop.time() >= deadline:
                return self._state.has_work()
            free = self._max_in_flight - len(self._calls) - self._taking
            if free <= 0:
                if not self._state.has_work():
                    return False
                await self._until_one_is_over(deadline)
                continue
            wanted = min(free, allowance.batches(size))
            batches = await self._taken(wanted, size, request_id)
            for batch in batches:
                self._start_call(batch, run)
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

    async def _until_one_is_over(self, deadline: float | None) -> None:
        if self._calls:
            await asyncio.wait(self._calls, timeout=_left(deadline), return_when=asyncio.FIRST_COMPLETED)
        else:
            await asyncio.sleep(0)  # another tick is taking batches just now

    def _start_call(self, batch: Batch, run: "_Run") -> None:
        call = asyncio.create_task(self._queue(batch, run), name=f"queue {batch.batch_id}")
        self._calls.add(call)
        run.calls.add(call)
        call.add_done_callback(self._calls.discard)

    def _give_back_refused(self, run: "_Run") -> Awaitable[object]:
        """Only when the tick takes no more: what was refused must not be offered again and again in one tick."""
        run.takes_no_more = True
        back = [self._book.conclude(batch, StateUpdate(), task_ids) for batch, task_ids in run.refused]
        run.refused.clear()
        return asyncio.gather(*back)

    # -- queueing --------------------------------------------------------------------------------------------------

    async def _queue(self, batch: Batch, run: "_Run") -> None:
        """One call to the gateway and what follows from its outcome."""
        BATCH.set(batch.batch_id)
        try:
            decision = _decision(batch, await self._gateway.queue_batch(batch) or QueueOutcome())
        except BatchRefusedError as error:
            await self._refused(batch, run, _shortened(str(error)) or "refused by the engine")
        except (OutcomeUnknownError, TimeoutError) as error:
            await self._in_doubt(batch, run, _described(error))
        except Exception as error:  # noqa: BLE001 - whatever a gateway raises must lose no task
            if self._gateway.capabilities.can_find:
                await self._in_doubt(batch, run, _described(error))
            else:
                await self._refused(batch, run, _described(error))
        except BaseException as error:
            self._in_doubt(batch, run, _described(error), ask=not _is_being_cancelled())
            raise
        else:
            await self._decided(batch, run, decision)

    async def _decided(self, batch: Batch, run: "_Run", decision: "_Decision") -> None:
        """The engine decided: its word becomes an update, and what it did not take comes back."""
        outcome, coming_back = decision
        update = StateUpdate(TaskStatuses(list(outcome.groups)))
        if coming_back and not run.takes_no_more:
            run.refused.append((batch, coming_back))
            written = self._book.tell(update)
        else:
            written = self._book.conclude(batch, update, coming_back)
        run.note(written)
        self._tell(run, outcome)
        try:
            await written
        except StorageError as error:  # the daemon has ended but for this: the next one finds the batch in doubt
            log.warning("the outcome of batch %s is not written down: %s", batch.batch_id, error.message)
        if outcome.batches:
            await self._end_cancelled(batch)

    async def _refused(self, batch: Batch, run: "_Run", why: str) -> None:
        await self._decided(batch, run, _outcome_of(batch, [Refusal(batch.task_ids.tolist(), why)]))

    def _in_doubt(self, batch: Batch, run: "_Run", why: str, *, ask: bool = True) -> "asyncio.Future[object]":
        result = BatchResult({}, len(batch), batch.array_id, batch.batch_id, error=f"in doubt: {why}", in_doubt=True)
        self._tell(run, _Outcomes(results=[result]))
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
        """Ask the engine what became of a batch in doubt, less and less often, until it says or news has told."""
        pause, late = FIRST_ASK_SECONDS, _Run(_Outcomes(), takes_no_more=True, is_over=True)
        while True:
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_ASK_SECONDS)
            if batch.batch_id not in self._state.open_batches:
                return None
            decision = await self._find(batch)
            if decision is not None:
                return await self._decided(batch, late, decision)

    async def _find(self, batch: Batch) -> "_Decision | None":
        """What the engine says of a batch in doubt; None when it cannot say now, whatever it raises."""
        try:
            answer = await self._gateway.find_batch(batch)
            if answer.found is Found.QUEUED:
                return _decision(batch, answer)
            if answer.found is Found.NOT_QUEUED:
                return _outcome_of(batch, [Refusal(batch.task_ids.tolist(), "the engine does not know the batch")])
        except asyncio.CancelledError:
            if _is_being_cancelled():
                raise
        except Exception as error:  # noqa: BLE001 - the batch stays in doubt and is asked after again
            log.info("what became of batch %s cannot be told yet: %s", batch.batch_id, _described(error))
        return None

    def _tell(self, run: "_Run", outcome: "_Outcomes") -> None:
        """Hand an outcome to the answer of its tick or, when that is over, of the next."""
        (self._late if run.is_over else run.outcomes).add(outcome)

    async def _end_cancelled(self, batch: Batch) -> None:
        """Tasks that were cancelled while their batch was being queued: the engine has them now, so tell it."""
        if not self._gateway.capabilities.can_cancel:
            return
        places = self._state.cancelled_in(batch)
        if len(places):
            ids, attempts = batch.task_ids[places].tolist(), batch.attempts[places].tolist()
            try:
                await self._gateway.cancel_tasks(batch.swarm_id, ids, attempts, "cancelled while it was being queued")
            except Exception:
                log.exception("the engine could not be told that tasks of batch %s were cancelled", batch.batch_id)


class _Outcomes:
    """Outcomes of calls, collected for the answer of a tick."""

    def __init__(self, results: list[BatchResult] | None = None) -> None:
        self.results = results or []
        self.batches: list[Batch] = []
        self.groups = TaskStatuses().groups

    def add(self, other: "_Outcomes") -> None:
        self.results += other.results
        self.batches += other.batches
        self.groups += other.groups

    def followed_by(self, other: "_Outcomes") -> "_Outcomes":
        self.add(other)
        return self

    def as_update(self, *, timed_out: bool) -> TickUpdate:
        """All QUEUED tasks as one group, the rest as they are."""
        queued = [group for group in self.groups if group.status is TaskStatus.QUEUED]
        statuses = TaskStatuses([group for group in self.groups if group.status is not TaskStatus.QUEUED])
        if queued:
            fences = [group.attempts for group in queued if group.attempts is not None]
            statuses.add(
                TaskStatus.QUEUED, np.concatenate([group.task_ids for group in queued]), np.concatenate(fences)
            )
        return TickUpdate(statuses, batch_results=self.results, batches=self.batches, timed_out=timed_out)


@dataclass(eq=False)
class _Run:
    """One tick while it goes on."""

    outcomes: _Outcomes
    calls: set[asyncio.Task[None]] = field(default_factory=set)
    refused: list[tuple[Batch, list[int]]] = field(default_factory=list)
    """Held until the tick takes no more batches."""
    writing: set[asyncio.Future[object]] = field(default_factory=set)
    """What is being noted of its outcomes."""
    takes_no_more: bool = False
    is_over: bool = False

    def note(self, written: "asyncio.Future[object]") -> None:
        self.writing.add(written)
        written.add_done_callback(self.writing.discard)


_Decision = tuple[_Outcomes, list[int]]
"""What an engine's word means, and the tasks that come back."""


def _decision(batch: Batch, answer: QueueOutcome | FindOutcome) -> _Decision:
    """What the engine's answer means. Raises OutcomeUnknownError when it cannot be read: something was done."""
    try:
        return _outcome_of(batch, answer.refusals)
    except Exception as error:
        raise OutcomeUnknownError(f"the gateway's answer cannot be read: {_described(error)}") from error


def _all_taken(batch: Batch) -> _Decision:
    """The usual outcome."""
    group = StatusGroup(TaskStatus.QUEUED, batch.task_ids, batch.attempts)
    outcome = _Outcomes([BatchResult(TaskStatuses([group]), len(batch), batch.array_id, batch.batch_id)])
    outcome.batches.append(batch)
    outcome.groups.append(group)
    return outcome, []


def _outcome_of(batch: Batch, refusals: Sequence[Refusal]) -> _Decision:
    if not refusals:
        return _all_taken(batch)
    outcome, statuses = _Outcomes(), TaskStatuses()
    taken = np.ones(len(batch), dtype=np.bool_)
    coming_back: list[int] = []
    for refusal in refusals:
        named = set(refusal.task_ids)  # whatever it names that it was not asked for changes nothing
        mask = np.array([task_id in named for task_id in batch.task_ids.tolist()], dtype=np.bool_) & taken
        taken &= ~mask
        if refusal.permanent:
            reason = _shortened(refusal.reason)
            statuses.add(TaskStatus.ERROR_FATAL, batch.task_ids[mask], batch.attempts[mask], reason)
        else:
            coming_back += batch.task_ids[mask].tolist()
    if taken.any():
        statuses.add(TaskStatus.QUEUED, batch.task_ids[taken], batch.attempts[taken])
        outcome.batches.append(batch)
    outcome.groups += statuses.groups
    shown = TaskStatuses(list(statuses.groups))
    if coming_back:
        shown.add(TaskStatus.REGISTERED, coming_back)
    why = _shortened("; ".join(dict.fromkeys(refusal.reason for refusal in refusals)))
    outcome.results.append(BatchResult(shown, len(batch), batch.array_id, batch.batch_id, error=why))
    return outcome, coming_back


def _left(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - asyncio.get_running_loop().time())


def _described(error: BaseException) -> str:
    text = str(error)
    return _shortened(f"{type(error).__name__}: {text}" if text else type(error).__name__)


def _shortened(text: str) -> str:
    """As much of a gateway's words as a task may keep, and nothing that a message cannot carry."""
    return text.encode(errors="replace")[:MAX_REASON_BYTES].decode(errors="ignore")


def _is_being_cancelled() -> bool:
    """Whether somebody cancels us; otherwise a CancelledError is the gateway's own."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
