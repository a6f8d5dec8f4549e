"""One attempt of a task, and the swarm it belongs to, as the local gateway holds them from queueing to the end."""

from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING

from swarmd.core.batch import TaskSpec
from swarmd.gateways.contract import SwarmInfo
from swarmd.gateways.local.machine import Shape

if TYPE_CHECKING:
    from swarmd.gateways.local.execution import Execution

AttemptKey = tuple[int, int]
"""A task id and the number of its attempt."""


class Phase(Enum):
    """Where an attempt stands."""

    WAITING = auto()
    RUNNING = auto()
    OVER = auto()


@dataclass(slots=True, eq=False)
class LocalSwarm:
    """A swarm and those of its attempts that are not over."""

    info: SwarmInfo
    environment: dict[bytes, bytes]
    """Complete but for what differs from task to task."""
    attempts: "dict[AttemptKey, Attempt]" = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Attempt:
    """One try at one task."""

    swarm: LocalSwarm
    array_id: int
    spec: TaskSpec
    shape: Shape
    runtime_seconds: float
    order: int
    """Its place among all that ever arrived."""
    phase: Phase = Phase.WAITING
    execution: "Execution | None" = None
    """While it runs."""
    silent: bool = False
    """It was cancelled: nobody is told how it ends."""

    @property
    def key(self) -> AttemptKey:
        return self.spec.task_id, self.spec.attempt
