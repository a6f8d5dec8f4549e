"""The way to any engine that speaks gRPC: the daemon is the client of its GatewayService (docs/remote-engines.md).

`gateway` speaks the contract and knows the swarms; an `engine` is one server with all that goes on with it: `calls` to
it, its stream of news (`watching`), how far that was read (`bookmark`), and what it is told until it has heard it
(`cancelling`). `options` says which engine a swarm means, `messages` what travels.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from swarmd.gateways.remote.options import RemoteConfig

if TYPE_CHECKING:
    from swarmd.gateways.catalogue import GatewayContext
    from swarmd.gateways.remote.gateway import RemoteGateway

FOLDER = "remote"


def made(context: "GatewayContext") -> "RemoteGateway":
    """The gateway as the file's section wants it; what it must not forget is in a folder of the state directory."""
    from swarmd.gateways.remote.gateway import RemoteGateway

    folder: Path = context.state_directory / FOLDER
    return RemoteGateway(context.read(RemoteConfig), folder)
