"""How many tasks of each array stand where, which limits there are, and how much room is left.

Counted change by change from the statuses; `checks.py` compares with a recount.
"""

import numpy as np
from numpy.typing import NDArray

from swarmd.core.growing import grown
from swarmd.core.ids import Rows, distinct
from swarmd.core.model import DEFAULT_SWARM_LIMIT, MAX_COUNT
from swarmd.core.status import ACTIVE_CODES, STANDING_CODES, Code

Codes = NDArray[np.uint8]

UNLIMITED = MAX_COUNT
_DENSE = 4
_ONE = np.int32(1)
FIRST_ACTIVE, LAST_ACTIVE = ACTIVE_CODES[0], ACTIVE_CODES[-1]


class Usage:
    """Counts and limits of a swarm and its arrays."""

    def __init__(self, swarm_limit: int = DEFAULT_SWARM_LIMIT) -> None:
        self.swarm_limit = swarm_limit
        self.array_count = 0
        self.totals = [0] * STANDING_CODES
        """Tasks of the swarm by code."""
        self._counts: NDArray[np.int32] = np.zeros(0, dtype=np.int32)
        self._active: Rows = np.zeros(0, dtype=np.int32)
        self._limits: Rows = np.zeros(0, dtype=np.int32)

    def add_arrays(self, limits: list[int | None]) -> None:
        """New arrays at the end, None standing for unlimited."""
        as_numbers = [UNLIMITED if limit is None else limit for limit in limits]
        used, added = self.array_count, len(limits)
        self._counts = grown(self._counts, used * STANDING_CODES, np.zeros(added * STANDING_CODES, np.int32))
        self._active = grown(self._active, used, np.zeros(added, np.int32))
        self._limits = grown(self._limits, used, np.array(as_numbers, dtype=np.int32))
        self.array_count += added

    def add_tasks(self, added: NDArray[np.int64]) -> None:
        """New tasks: how many by array row and code, flat."""
        self._counts[: len(added)] += added.astype(np.int32)
        by_array = added.reshape(-1, STANDING_CODES)
        self._active[: len(by_array)] += by_array[:, FIRST_ACTIVE : LAST_ACTIVE + 1].sum(axis=1).astype(np.int32)
        for code, count in enumerate(by_array.sum(axis=0).tolist()):
            self.totals[code] += count

    def move(self, array_rows: Rows, old: Codes, new: Code) -> None:
        """Tasks of these arrays went from their old codes to one new code."""
        if not len(array_rows):
            return
        first, last = int(array_rows.min()), int(array_rows.max())
        by_code = np.bincount(old, minlength=STANDING_CODES).tolist()
        if first == last:  # what a batch is
            for code, count in enumerate(by_code):
                if count:
                    self.move_same(first, code, int(new), count)
            return
        if last - first < _DENSE * len(array_rows):
            self._count_dense(first, last, array_rows - first, old, int(new))
        else:
            self._count_scattered(array_rows.astype(np.intp), old, int(new))
        for code, count in enumerate(by_code):
            self.totals[code] -= count
        self.totals[new] += len(array_rows)

    def move_alike(self, array_rows: Rows, old: int, new: int, *, notice_all: bool = False) -> list[int]:
        """The same for tasks that all stood in one code.

        Returns the arrays whose room came or went; with `notice_all` all of them.
        """
        first: int = array_rows.item(0)
        if np.count_nonzero(array_rows == array_rows[0]) == len(array_rows):
            had_room = self.has_room(first)
            self.move_same(first, old, new, len(array_rows))
            return [first] if notice_all or had_room != self.has_room(first) else []
        arrays = distinct(array_rows)
        had = self.have_room(arrays)
        self.move(array_rows, np.full(len(array_rows), old, dtype=np.uint8), Code(new))
        changed: list[int] = (arrays if notice_all else arrays[had != self.have_room(arrays)]).tolist()
        return changed

    def _count_dense(self, first: int, last: int, places: Rows, old: Codes, new: int) -> None:
        """Arrays that lie close together: counted aside, then added up. Several times as fast."""
        size = last - first + 1
        flat = np.bincount(places * np.int32(STANDING_CODES) + old, minlength=size * STANDING_CODES)
        gone = flat.astype(np.int32).reshape(-1, STANDING_CODES)
        came = gone.sum(axis=1, dtype=np.int32)
        counts = self._counts[first * STANDING_CODES : (last + 1) * STANDING_CODES].reshape(-1, STANDING_CODES)
        counts -= gone
        counts[:, new] += came
        was_active = gone[:, FIRST_ACTIVE : LAST_ACTIVE + 1].sum(axis=1, dtype=np.int32)
        self._active[first : last + 1] += (came if FIRST_ACTIVE <= new <= LAST_ACTIVE else 0) - was_active

    def _count_scattered(self, array_rows: NDArray[np.intp], old: Codes, new: int) -> None:
        """Any arrays. `at` is quick only where the types are those that it needs."""
        places = array_rows * STANDING_CODES
        np.subtract.at(self._counts, places + old, _ONE)
        np.add.at(self._counts, places + new, _ONE)
        was_active = (old >= FIRST_ACTIVE) & (old <= LAST_ACTIVE)
        if FIRST_ACTIVE <= new <= LAST_ACTIVE:
            np.add.at(self._active, array_rows[~was_active], _ONE)
        else:
            np.subtract.at(self._active, array_rows[was_active], _ONE)

    def move_same(self, array_row: int, old: int, new: int, count: int) -> None:
        """The same for `count` tasks of one array that all stood alike: what a batch does, without arrays."""
        place = array_row * STANDING_CODES
        self._counts[place + old] -= count
        self._counts[place + new] += count
        was, is_now = FIRST_ACTIVE <= old <= LAST_ACTIVE, FIRST_ACTIVE <= new <= LAST_ACTIVE
        if was != is_now:
            self._active[array_row] += count if is_now else -count
        self.totals[old] -= count
        self.totals[new] += count

    @property
    def active(self) -> int:
        """Tasks of the swarm that use capacity."""
        return sum(self.totals[FIRST_ACTIVE : LAST_ACTIVE + 1])

    @property
    def task_count(self) -> int:
        return sum(self.totals)

    @property
    def swarm_room(self) -> int:
        """How many more may become active; 0 also when the limit was lowered below what runs."""
        return max(0, self.swarm_limit - self.active)

    def room(self, array_row: int) -> int:
        """How many more of an array's tasks may become active, the swarm's limit aside."""
        return max(0, int(self._limits[array_row]) - int(self._active[array_row]))

    def has_room(self, array_row: int) -> bool:
        return self._active.item(array_row) < self._limits.item(array_row)

    def have_room(self, array_rows: Rows) -> NDArray[np.bool_]:
        """The same for each of these arrays."""
        rooms: NDArray[np.bool_] = self._active[array_rows] < self._limits[array_rows]
        return rooms

    def limit(self, array_row: int) -> int | None:
        """An array's limit; None for unlimited."""
        limit = int(self._limits[array_row])
        return None if limit == UNLIMITED else limit

    def set_limit(self, array_row: int, limit: int | None) -> bool:
        """None for unlimited. Returns whether that is new."""
        old, new = int(self._limits[array_row]), UNLIMITED if limit is None else limit
        self._limits[array_row] = new
        return new != old

    def limits(self) -> Rows:
        """The limits of all arrays, `UNLIMITED` for none. A view, not to be written to."""
        return self._limits[: self.array_count]

    def active_by_array(self) -> Rows:
        """The active tasks of all arrays. A view, not to be written to."""
        return self._active[: self.array_count]

    def active_of(self, array_row: int) -> int:
        return int(self._active[array_row])

    def counts(self) -> NDArray[np.int32]:
        """All counts: a row an array, a column a code. A view, not to be written to."""
        return self._counts[: self.array_count * STANDING_CODES].reshape(-1, STANDING_CODES)
