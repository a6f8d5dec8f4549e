"""The ways from the daemon to the engines that run tasks: one module an engine, one contract.

The names below are what a gateway of another package needs (docs/gateways.md); they are imported when first used.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from swarmd.core.batch import MAX_BATCH_SIZE, Batch, TaskSpec
    from swarmd.core.errors import FailedPreconditionError, InvalidInputError
    from swarmd.core.model import Array, QueueLimits, TaskResources
    from swarmd.core.status import TaskStatus
    from swarmd.core.update import StateUpdate, TaskStatuses
    from swarmd.gateways.catalogue import GatewayContext
    from swarmd.gateways.contract import (
        BatchRefusedError,
        Capabilities,
        FindOutcome,
        Found,
        OutcomeUnknownError,
        QueueOutcome,
        Refusal,
        Report,
        ServerGateway,
        SwarmInfo,
    )

_HOMES = {
    "swarmd.core.batch": ("MAX_BATCH_SIZE", "Batch", "TaskSpec"),
    "swarmd.core.errors": ("FailedPreconditionError", "InvalidInputError"),
    "swarmd.core.model": ("Array", "QueueLimits", "TaskResources"),
    "swarmd.core.status": ("TaskStatus",),
    "swarmd.core.update": ("StateUpdate", "TaskStatuses"),
    "swarmd.gateways.catalogue": ("GatewayContext",),
    "swarmd.gateways.contract": (
        "BatchRefusedError",
        "Capabilities",
        "FindOutcome",
        "Found",
        "OutcomeUnknownError",
        "QueueOutcome",
        "Refusal",
        "Report",
        "ServerGateway",
        "SwarmInfo",
    ),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "MAX_BATCH_SIZE",
    "Array",
    "Batch",
    "BatchRefusedError",
    "Capabilities",
    "FailedPreconditionError",
    "FindOutcome",
    "Found",
    "GatewayContext",
    "InvalidInputError",
    "OutcomeUnknownError",
    "QueueLimits",
    "QueueOutcome",
    "Refusal",
    "Report",
    "ServerGateway",
    "StateUpdate",
    "SwarmInfo",
    "TaskResources",
    "TaskSpec",
    "TaskStatus",
    "TaskStatuses",
]


def __getattr__(name: str) -> object:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'swarmd.gateways' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOME_OF[name]), name)
