"""IdIndex against a dict, however the ids come."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmd.core.ids import ABSENT, IdIndex, all_differ, distinct
from swarmd.core.model import MAX_ID


def an_index(*loads: list[int]) -> IdIndex:
    index = IdIndex()
    for ids in loads:
        index.add(np.array(ids, dtype=np.int64))
    return index


def found(index: IdIndex, *ids: int) -> list[int]:
    rows: list[int] = index.find(np.array(ids, dtype=np.int64)).tolist()
    return rows


@st.composite
def loads_of_ids(draw: st.DrawFn) -> list[list[int]]:
    """Several loads of distinct ids: runs of consecutive ones, and scattered ones in any order."""
    loads, used = [], set()
    for _ in range(draw(st.integers(0, 8))):
        if draw(st.booleans()):
            start = draw(st.integers(1, 300))
            ids = list(range(start, start + draw(st.integers(1, 40))))
        else:
            ids = draw(st.lists(st.integers(1, 400) | st.integers(MAX_ID - 50, MAX_ID), max_size=30, unique=True))
        fresh = [each for each in ids if each not in used]
        used.update(fresh)
        loads.append(fresh)
    return loads


@settings(max_examples=150, deadline=None)
@given(loads_of_ids())
def test_every_id_has_the_row_in_which_it_came(loads):
    index = an_index(*loads)
    rows = {task_id: row for row, task_id in enumerate(each for ids in loads for each in ids)}
    wanted = [*range(-2, 405), *range(MAX_ID - 55, MAX_ID + 1), -(2**63), 2**63 - 1]
    assert found(index, *wanted) == [rows.get(each, ABSENT) for each in wanted]
    assert [index.find_one(each) for each in wanted] == [rows.get(each, ABSENT) for each in wanted]
    assert index.size == len(rows)


def test_an_empty_index_finds_nothing():
    assert found(IdIndex(), 1, 2) == [ABSENT, ABSENT]
    assert IdIndex().find_one(1) == ABSENT


def test_looking_up_no_ids_finds_no_rows():
    assert found(an_index([5, 3])) == []


def test_a_copy_can_be_added_to_without_the_original_changing():
    index = an_index([1, 2, 3])
    twin = index.copy()
    twin.add(np.array([9, 7]))
    assert found(twin, 9, 7, 2) == [3, 4, 1]
    assert found(index, 9, 7, 2) == [ABSENT, ABSENT, 1]
    assert index.size == 3


def test_many_small_loads_leave_few_runs():
    index = IdIndex()
    for number in range(2000):
        index.add(np.array([number * 7 % 2003 + 1]))
    assert len(index._runs) <= 12
    assert found(index, 1, 8) == [0, 1]


def test_consecutive_loads_become_one_run_that_stores_only_its_bounds():
    index = an_index(*[list(range(first, first + 10)) for first in range(1, 1000, 10)])
    assert all(run.ids is None for run in index._runs)
    assert found(index, 1, 555, 1000, 1001) == [0, 554, 999, ABSENT]


def test_a_run_that_precedes_an_earlier_one_is_not_taken_for_its_continuation():
    assert found(an_index([11, 12], [9, 10]), 9, 10, 11, 12) == [2, 3, 0, 1]


@pytest.mark.parametrize("values", [[], [1], [3, 1, 3, 2, 1], [5, 5, 5]])
def test_distinct_is_sorted_and_has_each_value_once(values):
    assert distinct(np.array(values, dtype=np.int64)).tolist() == sorted(set(values))


@given(rows=st.lists(st.integers(0, 40) | st.integers(0, 10**9), min_size=1, max_size=30))
def test_rows_that_all_differ_are_told_from_others(rows: list[int]):
    assert all_differ(np.array(rows, dtype=np.int32)) == (len(set(rows)) == len(rows))
