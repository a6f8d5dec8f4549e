"""What an engine's queues can hold, and what is asked for after an attempt ran out of its resources.

The rule is Jobmon's: each resource grows by its scale; what its queue cannot hold goes to the first fallback queue that
can; when none can, it stops growing at what its own queue allows. Called by `Table` and, for words, by `explain.py`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from math import ceil
from typing import TypeVar

from swarmd.core.columns import Scales
from swarmd.core.errors import InvalidInputError, LimitExceededError
from swarmd.core.model import ALL_TEXTS, MAX_COUNT, MAX_QUEUES, MAX_RUNTIME_SECONDS, QueueLimits, TaskResources

QueueKey = tuple[str, str]
"""Cluster and queue."""

SHORTEST_RUNTIME = 1e-9
_FIELD = "update.queue_limits"
_Amount = TypeVar("_Amount", int, float)


class Queues:
    """The limits that were told of queues. What nothing was told of can hold anything."""

    __slots__ = ("known",)

    def __init__(self) -> None:
        self.known: dict[QueueKey, QueueLimits] = {}
        """In the order in which they became known; at most `MAX_QUEUES`."""

    def of(self, resources: TaskResources) -> QueueLimits:
        """The limits of the queue that these resources name; one without limits when none are known."""
        key = resources.cluster, resources.queue
        return self.known.get(key) or QueueLimits(*key)

    def tell(self, told: Iterable[QueueLimits]) -> bool:
        """Take over what was told. Returns whether any of it is new."""
        changed = False
        for limits in told:
            key = limits.cluster, limits.queue
            changed = changed or self.known.get(key) != limits
            self.known[key] = limits
        while len(self.known) > MAX_QUEUES:  # updates that were checked before either was applied
            del self.known[next(iter(self.known))]
        return changed

    def check_room(self, told: Iterable[QueueLimits]) -> None:
        """Raise LimitExceededError when these would be more queues than are kept."""
        count = len(self.known.keys() | {(limits.cluster, limits.queue) for limits in told})
        if count > MAX_QUEUES:
            raise _too_many(count)


def check_queue_limits(told: Sequence[QueueLimits]) -> list[QueueLimits]:
    """What an update tells of queues, as it is kept. Raises InvalidInputError or LimitExceededError."""
    if len(told) > MAX_QUEUES:
        raise _too_many(len(told))
    return [_checked(limits, f"{_FIELD}[{place}]") for place, limits in enumerate(told)]


def _too_many(count: int) -> LimitExceededError:
    message = f"{_FIELD}: {count} queues are too many; limits of at most {MAX_QUEUES} are kept for a swarm"
    return LimitExceededError(message, reason="TOO_MANY_QUEUES", field=_FIELD, metadata={"limit": str(MAX_QUEUES)})


def _checked(limits: QueueLimits, where: str) -> QueueLimits:
    ALL_TEXTS.check("label", limits.cluster, f"{where}.cluster")
    ALL_TEXTS.check("label", limits.queue, f"{where}.queue")
    for name in ("cores", "memory_mib"):
        value = getattr(limits, name)
        if value is not None and type(value) is not int:
            raise _invalid(f"{where}.{name}", repr(value), "give a whole number, or leave it out for no limit")
        if value is not None and not 1 <= value <= MAX_COUNT:
            raise _invalid(f"{where}.{name}", value, "give 1 or more, or leave it out for no limit")
    seconds = limits.runtime_seconds
    if seconds is None:
        return limits
    if not SHORTEST_RUNTIME <= seconds <= MAX_RUNTIME_SECONDS:
        remedy = "give more than 0, up to 10,000 years, or leave it out for no limit"
        raise _invalid(f"{where}.runtime", seconds, remedy)
    return replace(limits, runtime_seconds=_to_nanoseconds(seconds))


def _to_nanoseconds(seconds: float) -> float:
    """As exact as a journal writes it down, so that what it tells again is the same."""
    whole = int(seconds)
    return whole + round((seconds - whole) * 1e9) / 1e9


def _invalid(field: str, value: object, remedy: str) -> InvalidInputError:
    return InvalidInputError(f"{field}: {value} is not allowed; {remedy}", reason="INVALID_VALUE", field=field)


# -- resources that grow -----------------------------------------------------------------------------------------------


def adjusted(resources: TaskResources, scales: Scales, queues: Queues) -> TaskResources:
    """What to ask for after an attempt ran out of these resources, by what is known of the queues now."""
    grown = scaled(resources, scales)
    for queue in (resources.queue, *resources.fallback_queues):
        moved = replace(grown, queue=queue)
        if holds(queues.of(moved), moved):
            return moved
    return _capped(grown, resources, queues.of(resources))


def holds(limits: QueueLimits, resources: TaskResources) -> bool:
    """Whether a queue with these limits can hold the resources. No memory and no runtime fit into any."""
    pairs = (
        (resources.cores, limits.cores),
        (resources.memory_mib, limits.memory_mib),
        (resources.runtime_seconds, limits.runtime_seconds),
    )
    return all(most is None or asked <= most for asked, most in pairs)


def _capped(grown: TaskResources, before: TaskResources, limits: QueueLimits) -> TaskResources:
    """No more than the queue allows, and no less than was asked for before."""
    return replace(
        grown,
        cores=_cap(grown.cores, before.cores, limits.cores),
        memory_mib=_cap(grown.memory_mib, before.memory_mib, limits.memory_mib),
        runtime_seconds=_cap(grown.runtime_seconds, before.runtime_seconds, limits.runtime_seconds),
    )


def _cap(grown: _Amount, before: _Amount, most: _Amount | None) -> _Amount:
    return grown if most is None else max(before, min(grown, most))


def scaled(resources: TaskResources, scales: Scales) -> TaskResources:
    """Each resource grows by its own scale, cores and MiB to whole numbers: memory 0.5 means half as much again."""
    runtime = resources.runtime_seconds * (1 + scales.get("runtime", 0.0))
    return replace(
        resources,
        cores=_scaled_count(resources.cores, scales.get("cores", 0.0)),
        memory_mib=_scaled_count(resources.memory_mib, scales.get("memory", 0.0)),
        runtime_seconds=min(MAX_RUNTIME_SECONDS, runtime),
    )


def _scaled_count(count: int, scale: float) -> int:
    """Upwards to a whole number, without the last digits that floats invent: 10 and a tenth are 11, not 12."""
    return ceil(round(min(float(MAX_COUNT), count * (1 + scale)), 6))


# -- in words ----------------------------------------------------------------------------------------------------------


def caps_in_words(resources: TaskResources, scales: Scales, queues: Queues) -> str:
    """Which of these resources could not grow as they should, and why; empty when all of them can."""
    grown, allowed, limits = scaled(resources, scales), adjusted(resources, scales, queues), queues.of(resources)
    if allowed.queue != resources.queue:
        return ""
    capped = [
        text
        for name, text in (
            ("cores", f"{allowed.cores} cores"),
            ("memory_mib", f"{allowed.memory_mib:,} MiB of memory"),
            ("runtime_seconds", f"{allowed.runtime_seconds:,.10g} s of runtime"),
        )
        if getattr(allowed, name) < getattr(grown, name)
    ]
    if not capped:
        return ""
    queue = f"queue {limits.queue!r}" if limits.queue else "the default queue"
    where = f"{queue} of cluster {limits.cluster!r}" if limits.cluster else queue
    words = f"Its resources are capped by {where}: an attempt asks for at most {' and '.join(capped)}."
    others = [repr(other) for other in dict.fromkeys(resources.fallback_queues) if other != resources.queue]
    if not others:
        return words
    can_not = "Its fallback queue" if len(others) == 1 else "None of its fallback queues"
    return f"{words} {can_not} {', '.join(others)} {'cannot' if len(others) == 1 else 'can'} hold what it would need."
