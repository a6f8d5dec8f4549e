"""Rows: ratios, goals, and the JSON that others read. Nothing here says how fast anything is."""

import json
from pathlib import Path

import pytest
from benchmarks.suite.results import Goal, Results, Row, Spread, at_least, at_most, number, times_as_good

FIELDS = ["name", "unit", "ours", "peer", "peer_name", "ratio", "goal", "met"]


def a_row(ours: float, peer: float | None = None, *, goal: Goal | None = None, rate: bool = False) -> Row:
    them = None if peer is None else Spread.of(peer)
    return Row("a thing", "s", Spread.of(ours), them, "a peer", goal, more_is_better=rate)


def test_a_spread_has_its_median_and_its_ends():
    spread = Spread.of([3.0, 1.0, 2.0, 9.0])
    assert (spread.least, spread.median, spread.most) == (1.0, 2.5, 9.0)
    assert Spread.of(4).values == (4.0,)


def test_half_the_time_is_twice_as_good():
    assert a_row(2.0, 4.0).ratio == 2.0


def test_half_the_rate_is_half_as_good():
    assert a_row(2.0, 4.0, rate=True).ratio == 0.5


def test_without_a_peer_there_is_no_ratio():
    assert a_row(2.0).ratio is None


def test_nothing_is_infinitely_better_than_no_time():
    assert a_row(0.0, 4.0).ratio is None


@pytest.mark.parametrize(
    ("ours", "peer", "rate", "met"),
    [(1.0, 50.0, False, True), (1.0, 49.0, False, False), (51.0, 1.0, True, True), (49.0, 1.0, True, False)],
)
def test_a_goal_on_the_ratio(ours: float, peer: float, rate: bool, met: bool):
    assert a_row(ours, peer, goal=times_as_good(50), rate=rate).met is met


@pytest.mark.parametrize(("ours", "met"), [(29.9, True), (30.0, True), (30.1, False)])
def test_a_goal_that_must_not_be_exceeded(ours: float, met: bool):
    assert a_row(ours, goal=at_most(30)).met is met


@pytest.mark.parametrize(("ours", "met"), [(3e6, True), (2.9e6, False)])
def test_a_goal_that_must_be_reached(ours: float, met: bool):
    assert a_row(ours, goal=at_least(3e6), rate=True).met is met


def test_a_goal_that_speaks_of_a_missing_peer_is_neither_met_nor_missed():
    assert a_row(1.0, goal=times_as_good(50)).met is None


def test_without_a_goal_nothing_is_met_or_missed():
    assert a_row(1.0, 2.0).met is None


def test_goals_as_they_are_written():
    assert a_row(1.0, goal=at_most(30)).goal_text == "<= 30 s"
    assert a_row(1.0, goal=at_least(3e6)).goal_text == ">= 3,000,000 s"
    assert a_row(1.0, goal=times_as_good(1.5)).goal_text == ">= 1.5x"
    assert a_row(1.0, goal=times_as_good(0.5, "twice its time at most")).goal_text == "twice its time at most"
    assert a_row(1.0).goal_text == ""


def test_the_json_is_a_list_of_rows_with_these_fields(tmp_path: Path):
    results = Results([a_row(2.0, 4.0, goal=times_as_good(50)), a_row(1.0)])
    file = tmp_path / "new" / "bench.json"
    results.write_json(file)
    first, second = json.loads(file.read_text())
    assert list(first) == FIELDS
    assert list(second) == FIELDS
    assert first == {
        "name": "a thing",
        "unit": "s",
        "ours": 2.0,
        "peer": 4.0,
        "peer_name": "a peer",
        "ratio": 2.0,
        "goal": ">= 50x",
        "met": False,
    }
    assert (second["peer"], second["ratio"], second["goal"], second["met"]) == (None, None, "", None)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.0123, "0.012"),
        (0.5, "0.5"),
        (1.0, "1"),
        (1.25, "1.25"),
        (12.34, "12.3"),
        (123.4, "123"),
        (3e6, "3,000,000"),
    ],
)
def test_numbers_as_people_read_them(value: float, text: str):
    assert number(value) == text
