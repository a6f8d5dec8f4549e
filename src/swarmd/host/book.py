"""JournaledBook: the scheduler's batches, each written down before the engine hears of it, and its outcome after."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from swarmd.core.batch import Batch
from swarmd.core.events import BatchConcluded, BatchDoubted, BatchesHandedOut, BatchTaken, Event, Updated
from swarmd.core.status import TaskStatus
from swarmd.core.update import StateUpdate, TaskStatuses
from swarmd.journal.faults import reach

if TYPE_CHECKING:
    from swarmd.core.change import Change
    from swarmd.core.swarm import Swarm
    from swarmd.journal.contract import Journal

T = TypeVar("T")


class JournaledBook:
    """What a Scheduler in the daemon takes batches from."""

    hands_out = False

    def __init__(
        self,
        swarm: "Swarm",
        journal: "Journal",
        submit: "Callable[[Event], asyncio.Future[Change]]",
        clock: Callable[[], float],
        *,
        came_back: Callable[[], None],
    ) -> None:
        """`submit` writes down what happened already, and applies it; `came_back`: tasks are ready again."""
        self._swarm = swarm
        self._journal = journal
        self._submit = submit
        self._clock = clock
        self._came_back = came_back

    async def take(self, most: int, size: int, request_id: str) -> list[Batch]:
        at = self._clock()

        def reserve() -> list[tuple[Event, Batch]]:
            taken: list[tuple[Event, Batch]] = []
            for batch in self._swarm.state.take_batches(most, size, request_id=request_id, at=at):
                event = BatchTaken(batch.batch_id, batch.task_ids, batch.attempts, request_id)
                self._swarm.apply(event, at)
                taken.append((event, batch))
            return taken

        batches = await self._taken(self._journal.reserve(reserve, self._untake, at), self._give_back)
        reach("tick.taken")
        return batches

    async def _taken(
        self, taking: "asyncio.Future[list[T]]", give_back: "Callable[[asyncio.Future[list[T]]], None]"
    ) -> list[T]:
        try:
            return await asyncio.shield(taking)
        except asyncio.CancelledError:
            taking.add_done_callback(give_back)
            raise

    def _untake(self, batch: Batch) -> None:
        """It could not be written down; who waits for work may not have seen any meanwhile."""
        self._swarm.untake(batch)
        self._came_back()

    def _give_back(self, taking: "asyncio.Future[list[Batch]]") -> None:
        """Whoever wanted them is gone, and no engine has heard of them."""
        if not taking.cancelled() and taking.exception() is None:
            for batch in taking.result():
                self._submit(BatchConcluded(batch.batch_id, returned_ids=batch.task_ids.tolist()))

    def tell(self, statuses: TaskStatuses) -> "asyncio.Future[Change]":
        return self._submit(Updated(StateUpdate(statuses)))

    def conclude(self, batch: Batch, statuses: TaskStatuses, returned_ids: list[int]) -> "asyncio.Future[Change]":
        reach("tick.queued")
        return self._submit(BatchConcluded(batch.batch_id, StateUpdate(statuses), returned_ids))

    def doubt(self, batch: Batch, why: str) -> "asyncio.Future[Change]":
        return self._submit(BatchDoubted(batch.batch_id, why))


class HandingOutBook(JournaledBook):
    """The same where no engine is called: what is taken is written down as handed out, all batches as one event."""

    hands_out = True

    def __init__(
        self,
        swarm: "Swarm",
        journal: "Journal",
        submit: "Callable[[Event], asyncio.Future[Change]]",
        clock: Callable[[], float],
        *,
        came_back: Callable[[], None],
        apply: "Callable[[Event, float], Change]",
    ) -> None:
        """`apply` is for what is written down already."""
        super().__init__(swarm, journal, submit, clock, came_back=came_back)
        self._apply = apply

    async def take(self, most: int, size: int, request_id: str) -> list[Batch]:
        at = self._clock()

        def reserve() -> list[tuple[Event, list[Batch]]]:
            batches = self._swarm.state.take_batches(most, size, request_id=request_id, at=at)
            return [(_handed_out(batches, request_id), batches)] if batches else []

        taking = self._journal.reserve(reserve, self._untake_all, at, lambda event: self._apply(event, at))
        taken = await self._taken(taking, self._take_back)
        reach("tick.taken")
        return [batch for batches in taken for batch in batches]

    def _untake_all(self, batches: list[Batch]) -> None:
        for batch in reversed(batches):
            self._swarm.untake(batch)
        self._came_back()

    def _take_back(self, taking: "asyncio.Future[list[list[Batch]]]") -> None:
        """Whoever wanted them is gone, and nobody else was told of them: their tasks are ready again."""
        if not taking.cancelled() and taking.exception() is None:
            for batches in taking.result():
                back = TaskStatuses()
                for batch in batches:
                    back.add(TaskStatus.REGISTERED, batch.task_ids, batch.attempts)
                self._submit(Updated(StateUpdate(back)))


def _handed_out(batches: list[Batch], request_id: str) -> BatchesHandedOut:
    return BatchesHandedOut(
        [batch.batch_id for batch in batches],
        [len(batch) for batch in batches],
        np.concatenate([batch.task_ids for batch in batches]),
        np.concatenate([batch.attempts for batch in batches]),
        request_id,
    )
