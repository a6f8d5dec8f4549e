"""What became of the attempts that failed, and why tasks were cancelled or reset.

Only what went wrong is kept here; a task that succeeds at once costs nothing. Bounded: the newest records of a task,
and the newest texts of a swarm.
"""

from collections import deque
from dataclasses import dataclass, replace

from swarmd.core.status import TaskStatus

RECORDS_PER_TASK = 100
TEXT_BUDGET_BYTES = 64 * 1024 * 1024

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


class History:
    """Records by task row."""

    def __init__(self) -> None:
        self._records: dict[int, list[AttemptRecord]] = {}
        self._texts: deque[tuple[int, AttemptRecord]] = deque()
        self._text_bytes = 0

    def add(self, row: int, record: AttemptRecord) -> None:
        """Keep a record; the oldest of the task goes when it has too many."""
        records = self._records.setdefault(row, [])
        records.append(record)
        if len(records) > RECORDS_PER_TASK:
            del records[0]
        if record.reason:
            self._texts.append((row, record))
            self._text_bytes += len(record.reason)
            self._forget_old_texts()

    def of(self, row: int) -> list[AttemptRecord]:
        """A task's records, oldest first."""
        return list(self._records.get(row, ()))

    def has(self, row: int, attempt: int, status: TaskStatus) -> bool:
        """Whether this attempt of the task ended so."""
        return any(each.attempt == attempt and each.status is status for each in self._records.get(row, ()))

    def last_reason(self, row: int) -> str:
        """Why the task's last attempt failed or it was cancelled; empty when neither happened."""
        records = reversed(self._records.get(row, ()))
        return next((each.reason for each in records if each.status not in _NO_FAILURE), "")

    def _forget_old_texts(self) -> None:
        while self._text_bytes > TEXT_BUDGET_BYTES:
            row, oldest = self._texts.popleft()
            self._text_bytes -= len(oldest.reason)
            records = self._records.get(row, [])
            for place, record in enumerate(records):
                if record is oldest:
                    records[place] = replace(record, reason="(no longer kept)")
