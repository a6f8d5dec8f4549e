"""The table and the picture."""

from pathlib import Path

from benchmarks.suite.drawing import draw
from benchmarks.suite.results import Curve, Results, Row, Spread, at_most, times_as_good
from benchmarks.suite.showing import shown, table

PNG = b"\x89PNG\r\n\x1a\n"


def some_results() -> Results:
    return Results(
        rows=[
            Row(
                "a tick",
                "ms",
                Spread.of([1.0, 2.0, 3.0]),
                Spread.of(200.0),
                "Jobmon",
                times_as_good(50, "50 times faster"),
            ),
            Row("a life", "s", Spread.of(31.0), goal=at_most(30), note="load 9"),
            Row("a spawn", "tasks/s", Spread.of(5.0), None, "HyperQueue", times_as_good(1.5), more_is_better=True),
        ],
        curves=[
            Curve("growth", "ours", "tasks", "seconds", [10, 100], [1.0, 9.0]),
            Curve("growth", "in proportion", "tasks", "seconds", [10, 100], [1.0, 10.0], is_limit=True),
            Curve("another", "ours", "cores", "times", [2, 1000], [1.0, 1.2]),
        ],
        remarks=["no peers", "no peers"],
        failures=["watchers: it fell over"],
    )


def test_the_table_says_what_was_measured_where_and_whether_it_is_enough():
    text = table(some_results(), ["a processor", "peers: none"], "the title")
    lines = text.splitlines()
    assert lines[0] == "the title"
    assert lines[1].strip() == "a processor"
    tick = next(line for line in lines if "a tick" in line)
    assert tick.split()[-1] == "yes"
    for part in ("2 (1 to 3)", "200", "Jobmon", "100x"):
        assert part in tick
    life = next(line for line in lines if "a life" in line)
    assert "load 9" in life
    assert life.split()[-1] == "NO"
    assert "1 of 2 goals are met" in text


def test_a_row_whose_peer_is_missing_is_there_all_the_same():
    line = next(line for line in table(some_results(), [], "").splitlines() if "a spawn" in line)
    assert "HyperQueue" in line
    assert "yes" not in line
    assert "NO" not in line


def test_what_is_left_out_is_said_once_and_what_failed_too():
    text = table(some_results(), [], "")
    assert text.count("no peers") == 1
    assert "FAILED watchers: it fell over" in text


def test_one_round_has_no_spread():
    assert shown(Spread.of(2.0)) == "2"
    assert shown(Spread.of([2.0, 4.0])) == "3 (2 to 4)"


def test_the_picture_is_a_png(tmp_path: Path):
    file = tmp_path / "new" / "bench.png"
    draw(some_results(), file, "a machine")
    assert file.read_bytes().startswith(PNG)


def test_a_picture_of_nothing_is_one_too(tmp_path: Path):
    file = tmp_path / "bench.png"
    draw(Results(), file, "a machine")
    assert file.read_bytes().startswith(PNG)
