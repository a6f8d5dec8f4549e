"""What a tick answers, also when the daemon that took its batches ended before it could say so."""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass

import numpy as np

from swarmd.core.batch import Batch, BatchResult
from swarmd.core.status import Code, TaskStatus
from swarmd.core.swarm import Swarm
from swarmd.core.update import TaskStatuses
from swarmd.journal.contract import Journal
from swarmd.outcomes import TickUpdate


@dataclass(frozen=True, slots=True)
class TickAnswer:
    """What a tick answers: how the swarm stood when it was over."""

    update: TickUpdate
    ready_count: int
    revision: int


def answer_again(swarm: Swarm, request_id: str) -> TickAnswer:
    """The answer that a tick would have given, of the batches that were taken for it and what is known of them."""
    update = TickUpdate()
    for batch in swarm.unanswered[request_id]:
        result, taken = _what_became_of(swarm, batch)
        update.batch_results.append(result)
        if taken:
            update.batches.append(batch)
    for result in update.batch_results:
        update.task_statuses = update.task_statuses.merged(TaskStatuses(result.task_statuses))
    return TickAnswer(update, swarm.state.ready_count, swarm.state.revision)


def _what_became_of(swarm: Swarm, batch: Batch) -> tuple[BatchResult, bool]:
    """The result of a batch, and whether the engine has any of it."""
    known = swarm.state.open_batches.get(batch.batch_id)
    if known is not None:
        why = f"in doubt: {known.doubt}"
        return BatchResult({}, len(batch), batch.array_id, batch.batch_id, error=why, in_doubt=True), False
    table = swarm.state.table
    came_back = (table.attempt[batch.rows] == batch.attempts) & (table.status[batch.rows] == Code.REGISTERED)
    taken = np.flatnonzero(~came_back)
    statuses = TaskStatuses()
    if len(taken):
        statuses.add(TaskStatus.QUEUED, batch.task_ids[taken], batch.attempts[taken])
    if len(taken) < len(batch):
        statuses.add(TaskStatus.REGISTERED, batch.task_ids[came_back])
    return BatchResult(statuses, len(batch), batch.array_id, batch.batch_id), bool(len(taken))


async def unless_in_trouble(journal: Journal, ticking: Coroutine[None, None, TickUpdate]) -> TickUpdate:
    """What was queued waits in the journal until it can be written; whoever ticked does not wait so long.

    Raises the journal's trouble.
    """
    if not journal.durable:
        return await ticking
    tick = asyncio.ensure_future(ticking)
    trouble = asyncio.ensure_future(journal.in_trouble.wait())
    try:
        await asyncio.wait((tick, trouble), return_when=asyncio.FIRST_COMPLETED)
    finally:
        trouble.cancel()
        if not tick.done():
            tick.cancel()
    if not tick.done():
        await asyncio.wait((tick,))
    if tick.cancelled() and journal.trouble is not None:
        raise journal.trouble
    return tick.result()
