"""Turns, percentiles, slopes."""

import gc

import pytest
from benchmarks.suite.sampling import percentile, settled_collector, slope, take_turns, take_turns_async


def test_contenders_take_turns_and_who_begins_changes():
    order: list[str] = []

    def contender(name: str) -> float:
        order.append(name)
        return float(len(order))

    found = take_turns(3, {"a": lambda: contender("a"), "b": lambda: contender("b")})
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert found["a"].values == (1.0, 4.0, 5.0)


async def test_those_that_are_awaited_do_so_too():
    order: list[str] = []

    async def contender(name: str) -> float:
        order.append(name)
        return 1.0

    found = await take_turns_async(2, {"a": lambda: contender("a"), "b": lambda: contender("b")})
    assert order == ["a", "b", "b", "a"]
    assert found["b"].values == (1.0, 1.0)


@pytest.mark.parametrize(("share", "value"), [(0.0, 1.0), (0.5, 50.0), (0.99, 99.0), (1.0, 100.0)])
def test_percentiles(share: float, value: float):
    assert percentile([float(each) for each in range(100, 0, -1)], share) == value


@pytest.mark.parametrize("exponent", [0.5, 1.0, 2.0])
def test_the_slope_on_log_axes_is_the_exponent(exponent: float):
    xs = [10, 100, 1000, 5000]
    assert slope(xs, [3 * x**exponent for x in xs]) == pytest.approx(exponent)


def test_the_collector_is_as_before_afterwards():
    before = gc.get_threshold()
    with settled_collector():
        assert gc.get_threshold() != before
        assert gc.get_freeze_count() > 0
    assert gc.get_threshold() == before
    assert gc.get_freeze_count() == 0
