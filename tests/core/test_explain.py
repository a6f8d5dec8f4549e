"""Why a task is not running."""

from dataclasses import replace

import pytest

from swarmd.core.explain import Explanation, Obstacle
from swarmd.core.explain import ObstacleKind as Kind
from swarmd.core.state import SwarmState
from swarmd.core.status import TaskStatus
from swarmd.core.update import StateUpdate
from tests.core.builders import a_swarm, a_task, accept, only, queue_all, taken, tell


def kinds(explanation: Explanation) -> list[Kind]:
    return [obstacle.kind for obstacle in explanation.obstacles]


def why(state: SwarmState, task_id: int) -> list[Kind]:
    return kinds(state.explain(task_id))


def test_a_ready_task_waits_for_the_tick_that_the_client_makes():
    state = a_swarm(1)
    assert why(state, 1) == [Kind.WAITING_FOR_TICK]
    assert kinds(state.explain(1, autopilot=True)) == []
    assert state.explain(1, autopilot=True).summary == "It is ready and goes out with the next batches."


def test_a_waiting_task_names_the_upstreams_that_are_not_done():
    state = a_swarm([a_task(1), a_task(2), a_task(3), a_task(4, 1, 2, 3)])
    tell(state, "D", 2)
    tell(state, "R", 3)
    (obstacle,) = state.explain(4).obstacles
    assert (obstacle.kind, obstacle.task_ids, obstacle.count) == (Kind.WAITING_FOR_UPSTREAMS, [1, 3], 2)
    assert obstacle.message == "It waits for 2 of its 3 upstreams: 1 (REGISTERED), 3 (RUNNING)."


def test_of_many_upstreams_twenty_are_named_and_all_counted():
    state = a_swarm([*map(a_task, range(1, 31)), a_task(99, *range(1, 31))])
    (obstacle,) = state.explain(99).obstacles
    assert (obstacle.task_ids, obstacle.count) == (list(range(1, 21)), 30)


@pytest.mark.parametrize("how", ["failed", "cancelled"])
def test_a_blocked_task_names_the_failure_however_far_before_it(how):
    state = a_swarm([a_task(1), a_task(2, 1), a_task(3, 2), a_task(4, 3)])
    tell(state, "F", 1) if how == "failed" else state.cancel(only(1))
    first, second = state.explain(4).obstacles
    assert (first.kind, first.task_ids, first.count) == (Kind.BLOCKED_BY_FAILURE, [1], 1)
    assert (second.kind, second.task_ids) == (Kind.WAITING_FOR_UPSTREAMS, [3])


def test_a_failure_behind_what_is_done_blocks_nobody():
    state = a_swarm([a_task(1), a_task(2, 1), a_task(3), a_task(4, 2, 3)])
    tell(state, "D", 2)
    tell(state, "F", 1)
    assert why(state, 4) == [Kind.WAITING_FOR_UPSTREAMS]


def test_full_limits_are_named_with_their_numbers():
    state = a_swarm(4, arrays={1: 2}, max_concurrently_running=2)
    queue_all(state)
    swarm, array, position = state.explain(4).obstacles
    assert (swarm.kind, swarm.count) == (Kind.SWARM_LIMIT, 2)
    assert (array.kind, array.count) == (Kind.ARRAY_LIMIT, 2)
    assert (position.kind, position.count) == (Kind.QUEUE_POSITION, 1)


@pytest.mark.parametrize("has_upstream", [False, True])
def test_whatever_holds_the_whole_swarm_is_named(has_upstream):
    state = a_swarm([a_task(1, status=TaskStatus.ERROR_FATAL), a_task(2), a_task(3, *([2] if has_upstream else []))])
    state.configure(paused=True, fail_fast=True)
    state.apply_update(StateUpdate(workflow_run_status="S"))
    assert {Kind.PAUSED, Kind.FAIL_FAST, Kind.WORKFLOW_RUN_STATUS} <= set(why(state, 3))


def test_a_reserved_task_names_its_batch():
    state = a_swarm(3)
    batch = taken(state)
    explanation = state.explain(2)
    assert (kinds(explanation), explanation.batch_id) == ([Kind.BEING_QUEUED], batch.batch_id)
    state.settle(batch)
    assert (why(state, 2), state.explain(2).batch_id) == ([Kind.BEING_QUEUED], "")


def test_a_task_in_doubt_says_why():
    state = a_swarm(3)
    batch = taken(state)
    state.doubt(batch, "the line went dead")
    explanation = state.explain(2)
    assert (kinds(explanation), explanation.batch_id) == ([Kind.IN_DOUBT], batch.batch_id)
    assert "the line went dead" in explanation.summary


@pytest.mark.parametrize("status", ["Q", "I", "O", "R"])
def test_an_active_task_is_active(status):
    state = a_swarm(1)
    tell(state, status, 1)
    assert why(state, 1) == [Kind.ACTIVE]


@pytest.mark.parametrize(
    ("status", "summary"),
    [
        ("F", "It is ERROR_FATAL after 2 attempts: broke. ResetTasks takes it back."),
        ("D", "It is DONE after 2 attempts."),
    ],
)
def test_a_final_task_says_how_it_ended(status, summary):
    state = a_swarm(1)
    queue_all(state)
    tell(state, "E", 1, reason="broke")
    queue_all(state)
    tell(state, status, 1, reason="broke" if status == "F" else "")
    assert why(state, 1) == [Kind.FINAL]
    assert state.explain(1).summary == summary


def test_a_cancelled_task_says_why_it_was():
    state = a_swarm(1)
    queue_all(state)
    state.cancel(only(1), reason="not needed")
    assert state.explain(1).summary == "It is CANCELLED after 1 attempt: not needed. ResetTasks takes it back."


def test_the_attempts_are_told_in_order_with_their_times():
    state = a_swarm([a_task(1, max_attempts=5)])
    for number, status in enumerate("EAR", 1):
        batch = taken(state, at=number * 10.0)
        accept(state, batch)
        tell(state, status, 1, at=number * 10.0 + 5, reason=f"reason {number}")
    attempts = state.explain(1).attempts
    assert [(each.attempt, str(each.status)) for each in attempts] == [(1, "E"), (2, "A"), (3, "R")]
    assert [(each.queued_at, each.changed_at) for each in attempts] == [(10, 15), (20, 25), (30, 35)]
    assert [each.reason for each in attempts] == ["reason 1", "reason 2", ""]


def test_an_attempt_that_succeeded_is_told_also_after_a_reset():
    state = a_swarm(1)
    queue_all(state)
    tell(state, "D", 1)
    state.reset(only(1))
    queue_all(state)
    assert [(each.attempt, str(each.status)) for each in state.explain(1).attempts] == [(1, "D"), (2, "Q")]


def test_a_task_that_was_never_queued_has_no_attempts():
    state = a_swarm(1)
    state.cancel(only(1))
    assert state.explain(1).attempts == []


@pytest.mark.parametrize("found_kinds", [[], [Kind.WAITING_FOR_TICK], [Kind.QUEUE_POSITION]])
def test_what_caps_its_resources_is_said_once_also_of_a_task_that_is_refused(found_kinds):
    found = replace(a_swarm(1).explain(1, autopilot=True), caps="Its queue caps memory.")
    found = replace(found, obstacles=[Obstacle(kind, "It waits. Its queue caps memory.") for kind in found_kinds])
    told = found.refused("The engine refuses it.")
    assert told.summary == "The engine refuses it. Its queue caps memory."
    assert "".join(each.message for each in told.obstacles).count(found.caps) == 1


def test_what_holds_the_swarm_comes_before_what_the_engine_refuses():
    state = a_swarm(1)
    state.configure(paused=True)
    told = state.explain(1, autopilot=True).refused("The engine refuses it.")
    assert [each.kind for each in told.obstacles] == [Kind.PAUSED, Kind.REFUSED]
