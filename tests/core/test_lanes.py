"""Which batch goes next, through the whole state; and that lanes and heaps stay small whatever happens to them."""

import numpy as np
import pytest

from swarmd.core.columns import TaskColumns
from swarmd.core.lane_table import LaneTable
from swarmd.core.lanes import ReadyQueue
from swarmd.core.model import Array, TaskResources
from swarmd.core.state import SwarmState
from swarmd.core.update import StateUpdate
from tests.core.builders import (
    a_swarm,
    a_task,
    accept,
    all_ids_of,
    ids_of,
    only,
    queue_all,
    ready_order,
    take_all,
    taken,
    tell,
    well,
)


def entries_held(state: SwarmState) -> int:
    """Places in lanes, living and dead."""
    return sum(len(lane.rows) for lane in state.table.queue._lanes.values())


def keys_held(state: SwarmState) -> int:
    """Keys in all heaps, those that hold and those that no longer do."""
    queue = state.table.queue
    return len(queue._open._keys) + sum(len(owner.lanes._keys) for owner in queue._arrays.values())


def test_a_batch_has_tasks_of_one_array_one_priority_and_the_same_resources():
    state = a_swarm(
        [a_task(1), a_task(2, array=2), a_task(3, resources=2), a_task(4, priority=-1), a_task(5), a_task(6, array=2)],
        arrays=2,
    )
    assert ids_of(take_all(state)) == [[1, 5], [2, 6], [3], [4]]


def test_higher_priorities_go_first_and_negative_ones_last():
    state = a_swarm([a_task(1, priority=-5), a_task(2), a_task(3, priority=2**31 - 1), a_task(4, priority=-(2**31))])
    assert ids_of(take_all(state)) == [[3], [2], [1], [4]]


def test_of_the_same_priority_the_lane_whose_head_has_waited_longest_goes_first():
    state = a_swarm([a_task(1, 9), a_task(2, array=2), a_task(9, array=3)], arrays=3)
    assert ids_of(take_all(state)) == [[2], [9]]
    tell(state, "D", 9)
    state.load(tasks=[a_task(3, array=2)])
    assert ids_of(take_all(state)) == [[1], [3]]


def test_arrays_take_turns_when_batches_are_small():
    state = a_swarm([a_task(n, array=n % 3 + 1) for n in range(9)[1:]], arrays=3)
    assert ids_of(take_all(state, 1)) == [[n] for n in range(1, 9)]


def test_a_full_array_is_in_nobodys_way_and_keeps_its_place():
    state = a_swarm([a_task(1), a_task(2), a_task(3, array=2), a_task(4, array=2)], arrays={1: 1, 2: None})
    assert ids_of(take_all(state, 1)) == [[1], [3], [4]]
    state.load(tasks=[a_task(5, array=2)])
    tell(state, "D", 1)
    assert ids_of(take_all(state, 1)) == [[2], [5]]


def test_a_high_priority_in_a_full_array_does_not_stop_a_low_one_elsewhere():
    state = a_swarm([a_task(1, priority=9), a_task(2, priority=9), a_task(3, array=2)], arrays={1: 1, 2: None})
    assert ids_of(take_all(state)) == [[1], [3]]


def test_more_than_500_tasks_leave_in_batches_of_at_most_500():
    state = a_swarm(501)
    assert [len(batch) for batch in take_all(state)] == [500, 1]


@pytest.mark.parametrize("asked", [501, 10_000])
def test_nobody_gets_more_than_500_in_a_batch(asked):
    assert len(taken(a_swarm(600), asked)) == 500


@pytest.mark.parametrize("asked", [0, -1])
def test_a_batch_of_no_size_is_none(asked):
    state = a_swarm(3)
    assert state.take_batch(asked) is None
    assert state.ready_count == 3


# -- coming back --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0), (1, 0, 2)])
def test_batches_that_are_refused_in_any_order_come_back_in_their_old_order(order):
    state = a_swarm(9)
    batches = [taken(state, 2) for _ in range(3)]
    for place in order:
        assert state.give_back(batches[place]) == 2
        assert well(state)
    assert ready_order(state) == list(range(1, 10))


def test_parts_that_are_refused_come_back_to_where_they_were():
    state = a_swarm(8)
    first, second = taken(state, 3), taken(state, 3)
    assert state.give_back(second, [5]) == 1
    assert state.give_back(first, [3, 1, 7, 99]) == 2
    assert ready_order(state) == [1, 3, 5, 7, 8]


def test_what_is_refused_goes_before_what_became_ready_meanwhile():
    state = a_swarm(3)
    batch = taken(state)
    state.load(tasks=[a_task(4)])
    state.give_back(batch)
    assert ready_order(state) == [1, 2, 3, 4]


def test_what_is_refused_waits_behind_what_was_put_to_the_front_meanwhile():
    state = a_swarm(4)
    accept(state, taken(state, 1))
    batch = taken(state, 2)
    tell(state, "A", 1)
    state.give_back(batch)
    assert ready_order(state) == [1, 2, 3, 4]


def test_a_refused_batch_wins_back_its_turn_among_the_arrays():
    state = a_swarm([a_task(1), a_task(2, array=2), a_task(3)], arrays=2)
    batch = taken(state, 1)
    state.give_back(batch)
    assert ids_of(take_all(state, 1)) == [[1], [2], [3]]


def test_only_the_tasks_that_news_has_not_reached_come_back():
    state = a_swarm(5)
    batch = taken(state)
    tell(state, "R", 2, attempts=[1])
    tell(state, "E", 4, attempts=[1])
    state.cancel(only(5))
    assert state.give_back(batch) == 2
    assert ready_order(state) == [1, 3, 4]
    assert well(state)


def test_giving_back_twice_gives_back_once():
    state = a_swarm(3)
    batch = taken(state)
    assert (state.give_back(batch), state.give_back(batch)) == (3, 0)
    again = taken(state)
    assert state.give_back(batch) == 0
    assert again.attempts.tolist() == [2, 2, 2]
    assert well(state)


# -- leaving from the middle ----------------------------------------------------------------------------------------


def test_tasks_that_leave_from_anywhere_do_not_show_up_again():
    state = a_swarm(10)
    state.cancel(only(1, 4, 10))
    tell(state, "R", 5)
    tell(state, "D", 6)
    assert ids_of(take_all(state, 3)) == [[2, 3, 7], [8, 9]]


def test_a_lane_whose_tasks_all_left_is_skipped():
    state = a_swarm([a_task(1, priority=5), a_task(2)])
    state.cancel(only(1))
    assert ids_of(take_all(state)) == [[2]]


def test_a_task_that_left_and_came_back_has_only_its_new_place():
    state = a_swarm(3)
    tell(state, "Q", 1)
    tell(state, "G", 1)
    tell(state, "Q", 2)
    tell(state, "G", 2)
    assert ids_of(take_all(state)) == [[3, 1, 2]]
    assert state.take_batch() is None


@pytest.mark.parametrize("keep", ["first", "last", "every hundredth"])
def test_dead_places_are_swept_when_they_abound(keep):
    size = 20_000
    state = a_swarm(size, max_concurrently_running=size)
    ids = np.arange(1, size + 1)
    kept = {"first": ids[:50], "last": ids[-50:], "every hundredth": ids[::100]}[keep]
    gone = np.setdiff1d(ids, kept)
    for part in np.array_split(np.random.default_rng(1).permutation(gone), 40):
        state.cancel(only(*part.tolist()))
        assert entries_held(state) <= 3 * state.ready_count + 2100
    assert all_ids_of(take_all(state, 7)) == kept.tolist()


def test_lanes_and_heaps_stay_small_under_endless_refusal():
    state = a_swarm([a_task(n, array=n % 5 + 1, priority=n % 2) for n in range(1, 101)], arrays=5)
    for _ in range(500):
        batches = take_all(state, 3)
        for batch in batches[::2] + batches[1::2]:
            state.give_back(batch)
    assert keys_held(state) < 1000
    assert entries_held(state) < 500
    assert state.open_batches == {}
    assert well(state)


def test_lanes_stay_small_when_tasks_fail_for_ever():
    state = a_swarm([a_task(n, max_attempts=2**31 - 1) for n in range(1, 11)])
    for _ in range(1000):
        accept(state, taken(state, 4))
        tell(state, "E", *range(1, 11))
    assert entries_held(state) < 5000
    assert state.ready_count == 10
    assert well(state)


def test_one_large_lane_is_emptied_in_order_while_it_is_filled():
    state = a_swarm(7000, max_concurrently_running=2**31 - 1)
    told = []
    for number in range(7001, 13_001, 500):
        told += all_ids_of([taken(state), taken(state)])
        state.load(tasks=TaskColumns.of(np.arange(number, number + 500), 1, 1))
    assert told + all_ids_of(take_all(state)) == list(range(1, 13_001))


def test_position_counts_the_living_before_a_task():
    state = a_swarm(6)
    state.cancel(only(2, 3))
    row = state.task(5).row
    assert state.table.queue.position(row, int(state.table.lanes.of_task[row])) == 2


# -- room -------------------------------------------------------------------------------------------------------------


def test_10_000_full_arrays_cost_nothing_to_look_past():
    size = 10_000
    state = SwarmState(max_concurrently_running=2**31 - 1)
    ids = np.arange(1, 2 * size + 1)
    arrays = [Array(n, max_concurrently_running=1) for n in range(1, size + 1)]
    state.load(arrays, [TaskResources(1)], TaskColumns.of(ids, np.tile(np.arange(1, size + 1), 2), 1))
    assert all_ids_of(take_all(state)) == list(range(1, size + 1))
    assert not state.has_work()
    tell(state, "D", 77)
    assert ids_of(take_all(state)) == [[size + 77]]


def test_room_that_comes_back_opens_the_array_again():
    state = a_swarm([a_task(n, array=1) for n in (1, 2)], arrays={1: 1})
    batch = taken(state)
    assert not state.has_work()
    state.give_back(batch)
    assert state.has_work()
    state.apply_update(StateUpdate(array_limits={1: 0}))
    assert not state.has_work()
    state.apply_update(StateUpdate(array_limits={1: 5}))
    assert queue_all(state) == [[1, 2]]


def test_a_queue_without_tasks_has_no_next_lane():
    queue = ReadyQueue()
    assert queue.next_lane() is None
    assert not queue.has_open_array
    assert queue.live_of(0) == 0


def test_lanes_are_numbered_once_for_each_key():
    lanes = LaneTable()
    assert lanes.intern([(0, 0, 0, 0), (5, 0, 0, 0), (0, 0, 0, 0)]).tolist() == [0, 1, 0]
    assert lanes.intern([(5, 0, 0, 0), (0, 1, 0, 0), (5, 0, 0, 7)]).tolist() == [1, 2, 3]
    assert len(lanes) == 4
