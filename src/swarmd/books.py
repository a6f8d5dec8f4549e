"""Where the Scheduler takes batches from, and notes what becomes of them."""

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from swarmd.core.batch import Batch
from swarmd.core.state import SwarmState
from swarmd.core.update import StateUpdate, TaskStatuses


class BatchBook(Protocol):
    """Where batches come from, and where it is noted what becomes of them. The daemon's writes it down."""

    @property
    def hands_out(self) -> bool:
        """Whether what was taken is whoever ticked's already: no engine is called, and its outcome is noted."""

    async def take(self, most: int, size: int, request_id: str) -> list[Batch]:
        """Reserve up to `most` batches of up to `size` tasks; on return nobody else ever gets them."""

    def tell(self, statuses: TaskStatuses) -> "asyncio.Future[Any]":
        """Some of what an engine said of a batch; the rest comes later."""

    def conclude(self, batch: Batch, statuses: TaskStatuses, returned_ids: list[int]) -> "asyncio.Future[Any]":
        """All that an engine said of a batch: it is open no more, and these tasks of it are ready again."""

    def doubt(self, batch: Batch, why: str) -> "asyncio.Future[Any]":
        """What became of a batch is not known."""


class DirectBook:
    """Notes everything in the state at once. Updates are applied by `apply`, or left to the caller of `tick`."""

    hands_out = False

    def __init__(
        self,
        state: SwarmState,
        *,
        apply: Callable[[StateUpdate], object] | None,
        came_back: Callable[[], object] | None,
        clock: Callable[[], float],
    ) -> None:
        self._state = state
        self._apply = apply
        self._came_back = came_back
        self._clock = clock

    async def take(self, most: int, size: int, request_id: str) -> list[Batch]:
        return self._state.take_batches(most, size, request_id=request_id, at=self._clock())

    def tell(self, statuses: TaskStatuses) -> "asyncio.Future[Any]":
        if self._apply is not None and statuses:
            self._apply(StateUpdate(statuses))
        return _over()

    def conclude(self, batch: Batch, statuses: TaskStatuses, returned_ids: list[int]) -> "asyncio.Future[Any]":
        if returned_ids:
            self._state.give_back(batch, returned_ids)
        self._state.settle(batch)
        if returned_ids and self._came_back is not None:
            self._came_back()
        return self.tell(statuses)

    def doubt(self, batch: Batch, why: str) -> "asyncio.Future[Any]":
        self._state.doubt(batch, why)
        return _over()


def _over() -> "asyncio.Future[Any]":
    over: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    over.set_result(None)
    return over
