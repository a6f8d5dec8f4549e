"""The streams that a client's LiveSwarms share for news of which the answer is waited for.

However many swarms there are, a client needs two: the daemon bounds how many calls may be open at once, for everybody.
"""

from swarmd._pb.swarm.v1 import state_pb2
from swarmd.client.protocol import ProtocolClient
from swarmd.client.updating import UpdateStream
from swarmd.client.values import UpdateResult


class SharedStream(UpdateStream):
    """A stream on which every message names its swarm."""

    async def apply_to(self, swarm_id: str, update: state_pb2.StateUpdate) -> UpdateResult:
        """Send one message and wait for its answer."""
        return await self._apply(swarm_id, update)


class News:
    """Where LiveSwarms send their news."""

    def __init__(self, client: ProtocolClient) -> None:
        self._named = SharedStream(client)
        self._only = UpdateStream(client)
        """For the only swarm there is: on a stream with names, a message without one is for the swarm named last."""

    async def apply(self, swarm_id: str, update: state_pb2.StateUpdate) -> UpdateResult:
        """Send one message and wait for its answer. Raises RpcError when it is refused."""
        if swarm_id:
            return await self._named.apply_to(swarm_id, update)
        return await self._only.apply_message(update)

    async def close(self) -> None:
        """End both; what is not answered is given up."""
        await self._named.close(flush=False)
        await self._only.close(flush=False)
