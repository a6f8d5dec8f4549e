"""What a task asks for: Jobmon's `requested_resources` and queue parameters, and the core's values. No I/O.

Jobmon counts memory in GiB and runtime in seconds. What a task asked for at first travels unchanged in `extra`, a JSON
text for each entry, so that it is bound just as it was; of resources that were adjusted the numbers count.
"""

import json
from collections.abc import Mapping
from math import ceil, isfinite
from typing import Any

from swarmd.core.errors import InvalidInputError
from swarmd.core.model import ADJUSTED_RESOURCES_BASE, MAX_COUNT, SCALABLE_RESOURCES, QueueLimits, TaskResources
from swarmd.gateways.jobmon.literals import read_literal, read_mapping

MIB_PER_GIB = 1024
KIND = "task_resources_type_id"
"""The entry of `extra` that says which type to bind, where it is not O."""


def task_resources(number: int, cluster: str, queue: str, requested: str, fallback_queues: str) -> TaskResources:
    """The core's value for what a task asks of Jobmon. Raises InvalidInputError for what nobody can read."""
    try:
        entries = read_mapping(requested)
        fallbacks = read_literal(fallback_queues) if fallback_queues not in (None, "") else []
        names = tuple(str(name) for name in fallbacks or ())
    except (ValueError, TypeError) as error:
        message = f"resources of a task in queue {queue!r} of cluster {cluster!r}: {error}"
        raise InvalidInputError(message, field="task_resources") from None
    return TaskResources(
        number,
        cluster=cluster,
        queue=queue,
        cores=max(1, ceil(_number(entries.get("cores")) or 1)),
        memory_mib=_mib(entries.get("memory")) or 0,
        runtime_seconds=_number(entries.get("runtime")) or 0.0,
        extra={name: json.dumps(value) for name, value in entries.items()},
        fallback_queues=names,
    )


def requested_resources(resources: TaskResources) -> dict[str, Any]:
    """What to bind for the core's value."""
    entries = {name: _value(text) for name, text in resources.extra.items() if name != KIND}
    numbers: dict[str, int | float] = {
        "cores": resources.cores if resources.cores > 1 or "cores" in entries else 0,
        "memory": _whole(resources.memory_mib / MIB_PER_GIB),
        "runtime": _whole(resources.runtime_seconds),
    }
    for name, number in numbers.items():
        if number and (kind_of(resources) == "A" or name not in entries):
            entries[name] = number
    return entries


def kind_of(resources: TaskResources) -> str:
    """The type under which it is bound: A for what was adjusted, O for what was asked for at first."""
    adjusted = resources.task_resources_id >= ADJUSTED_RESOURCES_BASE
    return "A" if adjusted else resources.extra.get(KIND, "O")


def queue_limits(cluster: str, queue: str, parameters: Mapping[str, Any]) -> QueueLimits:
    """What a queue can hold: of a range the upper end. What says nothing that can be read is no limit."""
    cores, runtime = _most(parameters.get("cores")), _most(parameters.get("runtime"))
    memory = _most(parameters.get("memory"))
    mib = None if memory is None else int(memory * MIB_PER_GIB)
    return QueueLimits(
        cluster,
        queue,
        cores=_count(None if cores is None else int(cores)),
        memory_mib=_count(mib),
        runtime_seconds=None if runtime is None or runtime <= 0 else float(runtime),
    )


def resource_scales(text: str) -> dict[str, float]:
    """By how much each resource grows; what does not grow by a number, and what the core does not know, is left out.

    Raises InvalidInputError for what nobody can read.
    """
    try:
        scales = read_mapping(text)
    except ValueError as error:
        raise InvalidInputError(f"resource_scales: {error}", field="resource_scales") from None
    numbers = {name: _number(value) for name, value in scales.items() if name in SCALABLE_RESOURCES}
    return {name: number for name, number in numbers.items() if number is not None}


def _value(text: str) -> Any:
    """An entry of `extra`: JSON, or a plain text that somebody wrote by hand."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _most(value: Any) -> float | None:
    if isinstance(value, (list, tuple)):
        numbers = [number for number in map(_number, value) if number is not None]
        return max(numbers, default=None)
    return _number(value)


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return value if value >= 0 and isfinite(value) else None


def _mib(gib: Any) -> int | None:
    number = _number(gib)
    return None if number is None else min(MAX_COUNT, ceil(round(number * MIB_PER_GIB, 6)))


def _count(value: int | None) -> int | None:
    return None if value is None or value < 1 else min(MAX_COUNT, value)


def _whole(number: float) -> int | float:
    return int(number) if number == int(number) else number
