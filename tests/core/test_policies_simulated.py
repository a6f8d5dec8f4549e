"""What the policies do to the makespan, in simulated time: the same every time, however fast the machine is."""

import random
from collections.abc import Callable

import pytest

from swarmd.core.policy import SchedulingPolicy
from tests.core.simulating import Graph, makespan, makespan_by_rank

FIRST, LONGEST, FAIR = SchedulingPolicy


def chains(rng: random.Random) -> Graph:
    """Many short tasks, loaded first, and chains of unequal length that nobody should begin last."""
    runtimes = [rng.choice([1.0, 2.0, 3.0]) for _ in range(200)]
    arrays, upstreams = [0] * len(runtimes), [list[int]() for _ in runtimes]
    for chain in range(20):
        for place in range(rng.randint(2, 30)):
            upstreams.append([len(runtimes) - 1] if place else [])
            runtimes.append(rng.choice([1.0, 2.0, 5.0]))
            arrays.append(1 + chain % 5)
    return Graph(runtimes, arrays, upstreams)


def fork_join(rng: random.Random) -> Graph:
    """Stages of tasks, some of them long, with a task between the stages that waits for all."""
    runtimes: list[float] = []
    arrays: list[int] = []
    upstreams: list[list[int]] = []
    before: list[int] = []
    for stage in range(5):
        first = len(runtimes)
        for _ in range(40):
            runtimes.append(rng.choice([1.0, 1.0, 1.0, 2.0, 8.0]))
            arrays.append(2 * stage)
            upstreams.append(before)
        runtimes.append(1.0)
        arrays.append(2 * stage + 1)
        upstreams.append([*range(first, first + 40)])
        before = [len(runtimes) - 1]
    return Graph(runtimes, arrays, upstreams)


def layers(rng: random.Random) -> Graph:
    """Layers of tasks that wait for a few of the layer before."""
    runtimes: list[float] = []
    arrays: list[int] = []
    upstreams: list[list[int]] = []
    before: list[int] = []
    for layer in range(8):
        base, first = rng.choice([1.0, 4.0, 10.0]), len(runtimes)
        for _ in range(30):
            runtimes.append(base * rng.choice([0.5, 1.0, 1.5, 3.0]))
            arrays.append(layer)
            upstreams.append(sorted(rng.sample(before, min(len(before), rng.randint(1, 3)))))
        before = [*range(first, len(runtimes))]
    return Graph(runtimes, arrays, upstreams)


GRAPHS = pytest.mark.parametrize("graph_of", [chains, fork_join, layers])
SEEDS = pytest.mark.parametrize("seed", range(2))
WORKERS = pytest.mark.parametrize("workers", [4, 16])


@GRAPHS
@SEEDS
@WORKERS
def test_longest_path_first_is_never_much_worse_than_first_come_first_served(graph_of, seed, workers):
    graph = graph_of(random.Random(seed))
    assert makespan(graph, workers, LONGEST) <= 1.03 * makespan(graph, workers, FIRST)


@GRAPHS
@SEEDS
@WORKERS
def test_classes_of_paths_are_nearly_as_good_as_exact_ranks(graph_of, seed, workers):
    graph = graph_of(random.Random(seed))
    assert makespan(graph, workers, LONGEST) <= 1.05 * makespan_by_rank(graph, workers)


@GRAPHS
@SEEDS
def test_learned_runtimes_are_never_much_worse_than_first_come_first_served(graph_of, seed):
    graph = graph_of(random.Random(seed))
    assert makespan(graph, 4, LONGEST, stated=False) <= 1.05 * makespan(graph, 4, FIRST, stated=False)


@pytest.mark.parametrize(("graph_of", "gain"), [(chains, 0.9), (fork_join, 0.95)])
def test_where_the_order_matters_it_is_better(graph_of: Callable[[random.Random], Graph], gain: float):
    pairs = []
    for seed in range(4):
        graph = graph_of(random.Random(seed))
        pairs.append((makespan(graph, 16, LONGEST), makespan(graph, 16, FIRST)))
    assert sum(longest for longest, _ in pairs) <= gain * sum(first for _, first in pairs)


def test_learned_runtimes_are_better_where_the_order_matters():
    graph = chains(random.Random(1))
    assert makespan(graph, 16, LONGEST, stated=False) <= 0.95 * makespan(graph, 16, FIRST, stated=False)


@GRAPHS
def test_no_policy_is_faster_than_can_be(graph_of):
    graph = graph_of(random.Random(5))
    bound = max(graph.bound, sum(graph.runtimes) / 8)
    for policy in SchedulingPolicy:
        assert bound <= makespan(graph, 8, policy) <= 2 * bound
