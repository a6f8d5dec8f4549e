"""How news is folded into the columns: resolve and validate everything first, then apply group by group.

Called by `SwarmState.apply_update`. Validation raises before anything is changed, so an update is applied wholly or
not at all; stale news is no error and is listed as ignored.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from swarmd.core.batch import Batch
from swarmd.core.change import Change, Ignored
from swarmd.core.errors import InvalidInputError, NotFoundError
from swarmd.core.history import UNKNOWN_RESOURCES, History
from swarmd.core.ids import ABSENT, Rows
from swarmd.core.loading import SHOWN_IDS, check_limit
from swarmd.core.model import ALL_TEXTS, MAX_ATTEMPT, QueueLimits
from swarmd.core.queues import check_queue_limits
from swarmd.core.ranking import learn, sweep
from swarmd.core.status import CODE_OF, STATUS_OF, Code, RunStatus, TaskStatus
from swarmd.core.table import Table
from swarmd.core.transitions import EFFECTS, Effect
from swarmd.core.update import Attempts, StateUpdate, StatusGroup
from swarmd.core.usage import FIRST_ACTIVE, LAST_ACTIVE

# Bound once: this Python looks a member of an enum up anew each time, which a single change would feel.
_EFFECTS = len(Effect)
_SAME, _START, _MOVE, _FINISH, _FAIL = Effect.SAME, Effect.START, Effect.MOVE, Effect.FINISH, Effect.FAIL
_ADJUST, _GIVE_BACK, _STALE_FROM = Effect.ADJUST, Effect.GIVE_BACK, Effect.STALE_FINAL
_STALE_FURTHER, _STALE_ATTEMPT = Effect.STALE_FURTHER, Effect.STALE_ATTEMPT
_REGISTERED, _DONE, _ERROR_FATAL = Code.REGISTERED, Code.DONE, Code.ERROR_FATAL


@dataclass(frozen=True, slots=True)
class ResolvedGroup:
    """A group whose tasks were found; each row comes once."""

    status: TaskStatus
    rows: Rows
    attempts: Attempts | None
    reason: str


@dataclass(frozen=True, slots=True)
class ResolvedUpdate:
    """An update that was found to be right."""

    groups: list[ResolvedGroup]
    array_limits: dict[int, int | None]
    """By array row."""
    run_status: RunStatus | None
    queue_limits: list[QueueLimits]


def resolve(table: Table, update: StateUpdate) -> ResolvedUpdate:
    """Check an update as a whole. Raises InvalidInputError, NotFoundError, LimitExceededError; changes nothing."""
    groups = [
        _resolve_group(table, group, f"update.task_statuses[{place}]")
        for place, group in enumerate(update.task_statuses.groups)
    ]
    check_limit("update.max_concurrently_running", update.max_concurrently_running)
    limits = {}
    for array_id, limit in update.array_limits.items():
        row = table.array_ids.find_one(array_id)
        if row == ABSENT:
            message = f"update.array_limits: array {array_id} is unknown; load it with AddTasks first"
            raise NotFoundError(message, reason="UNKNOWN_ARRAY", field="update.array_limits")
        check_limit(f"update.array_limits[{array_id}]", limit)
        limits[row] = limit
    queue_limits = check_queue_limits(update.queue_limits)
    return ResolvedUpdate(groups, limits, _run_status(update.workflow_run_status), queue_limits)


def resolved_of(batch: Batch, update: StateUpdate) -> ResolvedUpdate | None:
    """The same for news of just this batch as a whole, whose rows are known; None for any other."""
    groups = update.task_statuses.groups
    if len(groups) != 1 or groups[0].task_ids is not batch.task_ids or groups[0].attempts is not batch.attempts:
        return None
    group = ResolvedGroup(groups[0].status, batch.rows, batch.attempts, groups[0].reason)
    return ResolvedUpdate([group], {}, None, [])


def _run_status(text: str | None) -> RunStatus | None:
    if text is None:
        return None
    try:
        return RunStatus(text)
    except ValueError:
        known = ", ".join(f"{status} ({status.name})" for status in RunStatus)
        message = f"update.workflow_run_status: {text!r} is no status of a run; use one of {known}"
        raise InvalidInputError(message, reason="INVALID_VALUE", field="update.workflow_run_status") from None


def _resolve_group(table: Table, group: StatusGroup, where: str) -> ResolvedGroup:
    if group.status is TaskStatus.CANCELLED:
        message = f"{where}.status: CANCELLED comes only from CancelTasks; call that instead"
        raise InvalidInputError(message, reason="INVALID_STATUS", field=f"{where}.status")
    ids, attempts = group.task_ids, group.attempts
    if attempts is not None and len(attempts) != len(ids):
        message = (
            f"{where}.attempts: {len(attempts)} attempts for {len(ids)} tasks; "
            "give one for each task, or none for news that is not fenced"
        )
        raise InvalidInputError(message, reason="ATTEMPTS_MISMATCH", field=f"{where}.attempts")
    told = np.zeros(0, dtype=np.int32) if attempts is None else attempts
    outside = told[(told < 0) | (told > MAX_ATTEMPT)]
    if len(outside):
        message = (
            f"{where}.attempts: {outside[0]} is not allowed; attempts count from 1 to {MAX_ATTEMPT}, 0 means not fenced"
        )
        raise InvalidInputError(message, reason="INVALID_VALUE", field=f"{where}.attempts")
    ALL_TEXTS.check("reason", group.reason, f"{where}.reason")
    rows = table.ids.find(ids)
    if len(rows) and int(rows.min()) == ABSENT:
        _refuse_unknown(rows, group, where)
    return ResolvedGroup(group.status, *_distinct(rows, attempts), group.reason)


def _refuse_unknown(rows: Rows, group: StatusGroup, where: str) -> None:
    places = np.flatnonzero(rows == ABSENT)
    unknown = group.task_ids[places]
    shown = ", ".join(str(task_id) for task_id in unknown[:SHOWN_IDS].tolist())
    more = f" and {len(unknown) - SHOWN_IDS} more" if len(unknown) > SHOWN_IDS else ""
    field = f"{where}.task_ids[{places[0]}]"
    message = f"{field}: no task {shown}{more} in this swarm; load it with AddTasks first"
    raise NotFoundError(
        message,
        reason="UNKNOWN_TASK",
        field=field,
        metadata={"ids": shown.replace(" ", ""), "count": str(len(unknown))},
    )


def _distinct(rows: Rows, attempts: Attempts | None) -> tuple[Rows, Attempts | None]:
    """Each row once; of several attempts told for one task in one group the highest counts."""
    if len(rows) < 2 or bool(np.all(rows[1:] > rows[:-1])):
        return rows, attempts
    if attempts is None:
        _, firsts = np.unique(rows, return_index=True)
        return (rows if len(firsts) == len(rows) else rows[np.sort(firsts)]), None
    order = np.lexsort((-attempts, rows))
    ordered = rows[order]
    first = np.ones(len(rows), dtype=np.bool_)
    first[1:] = ordered[1:] != ordered[:-1]
    keep = np.sort(order[first])
    return rows[keep], attempts[keep]


class Folder:
    """Applies resolved groups to a table and notes in a Change what happened."""

    def __init__(self, table: Table, history: History, change: Change) -> None:
        self._table = table
        self._history = history
        self._change = change

    def apply(self, group: ResolvedGroup) -> None:
        """One group; nothing in it can be wrong any more."""
        if not len(group.rows):
            return
        effects = self._effects(group)
        present = (
            np.flatnonzero(np.bincount(effects, minlength=_EFFECTS)).tolist() if len(effects) > 1 else [effects[0]]
        )
        for number in present:
            effect = Effect(number)
            mask = effects == number if len(present) > 1 else slice(None)
            rows = group.rows[mask]
            if effect >= _STALE_FROM:
                self._change.ignored.append(Ignored(group.status, effect, self._table.task_id[rows]))
            elif effect is not _SAME:
                self._change.changed_count += len(rows)
                self._carry_out(effect, rows, group)

    def _effects(self, group: ResolvedGroup) -> NDArray[np.uint8]:
        """What the table and the fence say to each task; attempts that are ahead of ours are taken over."""
        table, rows = self._table, group.rows
        stands = table.status[rows]
        effects: NDArray[np.uint8] = EFFECTS[stands, CODE_OF[group.status]]
        if group.attempts is None:
            return effects
        own = table.attempt[rows]
        idle = stands == _REGISTERED
        if not idle.any() and np.array_equal(group.attempts, own):
            return effects  # news of just the attempts that go on: the usual case
        fenced = (group.attempts > 0) & (effects < _STALE_FROM)
        over = (group.attempts < own) | (idle & (group.attempts == own) & (effects != _SAME))
        effects[fenced & over] = _STALE_ATTEMPT
        ahead = (group.attempts > own) & (stands >= FIRST_ACTIVE) & (stands <= LAST_ACTIVE)
        again = ahead & ((effects == _SAME) | (effects == _STALE_FURTHER))
        effects[again] = _MOVE
        ends_idle = idle & ((effects == _FINISH) | (effects == _FAIL))
        ahead |= (group.attempts > own) & ends_idle
        table.attempt[rows[ahead]] = group.attempts[ahead]
        begins = effects == _START
        table.attempt[rows[begins]] = np.maximum(group.attempts[begins] - 1, own[begins])
        return effects

    def _carry_out(self, effect: Effect, rows: Rows, group: ResolvedGroup) -> None:
        table, at = self._table, self._change.at
        if effect is _START:
            table.attempt[rows] += 1
            table.queued_at[rows] = at
            self._move(rows, CODE_OF[group.status], group.reason)
        elif effect is _MOVE:
            self._move(rows, CODE_OF[group.status], group.reason)
        elif effect is _FINISH:
            self._finish(rows, group.reason)
        elif effect is _FAIL:
            self._record(rows, TaskStatus.ERROR_FATAL, group.reason)
            self._move(rows, _ERROR_FATAL, group.reason)
        elif effect is _GIVE_BACK:
            self._move(rows, _REGISTERED, group.reason)
            self._change.newly_ready_count += len(table.make_ready(rows))
        else:
            self._end_attempt(rows, group, adjusting=effect is _ADJUST)

    def _finish(self, rows: Rows, reason: str) -> None:
        table, paths = self._table, self._table.paths
        if paths is not None:
            learn(table, paths, rows, self._change.at)
        self._move(rows, _DONE, reason)
        self._change.newly_ready_count += len(table.free_downstreams(rows))
        if paths is not None and paths.unswept:
            sweep(table, paths, len(rows))

    def _end_attempt(self, rows: Rows, group: ResolvedGroup, *, adjusting: bool) -> None:
        """The attempt failed or ran out of resources: again while attempts are left, otherwise ERROR_FATAL."""
        table = self._table
        self._record(rows, group.status, group.reason)
        self._note(group.status, rows, group.reason)
        table.failures[rows] += 1
        used_up = table.failures[rows] >= table.max_attempts[rows]
        again, lost = rows[~used_up], rows[used_up]
        if len(lost):
            self._move(lost, _ERROR_FATAL, group.reason)
        if len(again):
            self._move(again, _REGISTERED, "")
            if adjusting:
                table.adjust(again)
            self._change.newly_ready_count += len(table.make_ready(again, front=adjusting))

    def _move(self, rows: Rows, code: Code, reason: str) -> None:
        self._table.move(rows, code, self._change.at)
        self._note(STATUS_OF[code], rows, reason)

    def _note(self, status: TaskStatus, rows: Rows, reason: str) -> None:
        table = self._table
        group = StatusGroup(status, table.task_id[rows], table.attempt[rows], reason)
        self._change.task_statuses.append(group)

    def _record(self, rows: Rows, status: TaskStatus, reason: str) -> None:
        record_attempts(self._table, self._history, rows, status, self._change.at, reason)


def record_attempts(table: Table, history: History, rows: Rows, status: TaskStatus, at: float, reason: str) -> None:
    """Keep how the present attempt of each task ended, and what it had asked for."""
    changed_at = np.full(len(rows), at)
    idle = table.status[rows] == _REGISTERED  # what such a task asks for is for its next attempt
    asked = np.where(idle, np.int32(UNKNOWN_RESOURCES), table.resources_rows(rows))
    history.add_all(rows, table.attempt[rows], status, table.queued_at[rows], changed_at, reason, resources=asked)
