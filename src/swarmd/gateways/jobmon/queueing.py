"""Queueing: batches on their way to the server, one call at a time for each array, and calls whose answer was lost."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from swarmd.core.batch import Batch
from swarmd.gateways.contract import (
    BatchRefusedError,
    FindOutcome,
    Found,
    OutcomeUnknownError,
    QueueOutcome,
    Refusal,
)
from swarmd.gateways.jobmon.binding import Binding, Bound, NoSuchQueueError
from swarmd.gateways.jobmon.book import Division, News, Statuses, TaskBook
from swarmd.gateways.jobmon.failures import CallError, LostError, NotDoneError, RefusedError
from swarmd.gateways.jobmon.life import task_status_in_words
from swarmd.gateways.jobmon.server import JobmonServer
from swarmd.gateways.jobmon.settings import JobmonSettings, RunOptions
from swarmd.gateways.jobmon.syncing import Syncing

SLOW_SECONDS = 2.0
"""No batch waits for a call for the same array that takes longer: it would be in the way of other arrays."""


class _Turns:
    """Whose turn it is to call for one array."""

    def __init__(self) -> None:
        self._call = asyncio.Lock()
        self._begun = 0.0

    async def __aenter__(self) -> None:
        """Wait for the call before. Raises BatchRefusedError when that one takes long."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                async with asyncio.timeout_at(self._begun + SLOW_SECONDS if self._call.locked() else None):
                    await self._call.acquire()
            except TimeoutError:
                if self._call.locked() and loop.time() >= self._begun + SLOW_SECONDS:
                    raise BatchRefusedError("the call before it for the same array takes long") from None
            else:
                self._begun = loop.time()
                return

    async def __aexit__(self, *_: object) -> None:
        self._call.release()


@dataclass(frozen=True, slots=True)
class _Doubt:
    """A call whose answer was lost."""

    array_id: int
    task_ids: Sequence[int]
    """Those that it was made for."""
    over_at: float
    """When it can no longer be under way."""
    unknown: Sequence[int] = ()
    """Those of the batch that the server does not know: no call was made for them."""


class Queueing:
    """The way of one swarm's batches."""

    def __init__(
        self,
        server: JobmonServer,
        options: RunOptions,
        settings: JobmonSettings,
        *,
        book: TaskBook,
        binding: Binding,
        syncing: Syncing,
        obstacle: Callable[[], str],
        tell: Callable[[News], None],
    ) -> None:
        """`obstacle` says why nothing may be queued now; `tell` hears what an answer says besides."""
        self._server = server
        self._options = options
        self._settings = settings
        self._book = book
        self._binding = binding
        self._syncing = syncing
        self._obstacle = obstacle
        self._tell = tell
        self._arrays: dict[int, _Turns] = {}
        self._blocked: dict[int, float] = {}
        self._doubts: dict[str, _Doubt] = {}
        self._started = asyncio.get_running_loop().time()
        self.array_ids: set[int] = set()
        """The arrays of which something was queued."""

    # -- batches ---------------------------------------------------------------------------------------------------

    async def queue(self, batch: Batch) -> QueueOutcome | None:
        """Queue a batch: as `ServerGateway.queue_batch` has it."""
        self._refuse_if(self._obstacle())
        try:
            bound = await self._binding.bound(batch.task_resources)
        except (NoSuchQueueError, RefusedError) as error:
            return QueueOutcome([Refusal(batch.task_ids.tolist(), str(error), permanent=True)])
        except CallError as error:
            raise BatchRefusedError(f"its resources cannot be bound now: {error}") from error
        async with self._arrays.setdefault(batch.array_id, _Turns()):
            self._refuse_if(self._obstacle() or self._block(batch.array_id))
            return await self._queue(batch, bound)

    async def _queue(self, batch: Batch, bound: Bound) -> QueueOutcome:
        division = self._book.begin_call(batch.task_ids.tolist(), batch.attempts.tolist())
        self.array_ids.add(batch.array_id)
        if division.taken_over:
            self._syncing.hurry(full=True)
        refusals = _unknown(division.unknown)
        if division.to_queue:
            refusals += await self._call(batch, bound, division)
        return QueueOutcome(refusals)

    async def _call(self, batch: Batch, bound: Bound, division: Division) -> list[Refusal]:
        """Queue by a call. Raises OutcomeUnknownError when its answer is lost."""
        task_ids = division.to_queue
        try:
            statuses = await self._server.queue_tasks(
                batch.array_id,
                task_ids,
                resources_id=bound.resources_id,
                run_id=self._options.workflow_run_id,
                cluster_id=bound.cluster_id,
                seconds=self._settings.queue_timeout_seconds,
            )
        except (NotDoneError, RefusedError) as error:
            self._book.not_called(task_ids)
            return [Refusal(task_ids, str(error), permanent=isinstance(error, RefusedError))]
        except LostError as error:
            self._doubt(batch, division)
            raise OutcomeUnknownError(str(error)) from error
        except BaseException:
            self._doubt(batch, division)
            raise
        answered = self._book.answered(task_ids, statuses)
        self._tell(answered.news)
        self._syncing.hurry(full="" in answered.not_queued)
        return [Refusal(ids, _not_queued(status)) for status, ids in answered.not_queued.items()]

    def _refuse_if(self, obstacle: str) -> None:
        if obstacle:
            raise BatchRefusedError(obstacle)

    # -- calls whose answer was lost -------------------------------------------------------------------------------

    def _doubt(self, batch: Batch, division: Division) -> None:
        loop = asyncio.get_running_loop()
        over_at = loop.time() + self._settings.doubt_seconds
        self._doubts[batch.batch_id] = _Doubt(batch.array_id, division.to_queue, over_at, division.unknown)
        self._blocked[batch.array_id] = over_at
        # nobody asks after a batch that was cancelled meanwhile: what the call has queued all the same is to be seen
        loop.call_at(over_at, lambda: self._syncing.hurry(full=True))

    def _block(self, array_id: int) -> str:
        """Two calls for an array at once would give their batches the same number."""
        left = self._blocked.get(array_id, 0.0) - asyncio.get_running_loop().time()
        if left <= 0:
            return ""
        return f"array {array_id}: the answer to the call before was lost; it may be under way for {left:.0f} s more"

    async def find(self, batch: Batch) -> FindOutcome:
        """What became of a batch in doubt: as `ServerGateway.find_batch` has it."""
        doubt = self._doubts.get(batch.batch_id) or self._earlier_doubt(batch)
        is_over = asyncio.get_running_loop().time() >= doubt.over_at
        try:
            async with asyncio.timeout(self._settings.call_timeout_seconds):
                statuses: Statuses = await self._syncing.all_statuses()
        except (CallError, TimeoutError):
            return FindOutcome(Found.UNKNOWN)
        found = self._book.found(doubt.task_ids, statuses, is_over=is_over)
        if not (found.carried_out or is_over):
            return FindOutcome(Found.UNKNOWN)
        del self._doubts[batch.batch_id]
        self._unblock(batch.array_id)
        if not found.carried_out:
            return FindOutcome(Found.NOT_QUEUED)
        refusals = _unknown(doubt.unknown)
        if found.not_queued:
            why = "Jobmon's server has not queued it, or its attempt is over already"
            refusals.append(Refusal(found.not_queued, why))
        return FindOutcome(Found.QUEUED, refusals)

    def _earlier_doubt(self, batch: Batch) -> _Doubt:
        """A batch that an earlier daemon began to queue."""
        task_ids, over_at = batch.task_ids.tolist(), self._started + self._settings.doubt_seconds
        self._book.doubt(task_ids, batch.attempts.tolist())
        self._blocked[batch.array_id] = max(over_at, self._blocked.get(batch.array_id, 0.0))
        doubt = self._doubts[batch.batch_id] = _Doubt(batch.array_id, task_ids, over_at)
        return doubt

    def _unblock(self, array_id: int) -> None:
        if all(doubt.array_id != array_id for doubt in self._doubts.values()):
            self._blocked.pop(array_id, None)


def _unknown(task_ids: Sequence[int]) -> list[Refusal]:
    return [Refusal(task_ids, "Jobmon's server does not know the task", permanent=True)] if task_ids else []


def _not_queued(status: str) -> str:
    if not status:
        return "Jobmon's server left it out of its answer: it was not queued"
    return f"Jobmon's server did not queue it: its status is {task_status_in_words(status)}"
