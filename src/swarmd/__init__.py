"""swarmd: a gRPC scheduling daemon, and its scheduler for Python programs.

The names below are the public face; they are imported when they are first used, so that the command line starts fast.
"""

from typing import TYPE_CHECKING

from swarmd._version import __version__

if TYPE_CHECKING:
    from swarmd.config import DaemonConfig
    from swarmd.core.batch import Batch, BatchResult
    from swarmd.core.model import Array, QueueLimits, Task, TaskResources
    from swarmd.core.policy import SchedulingPolicy
    from swarmd.core.state import SwarmState
    from swarmd.core.status import RunStatus, TaskStatus
    from swarmd.core.update import StateUpdate
    from swarmd.daemon import Daemon
    from swarmd.embedding import EmbeddedDaemon, embedded
    from swarmd.gateways.contract import BatchRefusedError, OutcomeUnknownError, QueueOutcome, Refusal, ServerGateway
    from swarmd.outcomes import TickUpdate
    from swarmd.scheduler import Scheduler

_HOMES = {
    "swarmd.config": ("DaemonConfig",),
    "swarmd.core.batch": ("Batch", "BatchResult"),
    "swarmd.core.model": ("Array", "QueueLimits", "Task", "TaskResources"),
    "swarmd.core.policy": ("SchedulingPolicy",),
    "swarmd.core.state": ("SwarmState",),
    "swarmd.core.status": ("RunStatus", "TaskStatus"),
    "swarmd.core.update": ("StateUpdate",),
    "swarmd.daemon": ("Daemon",),
    "swarmd.embedding": ("EmbeddedDaemon", "embedded"),
    "swarmd.gateways.contract": (
        "BatchRefusedError",
        "OutcomeUnknownError",
        "QueueOutcome",
        "Refusal",
        "ServerGateway",
    ),
    "swarmd.outcomes": ("TickUpdate",),
    "swarmd.scheduler": ("Scheduler",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Array",
    "Batch",
    "BatchRefusedError",
    "BatchResult",
    "Daemon",
    "DaemonConfig",
    "EmbeddedDaemon",
    "OutcomeUnknownError",
    "QueueLimits",
    "QueueOutcome",
    "Refusal",
    "RunStatus",
    "Scheduler",
    "SchedulingPolicy",
    "ServerGateway",
    "StateUpdate",
    "SwarmState",
    "Task",
    "TaskResources",
    "TaskStatus",
    "TickUpdate",
    "__version__",
    "embedded",
]


def __getattr__(name: str) -> object:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'swarmd' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOME_OF[name]), name)
