"""Updates: wholly or not at all, order, freed downstreams, adjusted resources."""

from datetime import UTC, datetime

import numpy as np
import pytest

from swarmd.core.errors import InvalidInputError, LimitExceededError, NotFoundError, SwarmdError
from swarmd.core.model import MAX_ATTEMPT, MAX_COUNT, MAX_REASON_BYTES, TaskResources
from swarmd.core.state import SwarmState
from swarmd.core.status import RunStatus, TaskStatus
from swarmd.core.update import StateUpdate, StatusGroup, TaskStatuses
from tests.core.builders import (
    a_swarm,
    a_task,
    accept,
    dump,
    ids_of,
    is_ready,
    news,
    queue_all,
    ready_order,
    several,
    status_of,
    statuses,
    take_all,
    taken,
    tell,
    well,
)


def a_busy_swarm() -> SwarmState:
    """A bit of everything: done, running, reserved, ready and waiting tasks."""
    state = a_swarm([a_task(1), a_task(2), a_task(3), a_task(4, 1), a_task(5, 2)], arrays={1: 3, 2: None})
    accept(state, taken(state, 2), "R")
    tell(state, "D", 1)
    taken(state, 1)
    return state


def with_news(update: StateUpdate, **more: object) -> StateUpdate:
    return StateUpdate(update.task_statuses, **more)  # type: ignore[arg-type]


good = news("D", [2])
INVALID = {
    "an unknown task": (several(("D", [2], None), ("R", [77], None)), NotFoundError, "UNKNOWN_TASK"),
    "an unknown task among known ones": (news("D", [2, 3, 99]), NotFoundError, "UNKNOWN_TASK"),
    "a task of id 0": (news("D", [0]), NotFoundError, "UNKNOWN_TASK"),
    "a negative task id": (news("D", [-5]), NotFoundError, "UNKNOWN_TASK"),
    "cancelled": (several(("D", [2], None), ("X", [3], None)), InvalidInputError, "INVALID_STATUS"),
    "too few attempts": (several(("D", [2], None), ("R", [3, 4], [1])), InvalidInputError, "ATTEMPTS_MISMATCH"),
    "too many attempts": (news("R", [3], [1, 1]), InvalidInputError, "ATTEMPTS_MISMATCH"),
    "a negative attempt": (several(("D", [2], None), ("R", [3], [-1])), InvalidInputError, "INVALID_VALUE"),
    "an attempt out of all bounds": (news("R", [3], [MAX_ATTEMPT + 1]), InvalidInputError, "INVALID_VALUE"),
    "a reason without end": (news("D", [2], reason="x" * (MAX_REASON_BYTES + 1)), LimitExceededError, "TEXT_TOO_LONG"),
    "a reason of too many bytes": (news("D", [2], reason="ä" * 2049), LimitExceededError, "TEXT_TOO_LONG"),
    "an unknown array": (with_news(good, array_limits={1: 5, 9: 1}), NotFoundError, "UNKNOWN_ARRAY"),
    "a negative limit of an array": (with_news(good, array_limits={1: -1}), InvalidInputError, "NEGATIVE_LIMIT"),
    "a limit out of all bounds": (with_news(good, array_limits={1: 2**31}), InvalidInputError, "NEGATIVE_LIMIT"),
    "a negative limit": (with_news(good, max_concurrently_running=-1), InvalidInputError, "NEGATIVE_LIMIT"),
    "no status of a run": (with_news(good, workflow_run_status="Z"), InvalidInputError, "INVALID_VALUE"),
    "an empty status of a run": (with_news(good, workflow_run_status=""), InvalidInputError, "INVALID_VALUE"),
}


@pytest.mark.parametrize("update, error, reason", INVALID.values(), ids=INVALID.keys())  # noqa: PT006
def test_an_invalid_update_changes_nothing_at_all(update, error, reason):
    state = a_busy_swarm()
    before = dump(state)
    with pytest.raises(error) as caught:
        state.apply_update(update, at=99)
    assert caught.value.reason == reason
    assert caught.value.field.startswith("update.")
    assert dump(state) == before
    assert well(state)


def test_unknown_tasks_are_named_and_counted():
    with pytest.raises(SwarmdError) as caught:
        tell(a_swarm(2), "D", 1, *range(100, 130))
    assert caught.value.field == "update.task_statuses[0].task_ids[1]"
    assert caught.value.metadata == {"ids": "100,101,102,103,104,105,106,107,108,109", "count": "30"}


def test_an_update_of_nothing_changes_nothing():
    state = a_busy_swarm()
    before = dump(state)
    assert state.apply_update(StateUpdate.empty()).is_empty
    assert state.apply_update(news("D", [])).is_empty
    assert dump(state) == before


def test_a_reason_of_exactly_the_bound_is_kept():
    state = a_busy_swarm()
    tell(state, "E", 2, reason="x" * MAX_REASON_BYTES)
    assert len(state.task(2).reason) == MAX_REASON_BYTES


# -- dependencies -----------------------------------------------


def test_a_task_is_ready_when_the_last_of_its_upstreams_is_done():
    state = a_swarm([a_task(1), a_task(2), a_task(3, 1, 2)])
    assert tell(state, "D", 1).newly_ready_count == 0
    assert tell(state, "D", 2).newly_ready_count == 1
    assert is_ready(state, 3)


def test_done_told_twice_frees_once():
    state = a_swarm([a_task(1), a_task(2), a_task(3, 1, 2)])
    state.apply_update(several(("D", [1, 1], None), ("D", [1], None)))
    tell(state, "D", 1)
    assert not is_ready(state, 3)
    assert well(state)


def test_an_upstream_named_twice_is_waited_for_once():
    state = a_swarm([a_task(1), a_task(2, 1, 1, 1)])
    tell(state, "D", 1)
    assert is_ready(state, 2)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_task_given_back_in_the_update_that_frees_it_is_queued_once(order):
    """The known fault of Jobmon: it was put into the queue twice."""
    state = a_swarm([a_task(1), a_task(2, 1)])
    tell(state, "Q", 2)
    groups = [("D", [1], None), ("G", [2], None)]
    state.apply_update(several(*(groups[place] for place in order)))
    assert ids_of(take_all(state)) == [[2]]
    assert well(state)


def test_upstream_and_downstream_done_in_one_group_leave_nothing_ready():
    state = a_swarm([a_task(1), a_task(2, 1), a_task(3, 2)])
    change = tell(state, "D", 2, 1)
    assert (statuses(state), change.newly_ready_count) == ("DDG", 1)
    assert ids_of(take_all(state)) == [[3]]


def test_a_task_whose_last_two_upstreams_are_done_in_one_group_is_ready_once():
    state = a_swarm([a_task(1), a_task(2), a_task(3, 1, 2)])
    assert tell(state, "D", 1, 2).newly_ready_count == 1
    assert ids_of(take_all(state)) == [[3]]
    assert well(state)


def test_a_failed_upstream_blocks_and_a_done_one_beside_it_changes_nothing():
    state = a_swarm([a_task(1), a_task(2), a_task(3, 1, 2)])
    state.apply_update(several(("F", [1], None), ("D", [2], None)))
    assert (state.ready_count, state.finished, state.blocked_count) == (0, True, 1)


def test_tasks_that_fail_are_ready_again_behind_those_that_wait():
    state = a_swarm(4)
    accept(state, taken(state, 2))
    tell(state, "E", 2, 1)
    assert ready_order(state) == [3, 4, 2, 1]


def test_tasks_that_the_engine_gives_back_keep_the_order_in_which_it_names_them():
    state = a_swarm(5)
    accept(state, taken(state, 3))
    tell(state, "G", 3, 1, 2)
    assert ready_order(state) == [4, 5, 3, 1, 2]


# -- adjusted resources -----------------------------------------


def test_resources_grow_and_the_task_goes_first():
    state = a_swarm([a_task(1, scales={"memory": 0.5}), *map(a_task, range(2, 6))], max_concurrently_running=1)
    accept(state, taken(state))
    tell(state, "A", 1)
    batch = taken(state)
    assert batch.task_ids.tolist() == [1]
    assert (batch.task_resources.memory_mib, batch.attempts.tolist()) == (150, [2])


def test_tasks_without_scales_keep_their_resources_and_go_to_the_front_of_their_lane():
    state = a_swarm(6)
    accept(state, taken(state, 4))
    tell(state, "A", 3, 1)
    tell(state, "A", 2)
    assert ready_order(state) == [2, 3, 1, 5, 6]
    assert len(state.table.resources) == 2


def test_tasks_that_grew_alike_share_their_new_resources():
    state = a_swarm([a_task(number, scales={"memory": 0.5}) for number in (1, 2, 3)])
    queue_all(state)
    tell(state, "A", 1)
    tell(state, "A", 3)
    assert ids_of(take_all(state)) == [[3, 1]]


def test_resources_grow_again_from_where_they_are():
    state = a_swarm([a_task(1, scales={"memory": 0.5, "cores": 1.0, "runtime": 0.1}, max_attempts=5)])
    for _ in range(2):
        queue_all(state)
        tell(state, "A", 1)
    assert taken(state).task_resources == TaskResources((1 << 40) + 2, cores=4, memory_mib=225, runtime_seconds=0.0)


@pytest.mark.parametrize(
    ("memory", "scale", "grown"),
    [(10, 0.1, 11), (10240, 0.1, 11264), (1, 0.1, 2), (3, 0.5, 5), (0, 1.0, 0), (100, 0.0, 100), (7, 1e308, MAX_COUNT)],
)
def test_memory_grows_upwards_to_whole_mebibytes_within_bounds(memory, scale, grown):
    state = a_swarm([a_task(1, scales={"memory": scale})], resources=[TaskResources(1, memory_mib=memory)])
    queue_all(state)
    tell(state, "A", 1)
    assert taken(state).task_resources.memory_mib == grown


def test_a_runtime_that_grows_beyond_all_bounds_stays_a_time_that_can_be_sent():
    state = a_swarm([a_task(1, scales={"runtime": 1e300})], resources=[TaskResources(1, runtime_seconds=1e10)])
    queue_all(state)
    tell(state, "A", 1)
    assert taken(state).task_resources.runtime_seconds == 315_576_000_000.0


def test_an_adjusted_task_keeps_priority_and_array():
    state = a_swarm([a_task(1, array=2, priority=-7, scales={"memory": 1.0})], arrays=2)
    queue_all(state)
    tell(state, "A", 1)
    batch = taken(state)
    assert (batch.priority, batch.array_id) == (-7, 2)


# -- limits, run, time ------------------------------------------


def test_limits_run_status_and_time_are_applied_and_named_in_the_change():
    state = a_swarm(1)
    now = datetime(2026, 1, 1, tzinfo=UTC)
    change = state.apply_update(
        StateUpdate(max_concurrently_running=5, array_limits={1: 2}, workflow_run_status="S", sync_time=now)
    )
    assert (change.max_concurrently_running, change.array_limits, change.run_status) == (5, {1: 2}, RunStatus.STOPPED)
    assert change.settings_changed
    assert (state.max_concurrently_running, state.run_status, state.sync_time) == (5, RunStatus.STOPPED, now)


def test_the_same_settings_again_are_no_change():
    state = a_swarm(1)
    update = StateUpdate(max_concurrently_running=5, array_limits={1: MAX_COUNT}, workflow_run_status="S")
    state.apply_update(update)
    revision = state.revision
    assert state.apply_update(update).is_empty
    assert state.revision == revision


def test_an_array_can_be_made_unlimited_again():
    state = a_swarm(3, arrays={1: 1})
    assert ids_of(take_all(state)) == [[1]]
    change = state.apply_update(StateUpdate(array_limits={1: None}))
    assert change.array_limits == {1: None}
    assert ids_of(take_all(state)) == [[2, 3]]


def test_every_change_has_the_next_revision():
    state = a_swarm(3)
    first = state.revision
    assert [tell(state, "Q", 1).revision, tell(state, "Q", 1).revision, tell(state, "R", 1).revision] == [
        first + 1,
        first + 1,
        first + 2,
    ]


def test_times_are_kept_as_they_are_passed_in():
    state = a_swarm(1)
    batch = taken(state, at=10.0)
    state.apply_update(news("R", [1], batch.attempts.tolist()), at=12.5)
    view = state.task(1)
    assert (view.queued_at, view.status_at) == (10.0, 12.5)


def test_a_plain_dict_of_letters_is_an_update():
    state = a_swarm(2)
    state.apply_update(StateUpdate({1: "R", 2: "D"}))  # type: ignore[arg-type]
    assert statuses(state) == "RD"


def test_a_group_of_a_hundred_thousand_in_any_order_is_folded():
    state = a_swarm(100_000, max_concurrently_running=1_000_000)
    ids = np.random.default_rng(1).permutation(100_000) + 1
    told = TaskStatuses([StatusGroup(TaskStatus.DONE, ids)])
    assert state.apply_update(StateUpdate(told)).changed_count == 100_000
    assert state.outcome == "DONE"
    assert status_of(state, 77) == "D"
