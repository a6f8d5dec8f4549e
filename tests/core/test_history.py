"""What became of attempts: kept, and bounded."""

import numpy as np

from swarmd.core import history
from swarmd.core.history import AttemptRecord, History
from swarmd.core.status import TaskStatus


def a_record(attempt: int, reason: str = "", status: TaskStatus = TaskStatus.ERROR_RECOVERABLE) -> AttemptRecord:
    return AttemptRecord(attempt, status, 0.0, 0.0, reason)


def test_records_are_kept_by_task_oldest_first():
    kept = History()
    for row, attempt in [(5, 1), (7, 1), (5, 2)]:
        kept.add(row, a_record(attempt))
    assert [record.attempt for record in kept.of(5)] == [1, 2]
    assert kept.of(6) == []


def test_the_last_reason_is_that_of_the_last_failure():
    kept = History()
    assert kept.last_reason(1) == ""
    kept.add(1, a_record(1, "first"))
    kept.add(1, a_record(2, "second"))
    assert kept.last_reason(1) == "second"
    kept.add(1, a_record(2, "reset", TaskStatus.REGISTERED))
    assert kept.last_reason(1) == "second"


def test_whether_an_attempt_ended_so_can_be_asked():
    kept = History()
    kept.add(1, a_record(3, status=TaskStatus.CANCELLED))
    assert kept.has(1, 3, TaskStatus.CANCELLED)
    assert not kept.has(1, 2, TaskStatus.CANCELLED)
    assert not kept.has(1, 3, TaskStatus.DONE)
    assert not kept.has(2, 3, TaskStatus.CANCELLED)


def test_the_newest_hundred_of_a_task_are_kept():
    kept = History()
    for attempt in range(150):
        kept.add(1, a_record(attempt))
    assert [record.attempt for record in kept.of(1)] == list(range(50, 150))


def test_the_oldest_texts_go_when_there_are_too_many(monkeypatch):
    monkeypatch.setattr(history, "TEXT_BUDGET_BYTES", 25)
    kept = History()
    for attempt in range(1, 5):
        kept.add(attempt % 2, a_record(attempt, "ten bytes!"))
    assert [record.reason for row in (0, 1) for record in kept.of(row)] == [
        "(no longer kept)",
        "ten bytes!",
        "(no longer kept)",
        "ten bytes!",
    ]


def test_records_of_very_many_tasks_are_the_same_as_one_by_one(monkeypatch):
    monkeypatch.setattr(history, "BULK_FROM", 3)
    kept = History()
    kept.add(2, a_record(1, "before"))
    rows, attempts = np.array([7, 2, 5], dtype=np.int32), np.array([70, 20, 50], dtype=np.int32)
    kept.add_all(
        rows, attempts, TaskStatus.CANCELLED, np.array([1.0, 2.0, 3.0]), np.array([4.0, 5.0, 6.0]), "all of them"
    )
    kept.add_all(rows[:2], attempts[:2] + 1, TaskStatus.DONE, np.zeros(2), np.zeros(2))
    kept.add(2, a_record(22, "after"))
    assert [(each.attempt, each.reason) for each in kept.of(2)] == [
        (1, "before"),
        (20, "all of them"),
        (21, ""),
        (22, "after"),
    ]
    assert kept.of(5) == [AttemptRecord(50, TaskStatus.CANCELLED, 3.0, 6.0, "all of them")]
    assert (kept.last_reason(7), kept.last_reason(2), kept.of(6)) == ("all of them", "after", [])
    assert kept.has(7, 70, TaskStatus.CANCELLED)
    assert len(kept._bulks) == 1


def test_bulks_count_towards_the_newest_hundred_of_a_task(monkeypatch):
    monkeypatch.setattr(history, "BULK_FROM", 1)
    kept = History()
    for attempt in range(150):
        kept.add_all(np.array([1], dtype=np.int32), np.array([attempt]), TaskStatus.CANCELLED, np.zeros(1), np.zeros(1))
    assert [record.attempt for record in kept.of(1)] == list(range(50, 150))
