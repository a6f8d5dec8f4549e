"""The client of the daemon, for asyncio programs.

The names below are imported when they are first used: the command line needs the errors without gRPC.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from swarmd.client.client import SwarmClient
    from swarmd.client.errors import NoDaemonError, RpcError

_HOME_OF = {
    "NoDaemonError": "swarmd.client.errors",
    "RpcError": "swarmd.client.errors",
    "SwarmClient": "swarmd.client.client",
}

__all__ = ["NoDaemonError", "RpcError", "SwarmClient"]


def __getattr__(name: str) -> object:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'swarmd.client' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOME_OF[name]), name)
