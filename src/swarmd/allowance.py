"""How much one tick may take. Used by the scheduler; knows batches and the sizes of what says what to run."""

import sys
from collections.abc import Sequence

from swarmd.core.batch import Batch
from swarmd.core.table import Table


class Allowance:
    """How much one tick may still take: a number of batches, and of bytes that say what to run."""

    def __init__(self, batches: int | None, most_bytes: int | None, table: Table) -> None:
        self._batches = batches
        self._bytes = most_bytes
        self._table = table

    def batch_size(self, most: int) -> int:
        """How large one batch may be, so that one alone is not far too much."""
        return most if self._bytes is None else max(1, min(most, self._bytes // self._table.usual_run_bytes))

    def batches(self, size: int) -> int:
        """How many batches of so many tasks may be taken now; one at least, unless it is over."""
        left = sys.maxsize if self._batches is None else self._batches
        if self._bytes is None or left <= 0:
            return max(0, left)
        return 0 if self._bytes <= 0 else min(left, max(1, self._bytes // (size * self._table.usual_run_bytes)))

    def spend(self, batches: Sequence[Batch]) -> None:
        """These were taken."""
        if self._batches is not None:
            self._batches -= len(batches)
        if self._bytes is not None:
            self._bytes -= sum(self._size_of(batch) for batch in batches)

    def _size_of(self, batch: Batch) -> int:
        rows = self._table.ids.find(batch.task_ids)
        return self._table.run_bytes(rows, int(self._table.array_rows(rows[:1])[0]))
