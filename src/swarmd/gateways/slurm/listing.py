"""What squeue says of many elements of many arrays at once, and what of it is new.

One call lists everything; between two listings only the lines that differ are looked at.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

FIELDS = "JobArrayID:|,State:|,exit_code:|,Reason:|,Name:|,Comment:|,RestartCnt:|,BatchHost:|"
NO_NODE = ("(null)", "n/a", "N/A")
LONGEST_NAMES = 100_000
"""Bytes of names that are given to squeue; with more it lists all jobs of the user."""


@dataclass(frozen=True, slots=True)
class Row:
    """One element of an array."""

    key: str
    """`<job>_<index>`; without an index when it is about what waited of a whole array."""
    state: str
    wait_status: int
    reason: str
    name: str
    comment: str
    restarts: int
    """How often Slurm has put it back into the queue."""
    node: str = ""
    """Where its script runs or ran, or was to be started; empty while it has no place."""

    @property
    def index(self) -> int:
        return int(self.key.partition("_")[2])

    @property
    def job_id(self) -> int:
        return int(self.key.partition("_")[0])

    @property
    def is_leftover(self) -> bool:
        """Whether it is what a submission that was refused leaves behind."""
        return self.state == "FAILED" and self.reason == "BadConstraints"


@dataclass(frozen=True, slots=True)
class Listing:
    """What squeue said, by element, and what of it differs from what it said before."""

    lines: Mapping[str, str] = field(default_factory=dict)
    changed: Sequence[str] = ()
    """Elements of which it did not say the same before."""
    gone: Sequence[str] = ()
    """Elements that were expected, and of which it says nothing."""

    def row(self, key: str) -> Row | None:
        """What it said of an element; None when it said nothing."""
        line = self.lines.get(key)
        return None if line is None else row_of(key, line)

    def whole(self, job_id: int) -> Row | None:
        """What it said of an array as a whole, as it does of what waited when it was cancelled by name or by user."""
        line = self.lines.get(str(job_id))
        return None if line is None else _row(f"{job_id}_", line)


def list_arguments(user: str, names: Iterable[str]) -> list[str]:
    """The arguments of squeue for every element that a user has of jobs with these names, and maybe others."""
    named = ",".join(names)
    few = ["--name", named] if 0 < len(named) <= LONGEST_NAMES else []
    return ["--noheader", "--array", "--states=all", f"--user={user}", *few, f"--Format={FIELDS}"]


def read_listing(text: str, before: Mapping[str, str], expected: Iterable[str] = ()) -> Listing:
    """Read what squeue said. It takes a while for very many lines, so it is called in a thread."""
    lines: dict[str, str] = {}
    for line in text.splitlines():
        key, _, rest = line.partition("|")
        lines[key] = rest
    changed = [key for key, line in lines.items() if before.get(key) != line]
    return Listing(lines, changed, [key for key in expected if key not in lines])


def row_of(key: str, line: str) -> Row | None:
    """One line as values; None for one that is not about a single element."""
    job, _, index = key.partition("_")
    return _row(key, line) if job.isdecimal() and index.isdecimal() else None


def _row(key: str, line: str) -> Row | None:
    parts = line.split("|")
    if len(parts) < 6:
        return None
    state, status, reason, name, comment, restarts = parts[:6]
    node = parts[6] if len(parts) > 6 and parts[6] not in NO_NODE else ""
    return Row(key, state, _number(status), reason, name, comment, _number(restarts), node)


def rows_of(listing: Listing, names: Collection[str]) -> list[Row]:
    """What it said of jobs with these names. It takes a while for very many lines, so it is called in a thread."""
    rows = (listing.row(key) for key in listing.lines)
    return [row for row in rows if row is not None and row.name in names]


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else 0
