"""Rows: what was measured, beside a peer or a limit, and whether the goal is met.

How anything is measured is not known here.
"""

import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Spread:
    """What several rounds gave."""

    values: tuple[float, ...]

    @classmethod
    def of(cls, values: float | Iterable[float]) -> "Spread":
        """One value, or those of all rounds."""
        return cls((float(values),) if isinstance(values, int | float) else tuple(values))

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def least(self) -> float:
        return min(self.values)

    @property
    def most(self) -> float:
        return max(self.values)


@dataclass(frozen=True, slots=True)
class Goal:
    """A bound on the value, or on how many times as good it is as the peer's."""

    bound: float
    on_ratio: bool = False
    at_least: bool = False
    words: str = ""
    """Shown in the place of the bound, where it is usually said in other words."""


def times_as_good(bound: float, words: str = "") -> Goal:
    """At least so many times as good as the peer."""
    return Goal(bound, on_ratio=True, at_least=True, words=words)


def at_most(bound: float) -> Goal:
    """The value itself is so much or less."""
    return Goal(bound)


def at_least(bound: float) -> Goal:
    """The value itself is so much or more."""
    return Goal(bound, at_least=True)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    name: str
    unit: str
    ours: Spread
    peer: Spread | None = None
    peer_name: str = ""
    goal: Goal | None = None
    more_is_better: bool = False
    """For rates; for times and sizes less is better."""
    note: str = ""
    """What there is to say besides, for people."""

    @property
    def ratio(self) -> float | None:
        """How many times as good as the peer, so that more is better whatever the unit; None without a peer."""
        if self.peer is None:
            return None
        better, worse = (self.ours, self.peer) if self.more_is_better else (self.peer, self.ours)
        return better.median / worse.median if worse.median else None

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None without a goal, or without the peer that it speaks of."""
        if self.goal is None:
            return None
        value = self.ratio if self.goal.on_ratio else self.ours.median
        if value is None:
            return None
        return value >= self.goal.bound if self.goal.at_least else value <= self.goal.bound

    @property
    def goal_text(self) -> str:
        """The goal as it is written: on the value with its unit, on the ratio with an x."""
        if self.goal is None:
            return ""
        if self.goal.words:
            return self.goal.words
        sign = ">=" if self.goal.at_least else "<="
        return f"{sign} {number(self.goal.bound)}{'x' if self.goal.on_ratio else f' {self.unit}'}"

    def as_json(self) -> dict[str, object]:
        """The row for programs. Numbers are medians."""
        return {
            "name": self.name,
            "unit": self.unit,
            "ours": self.ours.median,
            "peer": None if self.peer is None else self.peer.median,
            "peer_name": self.peer_name,
            "ratio": self.ratio,
            "goal": self.goal_text,
            "met": self.met,
        }


@dataclass(frozen=True, slots=True)
class Curve:
    """How something grows."""

    panel: str
    """Curves of one panel are drawn together; its title."""
    name: str
    x_label: str
    y_label: str
    xs: Sequence[float]
    ys: Sequence[float]
    log_y: bool = True
    """Whether the second axis is one of logarithms, too."""
    is_limit: bool = False
    """Drawn as a thin line: what cannot be beaten."""


@dataclass
class Results:
    """Everything that a run has found."""

    rows: list[Row] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    """What was left out, and why."""
    failures: list[str] = field(default_factory=list)
    """Measurements that did not come to their end."""

    def write_json(self, path: Path) -> None:
        """Write the rows as a list of objects."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps([row.as_json() for row in self.rows], indent=2) + "\n")


def number(value: float) -> str:
    """A number as people read it: three digits that count, thousands set apart."""
    if value == 0 or abs(value) >= 1000:
        return f"{value:,.0f}"
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    text = f"{value:.{digits}f}" if abs(value) >= 0.1 else f"{value:.2g}"
    return text.rstrip("0").rstrip(".") if "." in text and "e" not in text else text
