"""The parameters of an array's tasks: one row of texts a task.

Called by `expand.py`, which asks for the size of an array before it lets its rows be made.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from swarmd.workflow.model import ArrayBlock, ParameterValues, RangeBlock, TaskBlock, TaskChoice

INDEX = "index"
"""The parameter of an array that is given by `count`."""


@dataclass(frozen=True, slots=True)
class Rows:
    """The parameter values of every task of an array, in the order of its tasks."""

    names: tuple[str, ...]
    values: list[tuple[str | None, ...]]
    """By name; None where a task of a list lacks the parameter."""


def row_count(array: ArrayBlock) -> int:
    """How many tasks the array comes to, without making them."""
    if array.parameters is not None:
        return math.prod(_length(values) for values in array.parameters.values())
    if array.tasks is not None:
        return len(array.tasks)
    return array.count or 1


def rows_of(array: ArrayBlock) -> Rows:
    """The rows of the array; of a product the last parameter varies fastest."""
    if array.parameters is not None:
        texts = [_texts(values) for values in array.parameters.values()]
        return Rows(tuple(array.parameters), list(itertools.product(*texts)))
    if array.tasks is not None:
        return _listed_rows(array.tasks)
    if array.count is not None:
        return Rows((INDEX,), [(str(index),) for index in range(array.count)])
    return Rows((), [()])


def _listed_rows(tasks: Sequence[TaskChoice]) -> Rows:
    parameters = [task.parameters if isinstance(task, TaskBlock) else {} for task in tasks]
    names = tuple(dict.fromkeys(name for each in parameters for name in each))
    return Rows(names, [tuple(each.get(name) for name in names) for each in parameters])


def _length(values: ParameterValues) -> int:
    if isinstance(values, RangeBlock):
        return int((_exact(values.last) - _exact(values.first)) // _exact(values.step)) + 1
    return len(values)


def _texts(values: ParameterValues) -> Sequence[str]:
    if not isinstance(values, RangeBlock):
        return values
    first, step = values.first, values.step
    if isinstance(first, int) and isinstance(step, int):
        return [str(first + step * position) for position in range(_length(values))]
    exact_first, exact_step = _exact(first), _exact(step)
    return [str(float(exact_first + exact_step * position)) for position in range(_length(values))]


def _exact(number: float) -> Fraction:
    """The number as it was written, so that 0.1 steps meet 0.3."""
    return Fraction(str(number))
