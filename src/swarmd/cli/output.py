"""What commands print: tables and fields, pretty on a terminal and plain otherwise, and JSON for programs.

Cells are taken as they are, never as markup, and made printable first.
"""

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

from swarmd.cli.text import one_line, printable

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from rich.console import Console
    from rich.table import Table as RichTable


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table."""

    title: str
    numeric: bool = False
    style: str = ""
    wide: bool = False
    """Its text may take several lines; otherwise it is cut when the terminal is too narrow."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A text with a colour."""

    text: str
    style: str = ""


Row = Sequence[str | Cell]


def is_terminal(stream: TextIO) -> bool:
    """Whether people look at it, on something that can do more than print lines."""
    return stream.isatty() and os.environ.get("TERM", "") != "dumb"


def console(stream: TextIO | None = None) -> "Console":
    """A rich console that highlights nothing by itself; NO_COLOR is rich's own to honour."""
    from rich.console import Console

    return Console(file=stream or sys.stdout, highlight=False, markup=False, emoji=False)


def print_line(text: str = "", style: str = "") -> None:
    """One line, with a colour where there are colours."""
    if style and is_terminal(sys.stdout):
        console().print(printable(text), style=style, soft_wrap=True)
    else:
        print(printable(text))


def note(text: str) -> None:
    """Something beside the answer, on standard error."""
    print(f"swarmd: {printable(text)}", file=sys.stderr, flush=True)


def print_table(columns: Sequence[Column], rows: Sequence[Row], *, title: str = "") -> None:
    """A table on standard output."""
    if is_terminal(sys.stdout):
        console().print(rich_table(columns, rows, title=title))
        return
    if title:
        print(title)
    for line in plain_table(columns, rows):
        print(line)


def print_fields(fields: Mapping[str, str | Cell]) -> None:
    """Names and values, one a line; empty values are left out."""
    shown = {name: value if isinstance(value, Cell) else Cell(value) for name, value in fields.items()}
    shown = {name: value for name, value in shown.items() if value.text}
    width = max(map(len, shown), default=0)
    if not is_terminal(sys.stdout):
        for name, value in shown.items():
            print(f"{name:<{width}}  {one_line(value.text)}")
        return
    from rich.text import Text

    for name, value in shown.items():
        line = Text.assemble((f"{name:<{width}}  ", "dim"), (one_line(value.text), value.style))
        console().print(line, soft_wrap=True)


def plain_table(columns: Sequence[Column], rows: Iterable[Row]) -> list[str]:
    """Aligned lines without colour: the titles in capitals, then the rows."""
    texts = [[_text(cell) for cell in row] for row in rows]
    titles = [column.title.upper() for column in columns]
    widths = [max(map(len, cells)) for cells in zip(titles, *texts, strict=True)]
    return [_aligned(columns, widths, row) for row in [titles, *texts]]


def rich_table(columns: Sequence[Column], rows: Iterable[Row], *, title: str = "") -> "RichTable":
    """The same for a terminal."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(
        box=box.SIMPLE_HEAD,
        title=Text(title, "bold") if title else None,
        title_justify="left",
        header_style="bold",
        show_edge=False,
        pad_edge=False,
    )
    for column in columns:
        table.add_column(
            column.title,
            justify="right" if column.numeric else "left",
            style=column.style,
            overflow="fold" if column.wide else "ellipsis",
            no_wrap=not column.wide,
        )
    for row in rows:
        cells = [cell if isinstance(cell, Cell) else Cell(cell) for cell in row]
        table.add_row(*(Text(printable(cell.text), cell.style) for cell in cells))
    return table


def _aligned(columns: Sequence[Column], widths: Sequence[int], cells: Sequence[str]) -> str:
    padded = [
        f"{cell:>{width}}" if column.numeric else f"{cell:<{width}}"
        for column, width, cell in zip(columns, widths, cells, strict=True)
    ]
    return "  ".join(padded).rstrip()


def _text(cell: str | Cell) -> str:
    return one_line(cell.text if isinstance(cell, Cell) else cell)


def message_data(message: "Message") -> dict[str, Any]:
    """A message as protobuf's own JSON has it: lowerCamelCase, 64-bit numbers as texts, zeros shown."""
    from google.protobuf.json_format import MessageToDict

    return MessageToDict(message, always_print_fields_with_no_presence=True)


def print_json(data: object) -> None:
    """One JSON document."""
    print(json.dumps(data, indent=2, ensure_ascii=False))


def print_json_line(data: object) -> None:
    """One JSON document of a stream, in a line of its own, at once."""
    print(json.dumps(data, ensure_ascii=False, separators=(",", ":")), flush=True)
