"""Contenders take turns, so that a busy machine is unfair to all of them alike."""

import gc
import math
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from benchmarks.suite.results import Spread


def take_turns(rounds: int, contenders: Mapping[str, Callable[[], float]]) -> dict[str, Spread]:
    """What each contender gave in every round. Who begins changes from round to round."""
    found: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(rounds):
        for name in _order(list(contenders), turn):
            found[name].append(contenders[name]())
    return {name: Spread.of(values) for name, values in found.items()}


async def take_turns_async(rounds: int, contenders: Mapping[str, Callable[[], Awaitable[float]]]) -> dict[str, Spread]:
    """The same for contenders that are awaited."""
    found: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(rounds):
        for name in _order(list(contenders), turn):
            found[name].append(await contenders[name]())
    return {name: Spread.of(values) for name, values in found.items()}


def _order(names: list[str], turn: int) -> list[str]:
    return names if turn % 2 == 0 else names[::-1]


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that is not exceeded by this share of them."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def slope(xs: Sequence[float], ys: Sequence[float]) -> float:
    """The slope of the line that fits best on log axes: 1 is growth in proportion."""
    logs = [(math.log(x), math.log(y)) for x, y in zip(xs, ys, strict=True)]
    mean_x = sum(x for x, _ in logs) / len(logs)
    mean_y = sum(y for _, y in logs) / len(logs)
    return sum((x - mean_x) * (y - mean_y) for x, y in logs) / sum((x - mean_x) ** 2 for x, _ in logs)


@contextmanager
def settled_collector() -> Iterator[None]:
    """Python's collector as the daemon has it: what is there now is not looked at again and again."""
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    try:
        yield
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)
