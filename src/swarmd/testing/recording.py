"""Batches to give to a gateway, and a record of what it reports."""

import asyncio
import secrets
from collections.abc import Callable

from swarmd.core.batch import Batch
from swarmd.core.model import Array, Task, TaskResources
from swarmd.core.state import SwarmState
from swarmd.core.status import TaskStatus
from swarmd.core.update import StateUpdate

SWARM = "swarm-1"
PATIENCE = 15.0

ENDS = frozenset(
    {
        TaskStatus.DONE,
        TaskStatus.ERROR_RECOVERABLE,
        TaskStatus.ERROR_FATAL,
        TaskStatus.ADJUSTING_RESOURCES,
        TaskStatus.REGISTERED,
    }
)
"""After which an attempt is over."""


def batch_of(
    *commands: str,
    first_id: int = 1,
    swarm_id: str = SWARM,
    resources: TaskResources | None = None,
    attempt: int = 1,
    name: str = "",
) -> Batch:
    """One batch of tasks with these commands, numbered from `first_id`, of array 7."""
    resources = resources or TaskResources(1)
    tasks = [
        Task(first_id + place, 7, resources.task_resources_id, name=name, command=command, attempt=attempt - 1)
        for place, command in enumerate(commands)
    ]
    state = SwarmState(swarm_id, batch_prefix=f"{swarm_id}-{secrets.token_hex(4)}")
    state.load([Array(7, command="true")], [resources], tasks)
    batch = state.take_batch()
    assert batch is not None
    assert len(batch) == len(commands)
    return batch


class Record:
    """Everything a gateway said, in order."""

    patience = PATIENCE
    """Seconds that it waits for something to be said."""

    def __init__(self) -> None:
        self.updates: list[tuple[str, StateUpdate]] = []
        self.news: list[tuple[str, int, int, TaskStatus, str]] = []
        """Swarm, task, attempt, status and reason."""
        self._more = asyncio.Event()

    def report(self, swarm_id: str, update: StateUpdate) -> None:
        """Hand this to `start`. Every group must have attempts, one beside each task."""
        self.updates.append((swarm_id, update))
        for group in update.task_statuses.groups:
            assert group.attempts is not None, "news without attempts"
            for task_id, attempt in zip(group.task_ids.tolist(), group.attempts.tolist(), strict=True):
                self.news.append((swarm_id, task_id, attempt, group.status, group.reason))
        self._more.set()

    def statuses(self, task_id: int) -> list[TaskStatus]:
        """What was said of a task."""
        return [status for _, other, _, status, _ in self.news if other == task_id]

    def ended_ids(self) -> set[int]:
        """The tasks that are over."""
        return {task_id for _, task_id, _, status, _ in self.news if status in ENDS}

    def end_of(self, task_id: int) -> tuple[TaskStatus, str]:
        """How a task was over, with the reason: once, or it is an error."""
        (end,) = [(status, reason) for _, other, _, status, reason in self.news if other == task_id and status in ENDS]
        return end

    def ends_of(self, task_id: int, attempt: int, swarm_id: str = SWARM) -> set[tuple[TaskStatus, str]]:
        """How an attempt was over, however often that was said."""
        key = swarm_id, task_id, attempt
        return {(status, reason) for *who, status, reason in self.news if tuple(who) == key and status in ENDS}

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until that is true, which is looked at whenever something was said."""
        async with asyncio.timeout(self.patience):
            while not condition():
                self._more.clear()
                await self._more.wait()

    async def ended(self, *task_ids: int) -> None:
        """Wait until these are over."""
        await self.until(lambda: self.ended_ids().issuperset(task_ids))

    async def running(self, *task_ids: int) -> None:
        """Wait until these run."""
        await self.until(lambda: all(TaskStatus.RUNNING in self.statuses(task_id) for task_id in task_ids))
