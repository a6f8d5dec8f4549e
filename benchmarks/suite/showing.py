"""The table, for people: as text of 120 columns, wherever it goes, and as Markdown."""

from collections.abc import Sequence

from benchmarks.suite.results import Results, Row, Spread, number
from rich import box
from rich.console import Console
from rich.table import Table

WIDTH = 120
COLUMNS = (
    ("what", 34, "left"),
    ("ours", 13, "right"),
    ("peer or limit", 13, "right"),
    ("unit", 10, "left"),
    ("which", 15, "left"),
    ("ratio", 7, "right"),
    ("goal", 11, "right"),
    ("met", 3, "left"),
)
"""Name, width and side of each column; with two blanks between them, as wide as the table."""
MARKS = {True: "yes", False: "NO", None: ""}


def table(results: Results, machine: Sequence[str], title: str) -> str:
    """The whole report as plain text."""
    console = Console(width=WIDTH, force_terminal=False, color_system=None, highlight=False, markup=False)
    with console.capture() as captured:
        console.print(title)
        for line in machine:
            console.print(f"  {line}")
        console.print()
        console.print(_grid(results.rows))
        for place, note in dict(_notes(results.rows).values()).items():
            console.print(f"[{place}] {note}")
        for remark in dict.fromkeys(results.remarks):
            console.print(f"- {remark}")
        for failure in results.failures:
            console.print(f"FAILED {failure}")
        console.print(summary(results))
    return "".join(f"{line.rstrip()}\n" for line in captured.get().splitlines())


def _grid(rows: Sequence[Row]) -> Table:
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    for name, width, side in COLUMNS:
        grid.add_column(name, width=width, justify=side, overflow="fold")  # type: ignore[arg-type]
    for place, row in enumerate(rows):
        grid.add_row(*_cells(row, _notes(rows).get(place)))
    return grid


def _cells(row: Row, note: tuple[int, str] | None) -> tuple[str, ...]:
    return (
        f"{row.name} [{note[0]}]" if note else row.name,
        shown(row.ours, "\n"),
        "" if row.peer is None else shown(row.peer, "\n"),
        row.unit,
        row.peer_name,
        "" if row.ratio is None else f"{number(row.ratio)}x",
        row.goal_text,
        MARKS[row.met],
    )


def _notes(rows: Sequence[Row]) -> dict[int, tuple[int, str]]:
    """By the place of a row: the number of its note, and the note. The same note has one number."""
    numbers: dict[str, int] = {}
    return {
        place: (numbers.setdefault(row.note, len(numbers) + 1), row.note) for place, row in enumerate(rows) if row.note
    }


def shown(spread: Spread, between: str = " ") -> str:
    """The median, with the least and the most where there were several rounds that differed."""
    least, most = number(spread.least), number(spread.most)
    if least == most:
        return number(spread.median)
    return f"{number(spread.median)}{between}({least} to {most})"


def summary(results: Results) -> str:
    judged = [row.met for row in results.rows if row.met is not None]
    return (
        f"{sum(judged)} of {len(judged)} goals are met. A ratio says how many times as good as the peer or limit: "
        "more is better. Figures are medians (least to most)."
    )


def markdown(results: Results, machine: Sequence[str]) -> str:
    """The same for a page: what it was measured on, the table, and the notes below it."""
    lines = ["Measured on:", "", *(f"- {line}" for line in machine), ""]
    lines += ["| what | ours | peer or limit | ratio | goal | met |", "|---|--:|--:|--:|---|---|"]
    notes = _notes(results.rows)
    for place, row in enumerate(results.rows):
        peer = "" if row.peer is None else f"{shown(row.peer)} {row.unit}"
        other = f"{row.peer_name}: {peer}" if peer else f"({row.peer_name})" if row.peer_name else ""
        ratio = "" if row.ratio is None else f"{number(row.ratio)}x"
        mark = f" <sup>{notes[place][0]}</sup>" if place in notes else ""
        cells = (f"{row.name}{mark}", f"{shown(row.ours)} {row.unit}", other, ratio, row.goal_text, MARKS[row.met])
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    lines += ["", summary(results)]
    told = dict(notes.values())
    if told:
        lines += ["", " ".join(f"<sup>{place}</sup> {note[0].upper()}{note[1:]}." for place, note in told.items())]
    lines += ["", *(f"- {remark}" for remark in dict.fromkeys(results.remarks))] if results.remarks else []
    return "\n".join(lines).replace("<=", "≤").replace(">=", "≥") + "\n"
