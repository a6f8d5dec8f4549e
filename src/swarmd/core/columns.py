"""Tasks on their way into a swarm, as columns: what a load of a million tasks is made of.

`TaskColumns.from_tasks` makes them of plain values; programs that have arrays already fill them in directly.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from swarmd.core.errors import InvalidInputError
from swarmd.core.ids import Int64s
from swarmd.core.model import DEFAULT_MAX_ATTEMPTS, Task
from swarmd.core.status import CODE_OF, Code
from swarmd.core.text import TextBlock

Int32s = NDArray[np.int32]
Scales = Mapping[str, float]

_PLAIN = (
    "task_ids",
    "array_ids",
    "task_resources_ids",
    "upstream_counts",
    "upstream_ids",
    "priorities",
    "max_attempts",
    "statuses",
    "attempts",
    "failed_attempts",
)
"""The columns that are nothing but numbers."""


def alike(value: Any, size: int, dtype: DTypeLike) -> NDArray[Any]:
    """A column, not to be written to, of one value again and again, which takes no more memory than one of it."""
    return np.broadcast_to(np.array(value, dtype=dtype), (size,))


def is_alike(column: NDArray[Any]) -> bool:
    """Whether it is such a column."""
    return column.strides == (0,) and len(column) > 0


@dataclass(frozen=True, slots=True)
class TaskColumns:
    """n tasks. Every column has n elements, but for upstream_ids, which has one for each dependency.

    Columns are read only, and where all tasks are alike they may be of `alike`.
    """

    task_ids: Int64s
    array_ids: Int64s
    task_resources_ids: Int64s
    upstream_counts: Int32s
    upstream_ids: Int64s
    """The upstreams of the first task, then those of the second, and so on."""
    priorities: Int32s
    max_attempts: Int32s
    statuses: NDArray[np.uint8]
    """Codes in which a task can stand (`status.Code`)."""
    attempts: Int32s
    failed_attempts: Int32s
    names: TextBlock
    commands: TextBlock
    scales: Int32s
    """Which of scale_sets is the task's `resource_scales`."""
    scale_sets: list[Scales] = field(default_factory=lambda: [{}])

    def __len__(self) -> int:
        return len(self.task_ids)

    @classmethod
    def of(
        cls,
        task_ids: ArrayLike,
        array_ids: ArrayLike,
        task_resources_ids: ArrayLike,
        *,
        upstream_counts: ArrayLike | None = None,
        upstream_ids: ArrayLike | None = None,
        priorities: ArrayLike = 0,
        max_attempts: ArrayLike = DEFAULT_MAX_ATTEMPTS,
        statuses: ArrayLike = Code.REGISTERED,
        attempts: ArrayLike = 0,
        failed_attempts: ArrayLike = 0,
        names: Sequence[str] | None = None,
        commands: Sequence[str] | None = None,
        scales: ArrayLike = 0,
        scale_sets: list[Scales] | None = None,
    ) -> "TaskColumns":
        """Columns of arrays, lists, or single values that hold for all tasks."""
        ids = np.asarray(task_ids, dtype=np.int64)
        size = len(ids)

        def column(values: ArrayLike, dtype: type[np.generic]) -> NDArray[np.generic]:
            return np.ascontiguousarray(np.broadcast_to(np.asarray(values, dtype=dtype), (size,)))

        return cls(
            task_ids=ids,
            array_ids=column(array_ids, np.int64),  # type: ignore[arg-type]
            task_resources_ids=column(task_resources_ids, np.int64),  # type: ignore[arg-type]
            upstream_counts=column(0 if upstream_counts is None else upstream_counts, np.int32),  # type: ignore[arg-type]
            upstream_ids=np.asarray([] if upstream_ids is None else upstream_ids, dtype=np.int64),
            priorities=column(priorities, np.int32),  # type: ignore[arg-type]
            max_attempts=column(max_attempts, np.int32),  # type: ignore[arg-type]
            statuses=column(statuses, np.uint8),  # type: ignore[arg-type]
            attempts=column(attempts, np.int32),  # type: ignore[arg-type]
            failed_attempts=column(failed_attempts, np.int32),  # type: ignore[arg-type]
            names=TextBlock(names) if names else TextBlock(empty=size),
            commands=TextBlock(commands) if commands else TextBlock(empty=size),
            scales=column(scales, np.int32),  # type: ignore[arg-type]
            scale_sets=scale_sets or [{}],
        )

    @classmethod
    def from_tasks(cls, tasks: Sequence[Task]) -> "TaskColumns":
        """Columns of plain values. Raises InvalidInputError for a number that no column can hold."""
        try:
            return cls._of_tasks(tasks)
        except OverflowError as error:
            message = f"tasks: {error}; give ids up to 2**62 - 1 and other numbers within 32 bits"
            raise InvalidInputError(message, reason="INVALID_VALUE", field="tasks") from error

    @classmethod
    def _of_tasks(cls, tasks: Sequence[Task]) -> "TaskColumns":
        scale_sets = ScaleSets()
        return cls.of(
            [task.task_id for task in tasks],
            [task.array_id for task in tasks],
            [task.task_resources_id for task in tasks],
            upstream_counts=[len(task.upstream_task_ids) for task in tasks],
            upstream_ids=[upstream for task in tasks for upstream in task.upstream_task_ids],
            priorities=[task.priority for task in tasks],
            max_attempts=[task.max_attempts for task in tasks],
            statuses=[loading_code(CODE_OF[task.status]) for task in tasks],
            attempts=[task.attempt for task in tasks],
            failed_attempts=[task.failed_attempts for task in tasks],
            names=[task.name for task in tasks],
            commands=[task.command for task in tasks],
            scales=[scale_sets.place(task.resource_scales) for task in tasks],
            scale_sets=scale_sets.sets,
        )

    @classmethod
    def joined(cls, parts: Sequence["TaskColumns"]) -> "TaskColumns":
        """The columns of several chunks, one after the other."""
        if len(parts) == 1:
            return parts[0]
        scale_sets = ScaleSets()
        scales = []
        for part in parts:
            places = np.array([scale_sets.place(each) for each in part.scale_sets], dtype=np.int32)
            same = is_alike(part.scales)
            scales.append(alike(places[part.scales[0]], len(part), np.int32) if same else places[part.scales])

        def column(name: str) -> NDArray[np.generic]:
            return _joined([getattr(part, name) for part in parts])

        return cls(
            **{name: column(name) for name in _PLAIN},  # type: ignore[arg-type]
            names=TextBlock.joined([part.names for part in parts]),
            commands=TextBlock.joined([part.commands for part in parts]),
            scales=_joined(scales),
            scale_sets=scale_sets.sets,
        )


def _joined(parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """One column of several."""
    parts = [part for part in parts if len(part)] or list(parts[:1])
    if all(is_alike(part) and part[0] == parts[0][0] for part in parts):
        return alike(parts[0][0], sum(map(len, parts)), parts[0].dtype)
    return np.concatenate(parts)


def parts_of(tasks: TaskColumns, size: int) -> Iterator[TaskColumns]:
    """The same tasks in parts of at most so many."""
    ends = np.cumsum(tasks.upstream_counts)
    for start in range(0, len(tasks), size):
        end = min(start + size, len(tasks))
        first_edge = int(ends[start - 1]) if start else 0
        plain = {name: getattr(tasks, name)[start:end] for name in _PLAIN if name != "upstream_ids"}
        yield TaskColumns(
            **plain,
            upstream_ids=tasks.upstream_ids[first_edge : int(ends[end - 1])],
            names=tasks.names.part(start, end),
            commands=tasks.commands.part(start, end),
            scales=tasks.scales[start:end],
            scale_sets=tasks.scale_sets,
        )


class ScaleSets:
    """The distinct `resource_scales` of many tasks, each kept once."""

    __slots__ = ("_places", "sets")

    def __init__(self) -> None:
        self.sets: list[Scales] = [{}]
        self._places: dict[tuple[tuple[str, float], ...], int] = {(): 0}

    def place(self, scales: Scales) -> int:
        """Where these scales are in `sets`; they are added when they are new."""
        if not scales:
            return 0
        key = tuple(sorted(scales.items()))
        place = self._places.setdefault(key, len(self.sets))
        if place == len(self.sets):
            self.sets.append(dict(scales))
        return place


def loading_code(code: Code) -> Code:
    """Where a task that comes with this status stands: a failed attempt is over, the task is registered."""
    return Code.REGISTERED if code in (Code.ERROR_RECOVERABLE, Code.ADJUSTING_RESOURCES) else code
