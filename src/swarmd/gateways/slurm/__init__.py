"""The Slurm gateway: batches run as job arrays of a cluster.

The daemon makes a `SlurmGateway`. All else is private to the package: `gateway` speaks the contract; `submitting`,
`tracker`, `finding` and `resuming` do its work; `programs` calls Slurm's programs; `script` is what runs on the nodes,
`spool` and `status_file` are the files that both sides read.
"""

from typing import TYPE_CHECKING

from swarmd.gateways.catalogue import GatewayContext

if TYPE_CHECKING:
    from swarmd.gateways.slurm.gateway import SlurmGateway

__all__ = ["made"]


def made(context: GatewayContext) -> "SlurmGateway":
    """The gateway as its section of the config file wants it."""
    from swarmd.gateways.slurm.gateway import SlurmGateway
    from swarmd.gateways.slurm.options import SlurmOptions

    options = context.read(SlurmOptions)
    left = context.state_directory / "slurm"
    if options.directory is None:
        return SlurmGateway(options, batches=left, output=context.log_directory, left=left)
    return SlurmGateway(options, batches=options.directory / "batches", output=options.directory / "logs", left=left)
