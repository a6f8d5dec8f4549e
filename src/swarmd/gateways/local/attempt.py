"""One attempt of a task, and the swarm it belongs to, as the local gateway holds them from queueing to the end."""

import asyncio
import os
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path
from typing import TYPE_CHECKING

from swarmd.core.batch import TaskSpec
from swarmd.gateways.contract import SwarmInfo
from swarmd.gateways.local.machine import Shape
from swarmd.gateways.output import OutputPaths, output_paths, status_path

if TYPE_CHECKING:
    from swarmd.gateways.local.execution import Execution

AttemptKey = tuple[int, int]
"""A task id and the number of its attempt."""

DAEMONS_OWN = (b"SWARMD_TOKEN", b"NOTIFY_SOCKET", b"WATCHDOG_", b"LISTEN_")
"""How the names of variables begin that are for the daemon alone: what lets callers in, and what systemd told it."""


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
    log_directory: Path
    attempts: "dict[AttemptKey, Attempt]" = field(default_factory=dict)
    sought: int = 0
    """How many times attempts of earlier daemons are being looked for just now."""
    cancelled_early: set[AttemptKey] = field(default_factory=set)
    """Cancelled meanwhile, and not among `attempts`: maybe they are found."""
    is_removed: bool = False
    is_empty: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when it is removed and the last of its attempts is over."""

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
    def output(self) -> OutputPaths:
        return output_paths(self.swarm.log_directory, self.swarm.info.swarm_id, self.array_id, *self.key)

    @property
    def status(self) -> Path | None:
        """Its status file; None when it ends with the daemon."""
        info = self.swarm.info
        if not info.token:
            return None
        return status_path(self.swarm.log_directory, info.swarm_id, self.array_id, *self.key, info.token)

    def environment(self) -> dict[bytes, bytes]:
        """The whole environment of its process."""
        spec = self.spec
        trace = {b"TRACEPARENT": encoded(self.traceparent)} if self.traceparent else {}
        return {
            **self.swarm.environment,
            **trace,
            b"SWARM_ARRAY_ID": b"%d" % self.array_id,
            b"SWARM_TASK_ID": b"%d" % spec.task_id,
            b"SWARM_TASK_NAME": encoded(spec.name),
            b"SWARM_ATTEMPT": b"%d" % spec.attempt,
        }

    def fingerprint(self) -> frozenset[bytes]:
        """What is in the environment of its processes and of no others."""
        swarm_id, (task_id, number) = encoded(self.swarm.info.swarm_id), self.key
        return frozenset((b"SWARM_ID=" + swarm_id, b"SWARM_TASK_ID=%d" % task_id, b"SWARM_ATTEMPT=%d" % number))


def environment_for(swarm: SwarmInfo) -> dict[bytes, bytes]:
    """What every task of a swarm sees: the daemon's environment without its secrets, and what the swarm adds."""
    environment = {name: value for name, value in os.environb.items() if not name.startswith(DAEMONS_OWN)}
    for name, value in {**swarm.environment, "SWARM_ID": swarm.swarm_id}.items():
        environment[encoded(name)] = encoded(value)
    if swarm.working_directory:
        # Programs that are started without a shell would otherwise be told where the daemon is.
        environment[b"PWD"] = os.fsencode(swarm.working_directory.absolute())
    return environment


def encoded(text: str) -> bytes:
    """A text as the system takes it."""
    return text.encode("utf-8", "surrogateescape")
