"""The table, for people."""

from collections.abc import Sequence

from benchmarks.suite.results import Results, Row, Spread, number
from rich import box
from rich.console import Console
from rich.table import Table

WIDTH = 180
NAME_WIDTH = 56
MARKS = {True: "yes", False: "NO", None: ""}


def table(results: Results, machine: Sequence[str], title: str) -> str:
    """The whole report as plain text."""
    console = Console(width=WIDTH, force_terminal=False, color_system=None)
    with console.capture() as captured:
        console.print(title)
        for line in machine:
            console.print(f"  {line}", highlight=False)
        console.print(_grid(results.rows))
        for remark in dict.fromkeys(results.remarks):
            console.print(f"- {remark}", highlight=False)
        for failure in results.failures:
            console.print(f"FAILED {failure}", highlight=False)
        console.print(_summary(results))
    return captured.get()


def _grid(rows: Sequence[Row]) -> Table:
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    grid.add_column("what", min_width=NAME_WIDTH, max_width=NAME_WIDTH)
    grid.add_column("ours", justify="right", no_wrap=True)
    grid.add_column("peer or limit", justify="right", no_wrap=True)
    grid.add_column("unit", no_wrap=True)
    grid.add_column("peer's name", max_width=24)
    grid.add_column("ratio", justify="right", no_wrap=True)
    grid.add_column("goal", justify="right", max_width=16)
    grid.add_column("met", no_wrap=True)
    for row in rows:
        grid.add_row(
            f"{row.name} ({row.note})" if row.note else row.name,
            shown(row.ours),
            "" if row.peer is None else shown(row.peer),
            row.unit,
            row.peer_name,
            "" if row.ratio is None else f"{number(row.ratio)}x",
            row.goal_text,
            MARKS[row.met],
        )
    return grid


def shown(spread: Spread) -> str:
    """The median, with the least and the most where there were several rounds."""
    if len(spread.values) == 1:
        return number(spread.median)
    return f"{number(spread.median)} ({number(spread.least)} to {number(spread.most)})"


def _summary(results: Results) -> str:
    judged = [row.met for row in results.rows if row.met is not None]
    return (
        f"{sum(judged)} of {len(judged)} goals are met. A ratio says how many times as good as the peer: "
        "more is better. Figures are medians (least to most)."
    )
