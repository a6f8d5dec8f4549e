"""Swarm: all of a swarm that must outlive the daemon, and `apply`, the only way in which it changes.

The daemon applies each event when it is written down; a journal applies them again after a restart. Both lead to the
same swarm, since nothing here asks a clock, a random number or anybody else.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from swarmd.core.applying import resolved_of
from swarmd.core.batch import Batch
from swarmd.core.change import Change
from swarmd.core.columns import TaskColumns
from swarmd.core.errors import DamagedError
from swarmd.core.events import (
    BatchConcluded,
    BatchDoubted,
    BatchesHandedOut,
    BatchTaken,
    Cancelled,
    Configured,
    Created,
    Event,
    Loaded,
    LoadPart,
    Reset,
    TickAnswered,
    Updated,
)
from swarmd.core.loading import Load, plan_load
from swarmd.core.selecting import select
from swarmd.core.state import SwarmState

REMEMBERED_REQUESTS = 10_000
REMEMBERED_ANSWER_BYTES = 64 * 1024 * 1024
UNANSWERED_TICKS = 1000
"""Of so many ticks that nobody was answered, since their daemon ended, the batches are remembered for a repeat."""


@dataclass(frozen=True, slots=True)
class LoadAnswer:
    """What a load answered, for the one who asks again."""

    asked: str
    task_count: int
    array_count: int
    task_resources_count: int
    newly_ready_count: int
    revision: int


@dataclass(frozen=True, slots=True)
class TickRecord:
    """What a tick answered, likewise: `answer` belongs to whoever gave it."""

    asked: str
    answer: bytes


class Swarm:
    """The state of a swarm, and what the daemon keeps beside it."""

    def __init__(self, created: Created, at: float) -> None:
        settings = created.settings
        self.created = created
        self.created_at = at
        self.autopilot = settings.autopilot
        self.display_name = settings.display_name
        self.state = SwarmState(
            settings.swarm_id,
            max_concurrently_running=settings.max_concurrently_running,
            fail_fast=settings.fail_fast,
            paused=settings.paused,
            run_status=settings.run_status,
            batch_prefix=f"{settings.swarm_id}-{created.token}",
            scheduling_policy=settings.scheduling_policy,
        )
        self.loads: OrderedDict[str, LoadAnswer] = OrderedDict()
        self.ticks: OrderedDict[str, TickRecord] = OrderedDict()
        self.answer_bytes = 0
        self.unanswered: dict[str, list[Batch]] = {}
        """The batches of ticks with a request_id whose answer was not given yet."""
        self._part_of = ""
        self._parts: list[TaskColumns] = []

    def check(self, event: Event) -> Event:
        """Raise for an event that is wrong, and give it back as it is to be applied.

        What is right stays right, whatever happens to the swarm before it is applied: only ids, values and limits
        count here, and these stay.
        """
        if isinstance(event, Updated):
            resolved = self.state.check_update(event.update)
            if resolved.queue_limits:
                self.state.table.queues.check_room(resolved.queue_limits)
            return Updated(event.update, resolved)
        if isinstance(event, Configured):
            self.state.check_update(event.update)
        elif isinstance(event, (Cancelled, Reset)):
            select(self.state.table, event.selector)
        return event

    def apply(self, event: Event, at: float) -> Change:
        """What happened at this time, in seconds since the epoch."""
        if isinstance(event, Created):
            raise DamagedError(f"the swarm {event.settings.swarm_id} is created a second time")
        return self._applied[type(event)](self, event, at)

    # -- loading ---------------------------------------------------------------------------------------------------

    @property
    def parts_under_way(self) -> int:
        """How many parts of a load have come that is not complete."""
        return len(self._parts)

    def _load_part(self, event: LoadPart, at: float) -> Change:
        if event.load_id != self._part_of:  # what came of another load was never completed
            self._part_of, self._parts = event.load_id, []
        self._parts.append(event.tasks)
        return self._unchanged(at)

    def _loaded(self, event: Loaded, at: float) -> Change:
        plan = event.plan or plan_load(self.state.table, self._load_of(event))
        self._part_of, self._parts = "", []
        change = self.state.commit_load(plan, at=at)
        if event.request_id:
            counts = change.added_task_count, len(plan.load.arrays), len(plan.load.task_resources)
            self.loads[event.request_id] = LoadAnswer(event.asked, *counts, change.newly_ready_count, change.revision)
            if len(self.loads) > REMEMBERED_REQUESTS:
                self.loads.popitem(last=False)
        return change

    def _load_of(self, event: Loaded) -> Load:
        parts = self._parts if event.load_id == self._part_of else []
        tasks = TaskColumns.joined(parts) if parts else TaskColumns.of([], [], [])
        return Load(event.arrays, event.task_resources, tasks)

    # -- news and commands -----------------------------------------------------------------------------------------

    def _updated(self, event: Updated, at: float) -> Change:
        if event.resolved is None:
            return self.state.apply_update(event.update, at=at)
        return self.state.apply_resolved(event.update, event.resolved, at=at)

    def _configured(self, event: Configured, at: float) -> Change:
        touched = False
        if event.autopilot is not None and event.autopilot != self.autopilot:
            self.autopilot, touched = event.autopilot, True
        if event.display_name is not None and event.display_name != self.display_name:
            self.display_name, touched = event.display_name, True
        return self.state.configure(
            paused=event.paused, fail_fast=event.fail_fast, touched=touched, update=event.update, at=at
        )

    def _cancelled(self, event: Cancelled, at: float) -> Change:
        return self.state.cancel(event.selector, reason=event.reason, at=at)

    def _reset(self, event: Reset, at: float) -> Change:
        return self.state.reset(
            event.selector, include_downstreams=event.include_downstreams, reason=event.reason, at=at
        )

    # -- batches ---------------------------------------------------------------------------------------------------

    def _batch_taken(self, event: BatchTaken, at: float) -> Change:
        known = self.state.open_batches.get(event.batch_id)  # the daemon reserves before it writes
        batch = (
            known.batch
            if known
            else self.state.reservations.take_named(
                event.batch_id, event.task_ids, event.attempts, event.request_id, at
            )
        )
        if event.request_id:
            self.unanswered.setdefault(event.request_id, []).append(batch)
        return self._unchanged(at)

    def untake(self, batch: Batch) -> None:
        """As if it had never been taken: it could not be written down. Only while nothing else has happened since."""
        request_id = self.state.open_batches[batch.batch_id].request_id
        self.state.reservations.undo(batch)
        taken = self.unanswered.get(request_id, [])
        if batch in taken:
            taken.remove(batch)
            if not taken:
                del self.unanswered[request_id]

    def _batch_concluded(self, event: BatchConcluded, at: float) -> Change:
        """News may have reached every task of a batch in doubt, and so have closed it: then this comes late."""
        self._forget_unanswered()  # here and not when it is taken: that may be undone
        came_back = 0
        known = self.state.open_batches.get(event.batch_id)
        if known is not None:
            if event.returned_ids:
                came_back = self.state.give_back(known.batch, event.returned_ids)
            if event.handed_out:
                self.state.reservations.note_handed_out([known.batch])
            else:
                self.state.settle(known.batch)
        resolved = None if known is None else resolved_of(known.batch, event.update)
        if resolved is None:
            change = self.state.apply_update(event.update, at=at)
        else:
            change = self.state.apply_resolved(event.update, resolved, at=at)
        change.newly_ready_count += came_back
        return change

    def _batches_handed_out(self, event: BatchesHandedOut, at: float) -> Change:
        """One change for all of them: nothing has happened to their tasks since they were reserved."""
        batches = self.state.reservations.taken_or_named(
            event.batch_ids, event.sizes, event.task_ids, event.attempts, event.request_id, at
        )
        if event.request_id:
            self.unanswered.setdefault(event.request_id, []).extend(batches)
            self._forget_unanswered()
        return self.state.hand_out(batches, event.task_ids, event.attempts, at=at)

    def _forget_unanswered(self) -> None:
        while len(self.unanswered) > UNANSWERED_TICKS:
            del self.unanswered[next(iter(self.unanswered))]

    def _batch_doubted(self, event: BatchDoubted, at: float) -> Change:
        known = self.state.open_batches.get(event.batch_id)
        if known is not None:
            self.state.doubt(known.batch, event.why)
        return self._unchanged(at)

    def _tick_answered(self, event: TickAnswered, at: float) -> Change:
        self.unanswered.pop(event.request_id, None)
        before = self.ticks.pop(event.request_id, None)
        self.answer_bytes -= len(before.answer) if before else 0
        self.ticks[event.request_id] = TickRecord(event.asked, event.answer)
        self.answer_bytes += len(event.answer)
        while len(self.ticks) > REMEMBERED_REQUESTS or (
            self.answer_bytes > REMEMBERED_ANSWER_BYTES and len(self.ticks) > 1
        ):
            self.answer_bytes -= len(self.ticks.popitem(last=False)[1].answer)
        return self._unchanged(at)

    def _unchanged(self, at: float) -> Change:
        state = self.state
        return Change(revision=state.revision, at=at, active_count=state.active_count, finished=state.finished)

    _applied: ClassVar[Mapping[type, Callable[["Swarm", Any, float], Change]]] = {
        LoadPart: _load_part,
        Loaded: _loaded,
        Updated: _updated,
        Configured: _configured,
        Cancelled: _cancelled,
        Reset: _reset,
        BatchTaken: _batch_taken,
        BatchConcluded: _batch_concluded,
        BatchesHandedOut: _batches_handed_out,
        BatchDoubted: _batch_doubted,
        TickAnswered: _tick_answered,
    }
