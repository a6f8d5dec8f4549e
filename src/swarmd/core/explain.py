"""Why a task is not running: everything that stands in its way, in words and numbers."""

from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import TYPE_CHECKING

import numpy as np

from swarmd.core.history import UNKNOWN_RESOURCES, AttemptRecord
from swarmd.core.ids import Rows
from swarmd.core.model import TaskResources
from swarmd.core.queues import caps_in_words
from swarmd.core.status import FINAL_CODES, STATUS_OF, Code, RunStatus, TaskStatus
from swarmd.core.views import TaskView, attempt_that_stands, task_view

if TYPE_CHECKING:
    from swarmd.core.state import SwarmState

SHOWN_TASKS = 20
SEARCHED_ROWS = 200_000


class ObstacleKind(Enum):
    """What can stand in a task's way; the names are those of the protocol."""

    WAITING_FOR_UPSTREAMS = auto()
    BLOCKED_BY_FAILURE = auto()
    SWARM_LIMIT = auto()
    ARRAY_LIMIT = auto()
    PAUSED = auto()
    WORKFLOW_RUN_STATUS = auto()
    FAIL_FAST = auto()
    QUEUE_POSITION = auto()
    BEING_QUEUED = auto()
    IN_DOUBT = auto()
    ACTIVE = auto()
    FINAL = auto()
    WAITING_FOR_TICK = auto()
    REFUSED = auto()


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Something that keeps a task from being queued."""

    kind: ObstacleKind
    message: str
    task_ids: list[int] = field(default_factory=list)
    """The tasks concerned, at most 20."""
    count: int = 0
    """How many there are in all."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """The whole answer about one task."""

    task: TaskView
    summary: str
    obstacles: list[Obstacle]
    attempts: list[AttemptRecord]
    resources: list[TaskResources | None]
    """What each of the attempts asked for; None: nobody kept it."""
    batch_id: str = ""
    caps: str = ""
    """Of a task that ran out of its resources: why the next attempt gets no more. Part of the summary."""

    @property
    def is_ready(self) -> bool:
        """Whether the task waits for no other task, and is in no batch."""
        waits = any(each.kind in _NOT_READY for each in self.obstacles)
        return self.task.status is TaskStatus.REGISTERED and not waits

    def refused(self, message: str) -> "Explanation":
        """The same of a ready task whose array and resources the engine refuses, as this message says."""
        places = (place for place, each in enumerate(self.obstacles) if each.kind in _LESS_THAN_REFUSED)
        place = next(places, len(self.obstacles))
        others = [each for each in self.obstacles if each.kind is not ObstacleKind.WAITING_FOR_TICK]
        if self.caps and not place:  # the first of them has these words
            message = f"{message} {self.caps}"
            others = [replace(each, message=each.message.removesuffix(f" {self.caps}")) for each in others]
        obstacles = [*others[:place], Obstacle(ObstacleKind.REFUSED, message), *others[place:]]
        return replace(self, summary=obstacles[0].message, obstacles=obstacles)


_NOT_READY = (ObstacleKind.WAITING_FOR_UPSTREAMS, ObstacleKind.BEING_QUEUED, ObstacleKind.IN_DOUBT)
_LESS_THAN_REFUSED = (ObstacleKind.QUEUE_POSITION, ObstacleKind.WAITING_FOR_TICK)


def explain(state: "SwarmState", row: int, *, autopilot: bool) -> Explanation:
    """Explain the task in this row. Costs a walk over what is before the task, at most."""
    view = task_view(state.table, state.history, row)
    code, batch_id = Code(int(state.table.status[row])), ""
    if code in FINAL_CODES:
        obstacles = [_final(view)]
    elif code is Code.RESERVED:
        obstacle, batch_id = _reserved(state, row)
        obstacles = [obstacle]
    elif code is not Code.REGISTERED:
        message = f"It is {view.status.name}, in attempt {view.attempt}."
        obstacles = [Obstacle(ObstacleKind.ACTIVE, message)]
    elif int(state.table.upstreams_left[row]):
        obstacles = _upstreams(state, row) + _swarm_wide(state)
    else:
        obstacles = _ready(state, row, autopilot=autopilot)
    attempts = _attempts(state, row, code)
    summary = obstacles[0].message if obstacles else "It is ready and goes out with the next batches."
    caps = _caps(state, row, attempts)
    if caps:
        summary = f"{summary} {caps}"
        obstacles = [replace(each, message=summary) if not place else each for place, each in enumerate(obstacles)]
    return Explanation(view, summary, obstacles, attempts, _asked_for(state, attempts), batch_id, caps)


def _asked_for(state: "SwarmState", attempts: list[AttemptRecord]) -> list[TaskResources | None]:
    known = state.table.resources
    return [None if each.resources == UNKNOWN_RESOURCES else known[each.resources] for each in attempts]


def _caps(state: "SwarmState", row: int, attempts: list[AttemptRecord]) -> str:
    """Of a task that ran out of its resources and is not DONE: why the next attempt gets no more."""
    table = state.table
    ran_out = any(each.status is TaskStatus.ADJUSTING_RESOURCES for each in attempts)
    if not ran_out or int(table.status[row]) == Code.DONE:
        return ""
    return caps_in_words(table.resources_of(row), table.scale_sets.sets[int(table.scales[row])], table.queues)


def _attempts(state: "SwarmState", row: int, code: Code) -> list[AttemptRecord]:
    """Those that are over, and the present one or the one that succeeded."""
    table = state.table
    records = [record for record in state.history.of(row) if record.attempt > 0]
    attempt = int(table.attempt[row])
    is_kept = bool(records) and records[-1].attempt == attempt and code in FINAL_CODES[1:]
    if code is not Code.REGISTERED and attempt and not is_kept:
        records.append(attempt_that_stands(table, row))
    return records


def _final(view: TaskView) -> Obstacle:
    why = f": {view.reason}" if view.reason else ""
    remedy = "" if view.status == "D" else " ResetTasks takes it back."
    attempts = "1 attempt" if view.attempt == 1 else f"{view.attempt} attempts"
    message = f"It is {view.status.name} after {attempts}{why}.{remedy}"
    return Obstacle(ObstacleKind.FINAL, message)


def _reserved(state: "SwarmState", row: int) -> tuple[Obstacle, str]:
    attempt = int(state.table.attempt[row])
    for open_batch in state.open_batches.values():
        batch = open_batch.batch
        places = np.flatnonzero(batch.rows == row)
        if len(places) and int(batch.attempts[places[0]]) == attempt:
            if open_batch.in_doubt:
                message = (
                    f"Its batch {batch.batch_id} is in doubt ({open_batch.doubt}): nobody knows yet whether the "
                    "engine took it. It keeps its place until the engine says so."
                )
                return Obstacle(ObstacleKind.IN_DOUBT, message, count=len(batch)), batch.batch_id
            message = f"Its batch {batch.batch_id} of {_tasks(len(batch))} is being queued just now."
            return Obstacle(ObstacleKind.BEING_QUEUED, message, count=len(batch)), batch.batch_id
    message = "The engine took its batch; the update that says so was not applied yet."
    return Obstacle(ObstacleKind.BEING_QUEUED, message), ""


def _upstreams(state: "SwarmState", row: int) -> list[Obstacle]:
    table = state.table
    upstreams = table.upstreams.of(row)
    waiting = upstreams[table.status[upstreams] != Code.DONE]
    ids = table.task_id[waiting]
    shown = ", ".join(
        f"{task_id} ({STATUS_OF[code].name})"
        for task_id, code in zip(ids[:5].tolist(), table.status[waiting[:5]].tolist(), strict=True)
    )
    more = " and others" if len(ids) > 5 else ""
    message = f"It waits for {len(ids)} of its {len(upstreams)} upstreams: {shown}{more}."
    found = [Obstacle(ObstacleKind.WAITING_FOR_UPSTREAMS, message, ids[:SHOWN_TASKS].tolist(), len(ids))]
    failed = _failed_before(state, row)
    if len(failed):
        failed_ids = table.task_id[failed]
        first, status = int(failed_ids[0]), STATUS_OF[int(table.status[failed[0]])].name
        were = "was" if len(failed) == 1 else "were"
        message = (
            f"It is blocked behind {_tasks(len(failed))} that failed or {were} cancelled, "
            f"the first of them {first} ({status}). Reset what failed to go on."
        )
        blocked = Obstacle(ObstacleKind.BLOCKED_BY_FAILURE, message, failed_ids[:SHOWN_TASKS].tolist(), len(failed))
        found.insert(0, blocked)
    return found


def _failed_before(state: "SwarmState", row: int) -> Rows:
    """Failed or cancelled tasks anywhere before this one, not looking behind what is DONE."""
    table = state.table
    seen = {row}
    frontier = np.array([row], dtype=np.int64)
    failed: list[int] = []
    while len(frontier) and len(seen) < SEARCHED_ROWS:
        _, before = table.upstreams.edges_of(frontier)
        fresh = [each for each in np.unique(before).tolist() if each not in seen]
        seen.update(fresh)
        codes = table.status[fresh].tolist() if fresh else []
        failed += [each for each, code in zip(fresh, codes, strict=True) if code in FINAL_CODES[1:]]
        onward = [each for each, code in zip(fresh, codes, strict=True) if code not in FINAL_CODES]
        frontier = np.array(onward, dtype=np.int64)
    return np.array(failed, dtype=np.int32)


def _swarm_wide(state: "SwarmState") -> list[Obstacle]:
    found = []
    if state.run_status is not RunStatus.RUNNING:
        message = f"The run's status is {state.run_status.name}; only a RUNNING swarm queues tasks."
        found.append(Obstacle(ObstacleKind.WORKFLOW_RUN_STATUS, message))
    if state.paused:
        found.append(Obstacle(ObstacleKind.PAUSED, "The swarm is paused; UpdateSwarm with paused=false goes on."))
    failed = state.table.usage.totals[Code.ERROR_FATAL]
    if state.fail_fast and failed:
        message = (
            f"{_tasks(failed)} failed for good and the swarm is fail_fast; reset what failed or turn fail_fast off."
        )
        found.append(Obstacle(ObstacleKind.FAIL_FAST, message, count=failed))
    return found


def _ready(state: "SwarmState", row: int, *, autopilot: bool) -> list[Obstacle]:
    table, found = state.table, _swarm_wide(state)
    usage, lane = table.usage, int(table.lanes.of_task[row])
    if not usage.swarm_room:
        message = f"The swarm's limit is full: {usage.active} tasks are active, {usage.swarm_limit} may be."
        found.append(Obstacle(ObstacleKind.SWARM_LIMIT, message, count=usage.active))
    array_row = int(table.lanes.array_row[lane])
    if not usage.has_room(array_row):
        active, limit = usage.active_of(array_row), usage.limit(array_row)
        message = f"The limit of its array {_named(state, array_row)} is full: {active} are active, {limit} may be."
        found.append(Obstacle(ObstacleKind.ARRAY_LIMIT, message, count=active))
    longer = sum(table.queue.waiting_in(each) for each in table.lanes.longer_than(lane)) if table.paths else 0
    before = longer + table.queue.position(row, lane)
    if before:
        message = f"It is ready, behind {_tasks(before)} of the same array and resources."
        if longer:
            message = f"{message[:-1]}; {longer} of them have longer remaining paths."
        found.append(Obstacle(ObstacleKind.QUEUE_POSITION, message, count=before))
    if not found and not autopilot:
        message = "It is ready and goes out with the next Tick; nobody ticks but the client (autopilot is off)."
        found.append(Obstacle(ObstacleKind.WAITING_FOR_TICK, message))
    return found


def _tasks(count: int) -> str:
    return f"{count} task" if count == 1 else f"{count} tasks"


def _named(state: "SwarmState", array_row: int) -> str:
    array = state.table.arrays[array_row]
    return f"{array.array_id} ({array.name})" if array.name else str(array.array_id)
