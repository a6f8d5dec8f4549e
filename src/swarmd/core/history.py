"""What became of the attempts that failed, and why tasks were cancelled or reset.

Only what went wrong is kept here; a task that succeeds at once costs nothing. Bounded: the newest records of a task,
and the newest texts of a swarm. What happens to very many tasks at once is kept as columns, not record by record.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from swarmd.core.ids import Rows
from swarmd.core.status import TaskStatus

RECORDS_PER_TASK = 100
TEXT_BUDGET_BYTES = 64 * 1024 * 1024
BULK_FROM = 10_000
"""From so many tasks on records are kept as columns: each such bulk is searched by every look-up."""

UNKNOWN_RESOURCES = -1
"""In the place of a row: nobody kept what the attempt had asked for."""

_NO_FAILURE = (TaskStatus.REGISTERED, TaskStatus.DONE)
"""Records of resets, and of attempts that had succeeded before one."""


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """One attempt that is over, or the one that goes on."""

    attempt: int
    status: TaskStatus
    queued_at: float
    """Seconds since the epoch; 0: not known."""
    changed_at: float
    reason: str = ""
    resources: int = UNKNOWN_RESOURCES
    """What it asked for: a row of the table's resources."""


@dataclass(frozen=True, slots=True)
class Bulk:
    """One record for each of very many tasks, by ascending rows."""

    serial: int
    rows: Rows
    attempts: NDArray[np.int32]
    status: TaskStatus
    queued_at: NDArray[np.float64]
    changed_at: NDArray[np.float64]
    resources: Rows
    reason: str

    def find(self, row: int) -> AttemptRecord | None:
        place = int(self.rows.searchsorted(row))
        if place == len(self.rows) or int(self.rows[place]) != row:
            return None
        attempt, resources = int(self.attempts[place]), int(self.resources[place])
        queued_at, changed_at = float(self.queued_at[place]), float(self.changed_at[place])
        return AttemptRecord(attempt, self.status, queued_at, changed_at, self.reason, resources)


class History:
    """Records by task row."""

    def __init__(self) -> None:
        self._records: dict[int, list[tuple[int, AttemptRecord]]] = {}
        """Each with its serial number, which says what came first, here or in the bulks."""
        self._bulks: list[Bulk] = []
        self._next_serial = 0
        self._texts: deque[tuple[int, AttemptRecord]] = deque()
        self._text_bytes = 0

    def add(self, row: int, record: AttemptRecord) -> None:
        """Keep a record; the oldest of the task goes when it has too many."""
        records = self._records.setdefault(row, [])
        records.append((self._serial(), record))
        if len(records) > RECORDS_PER_TASK:
            del records[0]
        if record.reason:
            self._texts.append((row, record))
            self._text_bytes += len(record.reason)
            self._forget_old_texts()

    def add_all(
        self,
        rows: Rows,
        attempts: NDArray[np.int32],
        status: TaskStatus,
        queued_at: NDArray[np.float64],
        changed_at: NDArray[np.float64],
        reason: str = "",
        *,
        resources: Rows | None = None,
    ) -> None:
        """A record for each of these tasks, no task twice; `resources`: what each had asked for, as rows."""
        asked = np.full(len(rows), UNKNOWN_RESOURCES, dtype=np.int32) if resources is None else resources
        if len(rows) >= BULK_FROM:
            order = np.argsort(rows, kind="stable")
            times = queued_at[order], changed_at[order]
            self._bulks.append(Bulk(self._serial(), rows[order], attempts[order], status, *times, asked[order], reason))
            return
        values = (rows.tolist(), attempts.tolist(), queued_at.tolist(), changed_at.tolist(), asked.tolist())
        for row, attempt, queued, changed, each in zip(*values, strict=True):
            self.add(row, AttemptRecord(attempt, status, queued, changed, reason, each))

    def of(self, row: int) -> list[AttemptRecord]:
        """A task's records, oldest first."""
        own = self._records.get(row, [])
        if not self._bulks:
            return [record for _, record in own]
        in_bulks = [(bulk.serial, record) for bulk in self._bulks if (record := bulk.find(row))]
        merged = sorted([*own, *in_bulks], key=lambda each: each[0])
        return [record for _, record in merged[-RECORDS_PER_TASK:]]

    def has(self, row: int, attempt: int, status: TaskStatus) -> bool:
        """Whether this attempt of the task ended so."""
        return any(each.attempt == attempt and each.status is status for each in self.of(row))

    def last_reason(self, row: int) -> str:
        """Why the task's last attempt failed or it was cancelled; empty when neither happened."""
        return next((each.reason for each in reversed(self.of(row)) if each.status not in _NO_FAILURE), "")

    def frozen(self) -> "FrozenHistory":
        """What it holds now. Costs no more than a reference a task, a bulk and a text."""
        return FrozenHistory(dict(self._records), list(self._bulks), self._next_serial, list(self._texts))

    def fill(
        self,
        records: dict[int, list[tuple[int, AttemptRecord]]],
        bulks: list[Bulk],
        last_serial: int,
        texts: Iterable[tuple[int, AttemptRecord]],
    ) -> None:
        """Make an empty history hold what was frozen of another; the records of `texts` are the same objects."""
        self._records, self._bulks, self._next_serial = records, bulks, last_serial
        self._texts = deque(texts)
        self._text_bytes = sum(len(record.reason) for _, record in self._texts)

    def _serial(self) -> int:
        self._next_serial += 1
        return self._next_serial

    def _forget_old_texts(self) -> None:
        while self._text_bytes > TEXT_BUDGET_BYTES:
            row, oldest = self._texts.popleft()
            self._text_bytes -= len(oldest.reason)
            records = self._records.get(row, [])
            for place, (serial, record) in enumerate(records):
                if record is oldest:
                    records[place] = serial, replace(record, reason="(no longer kept)")


@dataclass(frozen=True, slots=True)
class FrozenHistory:
    """A history as it was at one moment, to be read in another thread while it goes on.

    The lists in it are still those of the history: what came later is left out when they are read. What a task had too
    much of since, and texts that had to go since, are gone here too, as they are once the same events come again.
    """

    lists: dict[int, list[tuple[int, AttemptRecord]]]
    bulks: list[Bulk]
    last_serial: int
    texts: list[tuple[int, AttemptRecord]]
    """The records whose text counts towards the budget, oldest first; some have left the list of their task."""

    def records(self) -> Iterator[tuple[int, int, AttemptRecord]]:
        """Row, serial number and record, by ascending rows and then oldest first."""
        for row in sorted(self.lists):
            for serial, record in list(self.lists[row]):  # copied in one go, which no other thread can come between
                if serial <= self.last_serial:
                    yield row, serial, record
