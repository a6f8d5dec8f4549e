"""Counts and limits, by themselves."""

import numpy as np
import pytest

from swarmd.core.status import STANDING_CODES, Code
from swarmd.core.usage import Usage


def a_usage(*limits: int | None) -> Usage:
    usage = Usage(10)
    usage.add_arrays(list(limits))
    return usage


def with_tasks(usage: Usage, array_row: int, code: Code, count: int) -> Usage:
    added = np.zeros(usage.array_count * STANDING_CODES, dtype=np.int64)
    added[array_row * STANDING_CODES + code] = count
    usage.add_tasks(added)
    return usage


def rows(*array_rows: int) -> np.ndarray:
    return np.array(array_rows, dtype=np.int32)


ACTIVE = {Code.RESERVED, Code.QUEUED, Code.INSTANTIATING, Code.LAUNCHED, Code.RUNNING}
STANDING = [code for code in Code if code < STANDING_CODES]


@pytest.mark.parametrize("code", STANDING)
def test_reserved_to_running_use_capacity_and_nothing_else_does(code):
    usage = with_tasks(a_usage(7), 0, code, 3)
    used = 3 if code in ACTIVE else 0
    assert (usage.active, usage.active_of(0)) == (used, used)
    assert (usage.swarm_room, usage.room(0)) == (10 - used, 7 - used)


@pytest.mark.parametrize("old", STANDING)
@pytest.mark.parametrize("new", STANDING)
def test_a_move_is_counted_once_in_each_place(old, new):
    usage = with_tasks(a_usage(7, None), 1, old, 3)
    usage.move(rows(1, 1), np.array([old, old], dtype=np.uint8), new)
    expected = [0] * STANDING_CODES
    expected[old] += 1
    expected[new] += 2
    assert usage.totals == expected
    assert usage.counts().tolist() == [[0] * STANDING_CODES, expected]
    assert usage.active_of(1) == sum(expected[code] for code in ACTIVE)
    assert usage.task_count == 3


@pytest.mark.parametrize("old", STANDING)
@pytest.mark.parametrize("new", STANDING)
def test_moving_many_that_stand_alike_is_the_same_as_moving_each(old, new):
    one, other = (with_tasks(a_usage(7), 0, old, 5) for _ in range(2))
    one.move(rows(0, 0, 0), np.array([old] * 3, dtype=np.uint8), new)
    other.move_same(0, old, new, 3)
    assert one.totals == other.totals
    assert one.counts().tolist() == other.counts().tolist()
    assert one.active_of(0) == other.active_of(0)


def test_room_is_never_below_zero():
    usage = with_tasks(a_usage(2), 0, Code.RUNNING, 12)
    assert (usage.swarm_room, usage.room(0), usage.has_room(0)) == (0, 0, False)


def test_arrays_that_come_later_keep_the_counts_of_those_before():
    usage = with_tasks(a_usage(2), 0, Code.RUNNING, 1)
    usage.add_arrays([5, None])
    assert usage.counts()[:, Code.RUNNING].tolist() == [1, 0, 0]
    assert [usage.limit(row) for row in range(3)] == [2, 5, None]


@pytest.mark.parametrize(
    ("old", "new", "is_new"), [(2, 3, True), (2, 2, False), (None, 2**31 - 1, False), (2, None, True)]
)
def test_setting_a_limit_says_whether_it_is_new(old, new, is_new):
    assert a_usage(old).set_limit(0, new) is is_new
