"""What an event did to a swarm: the answer of every method that changes it, and what watchers are shown."""

from dataclasses import dataclass, field

from swarmd.core.ids import Int64s
from swarmd.core.model import Array
from swarmd.core.status import RunStatus, TaskStatus
from swarmd.core.transitions import Effect
from swarmd.core.update import Attempts, StatusGroup


@dataclass(frozen=True, slots=True)
class Ignored:
    """News that was stale, and why."""

    status: TaskStatus
    effect: Effect
    task_ids: Int64s


@dataclass(slots=True)
class Change:
    """One change. Its revision is one above that of the change before; news that changed nothing has no new one."""

    revision: int = 0
    at: float = 0.0
    """Seconds since the epoch, as the caller passed it in."""
    task_statuses: list[StatusGroup] = field(default_factory=list)
    """New statuses in the order in which tasks went through them; a failed attempt shows as E and then G or F."""
    changed_count: int = 0
    """Tasks that stand elsewhere than before, or whose attempt ended."""
    newly_ready_count: int = 0
    ignored: list[Ignored] = field(default_factory=list)
    max_concurrently_running: int | None = None
    array_limits: dict[int, int | None] = field(default_factory=dict)
    run_status: RunStatus | None = None
    settings_changed: bool = False
    """Paused, fail_fast, the sync time, what queues can hold, or what the daemon keeps beside the state."""
    added_task_count: int = 0
    added_arrays: list[Array] = field(default_factory=list)
    left_alone_count: int = 0
    """Of the tasks that a command selected, those it had nothing to do with."""
    stopped_ids: "Int64s | None" = None
    """Active tasks that were cancelled: the engine has to end them ..."""
    stopped_attempts: "Attempts | None" = None
    """... in these attempts."""
    active_count: int = 0
    finished: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether nothing changed at all."""
        return not (
            self.task_statuses
            or self.max_concurrently_running is not None
            or self.array_limits
            or self.run_status is not None
            or self.settings_changed
            or self.added_task_count
            or self.added_arrays
        )
