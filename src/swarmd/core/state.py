"""SwarmState: one swarm, and the only door to it. Every method is an event in and a decision or a Change out.

Used by the Scheduler, by the daemon, and directly by Python programs. One thread at a time; it reads no clock: times
come in as `at`, in seconds since the epoch.
"""

from collections.abc import Sequence
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from swarmd.core import explain as explaining
from swarmd.core.applying import Folder, ResolvedUpdate, record_attempts, resolve
from swarmd.core.batch import MAX_BATCH_SIZE, Batch
from swarmd.core.change import Change
from swarmd.core.columns import Int32s, TaskColumns
from swarmd.core.errors import NotFoundError
from swarmd.core.history import History
from swarmd.core.ids import ABSENT, Int64s, Rows, distinct
from swarmd.core.loading import Load, LoadPlan, check_limit, plan_load
from swarmd.core.model import DEFAULT_SWARM_LIMIT, Array, Task, TaskResources
from swarmd.core.policy import SchedulingPolicy
from swarmd.core.ranking import follow_load
from swarmd.core.reservations import OpenBatch, Reservations
from swarmd.core.selecting import Selector, narrowed, select
from swarmd.core.status import FINAL_CODES, Code, Outcome, RunStatus, TaskStatus
from swarmd.core.table import Table
from swarmd.core.update import StateUpdate, StatusGroup
from swarmd.core.views import Counts, TaskView, counts_of_array, task_view


class SwarmState:
    """All state of one swarm, and what may happen to it."""

    def __init__(
        self,
        swarm_id: str = "",
        *,
        max_concurrently_running: int = DEFAULT_SWARM_LIMIT,
        fail_fast: bool = False,
        paused: bool = False,
        run_status: RunStatus = RunStatus.RUNNING,
        batch_prefix: str = "",
        scheduling_policy: SchedulingPolicy = SchedulingPolicy.FIRST_COME_FIRST_SERVED,
    ) -> None:
        check_limit("max_concurrently_running", max_concurrently_running)
        self.swarm_id = swarm_id
        self.batch_prefix = batch_prefix
        """What batch ids begin with; together with the number of the batch it must never come again."""
        self.revision = 0
        self.fail_fast = fail_fast
        self.paused = paused
        self.run_status = run_status
        self.sync_time: datetime | None = None
        self.history = History()
        self.table = Table(max_concurrently_running, scheduling_policy)
        self.reservations = Reservations(self.table, self.history, swarm_id)
        self._staged: LoadPlan | None = None

    # -- how it stands ---------------------------------------------------------------------------------------------

    @property
    def open_batches(self) -> dict[str, OpenBatch]:
        """Batches whose outcome is not there yet, by id."""
        return self.reservations.open

    @property
    def scheduling_policy(self) -> SchedulingPolicy:
        """In which order ready tasks of the same priority go; fixed when the swarm is made."""
        return self.table.policy

    @property
    def max_concurrently_running(self) -> int:
        """The swarm's concurrency limit; settable."""
        return self.table.usage.swarm_limit

    @max_concurrently_running.setter
    def max_concurrently_running(self, limit: int) -> None:
        self.apply_update(StateUpdate(max_concurrently_running=limit))

    @property
    def held_reason(self) -> str:
        """Why nothing may be queued now, whatever is ready; empty when something may."""
        if self.run_status is not RunStatus.RUNNING:
            return f"the run's status is {self.run_status.name}; only a RUNNING one queues tasks"
        if self.paused:
            return "the swarm is paused"
        if self._failed_fast:
            return "a task failed for good and the swarm is fail_fast; reset the failed tasks to go on"
        if self.max_concurrently_running == 0:
            return "the swarm's limit max_concurrently_running is 0"
        return ""

    @property
    def _failed_fast(self) -> bool:
        return self.fail_fast and self.table.usage.totals[Code.ERROR_FATAL] > 0

    @property
    def available_capacity(self) -> int:
        """How many more tasks the swarm itself lets become active now, the arrays' limits aside."""
        return 0 if self.held_reason else self.table.usage.swarm_room

    @property
    def ready_count(self) -> int:
        """Tasks that wait to be queued."""
        return self.table.queue.live

    @property
    def active_count(self) -> int:
        """Tasks that use capacity: reserved, queued, instantiating, launched and running."""
        return self.table.usage.active

    @property
    def task_count(self) -> int:
        return self.table.size

    def has_work(self) -> bool:
        """Whether `take_batch` would now give a batch."""
        return self.table.queue.has_open_array and self.available_capacity > 0

    @property
    def finished(self) -> bool:
        """Whether nothing is ready, active or in doubt any more. A swarm without tasks has not begun."""
        table = self.table
        if not table.size or table.usage.active:
            return False
        return not table.queue.live or self._failed_fast

    @property
    def outcome(self) -> Outcome:
        """DONE when finished with all tasks done, ERROR when finished otherwise."""
        if not self.finished:
            return Outcome.UNFINISHED
        return Outcome.DONE if self.table.usage.totals[Code.DONE] == self.task_count else Outcome.ERROR

    @property
    def blocked_count(self) -> int:
        """Of a finished swarm, the tasks that can never be queued because of one that failed or was cancelled."""
        return self.table.usage.totals[Code.REGISTERED] - self.ready_count if self.finished else 0

    def counts(self) -> Counts:
        """How many tasks stand where."""
        return Counts.of(self.table.usage.totals, ready=self.ready_count, in_doubt=self.reservations.in_doubt_count())

    def array_counts(self, array_id: int) -> Counts:
        """The same for one array."""
        in_doubt = self.reservations.in_doubt_count(array_id)
        return counts_of_array(self.table, self._array_row(array_id), in_doubt=in_doubt)

    # -- loading ---------------------------------------------------------------------------------------------------

    def load(
        self,
        arrays: Sequence[Array] = (),
        task_resources: Sequence[TaskResources] = (),
        tasks: Sequence[Task] | TaskColumns = (),
        *,
        at: float = 0.0,
    ) -> Change:
        """Add arrays, resources and tasks, all of them or none. Raises what `plan_load` raises."""
        columns = tasks if isinstance(tasks, TaskColumns) else TaskColumns.from_tasks(tasks)
        return self.commit_load(plan_load(self.table, Load(arrays, task_resources, columns)), at=at)

    def stage_load(self, plan: LoadPlan) -> None:
        """The part of a commit that nobody can see yet, so that others may have their turn before the rest.

        What is put here belongs to rows that do not exist; `commit_load` of the same plan must follow.
        """
        if self._staged is not None:
            raise RuntimeError("another load is staged and was not committed")
        self._staged = plan
        self.table.names.extend(plan.load.tasks.names)
        self.table.commands.extend(plan.load.tasks.commands)
        self.table.upstreams.extend_at(plan.upstream_offsets, plan.upstream_rows)

    @property
    def has_staged_load(self) -> bool:
        """Whether a load is on its way in, and the columns do not fit each other yet."""
        return self._staged is not None

    def commit_load(self, plan: LoadPlan, *, at: float = 0.0) -> Change:
        """Apply a plan. Anything but another load may have come between."""
        table, load, tasks = self.table, plan.load, plan.load.tasks
        if table.load_count != plan.load_count:
            raise RuntimeError("the swarm was loaded into after this plan was made")
        if self._staged is not plan:
            self.stage_load(plan)
        self._staged = None
        table.load_count += 1
        table.add_arrays(list(load.arrays))
        lane_keys = plan.lane_keys
        shift = len(table.resources) - plan.first_resources_row
        if shift:  # resources were adjusted since the plan was made: those of the load come behind them
            first = plan.first_resources_row
            lane_keys = [(prio, array, row + shift * (row >= first), path) for prio, array, row, path in lane_keys]
        table.add_resources(list(load.task_resources))
        lane_rows = table.extend(plan.columns, lane_keys, tasks.scale_sets)
        table.ids = plan.ids
        table.downstreams.add(plan.segment)
        table.usage.add_tasks(plan.counts)
        if table.paths is not None:
            follow_load(table, table.paths, plan)
        ready_before = table.queue.live
        self._queue_loaded(plan, lane_rows)
        change = Change(at=at, added_task_count=len(tasks), added_arrays=list(load.arrays))
        change.newly_ready_count = table.queue.live - ready_before
        change.settings_changed = bool(load.task_resources)
        return self._close(change)

    def _queue_loaded(self, plan: LoadPlan, lane_rows: Rows) -> None:
        """What the load brought enters its lanes where it is ready, and fills its array where it is active."""
        table, statuses = self.table, plan.load.tasks.statuses
        others = np.flatnonzero(statuses != Code.REGISTERED).astype(np.int32) + np.int32(plan.first_row)
        if len(plan.known_edges):
            self._count_done_upstreams(plan)
            rows = np.arange(plan.first_row, table.size, dtype=np.int32)
            table.make_ready(rows[statuses == Code.REGISTERED])
        elif plan.ready is not None:
            table.make_ready_sorted(plan.ready, plan.first_row, lane_rows)
        table.refresh(table.array_rows(others))

    def _count_done_upstreams(self, plan: LoadPlan) -> None:
        """Upstreams of earlier loads that are DONE by now: nothing waits for them."""
        table, edges = self.table, plan.known_edges
        done = edges[table.status[plan.upstream_rows[edges]] == Code.DONE]
        if len(done):
            ends = plan.upstream_offsets[1:]
            table_rows = plan.first_row + np.searchsorted(ends, done, side="right")
            np.subtract.at(table.upstreams_left, table_rows, np.int32(1))

    # -- scheduling ------------------------------------------------------------------------------------------------

    def take_batch(self, max_size: int = MAX_BATCH_SIZE, *, request_id: str = "", at: float = 0.0) -> Batch | None:
        """Reserve the batch that goes next, of at most `max_size` and never over 500; None when nothing may go."""
        return next(iter(self.take_batches(1, max_size, request_id=request_id, at=at)), None)

    def take_batches(self, most: int, max_size: int, *, request_id: str = "", at: float = 0.0) -> list[Batch]:
        """Reserve the batches that go next, up to `most` of at most `max_size` and never over 500; none when none may.

        Their tasks are active at once. Every batch must come back through `settle`, `give_back` or `hand_out`.
        """
        room, size = self.available_capacity, min(max_size, MAX_BATCH_SIZE)
        prefix = self.batch_prefix or self.swarm_id or "batch"
        return self.reservations.take(most, size, room, prefix, request_id, at) if room > 0 and size > 0 else []

    def settle(self, batch: Batch) -> None:
        """The engine answered. Tasks that it took stay reserved until an update says what became of them."""
        self.reservations.settle(batch)

    def hand_out(self, batches: Sequence[Batch], task_ids: Int64s, attempts: Int32s, *, at: float = 0.0) -> Change:
        """Whoever ticked has these batches, of which nothing was heard yet; their tasks, and attempts, are QUEUED."""
        self.reservations.hand_out(batches, at)
        group = StatusGroup(TaskStatus.QUEUED, task_ids, attempts)
        return self._close(Change(at=at, changed_count=len(task_ids), task_statuses=[group]))

    def doubt(self, batch: Batch, why: str) -> None:
        """Nobody knows what became of the batch: its tasks stay reserved until `settle` or `give_back`."""
        self.reservations.doubt(batch, why)

    def give_back(self, batch: Batch, task_ids: Sequence[int] | None = None) -> int:
        """The engine did not take the batch, or these tasks of it: they are ready again, where they were before.

        Only tasks that no news has reached come back. The attempt is spent as a number and not as a failure. Returns
        how many came back. A batch that comes back whole is closed; after a part of it, `settle` closes it.
        """
        return self.reservations.give_back(batch, task_ids)

    def cancelled_in(self, batch: Batch) -> NDArray[np.intp]:
        """The places of those of its tasks that were cancelled since it was taken, also when they were reset since."""
        return self.reservations.cancelled_in(batch)

    # -- news ------------------------------------------------------------------------------------------------------

    def apply_update(self, update: StateUpdate, *, at: float = 0.0) -> Change:
        """Fold news into the state, wholly or not at all. Stale news is listed in `ignored`.

        Raises InvalidInputError or NotFoundError, with nothing changed, for an unknown task or array, a status that
        news cannot carry, attempts that do not fit, or a limit that is none; LimitExceededError for what is too much.
        """
        return self.apply_resolved(update, self.check_update(update), at=at)

    def check_update(self, update: StateUpdate) -> ResolvedUpdate:
        """What an update means here. What is right stays right, whatever happens to the swarm. Raises as above."""
        return resolve(self.table, update)

    def apply_resolved(self, update: StateUpdate, resolved: ResolvedUpdate, *, at: float = 0.0) -> Change:
        """Fold in an update that was found to be right."""
        return self._fold(update, resolved, Change(at=at))

    def _fold(self, update: StateUpdate, resolved: ResolvedUpdate, change: Change) -> Change:
        # First: what runs out in the same update grows within them.
        if resolved.queue_limits and self.table.queues.tell(resolved.queue_limits):
            change.settings_changed = True
        folder = Folder(self.table, self.history, change)
        for group in resolved.groups:
            folder.apply(group)
        if update.tells_more:
            self._fold_settings(update, resolved, change)
        self.reservations.drop_settled_doubts()
        return self._close(change)

    def _fold_settings(self, update: StateUpdate, resolved: ResolvedUpdate, change: Change) -> None:
        limit = update.max_concurrently_running
        if limit is not None and limit != self.max_concurrently_running:
            self.table.usage.swarm_limit = change.max_concurrently_running = limit
        for row, array_limit in resolved.array_limits.items():
            if self.table.usage.set_limit(row, array_limit):
                change.array_limits[self.table.arrays[row].array_id] = array_limit
                self.table.refresh(np.array([row], dtype=np.int32))
        if resolved.run_status not in (None, self.run_status):
            self.run_status = change.run_status = RunStatus(resolved.run_status)
        if update.sync_time is not None and update.sync_time != self.sync_time:
            self.sync_time = update.sync_time
            change.settings_changed = True

    # -- commands --------------------------------------------------------------------------------------------------

    def configure(
        self,
        *,
        paused: bool | None = None,
        fail_fast: bool | None = None,
        touched: bool = False,
        update: StateUpdate | None = None,
        at: float = 0.0,
    ) -> Change:
        """Set switches; None: stays. `touched` says that something changed that others keep beside the state.

        Together with an update it is one change, or none when the update is wrong: raises as `apply_update` does.
        """
        resolved = None if update is None else self.check_update(update)
        change = Change(at=at, settings_changed=touched)
        if paused is not None and paused != self.paused:
            self.paused, change.settings_changed = paused, True
        if fail_fast is not None and fail_fast != self.fail_fast:
            self.fail_fast, change.settings_changed = fail_fast, True
        if update is not None and resolved is not None:
            return self._fold(update, resolved, change)
        return self._close(change)

    def cancel(self, selector: Selector, *, reason: str = "", at: float = 0.0) -> Change:
        """CANCELLED, whatever is selected and not final. What was active is named in the change for the engine."""
        rows = select(self.table, selector)
        final = self.table.status[rows] >= FINAL_CODES[0]
        change = Change(at=at, left_alone_count=int(final.sum()))
        rows = rows[~final]
        if len(rows):
            table = self.table
            active = rows[table.status[rows] != Code.REGISTERED]
            change.stopped_ids, change.stopped_attempts = table.task_id[active], table.attempt[active]
            record_attempts(table, self.history, rows, TaskStatus.CANCELLED, at, reason)
            table.move(rows, Code.CANCELLED, at)
            self._note(change, TaskStatus.CANCELLED, rows, reason)
        return self._close(change)

    def reset(
        self, selector: Selector, *, include_downstreams: bool = False, reason: str = "", at: float = 0.0
    ) -> Change:
        """REGISTERED again with no failed attempts, whatever is selected and final; with all final tasks after it."""
        table = self.table
        rows = select(table, selector)
        final = table.status[rows] >= FINAL_CODES[0]
        change = Change(at=at, left_alone_count=int((~final).sum()))
        if include_downstreams:
            rows = distinct(np.concatenate((rows[final], self._final_after(rows))))
        else:
            rows = rows[final]
        if len(rows):
            done = rows[table.status[rows] == Code.DONE]
            self._remember_reset(rows, done, reason, at)
            table.move(rows, Code.REGISTERED, at)
            table.failures[rows] = 0
            table.hold_downstreams(done)
            change.newly_ready_count = len(table.make_ready(rows))
            self._note(change, TaskStatus.REGISTERED, rows, reason)
        return self._close(change)

    def _remember_reset(self, rows: Rows, done: Rows, reason: str, at: float) -> None:
        """The attempts that succeeded, which nothing else remembers after this, and why."""
        table = self.table
        times = table.queued_at[done], table.changed_at[done]
        asked = table.resources_rows(done)
        self.history.add_all(done, table.attempt[done], TaskStatus.DONE, *times, resources=asked)
        if reason:
            record_attempts(table, self.history, rows, TaskStatus.REGISTERED, at, reason)

    def _final_after(self, rows: Rows) -> Rows:
        """Every final task that comes after one of these, however far."""
        table = self.table
        seen = np.zeros(table.size, dtype=np.bool_)
        frontier = rows
        while len(frontier):
            after = distinct(table.downstreams.of(frontier))
            frontier = after[~seen[after]]
            seen[frontier] = True
        found = np.flatnonzero(seen).astype(np.int32)
        return found[table.status[found] >= FINAL_CODES[0]]

    def _note(self, change: Change, status: TaskStatus, rows: Rows, reason: str) -> None:
        table = self.table
        change.changed_count = len(rows)
        change.task_statuses.append(StatusGroup(status, table.task_id[rows], table.attempt[rows], reason))

    def _close(self, change: Change) -> Change:
        if not change.is_empty:
            self.revision += 1
        change.revision = self.revision
        change.active_count = active = self.table.usage.active
        change.finished = not active and self.finished
        return change

    # -- looking ---------------------------------------------------------------------------------------------------

    def task(self, task_id: int) -> TaskView:
        """One task. Raises NotFoundError."""
        return task_view(self.table, self.history, self._task_row(task_id))

    def tasks(
        self,
        *,
        statuses: Sequence[TaskStatus] = (),
        array_ids: Sequence[int] = (),
        start: int = 0,
        limit: int | None = None,
    ) -> tuple[list[TaskView], int | None]:
        """Tasks in the order of loading from row `start` on, and the row where the next page begins, if any."""
        rows = narrowed(self.table, None, array_ids, statuses, start)
        page = rows if limit is None else rows[:limit]
        following = int(rows[len(page)]) if len(page) < len(rows) else None
        return [task_view(self.table, self.history, row) for row in page.tolist()], following

    def explain(self, task_id: int, *, autopilot: bool = False) -> "explaining.Explanation":
        """Why a task is not running, and what became of its attempts. Raises NotFoundError."""
        return explaining.explain(self, self._task_row(task_id), autopilot=autopilot)

    def _task_row(self, task_id: int) -> int:
        row = self.table.ids.find_one(task_id)
        if row == ABSENT:
            message = f"task_id: no task {task_id} in this swarm; ListTasks shows those there are"
            raise NotFoundError(message, reason="UNKNOWN_TASK", field="task_id")
        return row

    def _array_row(self, array_id: int) -> int:
        row = self.table.array_ids.find_one(array_id)
        if row == ABSENT:
            message = f"array_id: no array {array_id} in this swarm; GetSwarm with the FULL view shows those there are"
            raise NotFoundError(message, reason="UNKNOWN_ARRAY", field="array_id")
        return row
