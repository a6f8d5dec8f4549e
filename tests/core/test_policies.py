"""The policies of a swarm: whose turn it is, how long paths are, and what is learned of runtimes."""

from unittest.mock import patch

import numpy as np
import pytest

from swarmd.core import ranking
from swarmd.core.batch import Batch
from swarmd.core.checks import inconsistencies
from swarmd.core.columns import TaskColumns
from swarmd.core.model import Array, TaskResources
from swarmd.core.paths import SWEPT_FREELY, longest_paths, path_classes
from swarmd.core.policy import SchedulingPolicy
from swarmd.core.state import SwarmState
from swarmd.core.update import StateUpdate
from tests.core.builders import a_task, news, only

FIRST, LONGEST, FAIR = SchedulingPolicy


def a_swarm(policy: SchedulingPolicy, limit: int = 10_000) -> SwarmState:
    return SwarmState("s", max_concurrently_running=limit, scheduling_policy=policy)


def huge_and_small(policy: SchedulingPolicy, limit: int, *, huge: int = 500_000) -> SwarmState:
    """One large array, loaded first, and 100 of five tasks each."""
    state = a_swarm(policy, limit)
    ids = np.arange(1, huge + 501)
    arrays = np.concatenate((np.ones(huge, dtype=np.int64), np.repeat(np.arange(2, 102), 5)))
    state.load([Array(each) for each in range(1, 102)], [TaskResources(1)], TaskColumns.of(ids, arrays, 1))
    return state


def batches_until_each_had_one(state: SwarmState, *, at_once: int) -> int:
    """Batches are taken and finished, `at_once` of them at a time, until each of the small arrays had its first."""
    seen: set[int] = set()
    count = 0
    while True:
        taken: list[Batch] = []
        while len(taken) < at_once and (batch := state.take_batch()) is not None:
            state.settle(batch)
            taken.append(batch)
            seen.add(batch.array_id)
            count += 1
            if len(seen - {1}) == 100:
                return count
            assert count < 2000
        for batch in taken:
            state.apply_update(news("D", batch.task_ids.tolist()))


# -- fair shares -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at_once", [1, 10**6])
@pytest.mark.parametrize(("limit", "huge"), [(100, 500_000), (1, 1000), (10_000, 20_000), (2**31 - 1, 20_000)])
def test_a_huge_array_does_not_keep_small_ones_waiting(limit, huge, at_once):
    state = huge_and_small(FAIR, limit, huge=huge)
    batches = batches_until_each_had_one(state, at_once=at_once)
    assert batches <= 202  # at most one batch of the huge one for each of theirs, and one that was under way
    assert inconsistencies(state) == []


def test_first_come_first_served_keeps_them_waiting():
    """Else the test above would prove little."""
    state = huge_and_small(FIRST, 100, huge=200_000)
    for _ in range(1000):
        batch = state.take_batch()
        assert batch is not None
        assert batch.array_id == 1
        state.settle(batch)
        state.apply_update(news("D", batch.task_ids.tolist()))


def test_arrays_that_can_go_get_the_same_share():
    state = a_swarm(FAIR, limit=90)
    ids = np.arange(1, 601)
    state.load([Array(1), Array(2), Array(3)], [TaskResources(1)], TaskColumns.of(ids, (ids - 1) // 200 + 1, 1))
    while (batch := state.take_batch()) is not None:
        state.settle(batch)
    assert [state.array_counts(each).active for each in (1, 2, 3)] == [30, 30, 30]


def test_what_an_array_cannot_use_goes_to_the_others():
    state = a_swarm(FAIR, limit=90)
    ids = np.arange(1, 601)
    arrays = [Array(1, max_concurrently_running=4), Array(2), Array(3)]
    state.load(arrays, [TaskResources(1)], TaskColumns.of(ids, (ids - 1) // 200 + 1, 1))
    while (batch := state.take_batch()) is not None:
        state.settle(batch)
    active = [state.array_counts(each).active for each in (1, 2, 3)]
    assert active[0] == 4
    assert sum(active) == 90
    assert abs(active[1] - active[2]) <= 3


def test_shares_make_no_more_batches_than_need_be():
    """10,000 arrays share a limit of 10,000: not in 10,000 batches of one task."""
    state = a_swarm(FAIR, limit=10_000)
    ids = np.arange(1, 1_000_001)
    arrays = [Array(each) for each in range(1, 10_001)]
    state.load(arrays, [TaskResources(1)], TaskColumns.of(ids, (ids - 1) // 100 + 1, 1))
    sizes = []
    while (batch := state.take_batch()) is not None:
        sizes.append(len(batch))
    assert sum(sizes) == 10_000
    assert len(sizes) == 100  # each array has no more than 100 tasks


def test_priority_comes_before_fairness():
    state = a_swarm(FAIR, limit=10)
    tasks = [a_task(each, array=1, priority=5) for each in range(1, 21)]
    tasks += [a_task(each, array=2) for each in range(21, 41)]
    state.load([Array(1), Array(2)], [TaskResources(1)], tasks)
    taken = []
    while (batch := state.take_batch()) is not None:
        taken.append(batch.array_id)
    assert set(taken) == {1}


def test_a_batch_that_is_undone_gives_the_turn_back():
    state = a_swarm(FAIR, limit=4)
    ids = np.arange(1, 41)
    state.load([Array(1), Array(2)], [TaskResources(1)], TaskColumns.of(ids, (ids - 1) // 20 + 1, 1))
    for expected in (1, 2):
        batch = state.take_batch(1)
        assert batch is not None
        assert batch.array_id == expected
        turns = dict(state.table.queue.turns)
        again = state.take_batch(1)
        assert again is not None
        state.reservations.undo(again)
        assert state.table.queue.turns == turns
        state.settle(batch)
        state.apply_update(news("D", batch.task_ids.tolist()))


def test_a_refused_array_does_not_go_before_the_others_again():
    state = a_swarm(FAIR, limit=1)
    ids = np.arange(1, 5)
    state.load([Array(1), Array(2)], [TaskResources(1)], TaskColumns.of(ids, (ids - 1) // 2 + 1, 1))
    turns = []
    for _ in range(4):
        batch = state.take_batch()
        assert batch is not None
        turns.append(batch.array_id)
        state.give_back(batch)
    assert turns == [1, 2, 1, 2]


# -- paths -------------------------------------------------------------------------------------------------------------


def remaining(state: SwarmState) -> dict[int, float]:
    table = state.table
    assert table.paths is not None
    ids = table.task_id[: table.size].tolist()
    return dict(zip(ids, table.paths.remaining[: table.size].tolist(), strict=True))


def taken_in_order(state: SwarmState) -> list[int]:
    order: list[int] = []
    while (batch := state.take_batch()) is not None:
        order += batch.task_ids.tolist()
    return order


def test_what_has_the_longest_path_goes_first():
    state = a_swarm(LONGEST)
    resources = [TaskResources(1, runtime_seconds=1), TaskResources(2, runtime_seconds=10)]
    tasks = [a_task(1), a_task(2), a_task(3, 2), a_task(4, 3), a_task(5, resources=2)]
    state.load([Array(1)], resources, tasks)
    assert remaining(state) == {1: 1, 2: 3, 3: 2, 4: 1, 5: 10}
    assert taken_in_order(state) == [5, 2, 1]


def test_without_runtimes_it_is_the_number_of_steps():
    state = a_swarm(LONGEST)
    state.load([Array(1)], [TaskResources(1)], [a_task(1), a_task(2), a_task(3, 2), a_task(4, 3)])
    assert remaining(state) == {1: 1, 2: 3, 3: 2, 4: 1}
    assert taken_in_order(state) == [2, 1]


def test_priority_comes_before_paths():
    state = a_swarm(LONGEST)
    state.load([Array(1)], [TaskResources(1)], [a_task(1, priority=1), a_task(2), a_task(3, 2)])
    assert taken_in_order(state) == [1, 2]


def test_a_later_load_makes_the_paths_before_it_longer():
    state = a_swarm(LONGEST)
    state.load([Array(1)], [TaskResources(1)], [a_task(1), a_task(2), a_task(3, 2)])
    state.load(tasks=[a_task(4, 1), a_task(5, 4), a_task(6, 5)])
    assert remaining(state) == {1: 4, 2: 2, 3: 1, 4: 3, 5: 2, 6: 1}
    assert inconsistencies(state) == []
    assert taken_in_order(state) == [1, 2]


def test_a_chain_that_grows_by_many_loads_is_followed_as_far_as_is_cheap_and_swept_later():
    state = a_swarm(LONGEST)
    state.load([Array(1)], [TaskResources(1)], [a_task(1), a_task(2)])
    with patch.multiple(ranking, RAISED_AT_LEAST=3, RAISED_PER_LOADED=0):
        for each in range(3, 40):
            state.load(tasks=[a_task(each, each - 1 if each > 3 else 1)])
    assert state.table.paths is not None
    assert state.table.paths.unswept == 39
    assert remaining(state)[1] < 38
    state.apply_update(news("R", [2]), at=1.0)
    state.apply_update(news("D", [2]), at=2.0)
    assert state.table.paths.unswept == 0
    assert remaining(state)[1] == 38
    assert inconsistencies(state) == []


@pytest.mark.parametrize("seed", range(20))
def test_paths_are_those_of_a_walk_over_the_graph(seed):
    rng = np.random.default_rng(seed)
    size = int(rng.integers(1, 400))
    order = rng.permutation(size)
    edges = sorted(
        {(int(order[a]), int(order[b])) for a, b in rng.integers(0, size, (int(size * rng.random() * 3), 2)) if a < b},
        key=lambda edge: edge[1],
    )
    seconds = rng.random(size) * 100
    expected = seconds.copy()
    after: dict[int, list[int]] = {}
    for source, target in edges:
        after.setdefault(source, []).append(target)
    for row in order[::-1].tolist():
        expected[row] += max((expected[each] for each in after.get(row, ())), default=0.0)
    sources = np.array([source for source, _ in edges], dtype=np.int32)
    targets = np.array([target for _, target in edges], dtype=np.int32)
    assert longest_paths(sources, targets, seconds) == pytest.approx(expected, rel=1e-6)


def test_a_path_of_twice_the_length_is_sixteen_classes_further():
    paths = np.array([0.0, 0.001, 1.0, 1.04, 1.05, 2.0, 4.0, 8.0, 3e8])
    classes = path_classes(paths).tolist()
    assert classes[0] == classes[1]
    assert classes[2:8] == [16, 16, 17, 32, 48, 64]
    assert classes == sorted(classes)


# -- learning ----------------------------------------------------------------------------------------------------------


def two_kinds(policy: SchedulingPolicy = LONGEST) -> SwarmState:
    """Ten tasks of each of two arrays, and no runtimes."""
    state = a_swarm(policy, limit=2)
    tasks = [a_task(each, array=1 + (each > 10)) for each in range(1, 21)]
    state.load([Array(1), Array(2)], [TaskResources(1)], tasks)
    return state


def run(state: SwarmState, ids: list[int], begin: float, end: float) -> None:
    state.apply_update(news("R", ids), at=begin)
    state.apply_update(news("D", ids), at=end)


def test_runtimes_are_learned_from_tasks_of_the_array_that_are_done():
    state = two_kinds()
    run(state, [1], 0.5, 2.5)
    run(state, [11], 3.0, 33.0)
    paths = state.table.paths
    assert paths is not None
    assert paths.done_seconds.tolist() == [2.0, 30.0]
    assert paths.estimates.tolist() == [2.0, 30.0]
    assert remaining(state)[2] == 2.0
    assert remaining(state)[12] == 30.0
    assert inconsistencies(state) == []
    batch = state.take_batch()
    assert batch is not None
    assert batch.array_id == 2


def test_an_array_of_which_nothing_is_known_is_taken_for_the_mean_of_the_others():
    state = two_kinds()
    run(state, [1], 0.0, 8.0)
    assert remaining(state)[12] == 8.0


def test_a_stated_runtime_counts_whatever_was_seen():
    state = a_swarm(LONGEST)
    state.load([Array(1)], [TaskResources(1, runtime_seconds=5)], [a_task(1), a_task(2)])
    run(state, [1], 0.0, 500.0)
    assert remaining(state)[2] == 5.0
    assert state.table.paths is not None
    assert not state.table.paths.learned


def test_what_nobody_saw_running_teaches_nothing():
    state = two_kinds()
    state.apply_update(news("Q", [1]), at=1.0)
    state.apply_update(news("D", [1]), at=500.0)
    assert state.table.paths is not None
    assert not state.table.paths.learned


def test_a_small_change_of_a_mean_does_not_start_another_sweep():
    state = two_kinds()
    run(state, [1], 0.0, 10.0)
    assert remaining(state)[5] == 10.0
    run(state, [2], 10.0, 22.0)
    assert remaining(state)[5] == 10.0
    run(state, [3], 22.0, 100.0)
    assert remaining(state)[5] == pytest.approx(100 / 3)


def test_a_sweep_does_no_more_in_one_update_than_its_share():
    state = a_swarm(LONGEST)
    ids = np.arange(1, 20_001)
    state.load([Array(1)], [TaskResources(1)], TaskColumns.of(ids, 1, 1))
    run(state, [1], 0.0, 9.0)
    paths = state.table.paths
    assert paths is not None
    assert paths.unswept == 20_000 - SWEPT_FREELY
    assert inconsistencies(state) == []
    for first in range(2, 4_002, 100):
        before = paths.unswept
        run(state, [*range(first, first + 100)], 10.0, 19.0)
        assert before - paths.unswept <= ranking.LEAST_SLICE + 100 * ranking.SWEPT_PER_FINISHED
    assert paths.unswept == 0
    assert set(remaining(state).values()) == {9.0}
    assert inconsistencies(state) == []


def test_sweeps_are_rare_however_much_every_array_differs():
    """The tasks of 300 arrays teach 300 runtimes: that makes no 300 sweeps."""
    state = a_swarm(LONGEST)
    ids = np.arange(1, 601)
    arrays = [Array(each) for each in range(1, 301)]
    state.load(arrays, [TaskResources(1)], TaskColumns.of(ids, (ids - 1) % 300 + 1, 1))
    paths, sweeps = state.table.paths, 0
    assert paths is not None
    for each in range(1, 301):
        then = paths.learned_then
        run(state, [each], 0.0, float(1 + each * each))
        sweeps += paths.learned_then != then
    assert 10 <= sweeps <= 20
    assert inconsistencies(state) == []


def test_a_load_after_something_was_learned_is_reckoned_with_it():
    state = two_kinds()
    run(state, [1], 0.0, 8.0)
    state.load(tasks=[a_task(30, array=2)])
    assert remaining(state)[30] == 1.0
    run(state, [2], 10.0, 18.0)
    assert remaining(state)[30] == 8.0


def test_a_batch_that_comes_back_after_its_tasks_changed_lanes_is_ready_again():
    state = two_kinds()
    batch = state.take_batch(2)
    assert batch is not None
    run(state, [5], 0.0, 50.0)
    assert state.give_back(batch) == 2
    assert inconsistencies(state) == []
    assert sorted(taken_in_order(state)) == sorted(batch.task_ids.tolist())


def test_a_sweep_goes_over_what_is_done_cancelled_and_reset():
    state = two_kinds()
    state.cancel(only(3, 4))
    run(state, [1, 2], 0.0, 50.0)
    state.reset(only(1, 3))
    assert inconsistencies(state) == []
    assert remaining(state)[3] == 50.0


# -- whatever the policy -----------------------------------------------------------------------------------------------


def test_only_paths_take_memory_and_no_more_than_four_bytes_a_task():
    ids = np.arange(1, 100_001)
    sizes = {}
    for policy in SchedulingPolicy:
        state = a_swarm(policy)
        state.load([Array(1)], [TaskResources(1)], TaskColumns.of(ids, 1, 1))
        sizes[policy] = state.table.nbytes / len(ids)
    assert sizes[FAIR] == sizes[FIRST]
    assert sizes[LONGEST] == sizes[FIRST] + 4


def test_a_task_is_told_how_many_go_before_it():
    state = a_swarm(LONGEST)
    tasks = [a_task(1), a_task(2), a_task(3), a_task(4, 3), a_task(5, 4)]
    state.load([Array(1)], [TaskResources(1)], tasks)
    explanation = state.explain(2)
    assert explanation.obstacles[0].count == 2
    assert "behind 2 tasks of the same array and resources; 1 of them" in explanation.summary
    assert taken_in_order(state) == [3, 1, 2]


def test_news_of_limits_reaches_every_policy():
    for policy in SchedulingPolicy:
        state = two_kinds(policy)
        state.apply_update(StateUpdate(max_concurrently_running=1, array_limits={1: 0}))
        assert taken_in_order(state) == [11]
        assert inconsistencies(state) == []
