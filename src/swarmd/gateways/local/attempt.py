"""One attempt of a task, and the swarm it belongs to, as the local gateway holds them from queueing to the end."""

import asyncio
import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path
from typing import TYPE_CHECKING

from swarmd.core.batch import Batch, TaskSpec
from swarmd.gateways.contract import SwarmInfo
from swarmd.gateways.local.machine import Shape
from swarmd.gateways.output import OutputPaths, output_beginning, status_ending

if TYPE_CHECKING:
    from swarmd.gateways.local.execution import Execution
    from swarmd.gateways.local.launched import Launched

AttemptKey = tuple[int, int]
"""A task id and the number of its attempt."""

DAEMONS_OWN = (b"SWARMD_TOKEN", b"NOTIFY_SOCKET", b"WATCHDOG_", b"LISTEN_")
"""How the names of variables begin that are for the daemon alone: what lets callers in, and what systemd told it."""


REMEMBERED_BATCHES = 1000
"""Of each swarm: whoever asks after one does so soon."""

_KEYS = itertools.count(1)


class Phase(Enum):
    """Where an attempt stands."""

    WAITING = auto()
    STARTING = auto()
    """The launcher has it, and has not said what became of it."""
    RUNNING = auto()
    OVER = auto()


@dataclass(slots=True, eq=False)
class LocalSwarm:
    """A swarm and those of its attempts that are not over."""

    info: SwarmInfo
    environment: dict[bytes, bytes]
    """Complete but for what differs from task to task."""
    log_directory: Path
    attempts: "dict[AttemptKey, Attempt]" = field(default_factory=dict)
    sought: int = 0
    """How many times attempts of earlier daemons are being looked for just now."""
    cancelled_early: set[AttemptKey] = field(default_factory=set)
    """Cancelled meanwhile, and not among `attempts`: maybe they are found."""
    is_removed: bool = False
    is_empty: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when it is removed and the last of its attempts is over."""
    _taken: dict[str, Sequence[int]] = field(default_factory=dict)
    """What was refused of the latest batches, by batch: a task that has ended is not among `attempts`."""
    key: int = field(default_factory=lambda: next(_KEYS))
    """What the launcher calls it."""
    beginning: str = field(init=False)
    """How the names of its files begin."""
    status_ending: str | None = field(init=False)
    """How those of its status files end; None: it has none."""

    def __post_init__(self) -> None:
        self.beginning = output_beginning(self.log_directory, self.info.swarm_id)
        self.note_info(self.info, self.environment)

    def note_info(self, info: SwarmInfo, environment: dict[bytes, bytes]) -> None:
        """What is known of it now."""
        self.info, self.environment = info, environment
        self.status_ending = status_ending(info.token) if info.token else None

    def note_taken(self, batch: Batch, refused: Sequence[int]) -> None:
        """These of its tasks were refused, and all others taken, for when it is asked whether they were."""
        self._taken[batch.batch_id] = refused
        if len(self._taken) > REMEMBERED_BATCHES:
            del self._taken[next(iter(self._taken))]

    def not_taken(self, batch: Batch) -> Sequence[int]:
        """Those tasks of a batch that never came here, where no status file tells."""
        every: list[int] = batch.task_ids.tolist()
        return self._taken.get(batch.batch_id, every)

    @property
    def survives(self) -> bool:
        """Whether its tasks go on without the daemon."""
        return bool(self.info.token)


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
    traceparent: str = ""
    """The W3C trace context of the call that queued it; empty when nobody traces."""
    inherited: bool = False
    """An earlier daemon had it, and may have left a process that is just about to start it."""
    was_running: bool = False
    """The state says that it had started before."""
    phase: Phase = Phase.WAITING
    launched: "Launched | None" = None
    """While it is being started, and then while it runs."""
    execution: "Execution | None" = None
    """While it runs."""
    silent: bool = False
    """It was cancelled: nobody is told how it ends."""
    given_back: bool = False
    """The daemon stops: when it is ended for that, it is REGISTERED again."""

    @property
    def key(self) -> AttemptKey:
        return self.spec.task_id, self.spec.attempt

    @property
    def must_not_run(self) -> bool:
        return self.silent or self.given_back

    @property
    def is_being_ended(self) -> bool:
        return self.silent or (self.execution is not None and self.execution.is_being_ended)

    def let_go(self) -> None:
        """What runs of it goes on, and nobody is called back."""
        if self.execution is not None:
            self.execution.let_go()
        elif self.launched is not None:
            self.launched.let_go()

    def end(self) -> None:
        """TERM to what runs of it, and KILL when the grace is over."""
        if self.execution is not None:
            self.execution.end()

    def kill(self) -> None:
        """KILL to what runs of it, or is just being started."""
        if self.execution is not None:
            self.execution.kill()
        elif self.launched is not None:
            self.launched.kill()

    def kill_and_wait(self, until: float) -> None:
        """The same, and see it gone where that is possible, holding the loop. `until`: by the loop's clock."""
        if self.execution is not None:
            self.execution.kill_and_wait(until)
        else:
            self.kill()

    @property
    def output(self) -> OutputPaths:
        return OutputPaths(Path(f"{self._beginning}.out"), Path(f"{self._beginning}.err"))

    @property
    def status(self) -> Path | None:
        """Its status file; None when it ends with the daemon."""
        ending = self.swarm.status_ending
        return None if ending is None else Path(self._beginning + ending)

    @property
    def _beginning(self) -> str:
        return f"{self.swarm.beginning}/{self.array_id}/{self.spec.task_id}.{self.spec.attempt}"

    def file_names(self) -> tuple[bytes, bytes | None]:
        """How the names of its output files begin, and the name of its status file, if it has one."""
        beginning, ending = self._beginning, self.swarm.status_ending
        return os.fsencode(beginning), None if ending is None else os.fsencode(beginning + ending)

    def variables(self) -> dict[bytes, bytes]:
        """What its process has in its environment besides that of the swarm."""
        spec = self.spec
        own = {
            b"SWARM_ARRAY_ID": b"%d" % self.array_id,
            b"SWARM_TASK_ID": b"%d" % spec.task_id,
            b"SWARM_TASK_NAME": encoded(spec.name),
            b"SWARM_ATTEMPT": b"%d" % spec.attempt,
        }
        if self.traceparent:
            own[b"TRACEPARENT"] = encoded(self.traceparent)
        return own

    def fingerprint(self) -> frozenset[bytes]:
        """What is in the environment of its processes and of no others."""
        swarm_id, (task_id, number) = encoded(self.swarm.info.swarm_id), self.key
        return frozenset((b"SWARM_ID=" + swarm_id, b"SWARM_TASK_ID=%d" % task_id, b"SWARM_ATTEMPT=%d" % number))


def environment_of_programs() -> dict[bytes, bytes]:
    """The daemon's environment without its secrets."""
    return {name: value for name, value in os.environb.items() if not name.startswith(DAEMONS_OWN)}


def environment_for(swarm: SwarmInfo) -> dict[bytes, bytes]:
    """What every task of a swarm sees: the daemon's environment without its secrets, and what the swarm adds."""
    environment = environment_of_programs()
    for name, value in {**swarm.environment, "SWARM_ID": swarm.swarm_id}.items():
        environment[encoded(name)] = encoded(value)
    if swarm.working_directory:
        # Programs that are started without a shell would otherwise be told where the daemon is.
        environment[b"PWD"] = os.fsencode(swarm.working_directory.absolute())
    return environment


def encoded(text: str) -> bytes:
    """A text as the system takes it."""
    return text.encode("utf-8", "surrogateescape")
