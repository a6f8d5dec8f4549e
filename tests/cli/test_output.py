"""Tables, plain and pretty."""

import io

from rich.console import Console

from swarmd.cli.output import Cell, Column, plain_table, rich_table

COLUMNS = (Column("name"), Column("tasks", numeric=True), Column("reason", wide=True))


def test_plain_tables_are_aligned_and_without_colour():
    lines = plain_table(COLUMNS, [["prepare", "12", ""], ["sim", "1,240", Cell("two\nlines", "red")]])
    assert lines == [
        "NAME     TASKS  REASON",
        "prepare     12",
        "sim      1,240  two lines",
    ]


def test_a_table_without_rows_has_its_titles():
    assert plain_table(COLUMNS, []) == ["NAME  TASKS  REASON"]


def test_markup_in_user_text_is_text():
    shown = io.StringIO()
    Console(file=shown, width=80).print(rich_table(COLUMNS, [["[bold]x[/bold]", "1", Cell("[/]\x1b[2J", "red")]]))
    assert "[bold]x[/bold]" in shown.getvalue()
    assert "[/]" in shown.getvalue()
    assert "\x1b" not in shown.getvalue()
