"""Attempts, batches and swarms as the Slurm gateway holds them from submission to the end."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path

from swarmd.core.model import TaskResources
from swarmd.core.status import TaskStatus
from swarmd.gateways.contract import SwarmInfo
from swarmd.gateways.output import OutputPaths, output_paths, status_path
from swarmd.gateways.slurm.options import SwarmChoices
from swarmd.gateways.slurm.spool import ArrayJob
from swarmd.gateways.slurm.status_file import Status, claimed

NEVER = float("-inf")
"""A time that is before all others."""

AttemptKey = tuple[int, int]
"""A task id and the number of its attempt."""


class Phase(Enum):
    """How far an attempt has got, as far as it was told."""

    SENT = auto()
    LAUNCHED = auto()
    """Slurm has it, and it waits."""
    RUNNING = auto()
    OVER = auto()


@dataclass(frozen=True, slots=True)
class Ending:
    """Why the gateway ends an attempt, and what is said of it then."""

    status: TaskStatus
    reason: str
    has_killed: bool = True
    """Slurm has seen to it that nothing of it runs. Otherwise a node may still run what the controller forgot."""

    @property
    def said(self) -> tuple[TaskStatus, str]:
        return self.status, self.reason


@dataclass(slots=True, eq=False)
class SlurmSwarm:
    """A swarm and those of its attempts that are not over."""

    info: SwarmInfo
    choices: SwarmChoices
    file_token: str
    """In the names of its status files: a swarm of the same id before it had others."""
    output: Path
    """The folder for output of all swarms."""
    elements: "dict[AttemptKey, Element]" = field(default_factory=dict)
    batches: "dict[str, SlurmBatch]" = field(default_factory=dict)
    """Those with attempts that are not over."""
    give_backs: dict[int, int] = field(default_factory=dict)
    """How often in a row a task was given back, for reasons that were not its own."""
    is_removed: bool = False

    @property
    def swarm_id(self) -> str:
        return self.info.swarm_id

    @property
    def survives(self) -> bool:
        """Whether its jobs go on without the daemon."""
        return bool(self.info.token)

    @property
    def shared(self) -> Path:
        """What has to be there for its files to be there: whatever is missing below it was never made."""
        return self.output.parent

    @property
    def directory(self) -> Path:
        """Where its commands start."""
        return (self.info.working_directory or Path()).absolute()


@dataclass(slots=True, eq=False)
class SlurmBatch:
    """One batch, and the arrays that Slurm has of it."""

    swarm: SlurmSwarm
    batch_id: str
    array_id: int
    resources: TaskResources
    runtime_seconds: float
    directory: str = ""
    """Where its commands start."""
    elements: "list[Element]" = field(default_factory=list)
    jobs: list[ArrayJob] = field(default_factory=list)
    open_count: int = 0
    """Its attempts that are not over."""
    is_submitting: bool = False
    """Whether its submission is under way in this process."""

    @property
    def left(self) -> "list[Element]":
        """Its attempts that are not over."""
        return [element for element in self.elements if element.phase is not Phase.OVER]

    @property
    def missing(self) -> "list[Element]":
        """Its attempts that no known array has."""
        return [element for element in self.elements if not element.job_id and element.phase is not Phase.OVER]


@dataclass(slots=True, eq=False)
class Element:
    """One attempt of a task: one element of an array, once Slurm has it."""

    batch: SlurmBatch
    position: int
    """Its place in the batch."""
    task_id: int
    attempt: int
    job_id: int = 0
    """0: no array is known that has it."""
    index: int = 0
    phase: Phase = Phase.SENT
    state: str = ""
    """What Slurm said last: the state and, when it waits, why."""
    reason: str = ""
    waiting_since: float = 0.0
    """Since when it waits for the same reason, or to be ended; 0: it does not."""
    ended_at: float = 0.0
    """When its status file was first seen to tell of an end while Slurm said that it runs; 0: it does not."""
    was_running: bool = False
    """Slurm said that it runs."""
    is_set_aside: bool = False
    """An earlier daemon submitted it, and the state does not say that Slurm has it: it is over, or in doubt."""
    silent: bool = False
    """It was cancelled: nobody is told how it ends."""
    ending: Ending | None = None
    """Slurm was asked to end it; this is what will be said."""
    asked_at: float = NEVER
    """When Slurm was last asked to end it."""

    @property
    def key(self) -> AttemptKey:
        return self.task_id, self.attempt

    @property
    def name(self) -> str:
        """As Slurm calls it."""
        return f"{self.job_id}_{self.index}"

    @property
    def is_to_end(self) -> bool:
        return self.phase is not Phase.OVER and (self.silent or self.ending is not None)

    @property
    def output(self) -> OutputPaths:
        swarm = self.batch.swarm
        return output_paths(swarm.output, swarm.swarm_id, self.batch.array_id, self.task_id, self.attempt)

    @property
    def status_file(self) -> Path:
        swarm = self.batch.swarm
        batch = self.batch
        return status_path(swarm.output, swarm.swarm_id, batch.array_id, self.task_id, self.attempt, swarm.file_token)

    def claimed(self) -> Status:
        """Make sure that no job runs it from now on, or say which one was quicker. Raises OSError."""
        return claimed(self.status_file, self.batch.swarm.shared)

    @property
    def standing(self) -> str:
        """For people: where it is, and what it waits for."""
        if not self.job_id:
            return "it is being submitted to Slurm, or looked for there"
        why = f": {self.reason}" if self.reason not in ("", "None") else ""
        return f"Slurm's job {self.name} is {self.state or 'submitted'}{why}"


def ranges(numbers: Iterable[int]) -> str:
    """Numbers as Slurm writes them: `1-3,7`."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in parts)
