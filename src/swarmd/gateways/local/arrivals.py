"""Batches as attempts, in the order in which they came.

Used by the local gateway, for what it is given and for what an earlier daemon had.
"""

import itertools
from collections.abc import Iterator, Sequence

from swarmd.core.batch import Batch, Specs
from swarmd.core.status import Code
from swarmd.gateways.local.attempt import Attempt, LocalSwarm
from swarmd.gateways.local.machine import Shape
from swarmd.gateways.trace import TRACEPARENT


class Arrivals:
    """Numbers all attempts that ever arrive."""

    def __init__(self) -> None:
        self._orders = itertools.count()

    def of(self, swarm: LocalSwarm, batch: Batch, *, inherited: bool = False) -> Iterator[Attempt]:
        """One by one, as there may be very many."""
        shape, runtime = Shape.of(batch.task_resources), batch.task_resources.runtime_seconds
        trace = TRACEPARENT.get()
        rows, ids, numbers = batch.rows.tolist(), batch.task_ids.tolist(), batch.attempts.tolist()
        specs = Specs(batch.table, batch.swarm_id, batch.array)
        for row, task_id, number in zip(rows, ids, numbers, strict=True):
            spec = specs.of(row, task_id, number)
            yield Attempt(swarm, batch.array_id, spec, shape, runtime, next(self._orders), trace, inherited)

    def inherited(self, swarm: LocalSwarm, batches: Sequence[Batch]) -> Iterator[Attempt]:
        """Those of these batches that an earlier daemon had, and that are not known here."""
        for batch in batches:
            running = batch.table.status[batch.rows] == Code.RUNNING
            for attempt, was_running in zip(self.of(swarm, batch, inherited=True), running, strict=True):
                attempt.was_running = bool(was_running)
                if attempt.key not in swarm.attempts:
                    yield attempt
