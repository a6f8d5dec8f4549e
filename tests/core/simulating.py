"""Workflows run by a swarm in simulated time, and the same by lists of exact ranks, for comparisons of policies."""

import heapq
from dataclasses import dataclass

import numpy as np

from swarmd.core.columns import TaskColumns
from swarmd.core.model import Array, TaskResources
from swarmd.core.policy import SchedulingPolicy
from swarmd.core.state import SwarmState
from swarmd.core.status import Outcome, TaskStatus
from swarmd.core.update import StateUpdate, TaskStatuses


@dataclass(frozen=True)
class Graph:
    """Tasks 0, 1, ...: how long each runs, which array it is of, and what it waits for."""

    runtimes: list[float]
    arrays: list[int]
    upstreams: list[list[int]]

    @property
    def bound(self) -> float:
        """The critical path: no order can be faster."""
        return max(self.ranks())

    def ranks(self) -> list[float]:
        """The exact remaining path of each task; upstreams come before their downstreams."""
        behind = [0.0] * len(self.runtimes)
        for task in reversed(range(len(self.runtimes))):
            for upstream in self.upstreams[task]:
                behind[upstream] = max(behind[upstream], behind[task] + self.runtimes[task])
        return [own + after for own, after in zip(self.runtimes, behind, strict=True)]


def makespan(graph: Graph, workers: int, policy: SchedulingPolicy, *, stated: bool = True) -> float:
    """How long a swarm takes with so many workers; `stated`: the resources say how long each task runs."""
    state = _loaded(graph, workers, policy, stated=stated)
    running: list[tuple[float, int]] = []
    now = 0.0
    while True:
        while (batch := state.take_batch(at=now)) is not None:
            state.settle(batch)
            state.apply_update(_news(TaskStatus.RUNNING, batch.task_ids.tolist()), at=now)
            for task in batch.task_ids.tolist():
                heapq.heappush(running, (now + graph.runtimes[task - 1], task))
        if not running:
            assert state.outcome is Outcome.DONE
            return now
        now = running[0][0]
        done = []
        while running and running[0][0] == now:
            done.append(heapq.heappop(running)[1])
        state.apply_update(_news(TaskStatus.DONE, done), at=now)


def makespan_by_rank(graph: Graph, workers: int) -> float:
    """The same by exact ranks, one task at a time: list scheduling as books have it."""
    left = [len(upstreams) for upstreams in graph.upstreams]
    after: list[list[int]] = [[] for _ in left]
    for task, upstreams in enumerate(graph.upstreams):
        for upstream in upstreams:
            after[upstream].append(task)
    ranks = graph.ranks()
    ready = [(-ranks[task], task) for task, count in enumerate(left) if not count]
    heapq.heapify(ready)
    running: list[tuple[float, int]] = []
    now = 0.0
    while ready or running:
        while ready and len(running) < workers:
            task = heapq.heappop(ready)[1]
            heapq.heappush(running, (now + graph.runtimes[task], task))
        now = running[0][0]
        while running and running[0][0] == now:
            for downstream in after[heapq.heappop(running)[1]]:
                left[downstream] -= 1
                if not left[downstream]:
                    heapq.heappush(ready, (-ranks[downstream], downstream))
    return now


def _loaded(graph: Graph, workers: int, policy: SchedulingPolicy, *, stated: bool) -> SwarmState:
    kinds = sorted(set(graph.runtimes)) if stated else [0.0]
    resources = {seconds: TaskResources(place, runtime_seconds=seconds) for place, seconds in enumerate(kinds, 1)}
    state = SwarmState("simulated", max_concurrently_running=workers, scheduling_policy=policy)
    tasks = TaskColumns.of(
        np.arange(1, len(graph.runtimes) + 1),
        np.array(graph.arrays) + 1,
        np.array([resources[seconds if stated else 0.0].task_resources_id for seconds in graph.runtimes]),
        upstream_counts=np.array([len(each) for each in graph.upstreams]),
        upstream_ids=np.array([upstream + 1 for each in graph.upstreams for upstream in each], dtype=np.int64),
    )
    state.load([Array(each + 1) for each in sorted(set(graph.arrays))], list(resources.values()), tasks)
    return state


def _news(status: TaskStatus, ids: list[int]) -> StateUpdate:
    statuses = TaskStatuses()
    statuses.add(status, ids)
    return StateUpdate(statuses)
