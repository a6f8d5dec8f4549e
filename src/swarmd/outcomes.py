"""What an engine's answers mean: the outcome of a call for its batch, and of all calls for the answer of their tick.

Used by the scheduler. Knows batches, updates and what gateways answer; calls nobody.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from swarmd.core.batch import Batch, BatchResult
from swarmd.core.model import MAX_REASON_BYTES
from swarmd.core.status import TaskStatus
from swarmd.core.update import StateUpdate, StatusGroup, TaskStatuses
from swarmd.gateways.contract import FindOutcome, OutcomeUnknownError, QueueOutcome, Refusal

_QUEUED = TaskStatus.QUEUED  # bound once: this Python looks a member of an enum up anew each time


@dataclass
class TickUpdate(StateUpdate):
    """What a tick changed, and what became of each of its batches."""

    batch_results: list[BatchResult] = field(default_factory=list)
    batches: list[Batch] = field(default_factory=list)
    """The batches that the engine took, wholly or in part."""
    timed_out: bool = False
    """The timeout passed with work left to start, or calls still under way."""


class Outcomes:
    """Outcomes of calls, collected for the answer of a tick."""

    __slots__ = ("batches", "groups", "results")

    def __init__(self, results: list[BatchResult] | None = None) -> None:
        self.results = results or []
        self.batches: list[Batch] = []
        self.groups: list[StatusGroup] = []

    def add(self, other: "Outcomes") -> None:
        self.results += other.results
        self.batches += other.batches
        self.groups += other.groups

    def followed_by(self, other: "Outcomes") -> "Outcomes":
        self.add(other)
        return self

    def as_update(self, *, timed_out: bool) -> TickUpdate:
        """All QUEUED tasks as one group, the rest as they are."""
        queued = [group for group in self.groups if group.status is _QUEUED]
        statuses = TaskStatuses([group for group in self.groups if group.status is not _QUEUED])
        if queued:
            fences = [group.attempts for group in queued if group.attempts is not None]
            statuses.add(_QUEUED, np.concatenate([group.task_ids for group in queued]), np.concatenate(fences))
        return TickUpdate(statuses, batch_results=self.results, batches=self.batches, timed_out=timed_out)


Decision = tuple[Outcomes, list[int]]
"""What an engine's word means, and the tasks that come back."""


def decision_of(batch: Batch, answer: QueueOutcome | FindOutcome) -> Decision:
    """What the engine's answer means. Raises OutcomeUnknownError when it cannot be read: something was done."""
    try:
        return outcome_of(batch, answer.refusals)
    except Exception as error:
        raise OutcomeUnknownError(f"the gateway's answer cannot be read: {described(error)}") from error


def all_taken(batch: Batch) -> Decision:
    """The usual outcome."""
    group = StatusGroup(_QUEUED, batch.task_ids, batch.attempts)
    outcome = Outcomes([BatchResult(TaskStatuses([group]), len(batch), batch.array_id, batch.batch_id)])
    outcome.batches.append(batch)
    outcome.groups.append(group)
    return outcome, []


def outcome_of(batch: Batch, refusals: Sequence[Refusal]) -> Decision:
    """What it means that the engine took all of a batch but these tasks."""
    if not refusals:
        return all_taken(batch)
    outcome, statuses = Outcomes(), TaskStatuses()
    taken = np.ones(len(batch), dtype=np.bool_)
    coming_back: list[int] = []
    for refusal in refusals:
        named = set(refusal.task_ids)  # whatever it names that it was not asked for changes nothing
        mask = np.array([task_id in named for task_id in batch.task_ids.tolist()], dtype=np.bool_) & taken
        taken &= ~mask
        if refusal.permanent:
            reason = shortened(refusal.reason)
            statuses.add(TaskStatus.ERROR_FATAL, batch.task_ids[mask], batch.attempts[mask], reason)
        else:
            coming_back += batch.task_ids[mask].tolist()
    if taken.any():
        statuses.add(TaskStatus.QUEUED, batch.task_ids[taken], batch.attempts[taken])
        outcome.batches.append(batch)
    outcome.groups += statuses.groups
    shown = TaskStatuses(list(statuses.groups))
    if coming_back:
        shown.add(TaskStatus.REGISTERED, coming_back)
    why = shortened("; ".join(dict.fromkeys(refusal.reason for refusal in refusals)))
    outcome.results.append(BatchResult(shown, len(batch), batch.array_id, batch.batch_id, error=why))
    return outcome, coming_back


def described(error: BaseException) -> str:
    """An error in words that a task may keep."""
    text = str(error)
    return shortened(f"{type(error).__name__}: {text}" if text else type(error).__name__)


def shortened(text: str) -> str:
    """As much of a gateway's words as a task may keep, and nothing that a message cannot carry."""
    return text.encode(errors="replace")[:MAX_REASON_BYTES].decode(errors="ignore")
