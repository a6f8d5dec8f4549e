"""The embedded gateway: tasks run as processes of this machine, as many at once as fit its cores and memory.

The daemon makes a `LocalGateway`; `output_paths` says where a task's output is. All else is private to the package:
`gateway` speaks the contract, `waiting` and `machine` decide what starts next, `launching` has it started by the
program `launcher`, `execution` looks after what runs, `output` and `news` tell of it. What runs can survive its
daemon: the launcher, which survives it too, writes a `status_file` beside the output, and the next daemon's
`inheritance` reads it and finds what `adoption` takes over.
"""

from pydantic import BaseModel, ConfigDict

from swarmd.gateways.catalogue import GatewayContext
from swarmd.gateways.local.gateway import LocalGateway
from swarmd.gateways.output import OutputPaths, output_paths

__all__ = ["LocalGateway", "OutputPaths", "made", "output_paths"]


class _NoOptions(BaseModel):
    """What there is to set are options of the daemon itself: `local_cores` and others."""

    model_config = ConfigDict(extra="forbid")


def made(context: GatewayContext) -> LocalGateway:
    """The gateway as the daemon's options want it."""
    context.read(_NoOptions)
    local = context.local
    return LocalGateway(
        context.log_directory,
        cores=local.cores,
        memory_mib=local.memory_mib,
        kill_grace=local.kill_grace,
        leave_on_close=local.leave_on_close,
    )
