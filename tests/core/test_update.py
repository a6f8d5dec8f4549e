"""StateUpdate and its statuses: a mapping to look at, groups inside, and Jobmon's way of merging."""

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmd.core.model import QueueLimits
from swarmd.core.status import RunStatus, TaskStatus
from swarmd.core.update import StateUpdate, StatusGroup, TaskStatuses

LETTERS = st.dictionaries(st.integers(1, 20), st.sampled_from("GQIORDEAF"), max_size=10)


@settings(deadline=None)
@given(LETTERS)
def test_statuses_read_as_the_dict_that_they_were_made_of(letters):
    statuses = TaskStatuses(letters)
    assert statuses == letters
    assert dict(statuses) == letters
    assert len(statuses) == len(letters)
    assert bool(statuses) == bool(letters)
    assert TaskStatuses(statuses) == letters


@settings(deadline=None)
@given(LETTERS, LETTERS)
def test_merging_is_what_dicts_do_and_changes_neither(mine, theirs):
    one, other = TaskStatuses(mine), TaskStatuses(theirs)
    assert one.merged(other) == {**mine, **theirs}
    assert (one, other) == (mine, theirs)


@settings(deadline=None)
@given(LETTERS, st.lists(st.tuples(st.integers(1, 20), st.sampled_from("QRD") | st.none()), max_size=10))
def test_setting_and_deleting_is_what_dicts_do(letters, steps):
    statuses, expected = TaskStatuses(letters), dict(letters)
    for task_id, letter in steps:
        if letter is None:
            statuses.pop(task_id, None)
            expected.pop(task_id, None)
        else:
            statuses[task_id] = letter
            expected[task_id] = letter
    assert statuses == expected


def test_the_last_group_that_names_a_task_counts():
    statuses = TaskStatuses()
    statuses.add(TaskStatus.QUEUED, [1, 2])
    statuses.add(TaskStatus.DONE, [2, 3])
    assert statuses == {1: "Q", 2: "D", 3: "D"}


def test_adding_a_group_is_seen_after_looking():
    statuses = TaskStatuses({1: "Q"})
    assert len(statuses) == 1
    statuses.add(TaskStatus.DONE, np.array([5]))
    assert statuses[5] == "D"


def test_deleting_what_is_not_there_is_a_key_error():
    with pytest.raises(KeyError):
        del TaskStatuses({1: "Q"})[2]


def test_a_letter_that_is_no_status_is_refused_and_nothing_lost():
    statuses = TaskStatuses({1: "Q"})
    with pytest.raises(ValueError, match="'Z' is not a valid TaskStatus"):
        statuses[1] = "Z"
    assert statuses == {1: "Q"}


def test_merging_keeps_attempts_and_reasons_beside_their_tasks():
    one, other = TaskStatuses(), TaskStatuses({2: "D"})
    one.add(TaskStatus.ERROR_RECOVERABLE, [1, 2, 3], [7, 8, 9], "broke")
    kept = one.merged(other).groups[0]
    assert kept.attempts is not None
    assert (kept.task_ids.tolist(), kept.attempts.tolist(), kept.reason) == ([1, 3], [7, 9], "broke")


def test_a_group_without_some_tasks_keeps_the_others():
    group = StatusGroup(TaskStatus.DONE, np.array([3, 1, 2]), None, "why")
    assert group.without(np.array([1])).task_ids.tolist() == [3, 2]


def test_the_representation_shows_the_first_tasks():
    assert repr(TaskStatuses({1: "Q", 2: "D"})) == "TaskStatuses(2 tasks: {1: 'Q', 2: 'D'})"
    assert repr(TaskStatuses(dict.fromkeys(range(1, 12), "Q"))).endswith(" ...)")


NOW, LATER = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)


@pytest.mark.parametrize(
    "update",
    [
        StateUpdate({1: "Q"}),  # type: ignore[arg-type]
        StateUpdate(max_concurrently_running=0),
        StateUpdate(array_limits={1: None}),
        StateUpdate(workflow_run_status="R"),
        StateUpdate(sync_time=NOW),
        StateUpdate(queue_limits=[QueueLimits("c", "q")]),
    ],
)
def test_an_update_is_true_when_it_says_anything(update):
    assert update
    assert not StateUpdate.empty()
    assert update.merge(StateUpdate.empty()) == update == StateUpdate.empty().merge(update)


def test_where_two_updates_disagree_the_other_wins():
    queues = [QueueLimits("c", "a"), QueueLimits("c", "b")]
    new = QueueLimits("c", "b", cores=5)
    one = StateUpdate({1: "Q", 2: "Q"}, 5, {1: 1, 2: 2}, "R", NOW, queues)  # type: ignore[arg-type]
    other = StateUpdate({2: "D"}, 0, {2: None}, "S", LATER, [new])  # type: ignore[arg-type]
    both = StateUpdate({1: "Q", 2: "D"}, 0, {1: 1, 2: None}, "S", LATER, [queues[0], new])  # type: ignore[arg-type]
    assert one.merge(other) == both
    assert one.task_statuses == {1: "Q", 2: "Q"}


def test_statuses_compare_as_jobmons_letters():
    assert [*TaskStatus] == [*"GQIORDEAFX"]
    assert [*RunStatus] == [*"GLBIORDASECHT"]
    assert [each for each in TaskStatus if each.is_final] == ["D", "F", "X"]
