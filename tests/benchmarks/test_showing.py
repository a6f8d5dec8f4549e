"""The table and the picture."""

from pathlib import Path

import pytest
from benchmarks.suite.drawing import draw
from benchmarks.suite.publish import BEGIN, END, published
from benchmarks.suite.publish import main as publish
from benchmarks.suite.results import Curve, Results, Row, Spread, at_most, times_as_good
from benchmarks.suite.setting import ROOT
from benchmarks.suite.showing import WIDTH, markdown, shown, table

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
    for part in (" 2 ", "200", "Jobmon", "100x"):
        assert part in tick
    assert "(1 to 3)" in lines[lines.index(tick) + 1]
    life = next(line for line in lines if "a life" in line)
    assert life.startswith("a life [1]")
    assert "[1] load 9" in lines
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


def test_a_table_has_120_columns_and_nothing_of_it_is_cut_off():
    results = some_results()
    words = "changes through ApplyUpdate, eight streams of 500 a message, durable, with dask.distributed beside them"
    many = Spread.of([2_100_000, 2_200_000, 2_300_000])
    row = Row(words, "messages/s", many, many, words, times_as_good(0.7, words), more_is_better=True, note=words)
    results.rows.append(row)
    text = table(results, [words * 3], words * 2)
    assert max(map(len, text.splitlines())) <= WIDTH
    assert "…" not in text
    for part in ("dask.distribute", "(2,100,000 to", "2,300,000)"):
        assert part in text


def test_the_same_note_has_one_number():
    results = Results([Row("one", "s", Spread.of(1.0), note="so"), Row("two", "s", Spread.of(1.0), note="so")])
    text = table(results, [], "")
    assert text.count("[1]") == 3
    assert "[2]" not in text


def test_markdown_has_the_machine_the_rows_and_their_notes():
    text = markdown(some_results(), ["a processor | of 2 cores", "peers: none"])
    lines = text.splitlines()
    assert "- peers: none" in lines
    assert "| a tick | 2 (1 to 3) ms | Jobmon: 200 ms | 100x | 50 times faster | yes |" in lines
    assert "| a life <sup>1</sup> | 31 s |  |  | ≤ 30 s | NO |" in lines
    assert "| a spawn | 5 tasks/s | (HyperQueue) |  | ≥ 1.5x |  |" in lines
    assert "<sup>1</sup> Load 9." in lines
    assert "- no peers" in lines
    assert len({line.count("|") for line in lines if line.startswith("|")}) == 1


def test_figures_are_put_between_their_marks_again_and_again(tmp_path: Path):
    page, figures = tmp_path / "README.md", tmp_path / "bench.md"
    page.write_text(f"before\n{BEGIN}old\n{END}after\n")
    for text in ("| new |\n", "| newer |\n"):
        figures.write_text(text)
        assert publish(["--page", str(page), "--figures", str(figures)]) == 0
        assert page.read_text() == f"before\n{BEGIN}\n{text}\n{END}after\n"


def test_without_figures_or_without_a_place_for_them_it_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    page, figures = tmp_path / "README.md", tmp_path / "bench.md"
    page.write_text("a page")
    assert publish(["--page", str(page), "--figures", str(figures)]) == 1
    assert "`make bench` writes it" in capsys.readouterr().err
    figures.write_text("| new |")
    assert publish(["--page", str(page), "--figures", str(figures)]) == 1
    assert "there is no place for figures" in capsys.readouterr().err
    assert page.read_text() == "a page"


def test_the_readme_has_a_place_for_figures():
    assert "| new |" in published((ROOT / "README.md").read_text(), "| new |")


def test_one_round_has_no_spread():
    assert shown(Spread.of(2.0)) == "2"
    assert shown(Spread.of([2.0, 4.0])) == "3 (2 to 4)"
    assert shown(Spread.of([2.0, 2.0001])) == "2"


def test_the_picture_is_a_png(tmp_path: Path):
    file = tmp_path / "new" / "bench.png"
    draw(some_results(), file, "a machine")
    assert file.read_bytes().startswith(PNG)


def test_a_picture_of_nothing_is_one_too(tmp_path: Path):
    file = tmp_path / "bench.png"
    draw(Results(), file, "a machine")
    assert file.read_bytes().startswith(PNG)
