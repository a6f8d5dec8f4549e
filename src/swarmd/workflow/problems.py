"""What is wrong with a workflow file, collected, each with its line and the path of its field.

Used by every step that reads a file; the sentences are for the author of the file.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Protocol

from swarmd.core.errors import InvalidInputError

MAX_PROBLEMS = 20

FieldPath = tuple[str | int, ...]
"""Where a value is in the file: mapping keys and list positions from the top."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong."""

    message: str
    path: FieldPath = ()
    line: int | None = None
    """Counted from 1; None: the file as a whole."""


class WorkflowFileError(InvalidInputError):
    """A workflow file cannot be used; its message has one `FILE:LINE: path: message` a line."""

    default_reason = "INVALID_WORKFLOW_FILE"

    def __init__(self, file: str, problems: Sequence[Problem], *, omitted: int = 0) -> None:
        lines = [_sentence(file, problem) for problem in problems]
        if omitted:
            lines.append(f"{file}: and {omitted} more problems")
        super().__init__("\n".join(lines), field=path_text(problems[0].path) if problems else "")
        self.problems = tuple(problems)


def _sentence(file: str, problem: Problem) -> str:
    place = file if problem.line is None else f"{file}:{problem.line}"
    return ": ".join(part for part in (place, path_text(problem.path), problem.message) if part)


def path_text(path: FieldPath) -> str:
    """`arrays.simulate.after[0]` for `("arrays", "simulate", "after", 0)`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


def suggestion(name: str, known: Iterable[str], pattern: str = "'{}'") -> str:
    """` (did you mean 'x'?)` when something close is known, otherwise the empty text."""
    close = get_close_matches(name, list(known), n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(pattern.format(match) for match in close)}?" if close else ""


class Lines(Protocol):
    """Knows the lines of a file; `source.Source` does."""

    @property
    def file(self) -> str:
        """The file as the user named it."""

    def line(self, path: FieldPath) -> int | None:
        """The line of the path, counted from 1."""


class Problems:
    """Collects problems of one file, the first twenty of them with their text."""

    def __init__(self, lines: Lines) -> None:
        self.lines = lines
        self._found: list[Problem] = []
        self._omitted = 0

    def add(self, path: FieldPath, message: str) -> None:
        """Note one problem at the line of the path."""
        if len(self._found) >= MAX_PROBLEMS:
            self._omitted += 1
            return
        problem = Problem(message, path, self.lines.line(path))
        if problem not in self._found:
            self._found.append(problem)

    def raise_if_any(self) -> None:
        """Raise WorkflowFileError when something was noted, in the order of the lines."""
        if self._found:
            found = sorted(self._found, key=lambda problem: problem.line or 0)
            raise WorkflowFileError(self.lines.file, found, omitted=self._omitted)
