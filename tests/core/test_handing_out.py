"""Batches that are handed out together stand as those that are taken, concluded and handed out one by one."""

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from swarmd.core.batch import Batch
from swarmd.core.checks import inconsistencies
from swarmd.core.errors import DamagedError
from swarmd.core.events import BatchConcluded, BatchesHandedOut, BatchTaken
from swarmd.core.policy import SchedulingPolicy
from swarmd.core.status import TaskStatus
from swarmd.core.swarm import Swarm
from swarmd.core.update import StateUpdate, TaskStatuses
from tests.core.builders import a_swarm, news
from tests.core.test_freezing import lived, steps


def taken(swarm: Swarm, most: int, size: int) -> list[Batch]:
    swarm.state.configure(paused=False, fail_fast=False)
    swarm.state.apply_update(StateUpdate(max_concurrently_running=30, workflow_run_status="R"))
    return swarm.state.take_batches(most, size, request_id="r", at=500.0)


def event_of(batches: list[Batch]) -> BatchesHandedOut:
    ids = np.concatenate([batch.task_ids for batch in batches])
    attempts = np.concatenate([batch.attempts for batch in batches])
    return BatchesHandedOut([batch.batch_id for batch in batches], [len(each) for each in batches], ids, attempts, "r")


def one_by_one(swarm: Swarm, batches: list[Batch]) -> None:
    for batch in batches:
        swarm.apply(BatchTaken(batch.batch_id, batch.task_ids, batch.attempts, "r"), 500.0)
    for batch in batches:
        statuses = TaskStatuses()
        statuses.add(TaskStatus.QUEUED, batch.task_ids, batch.attempts)
        swarm.apply(BatchConcluded(batch.batch_id, StateUpdate(statuses), handed_out=True), 500.0)


def standing(swarm: Swarm) -> dict[str, Any]:
    state = swarm.state
    table = state.table
    columns = ("status", "attempt", "failures", "queued_at", "changed_at")
    return {
        **{name: getattr(table, name)[: table.size].tolist() for name in columns},
        "counts": table.usage.counts().tolist(),
        "active": table.usage.active_by_array().tolist(),
        "ready": table.queue.ready_seq[: table.size].tolist(),
        "open": list(state.open_batches),
        "handed out": {key: each.batch.task_ids.tolist() for key, each in state.reservations.handed_out.items()},
        "unanswered": {key: [batch.batch_id for batch in found] for key, found in swarm.unanswered.items()},
        "next": [batch.task_ids.tolist() for batch in taken(swarm, 3, 2)],
    }


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(before=steps, most=st.integers(1, 4), size=st.integers(1, 4), policy=st.sampled_from(SchedulingPolicy))
def test_together_is_as_one_by_one(before, most, size, policy):
    together, apart = lived(before, policy).swarm, lived(before, policy).swarm
    batches = taken(together, most, size)
    if batches:
        change = together.apply(event_of(batches), 500.0)
        assert change.changed_count == sum(map(len, batches))
    one_by_one(apart, taken(apart, most, size))
    assert standing(together) == standing(apart)
    assert inconsistencies(together.state) == []


def test_what_was_heard_of_before_is_not_handed_out():
    state = a_swarm(3)
    batches = state.take_batches(1, 3)
    state.apply_update(news("R", [2]))
    event = event_of(batches)
    with pytest.raises(DamagedError):
        state.hand_out(batches, event.task_ids, event.attempts)


@pytest.mark.parametrize(
    ("names", "sizes"), [(["a"], [2]), (["a", "a"], [1, 2]), (["a", "b"], [3]), (["a", "b"], [3, 0])]
)
def test_an_event_that_does_not_fit_itself_is_damage(names, sizes):
    swarm = lived([]).swarm
    ids = np.array([1, 2, 3], dtype=np.int64)
    with pytest.raises(DamagedError):
        swarm.apply(BatchesHandedOut(names, sizes, ids, np.array([1, 1, 1], dtype=np.int32)), 1.0)
