"""The client of the daemon for programs without asyncio: the same methods without `await`.

    from swarmd.client.blocking import SwarmClient

    with SwarmClient() as client:
        print([swarm.swarm_id for swarm in client.swarms()])

May be used by several threads at once, and where an event loop runs (in a notebook).
"""

from swarmd.client.blocking.client import LiveSwarm, SwarmClient, UpdateStream

__all__ = ["LiveSwarm", "SwarmClient", "UpdateStream"]
