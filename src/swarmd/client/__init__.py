"""The client of the daemon: `SwarmClient` for asyncio programs, `swarmd.client.blocking.SwarmClient` for all others.

The names below are imported when they are first used: the command line needs the errors without gRPC.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from swarmd.client.building import Swarm
    from swarmd.client.client import SwarmClient
    from swarmd.client.errors import (
        AlreadyExistsError,
        DeadlineExceededError,
        FailedPreconditionError,
        InvalidArgumentError,
        LimitExceededError,
        NoDaemonError,
        NotFoundError,
        PermissionDeniedError,
        RevisionGoneError,
        RpcError,
        UnauthenticatedError,
        UnavailableError,
    )
    from swarmd.client.finding import ConnectionSettings
    from swarmd.client.live import LiveSwarm
    from swarmd.client.ordering import TaskArray, Tasks
    from swarmd.client.protocol import ProtocolClient
    from swarmd.client.updating import UpdateStream
    from swarmd.client.values import (
        ArrayStatus,
        Attempt,
        Batch,
        BatchResult,
        BatchTask,
        CancelResult,
        Change,
        End,
        Event,
        Explanation,
        IgnoredNews,
        LoadResult,
        Obstacle,
        Outcome,
        Progress,
        ResetResult,
        Snapshot,
        StatusChange,
        SwarmStatus,
        TaskCounts,
        TaskInfo,
        TickResult,
        UpdateResult,
        WorkStatus,
    )

_HOMES = {
    "swarmd.client.building": ("Swarm",),
    "swarmd.client.client": ("SwarmClient",),
    "swarmd.client.errors": (
        "AlreadyExistsError",
        "DeadlineExceededError",
        "FailedPreconditionError",
        "InvalidArgumentError",
        "LimitExceededError",
        "NoDaemonError",
        "NotFoundError",
        "PermissionDeniedError",
        "RevisionGoneError",
        "RpcError",
        "UnauthenticatedError",
        "UnavailableError",
    ),
    "swarmd.client.finding": ("ConnectionSettings",),
    "swarmd.client.live": ("LiveSwarm",),
    "swarmd.client.ordering": ("TaskArray", "Tasks"),
    "swarmd.client.protocol": ("ProtocolClient",),
    "swarmd.client.updating": ("UpdateStream",),
    "swarmd.client.values": (
        "ArrayStatus",
        "Attempt",
        "Batch",
        "BatchResult",
        "BatchTask",
        "CancelResult",
        "Change",
        "End",
        "Event",
        "Explanation",
        "IgnoredNews",
        "LoadResult",
        "Obstacle",
        "Outcome",
        "Progress",
        "ResetResult",
        "Snapshot",
        "StatusChange",
        "SwarmStatus",
        "TaskCounts",
        "TaskInfo",
        "TickResult",
        "UpdateResult",
        "WorkStatus",
    ),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "AlreadyExistsError",
    "ArrayStatus",
    "Attempt",
    "Batch",
    "BatchResult",
    "BatchTask",
    "CancelResult",
    "Change",
    "ConnectionSettings",
    "DeadlineExceededError",
    "End",
    "Event",
    "Explanation",
    "FailedPreconditionError",
    "IgnoredNews",
    "InvalidArgumentError",
    "LimitExceededError",
    "LiveSwarm",
    "LoadResult",
    "NoDaemonError",
    "NotFoundError",
    "Obstacle",
    "Outcome",
    "PermissionDeniedError",
    "Progress",
    "ProtocolClient",
    "ResetResult",
    "RevisionGoneError",
    "RpcError",
    "Snapshot",
    "StatusChange",
    "Swarm",
    "SwarmClient",
    "SwarmStatus",
    "TaskArray",
    "TaskCounts",
    "TaskInfo",
    "Tasks",
    "TickResult",
    "UnauthenticatedError",
    "UnavailableError",
    "UpdateResult",
    "UpdateStream",
    "WorkStatus",
]


def __getattr__(name: str) -> object:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'swarmd.client' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOME_OF[name]), name)
