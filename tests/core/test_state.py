"""SwarmState as a whole: what may be queued, when a swarm is finished, and what open batches do."""

import pytest

from swarmd.core.change import Change
from swarmd.core.errors import InvalidInputError, NotFoundError
from swarmd.core.model import Array, TaskResources
from swarmd.core.state import SwarmState
from swarmd.core.status import Outcome, RunStatus, TaskStatus
from swarmd.core.update import StateUpdate
from tests.core.builders import (
    a_swarm,
    a_task,
    accept,
    all_ids_of,
    code_of,
    ids_of,
    only,
    queue_all,
    several,
    status_of,
    statuses,
    take_all,
    taken,
    tell,
    well,
)

# -- limits -----------------------------------------------------------------


def test_a_new_swarm_is_running_with_room_for_ten_thousand():
    state = SwarmState()
    assert (state.run_status, state.max_concurrently_running, state.paused) == (RunStatus.RUNNING, 10_000, False)


@pytest.mark.parametrize("limit", [-1, 2**31])
def test_a_limit_out_of_bounds_is_refused(limit):
    with pytest.raises(InvalidInputError):
        SwarmState(max_concurrently_running=limit)
    state = SwarmState()
    with pytest.raises(InvalidInputError):
        state.max_concurrently_running = limit
    assert state.max_concurrently_running == 10_000


def test_the_swarms_limit_counts_all_arrays():
    state = a_swarm(
        [a_task(1), a_task(2, array=2), a_task(3), a_task(4, array=2)], arrays=2, max_concurrently_running=3
    )
    assert sorted(all_ids_of(take_all(state, 1))) == [1, 2, 3]


def test_reserved_tasks_count_at_once():
    state = a_swarm(5, max_concurrently_running=3)
    batch = taken(state, 2)
    assert (state.active_count, state.available_capacity) == (2, 1)
    assert ids_of(take_all(state)) == [[3]]
    state.settle(batch)
    assert state.active_count == 3


def test_a_limit_below_what_runs_stops_nothing_and_queues_nothing_until_there_is_room():
    state = a_swarm(6)
    accept(state, taken(state, 4), "R")
    state.max_concurrently_running = 2
    assert (state.has_work(), state.available_capacity, state.active_count) == (False, 0, 4)
    tell(state, "D", 1, 2)
    assert not state.has_work()
    tell(state, "D", 3)
    assert ids_of(take_all(state)) == [[5]]


def test_an_arrays_limit_below_what_runs_does_the_same():
    state = a_swarm([*map(a_task, range(1, 6)), a_task(9, array=2)], arrays=2)
    accept(state, taken(state, 3), "R")
    state.apply_update(StateUpdate(array_limits={1: 1}))
    assert ids_of(take_all(state)) == [[9]]
    tell(state, "D", 1, 2)
    assert not state.has_work()
    tell(state, "D", 3)
    assert ids_of(take_all(state)) == [[4]]
    assert well(state)


@pytest.mark.parametrize(
    "hold",
    [
        StateUpdate(max_concurrently_running=0),
        StateUpdate(array_limits={1: 0}),
        *(StateUpdate(workflow_run_status=str(each)) for each in RunStatus if each is not RunStatus.RUNNING),
    ],
)
def test_a_limit_of_zero_and_any_run_status_but_running_pause(hold):
    state = a_swarm(2)
    state.apply_update(hold)
    assert (state.has_work(), state.take_batch(), state.finished) == (False, None, False)
    state.apply_update(StateUpdate({}, 5, {1: None}, "R"))  # type: ignore[arg-type]
    assert queue_all(state) == [[1, 2]]


def test_a_paused_swarm_queues_nothing_and_says_why():
    state = a_swarm(2, paused=True)
    assert (state.has_work(), state.take_batch(), state.held_reason) == (False, None, "the swarm is paused")
    state.configure(paused=False)
    assert (state.held_reason, queue_all(state)) == ("", [[1, 2]])


# -- finishing --------------------------------------------------------------


def test_a_swarm_without_tasks_has_not_begun():
    state = SwarmState()
    assert (state.finished, state.outcome, state.has_work(), state.take_batch()) == (False, "UNFINISHED", False, None)


def test_a_swarm_is_done_when_all_tasks_are_done():
    state = a_swarm([a_task(1), a_task(2, 1)])
    assert tell(state, "D", 1).finished is False
    change = tell(state, "D", 2)
    assert (change.finished, state.outcome, state.blocked_count) == (True, Outcome.DONE, 0)


@pytest.mark.parametrize("how", ["failed", "cancelled"])
def test_a_swarm_with_a_task_that_is_not_done_ends_in_error_with_the_blocked_counted(how):
    state = a_swarm([a_task(1), a_task(2, 1), a_task(3, 2), a_task(4)])
    tell(state, "D", 4)
    if how == "failed":
        tell(state, "F", 1)
    else:
        state.cancel(only(1))
    assert (state.finished, state.outcome, state.blocked_count) == (True, Outcome.ERROR, 2)


@pytest.mark.parametrize("status", ["Q", "I", "O", "R"])
def test_a_swarm_with_an_active_task_is_not_finished(status):
    state = a_swarm(2)
    state.apply_update(several(("D", [1], None), (status, [2], None)))
    assert (state.finished, state.outcome, state.blocked_count) == (False, Outcome.UNFINISHED, 0)


def test_a_swarm_with_a_batch_in_doubt_is_not_finished():
    state = a_swarm(1)
    state.doubt(taken(state), "no answer")
    assert not state.finished


def test_a_finished_swarm_goes_on_when_tasks_are_loaded_or_reset():
    state = a_swarm(1)
    tell(state, "D", 1)
    state.load(tasks=[a_task(2)])
    assert (state.finished, queue_all(state)) == (False, [[2]])
    tell(state, "D", 2)
    state.reset(only(1))
    assert (state.finished, queue_all(state)) == (False, [[1]])


# -- fail-fast ----------------------------------------------------------------


def test_fail_fast_queues_nothing_more_and_finishes_when_nothing_runs():
    state = a_swarm([a_task(1), a_task(2), a_task(3), a_task(4, 1)], fail_fast=True, max_concurrently_running=2)
    queue_all(state)
    tell(state, "F", 1)
    assert (state.has_work(), state.take_batch(), state.finished) == (False, None, False)
    tell(state, "D", 2)
    assert (state.finished, state.outcome, state.blocked_count) == (True, Outcome.ERROR, 1)


def test_fail_fast_goes_on_when_what_failed_is_reset():
    state = a_swarm(3, fail_fast=True, max_concurrently_running=1)
    queue_all(state)
    tell(state, "F", 1)
    assert state.finished
    assert state.reset(only(1)).finished is False
    assert queue_all(state) == [[2]]


def test_fail_fast_can_be_turned_on_and_off_after_a_failure():
    state = a_swarm(2)
    tell(state, "F", 1)
    assert state.configure(fail_fast=True).finished
    assert not state.has_work()
    assert not state.configure(fail_fast=False).finished
    assert state.has_work()


def test_a_failed_attempt_with_more_to_come_is_no_failure_to_fail_fast():
    state = a_swarm(2, fail_fast=True)
    queue_all(state)
    tell(state, "E", 1)
    assert queue_all(state) == [[1]]


def test_switches_that_are_set_already_make_no_revision():
    state = a_swarm(1, paused=True)
    revision = state.revision
    assert state.configure(paused=True, fail_fast=False).is_empty
    assert state.revision == revision
    assert state.configure(touched=True).revision == revision + 1


# -- batches ------------------------------------------------------------------


def test_a_batch_says_all_that_an_engine_needs():
    state = SwarmState("s")
    resources = TaskResources(4, cores=2, memory_mib=10)
    array = Array(3, "sim", command="run {task_id} {name} {array_id} {array_name} {swarm_id} {attempt} {{x}}")
    state.load(
        [array],
        [resources],
        [a_task(8, array=3, resources=4, name="n"), a_task(9, array=3, resources=4, command="own {x}")],
    )
    batch = taken(state)
    assert (batch.swarm_id, batch.array, batch.task_resources, batch.array_id, len(batch)) == (
        "s",
        array,
        resources,
        3,
        2,
    )
    first, second = batch.tasks()
    assert (first.task_id, first.attempt, first.name, first.command) == (8, 1, "n", "run 8 n 3 sim s 1 {x}")
    assert (second.name, second.command) == ("", "own {x}")


def test_every_queueing_raises_the_attempt_and_has_a_batch_id_of_its_own():
    state = a_swarm(1, batch_prefix="s@2")
    seen = []
    for number in range(1, 5):
        batch = taken(state)
        seen.append(batch.batch_id)
        assert batch.attempts.tolist() == [number]
        state.give_back(batch)
    assert seen == ["s@2-1", "s@2-2", "s@2-3", "s@2-4"]
    assert state.task(1).failed_attempts == 0


def test_a_settled_batch_stays_reserved_until_the_news_comes():
    state = a_swarm(2)
    batch = taken(state)
    state.settle(batch)
    assert (state.open_batches, state.active_count, statuses(state)) == ({}, 2, "GG")
    tell(state, "Q", 1, 2, attempts=[1, 1])
    assert (state.active_count, statuses(state)) == (2, "QQ")


def test_a_batch_that_comes_back_whole_is_closed_and_one_that_comes_back_in_part_is_open():
    state = a_swarm(2)
    batch = taken(state)
    state.give_back(batch, [1])
    assert list(state.open_batches) == [batch.batch_id]
    state.give_back(batch)
    assert state.open_batches == {}


def test_a_batch_in_doubt_keeps_its_place_and_is_counted_until_it_is_known():
    state = a_swarm([a_task(1), a_task(2), a_task(3, array=2)], arrays=2)
    batch = taken(state)
    state.doubt(batch, "timed out")
    assert (state.counts().in_doubt, state.array_counts(1).in_doubt, state.array_counts(2).in_doubt) == (2, 2, 0)
    assert (state.active_count, ids_of(take_all(state))) == (2, [[3]])
    state.give_back(batch)
    assert (state.counts().in_doubt, ids_of(take_all(state))) == (0, [[1, 2]])


def test_news_of_every_task_ends_the_doubt():
    state = a_swarm(2)
    state.doubt(taken(state), "timed out")
    tell(state, "R", 1, attempts=[1])
    assert state.counts().in_doubt == 1
    tell(state, "R", 2, attempts=[1])
    assert (state.counts().in_doubt, state.open_batches) == (0, {})


def test_a_batch_given_back_after_its_upstream_was_reset_waits_again():
    state = a_swarm([a_task(1), a_task(2, 1), a_task(3)])
    tell(state, "D", 1)
    batch = taken(state)
    assert batch.task_ids.tolist() == [3, 2]
    state.reset(only(1))
    assert state.give_back(batch) == 2
    assert ids_of(take_all(state)) == [[3, 1]]
    tell(state, "D", 1)
    assert ids_of(take_all(state)) == [[2]]
    assert well(state)


def test_what_is_accepted_after_its_upstream_was_reset_runs():
    state = a_swarm([a_task(1), a_task(2, 1)])
    tell(state, "D", 1)
    batch = taken(state)
    state.reset(only(1))
    accept(state, batch)
    tell(state, "E", 2)
    assert (status_of(state, 2), ids_of(take_all(state))) == ("G", [[1]])
    assert well(state)


def test_two_who_take_batches_never_get_the_same_task():
    state = a_swarm(10)
    first, second = taken(state, 5), taken(state, 5)
    assert not set(first.task_ids.tolist()) & set(second.task_ids.tolist())


def test_an_update_applied_once_more_changes_nothing():
    state = a_swarm(3)
    batch = taken(state)
    accept(state, batch)
    revision = state.revision
    assert accept(state, batch).is_empty
    assert state.revision == revision


# -- looking ------------------------------------------------------------------


def test_counts_say_how_many_tasks_stand_where():
    state = a_swarm([a_task(n, status=TaskStatus(each)) for n, each in enumerate("GGQIORDFX", 1)] + [a_task(20, 1)])
    taken(state, 1)
    counts = state.counts()
    assert (counts.total, counts.registered, counts.ready, counts.reserved, counts.active) == (10, 3, 1, 1, 5)
    assert (counts.queued, counts.instantiating, counts.launched, counts.running) == (1, 1, 1, 1)
    assert (counts.done, counts.error_fatal, counts.cancelled) == (1, 1, 1)
    assert state.array_counts(1) == counts


def test_tasks_come_in_pages_by_status_and_array():
    state = a_swarm([a_task(n, array=n % 2 + 1) for n in range(1, 8)], arrays=2)
    tell(state, "D", 1, 3, 4)
    page, following = state.tasks(statuses=[TaskStatus.REGISTERED], limit=2)
    assert ([view.task_id for view in page], following) == ([2, 5], 5)
    assert following is not None
    page, following = state.tasks(statuses=[TaskStatus.REGISTERED], start=following, limit=2)
    assert ([view.task_id for view in page], following) == ([6, 7], None)
    assert [view.task_id for view in state.tasks(array_ids=[1], statuses=[TaskStatus.DONE])[0]] == [4]
    assert state.tasks(statuses=[TaskStatus.ERROR_RECOVERABLE]) == ([], None)
    assert state.tasks(start=99) == ([], None)


def test_reserved_tasks_are_listed_as_registered():
    state = a_swarm(2)
    taken(state, 1)
    assert [view.task_id for view in state.tasks(statuses=[TaskStatus.REGISTERED])[0]] == [1, 2]


@pytest.mark.parametrize(
    "look",
    [
        lambda state: state.task(9),
        lambda state: state.explain(9),
        lambda state: state.array_counts(9),
        lambda state: state.tasks(array_ids=[9]),
    ],
)
def test_what_is_not_there_is_not_found(look):
    with pytest.raises(NotFoundError):
        look(a_swarm(1))


def test_a_change_without_anything_is_empty():
    assert Change().is_empty


def test_an_answer_that_is_late_by_an_attempt_is_stale():
    state = a_swarm(1)
    first = taken(state)
    state.give_back(first)
    second = taken(state)
    change = accept(state, first)
    assert [each.effect.name for each in change.ignored] == ["STALE_ATTEMPT"]
    assert code_of(state, 1).name == "RESERVED"
    accept(state, second)
    assert (status_of(state, 1), state.task(1).attempt) == ("Q", 2)
