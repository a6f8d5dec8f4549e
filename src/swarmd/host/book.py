"""JournaledBook: the scheduler's batches, each written down before the engine hears of it, and its outcome after."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from swarmd.core.batch import Batch
from swarmd.core.events import BatchConcluded, BatchDoubted, BatchTaken, Event, Updated
from swarmd.core.update import StateUpdate, TaskStatuses
from swarmd.journal.faults import reach

if TYPE_CHECKING:
    from swarmd.core.change import Change
    from swarmd.core.swarm import Swarm
    from swarmd.journal.contract import Journal


class JournaledBook:
    """What a Scheduler in the daemon takes batches from."""

    def __init__(
        self,
        swarm: "Swarm",
        journal: "Journal",
        submit: "Callable[[Event], asyncio.Future[Change]]",
        clock: Callable[[], float],
        *,
        hands_out: bool,
        came_back: Callable[[], None],
    ) -> None:
        """`submit` writes down what happened already, and applies it; `came_back`: tasks are ready again."""
        self._swarm = swarm
        self._journal = journal
        self._submit = submit
        self._clock = clock
        self._hands_out = hands_out
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

        taking = self._journal.reserve(reserve, self._untake, at)
        try:
            batches = await asyncio.shield(taking)
        except asyncio.CancelledError:
            taking.add_done_callback(self._give_back)
            raise
        reach("tick.taken")
        return batches

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
        handed_out = self._hands_out and len(returned_ids) < len(batch)
        return self._submit(BatchConcluded(batch.batch_id, StateUpdate(statuses), returned_ids, handed_out))

    def doubt(self, batch: Batch, why: str) -> "asyncio.Future[Change]":
        return self._submit(BatchDoubted(batch.batch_id, why))
