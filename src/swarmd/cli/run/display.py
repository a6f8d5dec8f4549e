"""Shows progress on standard error: a live table on a terminal, a line now and then otherwise."""

import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING

from swarmd.cli.output import console, is_terminal, note
from swarmd.cli.run.progress import Tally, View
from swarmd.cli.text import elapsed, one_line, rate, roughly

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live
    from rich.table import Table
    from rich.text import Text

PLAIN_SECONDS = 5.0
FIRST_PLAIN_SECONDS = 1.0
NARROWEST_BAR, WIDEST_BAR = 10, 40
WIDEST_NAME = 32
NUMBER_COLUMNS = 4
NUMBER_WIDTH = 10

PARTS = (("done", "green", "━"), ("failed", "red", "━"), ("cancelled", "magenta", "━"), ("running", "cyan", "╍"))
REST_STYLE, REST_CHARACTER = "bright_black", "─"


class Display(ABC):
    """Takes a view several times a second."""

    @abstractmethod
    def show(self, view: View) -> None:
        """Show how it stands now."""

    @abstractmethod
    def hide(self) -> None:
        """Give the terminal back, for a question or for good; the next `show` takes it again."""


def display_for_stderr() -> Display:
    """The display that fits where standard error goes."""
    return LiveDisplay() if is_terminal(sys.stderr) else PlainDisplay()


class PlainDisplay(Display):
    """A line every few seconds, when something has changed."""

    def __init__(self, every: float = PLAIN_SECONDS) -> None:
        self._every = every
        self._next = FIRST_PLAIN_SECONDS
        self._last = ""

    def show(self, view: View) -> None:
        if view.seconds < self._next:
            return
        self._next = view.seconds + self._every
        said = plain_line(view)
        if said != self._last:
            note(f"{elapsed(view.seconds)}  {said}")
        self._last = said

    def hide(self) -> None:
        """Nothing to give back."""


def plain_line(view: View) -> str:
    """The whole in one line."""
    total = view.total
    parts = [f"{total.done:,} of {total.total:,} done", f"{total.running:,} run", f"{total.waiting:,} wait"]
    parts += [f"{total.failed:,} failed"] if total.failed else []
    parts += [f"{total.cancelled:,} cancelled"] if total.cancelled else []
    return ", ".join([*parts, *_pace(view), *([one_line(view.notice)] if view.notice else [])])


def _pace(view: View) -> Iterator[str]:
    if view.tasks_per_second:
        yield rate(view.tasks_per_second)
    if view.seconds_left:
        yield f"about {roughly(view.seconds_left)} left"


class LiveDisplay(Display):
    """A table that is drawn again and again in place; it vanishes at the end."""

    def __init__(self) -> None:
        self._console = console(sys.stderr)
        self._live: Live | None = None

    def show(self, view: View) -> None:
        if self._live is None:
            self._live = self._started()
        self._live.update(render(view, self._console.width), refresh=True)

    def _started(self) -> "Live":
        from rich.live import Live

        live = Live(
            console=self._console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            vertical_overflow="crop",
        )
        live.start()
        return live

    def hide(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None


def render(view: View, width: int) -> "RenderableType":
    """The live table: a head line, a line an array, the sum, and the pace."""
    from rich.console import Group
    from rich.padding import Padding

    return Padding(Group(_head(view), _table(view, width), _foot(view)), (1, 1, 0, 1), expand=False)


def _head(view: View) -> "Text":
    from rich.text import Text

    return Text.assemble(
        (one_line(view.title), "bold"), "  ", (view.swarm_id, "dim"), "  ", (elapsed(view.seconds), "yellow")
    )


def _table(view: View, width: int) -> "Table":
    from rich import box
    from rich.table import Table
    from rich.text import Text

    names = [one_line(array.name) for array in view.arrays]
    name_width = max(5, min(WIDEST_NAME, max(map(len, names), default=0)))
    bar_width = min(WIDEST_BAR, max(NARROWEST_BAR, width - name_width - NUMBER_COLUMNS * NUMBER_WIDTH - 16))
    table = Table(box=box.SIMPLE, header_style="dim", show_footer=False, pad_edge=False, show_edge=False)
    table.add_column("array", width=name_width, no_wrap=True, overflow="ellipsis")
    for title, style in (("wait", "dim"), ("run", "cyan"), ("done", "green"), ("failed", "red")):
        table.add_column(title, justify="right", style=style, min_width=6, no_wrap=True)
    table.add_column("", width=bar_width, no_wrap=True)
    table.add_column("", justify="right", width=4, no_wrap=True)
    for name, array in zip(names, view.arrays, strict=True):
        table.add_row(Text(name, "dim" if array.is_over and not array.failed else ""), *_cells(array, bar_width))
    if view.hidden_arrays:
        table.add_row(Text(f"… and {view.hidden_arrays:,} more", "dim italic"))
    if len(view.arrays) > 1:
        table.add_section()
        table.add_row(Text("all", "bold"), *_cells(view.total, bar_width))
    return table


def _cells(array: Tally, bar_width: int) -> "list[Text]":
    from rich.text import Text

    numbers = [array.waiting, array.running, array.done, array.failed + array.cancelled]
    texts = [Text(f"{number:,}" if number else "·", "" if number else "bright_black") for number in numbers]
    share = array.ended * 100 // array.total if array.total else 0
    return [*texts, bar(array, bar_width), Text(f"{share}%", "green" if array.done == array.total else "")]


def bar(array: Tally, width: int) -> "Text":
    """Done, failed, cancelled and running tasks as parts of a line; whatever there is gets at least one character."""
    from rich.text import Text

    line = Text()
    left = width
    for field, style, character in PARTS:
        number: int = getattr(array, field)
        if number:
            length = min(left, max(1, number * width // array.total))
            line.append(character * length, style)
            left -= length
    if array.is_over and left:  # rounding down has left a gap
        line.append(PARTS[0][2] * left, line.spans[0].style if line.spans else "")
        left = 0
    line.append(REST_CHARACTER * left, REST_STYLE)
    return line


def _foot(view: View) -> "Text":
    from rich.text import Text

    foot = Text("  ·  ".join(_pace(view)) or "starting", "dim" if not view.tasks_per_second else "")
    if view.notice:
        foot.append(f"\n{one_line(view.notice)}", "yellow")
    return foot
