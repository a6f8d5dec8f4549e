"""Counting that costs next to nothing: plain numbers, which are made into metrics when somebody asks for them."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence

SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)
"""From a call that only looks something up to an engine that is slow."""
SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)

Labels = tuple[str, ...]


class Tally:
    """A count for each set of labels that was seen."""

    def __init__(self) -> None:
        self.counts: dict[Labels, float] = {}

    def add(self, *labels: str, count: float = 1) -> None:
        self.counts[labels] = self.counts.get(labels, 0) + count


class Distribution:
    """How many values were no larger than each bound, and their sum."""

    __slots__ = ("_bounds", "_counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self.total += value

    def buckets(self) -> list[tuple[str, float]]:
        """The bounds as Prometheus writes them, each with the number of values up to it."""
        return list(self._cumulated())

    def _cumulated(self) -> Iterator[tuple[str, float]]:
        count = 0
        for bound, more in zip([*map(str, map(float, self._bounds)), "+Inf"], self._counts, strict=True):
            count += more
            yield bound, count


class Distributions:
    """One for each set of labels that was seen."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.by_labels: dict[Labels, Distribution] = {}

    def add(self, value: float, *labels: str) -> None:
        found = self.by_labels.get(labels)
        if found is None:
            found = self.by_labels[labels] = Distribution(self.bounds)
        found.add(value)
