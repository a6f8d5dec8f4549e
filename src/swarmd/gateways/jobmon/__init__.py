"""Gateway "jobmon": the tasks of a workflow run that Jobmon's server keeps, executed by Jobmon's own distributor.

`gateway.py` keeps the contract, one `session.py` a swarm does the talking. What has to be decided is in modules without
I/O: `book.py` (which attempt the server has), `life.py` (the run's status), `clock.py` (since when to ask),
`resources.py` and `literals.py` (what travels). `keeping.py` starts Jobmon's distributor when nobody else has;
`programs.py` finds it, `distributor.py` is its process. All but `gateway.py` and `settings.py` is imported when the
first swarm comes, httpx too.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from swarmd.gateways.catalogue import GatewayContext
    from swarmd.gateways.contract import ServerGateway


def made(context: "GatewayContext") -> "ServerGateway":
    """The gateway of a daemon. Raises InvalidInputError for options in [gateways.jobmon] that cannot be used."""
    from swarmd.gateways.jobmon.gateway import JobmonGateway
    from swarmd.gateways.jobmon.settings import JobmonSettings

    return JobmonGateway(context.read(JobmonSettings), context.state_directory / "jobmon")
