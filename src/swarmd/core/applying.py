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
from swarmd.core.ids import ABSENT, Int64s, Places, Rows, all_differ
from swarmd.core.loading import SHOWN_IDS, check_limit
from swarmd.core.model import ALL_TEXTS, MAX_ATTEMPT, QueueLimits
from swarmd.core.queues import check_queue_limits
from swarmd.core.ranking import learn, sweep
from swarmd.core.status import CODE_OF, STATUS_OF, Code, RunStatus, TaskStatus
from swarmd.core.table import Table
from swarmd.core.transitions import EFFECT_OF, EFFECTS, Effect
from swarmd.core.update import Attempts, StateUpdate, StatusGroup
from swarmd.core.usage import FIRST_ACTIVE, LAST_ACTIVE, Codes

# Bound once: this Python looks a member of an enum up anew each time, which a single change would feel.
_EFFECTS = len(Effect)
_SAME, _START, _MOVE, _FINISH, _FAIL = Effect.SAME, Effect.START, Effect.MOVE, Effect.FINISH, Effect.FAIL
_ADJUST, _GIVE_BACK, _STALE_FROM = Effect.ADJUST, Effect.GIVE_BACK, Effect.STALE_FINAL
_STALE_FURTHER, _STALE_ATTEMPT = Effect.STALE_FURTHER, Effect.STALE_ATTEMPT
_REGISTERED, _DONE, _ERROR_FATAL = Code.REGISTERED, Code.DONE, Code.ERROR_FATAL
_CANCELLED = TaskStatus.CANCELLED
_COUNTED_AS_BYTES = 2000


@dataclass(frozen=True, slots=True)
class ResolvedGroup:
    """A group whose tasks were found; each row comes once."""

    status: TaskStatus
    task_ids: Int64s
    rows: Rows
    """Beside task_ids."""
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
    groups = [_resolve_group(table, group, place) for place, group in enumerate(update.task_statuses.groups)]
    if not update.tells_more:
        return ResolvedUpdate(groups, {}, None, [])
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
    group = ResolvedGroup(groups[0].status, batch.task_ids, batch.rows, batch.attempts, groups[0].reason)
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


def _resolve_group(table: Table, group: StatusGroup, place: int) -> ResolvedGroup:
    ids, attempts = group.task_ids, group.attempts
    if group.status is _CANCELLED:
        where = f"update.task_statuses[{place}].status"
        message = f"{where}: CANCELLED comes only from CancelTasks; call that instead"
        raise InvalidInputError(message, reason="INVALID_STATUS", field=where)
    if attempts is not None:
        _check_attempts(attempts, len(ids), f"update.task_statuses[{place}].attempts")
    if group.reason:
        ALL_TEXTS.check("reason", group.reason, f"update.task_statuses[{place}].reason")
    ascending = len(ids) < 2 or np.count_nonzero(ids[1:] > ids[:-1]) == len(ids) - 1
    rows = table.ids.find_known(ids, ascending=ascending)
    if rows is None:
        raise _unknown(table, group, f"update.task_statuses[{place}]")
    keep = None if ascending else _distinct(rows, attempts)
    if keep is None:
        return ResolvedGroup(group.status, ids, rows, attempts, group.reason)
    told = None if attempts is None else attempts[keep]
    return ResolvedGroup(group.status, ids[keep], rows[keep], told, group.reason)


def _check_attempts(attempts: Attempts, count: int, where: str) -> None:
    if len(attempts) != count:
        message = (
            f"{where}: {len(attempts)} attempts for {count} tasks; "
            "give one for each task, or none for news that is not fenced"
        )
        raise InvalidInputError(message, reason="ATTEMPTS_MISMATCH", field=where)
    if count and not 0 <= attempts.min() <= attempts.max() <= MAX_ATTEMPT:
        outside = attempts[(attempts < 0) | (attempts > MAX_ATTEMPT)]
        message = f"{where}: {outside[0]} is not allowed; attempts count from 1 to {MAX_ATTEMPT}, 0 means not fenced"
        raise InvalidInputError(message, reason="INVALID_VALUE", field=where)


def _unknown(table: Table, group: StatusGroup, where: str) -> NotFoundError:
    places = np.flatnonzero(table.ids.find(group.task_ids) == ABSENT)
    unknown = group.task_ids[places]
    shown = ", ".join(str(task_id) for task_id in unknown[:SHOWN_IDS].tolist())
    more = f" and {len(unknown) - SHOWN_IDS} more" if len(unknown) > SHOWN_IDS else ""
    field = f"{where}.task_ids[{places[0]}]"
    message = f"{field}: no task {shown}{more} in this swarm; load it with AddTasks first"
    return NotFoundError(
        message,
        reason="UNKNOWN_TASK",
        field=field,
        metadata={"ids": shown.replace(" ", ""), "count": str(len(unknown))},
    )


def _distinct(rows: Rows, attempts: Attempts | None) -> NDArray[np.intp] | None:
    """The places to keep, so that each row comes once; None: all. Of several attempts of a task the highest counts."""
    if len(rows) < 2 or np.count_nonzero(rows[1:] > rows[:-1]) == len(rows) - 1:
        return None
    if all_differ(rows):
        return None
    if attempts is None:
        _, firsts = np.unique(rows, return_index=True)
        return np.sort(firsts)
    order = np.lexsort((-attempts, rows))
    ordered = rows[order]
    first = np.ones(len(rows), dtype=np.bool_)
    first[1:] = ordered[1:] != ordered[:-1]
    return np.sort(order[first])


@dataclass(slots=True)
class Part:
    """Tasks of a group to which its news does the same."""

    rows: Rows
    places: Places
    """The rows again, as columns are read."""
    task_ids: Int64s
    alike: int | None
    """Where all of them stand; None where that is not known to be one code."""

    def where(self, mask: NDArray[np.bool_]) -> "Part":
        return Part(self.rows[mask], self.places[mask], self.task_ids[mask], self.alike)


class Folder:
    """Applies resolved groups to a table and notes in a Change what happened."""

    def __init__(self, table: Table, history: History, change: Change) -> None:
        self._table = table
        self._history = history
        self._change = change

    def apply(self, group: ResolvedGroup) -> None:
        """One group; nothing in it can be wrong any more."""
        rows = group.rows
        if not len(rows):
            return
        places = rows.astype(np.intp)  # what columns are read by: numpy would make it of the rows each time
        stands = self._table.status[places]
        alike = _alike(stands)
        effect = None if alike is None else self._effect(alike, places, group)
        if effect is not None:
            self._follow(effect, Part(rows, places, group.task_ids, alike), group)
            return
        effects = self._effects(stands, group)
        for number in np.flatnonzero(np.bincount(effects, minlength=_EFFECTS)).tolist():
            chosen = np.flatnonzero(effects == number)
            self._follow(Effect(number), Part(rows[chosen], places[chosen], group.task_ids[chosen], alike), group)

    def _effect(self, stands: int, places: Places, group: ResolvedGroup) -> Effect | None:
        """What news does to tasks that all stand alike, if it does the same to all of them."""
        attempts = group.attempts
        if attempts is not None:
            if len(places) == 1:
                return _fenced(self._table, stands, places.item(), CODE_OF[group.status], attempts.item())
            own = self._table.attempt[places]
            if stands == _REGISTERED or np.count_nonzero(attempts == own) != len(own):
                return None
        return EFFECT_OF[stands][CODE_OF[group.status]]

    def _follow(self, effect: Effect, part: "Part", group: ResolvedGroup) -> None:
        if effect >= _STALE_FROM:
            self._change.ignored.append(Ignored(group.status, effect, part.task_ids.copy()))
        elif effect is not _SAME:
            self._change.changed_count += len(part.rows)
            self._carry_out(effect, part, group)

    def _effects(self, stands: Codes, group: ResolvedGroup) -> NDArray[np.uint8]:
        """What the table and the fence say to each task; attempts that are ahead of ours are taken over."""
        table, rows = self._table, group.rows
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

    def _carry_out(self, effect: Effect, part: "Part", group: ResolvedGroup) -> None:
        table, reason = self._table, group.reason
        if effect is _START:
            table.attempt[part.places] += 1
            table.queued_at[part.places] = self._change.at
            self._move(part, CODE_OF[group.status], reason)
        elif effect is _MOVE:
            self._move(part, CODE_OF[group.status], reason)
        elif effect is _FINISH:
            self._finish(part, reason)
        elif effect is _FAIL:
            self._record(part.rows, TaskStatus.ERROR_FATAL, reason)
            self._move(part, _ERROR_FATAL, reason)
        elif effect is _GIVE_BACK:
            self._move(part, _REGISTERED, reason)
            self._change.newly_ready_count += len(table.make_ready(part.rows))
        else:
            self._end_attempt(part, group, adjusting=effect is _ADJUST)

    def _finish(self, part: "Part", reason: str) -> None:
        table, paths, rows = self._table, self._table.paths, part.rows
        if paths is not None:
            learn(table, paths, rows, self._change.at)
        self._move(part, _DONE, reason)
        self._change.newly_ready_count += len(table.free_downstreams(rows))
        if paths is not None and paths.unswept:
            sweep(table, paths, len(rows))

    def _end_attempt(self, part: "Part", group: ResolvedGroup, *, adjusting: bool) -> None:
        """The attempt failed or ran out of resources: again while attempts are left, otherwise ERROR_FATAL."""
        table, rows = self._table, part.rows
        self._record(rows, group.status, group.reason)
        self._note(group.status, part, group.reason)
        table.failures[rows] += 1
        used_up = table.failures[rows] >= table.max_attempts[rows]
        again, lost = part.where(~used_up), part.where(used_up)
        if len(lost.rows):
            self._move(lost, _ERROR_FATAL, group.reason)
        if len(again.rows):
            self._move(again, _REGISTERED, "")
            if adjusting:
                table.adjust(again.rows)
            self._change.newly_ready_count += len(table.make_ready(again.rows, front=adjusting))

    def _move(self, part: "Part", code: Code, reason: str) -> None:
        if part.alike is None:
            self._table.move(part.rows, code, self._change.at)
        elif len(part.rows) == 1:
            self._table.move_one(part.places.item(), part.alike, code, self._change.at)
        else:
            self._table.move_alike(part.places, part.alike, code, self._change.at)
        self._note(STATUS_OF[code], part, reason)

    def _note(self, status: TaskStatus, part: "Part", reason: str) -> None:
        group = StatusGroup(status, part.task_ids.copy(), self._table.attempt[part.places], reason)
        self._change.task_statuses.append(group)

    def _record(self, rows: Rows, status: TaskStatus, reason: str) -> None:
        record_attempts(self._table, self._history, rows, status, self._change.at, reason)


def _alike(stands: Codes) -> int | None:
    """The code that all of these are, if they are."""
    first: int = stands.item(0)
    if len(stands) > _COUNTED_AS_BYTES:
        return first if np.count_nonzero(stands == first) == len(stands) else None
    return first if stands.tobytes().count(first) == len(stands) else None


def _fenced(table: Table, stands: int, row: int, news: Code, told: int) -> Effect:
    """What news of one attempt does to one task; an attempt that is ahead of ours is taken over."""
    effect, own, idle = EFFECT_OF[stands][news], table.attempt.item(row), stands == _REGISTERED
    if not idle and told == own:
        return effect
    if told > 0 and effect < _STALE_FROM and (told < own or (idle and told == own and effect is not _SAME)):
        return _STALE_ATTEMPT
    ahead = told > own and FIRST_ACTIVE <= stands <= LAST_ACTIVE
    if ahead and effect in (_SAME, _STALE_FURTHER):
        effect = _MOVE
    if ahead or (told > own and idle and effect in (_FINISH, _FAIL)):
        table.attempt[row] = told
    if effect is _START:
        table.attempt[row] = max(told - 1, own)
    return effect


def record_attempts(table: Table, history: History, rows: Rows, status: TaskStatus, at: float, reason: str) -> None:
    """Keep how the present attempt of each task ended, and what it had asked for."""
    changed_at = np.full(len(rows), at)
    idle = table.status[rows] == _REGISTERED  # what such a task asks for is for its next attempt
    asked = np.where(idle, np.int32(UNKNOWN_RESOURCES), table.resources_rows(rows))
    history.add_all(rows, table.attempt[rows], status, table.queued_at[rows], changed_at, reason, resources=asked)
