"""Dependencies as compressed adjacency, and the search for cycles, against the obvious way."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmd.core.graph import Downstreams, Upstreams, find_cycle, segment_of, spread

EDGES = st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=30, unique=True)


def columns(edges: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    sources = np.array([source for source, _ in edges], dtype=np.int32)
    return sources, np.array([target for _, target in edges], dtype=np.int32)


def cycle_in(size: int, edges: list[tuple[int, int]]) -> list[int]:
    return find_cycle(size, *columns(edges))


def has_cycle(edges: list[tuple[int, int]]) -> bool:
    left = set(edges)
    while left:
        free = {source for source, _ in left} - {target for _, target in left}
        fewer = {edge for edge in left if edge[0] not in free}
        if len(fewer) == len(left):
            return True
        left = fewer
    return False


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 4)), max_size=10))
def test_spread_counts_on_from_every_start(parts):
    starts = np.array([start for start, _ in parts], dtype=np.int64)
    counts = np.array([count for _, count in parts], dtype=np.int64)
    expected = [number for start, count in parts for number in range(start, start + count)]
    assert spread(starts, counts).tolist() == expected


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 400)), max_size=12), max_size=6))
def test_downstreams_are_the_targets_of_a_row_in_whatever_load_they_came(loads):
    downstreams = Downstreams()
    for edges in loads:
        downstreams.add(segment_of(*columns(edges)))
    rows = [0, 1, 5, 200, 400]
    told = [sorted(downstreams.of(np.array([row], dtype=np.int32)).tolist()) for row in rows]
    assert told == [sorted(target for edges in loads for source, target in edges if source == row) for row in rows]
    together = sorted(target for edges in loads for source, target in edges if source in rows)
    assert sorted(downstreams.of(np.array(rows, dtype=np.int32)).tolist()) == together


def test_downstreams_without_edges_are_none():
    assert Downstreams().of(np.array([3], dtype=np.int32)).tolist() == []
    assert segment_of(*columns([])) is None


def test_many_loads_leave_few_segments():
    downstreams = Downstreams()
    for row in range(500):
        downstreams.add(segment_of(*columns([(row, row + 1)])))
    assert len(downstreams._segments) <= 10
    assert downstreams.of(np.array([123], dtype=np.int32)).tolist() == [124]


def test_upstreams_are_kept_by_row_over_several_loads():
    upstreams = Upstreams()
    upstreams.extend(np.array([0, 2], dtype=np.int32), np.array([0, 0], dtype=np.int32))
    upstreams.extend(np.array([1, 0, 3], dtype=np.int32), np.array([1, 0, 1, 2], dtype=np.int32))
    assert [upstreams.of(row).tolist() for row in range(5)] == [[], [0, 0], [1], [], [0, 1, 2]]
    places, sources = upstreams.edges_of(np.array([4, 0, 2]))
    assert (places.tolist(), sources.tolist()) == ([0, 0, 0, 2], [0, 1, 2, 1])


@settings(max_examples=400, deadline=None)
@given(EDGES)
def test_a_cycle_is_found_exactly_when_there_is_one_and_each_step_of_it_is_an_edge(edges):
    cycle = cycle_in(12, edges)
    assert bool(cycle) == has_cycle(edges)
    assert all(step in edges for step in zip(cycle, cycle[1:] + cycle[:1], strict=True))
    assert len(set(cycle)) == len(cycle)


@pytest.mark.parametrize("size", [2, 63, 64, 65, 128, 129, 1000])
def test_a_ring_of_any_size_is_found_whole(size):
    ring = [(row, (row + 1) % size) for row in range(size)]
    assert sorted(cycle_in(size, ring)) == list(range(size))


def test_a_chain_of_100_000_against_the_order_of_rows_is_no_cycle():
    rows = np.arange(100_000, dtype=np.int32)
    assert find_cycle(100_000, rows[1:], rows[:-1]) == []


def test_a_cycle_at_the_end_of_a_chain_of_100_000_is_found():
    rows = np.arange(100_000, dtype=np.int32)
    sources, targets = np.append(rows[:-1], 99_999), np.append(rows[1:], 99_998)
    assert sorted(find_cycle(100_000, sources, targets)) == [99_998, 99_999]


def test_a_cycle_behind_a_tail_and_before_one_is_found_without_either():
    edges = [(0, 1), (1, 2), (2, 3), (3, 1), (3, 4), (4, 5)]
    assert sorted(cycle_in(6, edges)) == [1, 2, 3]


def test_a_wide_layered_graph_written_backwards_is_no_cycle():
    width, layers = 300, 5
    rows = np.arange(width * layers, dtype=np.int32)
    sources, targets = rows[width:], rows[:-width]
    assert find_cycle(width * layers, sources, targets) == []
    assert find_cycle(width * layers, np.append(sources, rows[0]), np.append(targets, rows[-width])) != []
