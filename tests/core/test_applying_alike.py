"""News of one task, or of tasks that all stand alike, goes by shorter ways: they lead where the long way leads."""

from dataclasses import astuple
from unittest.mock import patch

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmd.core import applying, table
from swarmd.core.change import Change
from swarmd.core.comparing import differences
from swarmd.core.events import Created, SwarmSettings
from swarmd.core.model import Array, Task, TaskResources
from swarmd.core.policy import SchedulingPolicy
from swarmd.core.swarm import Swarm
from swarmd.core.update import StateUpdate
from tests.core.builders import news, several

TASKS = 12
SPREAD = (1, 2, 3, 100)
"""Arrays far apart and close together are counted in different ways."""

statuses = st.sampled_from("QIORDFEAG")
ids = st.lists(st.integers(1, TASKS), min_size=1, max_size=6)
fences = st.one_of(st.none(), st.integers(0, 4))
groups = st.tuples(statuses, ids, fences)
updates = st.lists(groups, min_size=1, max_size=3)
steps = st.one_of(updates, st.integers(1, 6))
"""News, or a batch of so many tasks at most."""


def a_swarm(policy: SchedulingPolicy, limits: list[int | None], edges: list[tuple[int, int]]) -> Swarm:
    swarm = Swarm(Created(SwarmSettings("s", scheduling_policy=policy), "token"), 1.0)
    arrays = [Array(number, "", limits[number % len(limits)]) for number in range(1, max(SPREAD) + 1)]
    upstreams = {number: sorted({a for a, b in edges if b == number and a < b}) for number in range(1, TASKS + 1)}
    tasks = [
        Task(number, SPREAD[number % len(SPREAD)], 1, upstream_task_ids=tuple(upstreams[number]), max_attempts=2)
        for number in range(1, TASKS + 1)
    ]
    swarm.state.load(arrays, [TaskResources(1, runtime_seconds=10)], tasks, at=2.0)
    return swarm


def told(wanted: list[tuple[str, list[int], int | None]]) -> StateUpdate:
    if len(wanted) == 1:
        status, task_ids, fence = wanted[0]
        return news(status, task_ids, None if fence is None else [fence] * len(task_ids), "why")
    return several(*((status, ids, None if fence is None else [fence] * len(ids)) for status, ids, fence in wanted))


def shown(change: Change) -> list[object]:
    return [each.tolist() if isinstance(each, np.ndarray) else repr(each) for each in astuple(change)]


def by_the_long_way(swarm: Swarm, update: StateUpdate, at: float) -> Change:
    with patch.object(applying, "_alike", lambda stands: None), patch.object(table, "_FEW", 0):
        return swarm.state.apply_update(update, at=at)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(list(SchedulingPolicy)),
    st.lists(st.one_of(st.none(), st.integers(0, 3)), min_size=1, max_size=4),
    st.lists(st.tuples(st.integers(1, TASKS), st.integers(1, TASKS)), max_size=12),
    st.lists(steps, max_size=12),
)
def test_short_ways_lead_where_the_long_way_leads(
    policy: SchedulingPolicy,
    limits: list[int | None],
    edges: list[tuple[int, int]],
    wanted: list[list[tuple[str, list[int], int | None]] | int],
):
    one, other = a_swarm(policy, limits, edges), a_swarm(policy, limits, edges)
    for at, step in enumerate(wanted, 3):
        if isinstance(step, int):
            for swarm in (one, other):
                batch = swarm.state.take_batch(step, at=at)
                if batch is not None:
                    swarm.state.settle(batch)
            continue
        update = told(step)
        assert shown(one.state.apply_update(update, at=at)) == shown(by_the_long_way(other, update, at))
        assert differences(one, other) == []
