"""Values as people read them. Pure functions of plain values; no terminal, no messages."""

import re
import unicodedata
from collections.abc import Sequence
from datetime import UTC, datetime

_COLOUR = re.compile(r"(\x1b\[[0-9;:]*m)")
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-_])?")

MINUTE, HOUR, DAY = 60, 3600, 86_400


def printable(text: str) -> str:
    """User text that cannot play with the terminal: escape sequences go, other control characters become dots."""
    return "".join(
        character if character in "\n\t" or unicodedata.category(character) not in {"Cc", "Cf", "Cs"} else "·"
        for character in _ESCAPES.sub("", text.replace("\r\n", "\n"))
    )


def coloured(text: str) -> str:
    """As `printable`, but colours and the return to a line's beginning stay: for what programs have written."""
    parts = _COLOUR.split(text)
    shown = "".join(part if index % 2 else _returning(part) for index, part in enumerate(parts))
    return shown + "\x1b[0m" * (len(parts) > 1)


def _returning(text: str) -> str:
    return "\r".join(printable(part) for part in text.split("\r"))


def one_line(text: str) -> str:
    """Printable text in one line, for cells and log lines."""
    return " ".join(printable(text).split())


def first_lines(text: str, count: int = 3) -> str:
    """The first lines that say something."""
    lines = [line.rstrip() for line in printable(text).splitlines() if line.strip()]
    return "\n".join(lines[:count] + (["…"] if len(lines) > count else []))


def count_of(number: int, noun: str, plural: str = "") -> str:
    """`1 task`, `2,000 tasks`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def elapsed(seconds: float) -> str:
    """`0:42`, `12:05`, `3:04:05`, `2d 03:04:05`."""
    whole = max(0, int(seconds))
    days, hours, minutes, rest = whole // DAY, whole // HOUR % 24, whole // MINUTE % 60, whole % 60
    if days:
        return f"{days}d {hours:02}:{minutes:02}:{rest:02}"
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def duration(seconds: float) -> str:
    """A length of time as exact as it is: `90.5 s` is `1 min 30.5 s`, and a day and a half `1 d 12 h`."""
    whole, fraction = divmod(round(seconds, 3), 1)
    days, hours, minutes = whole // DAY, whole // HOUR % 24, whole // MINUTE % 60
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (round(whole % MINUTE + fraction, 3), "s")]
    return " ".join(f"{number:,.10g} {unit}" for number, unit in parts if number) or "0 s"


def took(seconds: float) -> str:
    """How long something was: `0.3 s`, and from a minute on as `elapsed`."""
    return f"{seconds:.1f} s" if seconds < MINUTE else elapsed(seconds)


def roughly(seconds: float) -> str:
    """A time to come, no more exact than it deserves: `4 s`, `2 min`, `1 h 20 min`."""
    if seconds < MINUTE:
        return f"{max(1, round(seconds))} s"
    if seconds < HOUR:
        return f"{round(seconds / MINUTE)} min"
    if seconds < DAY:
        hours, minutes = divmod(round(seconds / MINUTE), 60)
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(round(seconds / HOUR), 24)
    return f"{days} d {hours} h" if hours else f"{days} d"


def rate(per_second: float) -> str:
    """`1,240 tasks/s`, `3.2 tasks/s`, `5 tasks/min`."""
    if per_second >= 100:
        return f"{per_second:,.0f} tasks/s"
    if per_second >= 0.5:
        return f"{per_second:.1f} tasks/s"
    return f"{per_second * MINUTE:.1f} tasks/min"


def local_time(seconds: float, *, date: bool = True) -> str:
    """A time since the epoch, in the user's own time zone; empty for 0."""
    if not seconds:
        return ""
    moment = datetime.fromtimestamp(seconds, UTC).astimezone()
    return moment.strftime("%Y-%m-%d %H:%M:%S" if date else "%H:%M:%S")


def some_of(ids: Sequence[object], most: int = 10) -> str:
    """`1, 2, 3`, and how many more there are."""
    shown = ", ".join(map(str, ids[:most]))
    return f"{shown}, … and {len(ids) - most:,} more" if len(ids) > most else shown
