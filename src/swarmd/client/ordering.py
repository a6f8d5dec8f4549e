"""Who waits for whom: arrays and selections of their tasks, put in order with `>>` or `after`.

Made by `building.Swarm`. A dependency is kept as columns; one with very many edges goes through a barrier task, as in
a workflow file. An array without tasks passes on what it waits for: a >> empty >> z lets z wait for a.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Self, TypeVar, cast, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from swarmd.client.columns import TaskBlock
from swarmd.core.errors import InvalidInputError
from swarmd.core.ids import Int64s, distinct
from swarmd.core.model import Array

if TYPE_CHECKING:
    from swarmd.client.building import Swarm

MAX_DIRECT_EDGES = 1_000_000
"""A dependency with more edges than this goes through a barrier task (`workflow/dependencies.py` has the same)."""

Positions = NDArray[np.intp]


class Tasks:
    """Some tasks of one array, or all of them.

    first >> second      second waits for all of first; gives second, so that it goes on: first >> second >> third
    [a, b] >> c          c waits for both
    a >> [b, c]          both wait for a
    a[5] >> b            only for the sixth task of a; a[2:4], a["name"] and a[[1, 5, 7]] select others
    """

    def __init__(self, array: "TaskArray", positions: Positions) -> None:
        self._array = array
        self.positions = positions
        """Their places in the array, from 0."""

    @property
    def array(self) -> "TaskArray":
        """The array that they are of."""
        return self._array

    @property
    def task_ids(self) -> Int64s:
        """Their ids."""
        return self.array.block.task_ids[self.positions]

    @property
    def task_id(self) -> int:
        """The id of the one task that this is. Raises ValueError when there are more."""
        if len(self) != 1:
            raise ValueError(f"{self!r} is not one task; task_ids has all ids")
        return int(self.task_ids[0])

    def __len__(self) -> int:
        return len(self.positions)

    def __repr__(self) -> str:
        return f"<{len(self):,} {'task' if len(self) == 1 else 'tasks'} of {self.array.name!r}>"

    def after(self, *upstreams: "Upstreams", one_to_one: bool = False) -> Self:
        """Wait for all of these; with `one_to_one` the first task for their first one, and so on.

        Raises InvalidInputError for sides that do not fit, and for tasks that were loaded already; then nothing waits.

            simulate.after(prepare, fetch)
            plot.after(simulate, one_to_one=True)
        """
        if self.array.is_loaded:
            message = f"after: {self!r} is in the daemon already, where it waits for nothing more; add a new array"
            raise InvalidInputError(message, reason="ALREADY_LOADED", field="after")
        found = list(flat(upstreams))
        check_swarm(found, self.array.swarm)
        if one_to_one:
            self._check_one_to_one(found)
        for each in found:
            if not (len(each.array) and len(self.array)):
                self._wait_through(each)
            elif one_to_one:
                self._wait_one_to_one(each)
            else:
                self._wait_for_all(each)
        return self

    @overload
    def __rshift__(self, downstream: "_Later") -> "_Later": ...
    @overload
    def __rshift__(self, downstream: "Sequence[Tasks]") -> "Sequence[Tasks]": ...
    def __rshift__(self, downstream: "Tasks | Sequence[Tasks]") -> "Tasks | Sequence[Tasks]":
        for each in flat((downstream,)):
            each.after(self)
        return downstream

    def __rrshift__(self, upstreams: "Sequence[Tasks]") -> Self:
        return self.after(upstreams)

    def _check_one_to_one(self, upstreams: "list[Tasks]") -> None:
        if len(distinct(self.positions)) != len(self):
            message = f"after: one_to_one takes each task once; {self!r} has some of them several times"
            raise InvalidInputError(message, reason="REPEATED_TASKS", field="after")
        for each in upstreams:
            if len(each) != len(self):
                message = f"after: one_to_one needs two sides of the same size; they are {self!r} and {each!r}"
                raise InvalidInputError(message, reason="DIFFERENT_SIZES", field="after")

    def _wait_through(self, upstreams: "Tasks") -> None:
        """One of the arrays has no tasks: what is after it waits for what is before it, whichever is said first."""
        before, here = upstreams.array, self.array
        if not len(before):
            if not any(each is self for each in before.afters):
                before.afters.append(self)
                self.after(*before.befores)
        elif not any(each is upstreams for each in here.befores):
            here.befores.append(upstreams)
            for later in here.afters:
                later.after(upstreams)

    def _wait_for_all(self, upstreams: "Tasks") -> None:
        positions = distinct(self.positions)
        many, waiting = len(upstreams), len(positions)
        ids = upstreams.task_ids
        if many * waiting > MAX_DIRECT_EDGES and many * waiting > many + waiting:
            ids = self.array.swarm.barrier(upstreams, self.array)
        if not len(ids):
            return
        block = self.array.block
        if waiting == len(self.array):
            block.upstreams.append(ids)
            return
        for position in positions.tolist():
            block.own_upstreams.setdefault(position, []).append(ids)

    def _wait_one_to_one(self, upstreams: "Tasks") -> None:
        ids = upstreams.task_ids
        if len(self) == len(self.array):
            column = np.empty(len(ids), dtype=np.int64)
            column[self.positions] = ids
            self.array.block.paired_upstreams.append(column)
            return
        for place, position in enumerate(self.positions.tolist()):
            self.array.block.own_upstreams.setdefault(position, []).append(ids[place : place + 1])


Upstreams = Tasks | Sequence["Tasks"]
_Later = TypeVar("_Later", bound=Tasks)


class TaskArray(Tasks):
    """All tasks of one array; what it is indexed with gives some of them."""

    def __init__(self, swarm: "Swarm", array: Array, block: TaskBlock) -> None:
        self._swarm = swarm
        self._array_value = array
        self._block = block
        self._places: dict[str, int] | None = None
        self.loads = 0
        """How many daemons' swarms they were loaded into, or are on their way to."""
        self.befores: list[Tasks] = []
        self.afters: list[Tasks] = []
        """Of an array without tasks: what it waits for and what waits for it, which it passes on."""
        super().__init__(self, np.arange(len(block.task_ids)))

    @property
    def swarm(self) -> "Swarm":
        """The swarm that it is of."""
        return self._swarm

    @property
    def array_value(self) -> Array:
        """The array itself, as it is loaded."""
        return self._array_value

    @property
    def block(self) -> TaskBlock:
        """Its tasks, as they are loaded."""
        return self._block

    @property
    def name(self) -> str:
        """The array's name."""
        return self._array_value.name

    @property
    def array_id(self) -> int:
        """The array's id."""
        return self._array_value.array_id

    @property
    def is_loaded(self) -> bool:
        """They are in the daemon: nothing about them can be changed here any more."""
        return self.loads > 0

    @property
    def names(self) -> Sequence[str]:
        """The names of its tasks."""
        return self._block.names or ()

    def __getitem__(self, which: "int | str | slice | ArrayLike") -> Tasks:
        """By place from 0, name, slice, or an array of places or of yes and no. Raises IndexError or KeyError."""
        if isinstance(which, str):
            return Tasks(self, np.array([self._place(which)]))
        places = np.arange(len(self))
        if isinstance(which, slice):
            return Tasks(self, places[which])
        wanted = np.asarray(which)
        # An empty list has no kind of its own; numpy takes it for numbers with fractions.
        return Tasks(self, np.atleast_1d(places[wanted if wanted.size else wanted.astype(np.intp)]))

    def __iter__(self) -> Iterator[Tasks]:
        return (Tasks(self, np.array([place])) for place in range(len(self)))

    def _place(self, name: str) -> int:
        if self._places is None:
            self._places = {each: place for place, each in enumerate(self.names)}
        return self._places[name]


def flat(several: Iterable[object]) -> Iterator[Tasks]:
    """Tasks, and those in lists. Raises InvalidInputError for what are none."""
    for each in several:
        is_list = isinstance(each, Iterable) and not isinstance(each, Tasks | str)
        for one in cast("Iterable[object]", each) if is_list else (each,):
            if not isinstance(one, Tasks):
                hint = f": swarm[{one!r}]" if isinstance(one, str) else ""
                message = f"after: {one!r} is no task or array; give what `array` or `task` gave{hint}"
                raise InvalidInputError(message, reason="INVALID_UPSTREAM", field="after")
            yield one


def check_swarm(upstreams: Iterable[Tasks], swarm: "Swarm") -> None:
    """Raise InvalidInputError for tasks of another swarm."""
    for each in upstreams:
        if each.array.swarm is not swarm:
            message = f"after: {each!r} is of another swarm; a dependency stays in its swarm"
            raise InvalidInputError(message, reason="ANOTHER_SWARM", field="after")
