"""Which tasks a command or a list means: by ids, arrays, statuses, or all of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from swarmd.core.errors import InvalidInputError, NotFoundError
from swarmd.core.ids import ABSENT, Int64s, Rows, distinct
from swarmd.core.status import CODE_OF, STANDING_CODES, Code, TaskStatus
from swarmd.core.table import Table


@dataclass(frozen=True, slots=True)
class Selector:
    """Conditions that are combined: a task is meant when it meets every kind that is given."""

    task_ids: Int64s | None = None
    array_ids: Sequence[int] = ()
    statuses: Sequence[TaskStatus] = ()
    everything: bool = False
    """Must be set when nothing else is, so that no selector means everything by accident."""


def select(table: Table, selector: Selector) -> Rows:
    """The rows that are meant, ascending and distinct. Raises NotFoundError for ids that do not exist."""
    by_ids = selector.task_ids is not None and len(selector.task_ids) > 0
    if not (by_ids or selector.array_ids or selector.statuses or selector.everything):
        message = "selector: nothing is selected; give task_ids, array_ids or statuses, or set all for every task"
        raise InvalidInputError(message, reason="EMPTY_SELECTOR", field="selector")
    rows = _by_ids(table, selector.task_ids) if by_ids and selector.task_ids is not None else None
    return narrowed(table, rows, selector.array_ids, selector.statuses)


def narrowed(
    table: Table, rows: Rows | None, array_ids: Sequence[int], statuses: Sequence[TaskStatus], start: int = 0
) -> Rows:
    """Of these rows, or of all from `start` on, those of the arrays and statuses (empty: of any)."""
    if rows is None:
        rows = np.arange(start, table.size, dtype=np.int32)
    if array_ids:
        wanted = np.zeros(table.usage.array_count, dtype=np.bool_)
        wanted[_array_rows(table, array_ids)] = True
        rows = rows[wanted[table.array_rows(rows)]]
    if statuses:
        codes = np.zeros(STANDING_CODES, dtype=np.bool_)
        standing = [CODE_OF[status] for status in statuses if CODE_OF[status] < STANDING_CODES]
        codes[standing] = True
        codes[Code.RESERVED] = codes[Code.REGISTERED]
        rows = rows[codes[table.status[rows]]]
    return rows


def _by_ids(table: Table, ids: Int64s) -> Rows:
    rows = table.ids.find(ids)
    missing = ids[rows == ABSENT]
    if len(missing):
        message = f"selector.task_ids: no task {missing[0]} in this swarm; ListTasks shows those there are"
        raise NotFoundError(message, reason="UNKNOWN_TASK", field="selector.task_ids")
    return distinct(rows)


def _array_rows(table: Table, array_ids: Sequence[int]) -> Rows:
    ids = np.array(array_ids, dtype=np.int64)
    rows = table.array_ids.find(ids)
    missing = ids[rows == ABSENT]
    if len(missing):
        message = f"array_ids: no array {missing[0]} in this swarm; GetSwarm with the FULL view shows those there are"
        raise NotFoundError(message, reason="UNKNOWN_ARRAY", field="array_ids")
    return rows
