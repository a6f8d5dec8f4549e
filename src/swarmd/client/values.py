"""What the client answers with: plain, frozen values, with the field's words and numpy columns for ids.

Made from the messages of the protocol by `decoding.py`; nothing here knows them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from swarmd.core.ids import Int64s
from swarmd.core.model import TaskResources
from swarmd.core.policy import SchedulingPolicy
from swarmd.core.status import RunStatus, TaskStatus

Attempts = NDArray[np.int32]


class Outcome(StrEnum):
    """How a swarm stands as a whole."""

    UNFINISHED = "UNFINISHED"
    """Something is ready, active or in doubt, or no task was loaded yet."""
    DONE = "DONE"
    """Finished: all tasks are done."""
    ERROR = "ERROR"
    """Finished, and not all tasks are done."""


@dataclass(frozen=True, slots=True)
class TaskCounts:
    """How many tasks stand where."""

    total: int = 0
    registered: int = 0
    queued: int = 0
    instantiating: int = 0
    launched: int = 0
    running: int = 0
    done: int = 0
    error_fatal: int = 0
    cancelled: int = 0
    ready: int = 0
    """Those of `registered` that wait for nothing but to be queued."""
    reserved: int = 0
    """Those of `registered` whose batch is being queued just now, or is in doubt."""
    in_doubt: int = 0
    active: int = 0
    """Those that use capacity."""


@dataclass(frozen=True, slots=True)
class ArrayStatus:
    """An array, and how its tasks stand."""

    array_id: int
    name: str
    max_concurrently_running: int | None
    counts: TaskCounts


@dataclass(frozen=True, slots=True)
class StandingRefusal:
    """The last batches of an array with the same resources came back from the engine, wholly or in part."""

    array_id: int
    task_resources_id: int
    reason: str
    """The engine's last words."""
    times: int
    """How often in a row."""
    since: datetime | None
    """When the first of these batches came back."""
    latest: datetime | None
    """When the last did."""


@dataclass(frozen=True, slots=True)
class SwarmStatus:
    """A swarm, and how it stands."""

    swarm_id: str
    display_name: str
    outcome: Outcome
    counts: TaskCounts
    revision: int
    max_concurrently_running: int
    paused: bool
    autopilot: bool
    fail_fast: bool
    gateway: str
    run_status: RunStatus
    blocked_count: int
    """Tasks that can never run, since one before them failed or was cancelled; counted when it is finished."""
    held_reason: str
    """Why nothing more is queued although tasks are ready; empty when nothing stands in the way."""
    working_directory: str
    environment: Mapping[str, str]
    create_time: datetime | None
    sync_time: datetime | None
    in_memory: bool
    log_directory: str
    """Where the output of its tasks is, for engines that keep it on this machine."""
    gateway_options: Mapping[str, str] = field(default_factory=dict)
    scheduling_policy: SchedulingPolicy = SchedulingPolicy.FIRST_COME_FIRST_SERVED
    """In which order its ready tasks of the same priority go."""
    engine_trouble: str = ""
    """What is the matter with its engine just now; empty when nothing is known to be."""
    refusals: tuple[StandingRefusal, ...] = ()
    """Arrays with ready tasks that the engine refuses to take just now, the newest refusal first, at most 20."""
    arrays: Mapping[str, ArrayStatus] = field(default_factory=dict)
    """By name, where it was asked for; arrays without a name of their own are under their id."""

    @property
    def is_finished(self) -> bool:
        """Nothing is ready, active or in doubt any more."""
        return self.outcome is not Outcome.UNFINISHED


@dataclass(frozen=True, slots=True)
class TaskInfo:
    """A task, and how it stands."""

    task_id: int
    array_id: int
    task_resources_id: int
    name: str
    status: TaskStatus
    attempt: int
    """How often it has been queued."""
    failed_attempts: int
    max_attempts: int
    priority: int
    status_time: datetime | None
    reason: str
    """Why the last attempt failed, or why it was cancelled."""
    command: str = ""
    """As it is run; empty in lists of tasks."""
    upstream_task_ids: tuple[int, ...] = ()
    """Empty in lists of tasks."""


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Something that keeps a task from being queued."""

    kind: str
    """`WAITING_FOR_UPSTREAMS`, `BLOCKED_BY_FAILURE`, `SWARM_LIMIT`, `PAUSED`, ...: see the protocol's Obstacle.Kind."""
    message: str
    task_ids: tuple[int, ...]
    """The tasks concerned, at most 20 of them."""
    count: int


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt of a task."""

    attempt: int
    status: TaskStatus
    queue_time: datetime | None
    status_time: datetime | None
    reason: str
    resources: TaskResources | None = None
    """What it asked of the engine: after ADJUSTING_RESOURCES the next attempt asks for more. None: it is not known."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a task is not running, and what became of its attempts."""

    task: TaskInfo
    summary: str
    obstacles: tuple[Obstacle, ...]
    attempts: tuple[Attempt, ...]


@dataclass(frozen=True, slots=True)
class LoadResult:
    """What a load added."""

    task_count: int
    array_count: int
    task_resources_count: int
    newly_ready_count: int
    revision: int


@dataclass(frozen=True, slots=True)
class BatchTask:
    """One task of a batch, with what to run."""

    task_id: int
    attempt: int
    name: str
    command: str


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Tasks that were queued together. With the `pull` gateway they are the caller's to run."""

    batch_id: str
    array_id: int
    array_name: str
    task_ids: Int64s
    attempts: Attempts
    """Each task's attempt: give it back with all news of it."""
    priority: int
    resources: TaskResources
    tasks: tuple[BatchTask, ...]
    """What to run, in the order of task_ids."""


@dataclass(frozen=True, slots=True)
class BatchResult:
    """What became of one batch."""

    batch_id: str
    array_id: int
    batch_size: int
    error: str
    """Why tasks came back or are in doubt; empty when the engine took all of them."""
    in_doubt: bool


@dataclass(frozen=True, slots=True)
class TickResult:
    """What one scheduling iteration did."""

    batches: tuple[Batch, ...]
    """What was queued."""
    batch_results: tuple[BatchResult, ...]
    timed_out: bool
    ready_count: int
    """How many tasks are ready now."""
    revision: int


@dataclass(frozen=True, slots=True)
class WorkStatus:
    """Whether a tick would queue something."""

    has_work: bool
    ready_count: int
    available_capacity: int
    active_count: int
    is_finished: bool
    revision: int

    def __bool__(self) -> bool:
        return self.has_work


@dataclass(frozen=True, slots=True, eq=False)
class IgnoredNews:
    """A part of an update that was stale."""

    task_ids: Int64s
    status: TaskStatus
    reason: str
    """`TASK_IS_FINAL`, `TASK_IS_FURTHER`, `ATTEMPT_IS_OVER` or `TASK_IS_NOT_QUEUED`."""


@dataclass(frozen=True, slots=True)
class UpdateResult:
    """What an update changed."""

    changed_count: int
    newly_ready_count: int
    ignored: tuple[IgnoredNews, ...]
    """Stale news. It is no error; the rest of the update counts."""
    revision: int


@dataclass(frozen=True, slots=True)
class CancelResult:
    """What a cancel did."""

    cancelled_count: int
    final_count: int
    """How many of the selected tasks had ended already."""
    revision: int


@dataclass(frozen=True, slots=True)
class ResetResult:
    """What a reset did."""

    reset_count: int
    not_final_count: int
    """How many of the selected tasks had not ended."""
    newly_ready_count: int
    revision: int


@dataclass(frozen=True, slots=True, eq=False)
class StatusChange:
    """Tasks that got a status."""

    status: TaskStatus
    task_ids: Int64s
    attempts: Attempts
    reason: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """How the swarm stands: the first event of a watch, and after a gap that could not be closed."""

    revision: int
    time: datetime | None
    swarm: SwarmStatus


@dataclass(frozen=True, slots=True)
class Change:
    """One change of the swarm."""

    revision: int
    time: datetime | None
    statuses: tuple[StatusChange, ...]
    """In the order in which tasks went through them."""
    added_task_count: int
    max_concurrently_running: int | None
    """The swarm's limit, when it changed."""
    array_limits: Mapping[int, int | None]
    """Limits of arrays that changed, by id; None: unlimited."""
    run_status: RunStatus | None
    """The run's status, when it changed."""
    active_count: int
    is_finished: bool


@dataclass(frozen=True, slots=True)
class Progress:
    """Nothing has changed for a while."""

    revision: int
    time: datetime | None
    counts: TaskCounts


@dataclass(frozen=True, slots=True)
class End:
    """The last event of a watch."""

    revision: int
    time: datetime | None
    was_deleted: bool
    """The swarm is gone; otherwise it is finished."""
    outcome: Outcome


Event = Snapshot | Change | Progress | End
"""What `watch` gives."""
