"""CancelTasks and ResetTasks: what they select, what they do, what they leave alone."""

import numpy as np
import pytest

from swarmd.core.errors import InvalidInputError, NotFoundError
from swarmd.core.selecting import Selector
from swarmd.core.state import SwarmState
from swarmd.core.status import TaskStatus
from tests.core.builders import (
    a_swarm,
    a_task,
    accept,
    code_of,
    dump,
    ids_of,
    is_ready,
    only,
    queue_all,
    ready_order,
    status_of,
    statuses,
    take_all,
    taken,
    tell,
    well,
)

EVERYTHING = Selector(everything=True)


def of_each_status() -> SwarmState:
    """Tasks 1 to 8 stand at G Q I O R D F X, and task 9 is reserved; all in array 1 but 5, which is in array 2."""
    state = a_swarm([a_task(9, priority=9)], arrays=2)
    taken(state)
    letters = enumerate("GQIORDFX", 1)
    state.load(tasks=[a_task(n, array=2 if n == 5 else 1, status=TaskStatus(each)) for n, each in letters])
    return state


# -- cancel ------------------------------------------------------------------


def test_cancel_ends_all_that_is_not_final_and_names_what_is_active():
    state = of_each_status()
    change = state.cancel(EVERYTHING, reason="enough", at=5.0)
    assert statuses(state) == "XXXXXXDFX"
    assert change.stopped_ids is not None
    assert change.stopped_attempts is not None
    assert (change.stopped_ids.tolist(), change.stopped_attempts.tolist()) == ([9, 2, 3, 4, 5], [1] * 5)
    assert (change.changed_count, change.left_alone_count, change.active_count) == (6, 3, 0)
    assert (state.task(1).reason, state.task(1).status_at) == ("enough", 5.0)
    assert well(state)


def test_a_cancelled_task_blocks_what_comes_after_it():
    state = a_swarm([a_task(1), a_task(2, 1)])
    state.cancel(only(1))
    assert (is_ready(state, 2), state.finished, state.blocked_count) == (False, True, 1)


def test_cancelling_twice_changes_nothing_more():
    state = a_swarm(2)
    state.cancel(only(1))
    before = dump(state)
    assert state.cancel(only(1)).is_empty
    assert dump(state) == before


def test_a_reserved_task_that_is_cancelled_stays_so_when_the_engine_takes_it():
    state = a_swarm(3)
    batch = taken(state)
    change = state.cancel(only(2))
    assert change.stopped_ids is not None
    assert change.stopped_ids.tolist() == [2]
    assert state.active_count == 2
    accept(state, batch)
    assert statuses(state) == "QXQ"
    assert state.cancelled_in(batch).tolist() == [1]
    tell(state, "R", 2, attempts=[1])
    assert (statuses(state), state.active_count) == ("QXQ", 2)
    assert well(state)


def test_a_reserved_task_that_is_cancelled_does_not_come_back_with_its_batch():
    state = a_swarm(3)
    batch = taken(state)
    state.cancel(only(2))
    assert state.give_back(batch) == 2
    assert ids_of(take_all(state)) == [[1, 3]]


def test_a_batch_knows_what_was_cancelled_in_it_even_after_a_reset():
    state = a_swarm(4)
    batch = taken(state, 3)
    state.cancel(only(1, 3))
    state.reset(only(1))
    assert state.cancelled_in(batch).tolist() == [0, 2]
    assert ids_of(take_all(state)) == [[4, 1]]
    assert state.cancelled_in(batch).tolist() == [0, 2]


def test_what_merely_came_back_or_failed_was_not_cancelled():
    state = a_swarm(4)
    batch = taken(state)
    tell(state, "E", 1, attempts=[1])
    tell(state, "G", 2, attempts=[1])
    tell(state, "D", 3, attempts=[1])
    take_all(state)
    assert state.cancelled_in(batch).tolist() == []


def test_cancelling_makes_room():
    state = a_swarm(3, arrays={1: 1})
    queue_all(state)
    state.cancel(only(1))
    assert queue_all(state) == [[2]]


# -- reset -------------------------------------------------------------------


def test_reset_takes_back_what_is_final_and_leaves_the_rest_alone():
    state = of_each_status()
    change = state.reset(EVERYTHING)
    assert statuses(state) == "GGQIORGGG"
    assert (change.changed_count, change.left_alone_count, change.newly_ready_count) == (3, 6, 3)
    assert ready_order(state) == [1, 6, 7, 8]
    assert well(state)


def test_reset_forgets_failures_and_keeps_the_attempt():
    state = a_swarm([a_task(1, max_attempts=2)])
    for _ in range(2):
        queue_all(state)
        tell(state, "E", 1)
    assert status_of(state, 1) == "F"
    state.reset(only(1))
    assert (state.task(1).failed_attempts, state.task(1).attempt) == (0, 2)
    assert taken(state).attempts.tolist() == [3]
    tell(state, "E", 1)
    assert is_ready(state, 1)


def test_a_done_task_that_is_reset_holds_back_its_downstreams():
    state = a_swarm([a_task(1), a_task(2, 1), a_task(3, 1, 2)])
    tell(state, "D", 1)
    assert is_ready(state, 2)
    state.reset(only(1))
    assert ready_order(state) == [1]
    tell(state, "D", 1)
    assert ready_order(state) == [2]
    assert well(state)


def test_an_array_whose_only_ready_task_is_held_back_has_no_work():
    state = a_swarm([a_task(1), a_task(2, 1, array=2)], arrays={1: 0, 2: None})
    tell(state, "D", 1)
    assert state.has_work()
    state.reset(only(1))
    assert (state.has_work(), state.take_batch()) == (False, None)
    assert well(state)


def test_downstreams_that_run_go_on_when_their_upstream_is_reset_and_wait_when_they_come_back():
    state = a_swarm([a_task(1), a_task(2, 1), a_task(3, 1)])
    tell(state, "D", 1)
    queue_all(state, "R")
    state.reset(only(1))
    assert statuses(state) == "GRR"
    tell(state, "E", 2)
    tell(state, "D", 3)
    assert ready_order(state) == [1]
    assert well(state)


def test_reset_with_downstreams_takes_back_all_final_tasks_after_it_however_far():
    state = a_swarm([a_task(1), a_task(2, 1), a_task(3, 2), a_task(4, 3), a_task(5)])
    tell(state, "D", 1, 2, 3, 5)
    tell(state, "R", 4)
    change = state.reset(only(1), include_downstreams=True)
    assert statuses(state) == "GGGRD"
    assert change.changed_count == 3
    assert ready_order(state) == [1]
    tell(state, "D", 4)
    assert state.table.upstreams_left[3] == 1
    assert well(state)


def test_reset_with_downstreams_looks_past_what_is_not_final():
    state = a_swarm([a_task(1), a_task(2, 1), a_task(3, 2)])
    tell(state, "D", 1, 3)
    state.reset(only(1), include_downstreams=True)
    assert statuses(state) == "GGG"
    assert well(state)


def test_resetting_a_diamond_counts_every_edge_once():
    state = a_swarm([a_task(1), a_task(2, 1), a_task(3, 1), a_task(4, 2, 3)])
    tell(state, "D", 1, 2, 3, 4)
    state.reset(only(1), include_downstreams=True)
    assert state.table.upstreams_left[:4].tolist() == [0, 1, 1, 2]
    for task_id in (1, 2, 3):
        tell(state, "D", task_id)
    assert ready_order(state) == [4]


def test_resetting_upstream_and_downstream_together_makes_only_the_upstream_ready():
    state = a_swarm([a_task(1), a_task(2, 1)])
    tell(state, "D", 1, 2)
    change = state.reset(only(2, 1))
    assert (change.newly_ready_count, ready_order(state)) == (1, [1])


def test_resetting_twice_changes_nothing_more():
    state = a_swarm([a_task(1), a_task(2, 1)])
    tell(state, "D", 1)
    state.reset(only(1))
    before = dump(state)
    assert state.reset(only(1)).is_empty
    assert dump(state) == before


def test_news_of_the_attempt_before_a_reset_is_stale():
    state = a_swarm(1)
    queue_all(state)
    state.cancel(only(1))
    state.reset(only(1))
    tell(state, "D", 1, attempts=[1])
    assert status_of(state, 1) == "G"
    queue_all(state)
    tell(state, "D", 1, attempts=[1])
    assert status_of(state, 1) == "Q"


def test_why_a_task_was_reset_is_kept_with_it():
    state = a_swarm(1)
    queue_all(state)
    tell(state, "F", 1, reason="broke")
    state.reset(only(1), reason="fixed the input", at=9.0)
    last = state.history.of(0)[-1]
    assert (last.reason, last.status, last.changed_at) == ("fixed the input", "G", 9.0)
    assert state.task(1).reason == "broke"


# -- selecting ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("selector", "meant"),
    [
        (only(3, 1, 3), [1, 3]),
        (Selector(array_ids=[2]), [5]),
        (Selector(statuses=[TaskStatus.REGISTERED]), [1, 9]),
        (Selector(statuses=[TaskStatus.RUNNING, TaskStatus.QUEUED]), [2, 5]),
        (Selector(array_ids=[1], statuses=[TaskStatus.RUNNING]), []),
        (Selector(task_ids=np.array([1, 2, 5]), array_ids=[1], statuses=[TaskStatus.QUEUED]), [2]),
        (Selector(statuses=[TaskStatus.ERROR_RECOVERABLE]), []),
        (EVERYTHING, [1, 2, 3, 4, 5, 9]),
    ],
)
def test_a_task_is_meant_when_it_meets_every_kind_of_condition(selector, meant):
    state = of_each_status()
    state.cancel(selector)
    assert [each for each in (1, 2, 3, 4, 5, 9) if status_of(state, each) == "X"] == meant


@pytest.mark.parametrize("selector", [Selector(), Selector(task_ids=np.array([], dtype=np.int64))])
def test_nothing_selected_is_not_everything(selector):
    state = of_each_status()
    before = dump(state)
    for command in (state.cancel, state.reset):
        with pytest.raises(InvalidInputError) as caught:
            command(selector)
        assert caught.value.reason == "EMPTY_SELECTOR"
    assert dump(state) == before


@pytest.mark.parametrize(
    ("selector", "reason"), [(only(1, 99), "UNKNOWN_TASK"), (Selector(array_ids=[1, 9]), "UNKNOWN_ARRAY")]
)
def test_selecting_what_is_not_there_changes_nothing(selector, reason):
    state = of_each_status()
    before = dump(state)
    for command in (state.cancel, state.reset):
        with pytest.raises(NotFoundError) as caught:
            command(selector)
        assert caught.value.reason == reason
    assert dump(state) == before


def test_a_selector_that_means_nobody_is_no_change():
    state = a_swarm(2)
    assert state.cancel(Selector(statuses=[TaskStatus.RUNNING])).is_empty
    assert state.reset(EVERYTHING).left_alone_count == 2
    assert code_of(state, 1).name == "REGISTERED"
