"""Follows a swarm: WatchSwarm that goes on after a lost connection, a slow reader or a restart, without gaps."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from swarmd._pb.swarm.v1 import swarm_service_pb2
from swarmd.client.errors import NoDaemonError, RevisionGoneError, RpcError
from swarmd.client.protocol import PATIENCE, ProtocolClient, duration
from swarmd.client.retrying import Patience, may_repeat

FINAL_REASONS = frozenset({swarm_service_pb2.WatchEnd.REASON_FINISHED, swarm_service_pb2.WatchEnd.REASON_DELETED})
TOO_SLOW = "SLOW_WATCHER"
"""The reason of the error that ends the stream of a watcher which reads too slowly."""


@dataclass(slots=True)
class Follower:
    """Where a watch stands, and how long it tries to come back."""

    client: ProtocolClient
    swarm_id: str = ""
    after_revision: int | None = None
    """Go on after this revision; None: begin with a snapshot."""
    until_finished: bool = False
    progress_interval: float = 10.0
    patience: float = PATIENCE
    """How long, in seconds, it tries to reach a daemon that was lost."""
    _reached: bool = False
    _left: Patience = field(init=False)

    def __post_init__(self) -> None:
        self._left = Patience(self.patience)

    async def events(self) -> AsyncIterator[swarm_service_pb2.WatchSwarmResponse]:
        """Everything that happens, in order; ends with a message that says why.

        Changes that the daemon no longer keeps are made up for by a new snapshot. Raises RpcError when the daemon
        cannot be reached at first or again.
        """
        while True:
            try:
                async for message in self.client.watch_swarm(self._request()):
                    self._note(message)
                    if not message.HasField("end"):
                        yield message
                    elif message.end.reason in FINAL_REASONS:
                        yield message
                        return
                await self._left.pause(self._ended())
            except RpcError as error:
                await self._recover(error)

    def _request(self) -> swarm_service_pb2.WatchSwarmRequest:
        return swarm_service_pb2.WatchSwarmRequest(
            swarm_id=self.swarm_id,
            after_revision=self.after_revision,
            progress_interval=duration(self.progress_interval),
            until_finished=self.until_finished,
        )

    def _note(self, message: swarm_service_pb2.WatchSwarmResponse) -> None:
        self._reached = True
        self._left.renew()
        if message.HasField("snapshot"):
            self.swarm_id = message.snapshot.swarm.swarm_id
        self.after_revision = message.end.resume_revision if message.HasField("end") else message.revision

    def _ended(self) -> RpcError:
        """What it is to find the stream ended while there is more to come: the daemon stops."""
        return NoDaemonError(f"the daemon at {self.client.address} stops", address=str(self.client.address))

    async def _recover(self, error: RpcError) -> None:
        """Wait until trying again can help; raises the error when it cannot."""
        if error.reason == TOO_SLOW:
            return  # the daemon is there, and its last word said where to go on
        if isinstance(error, RevisionGoneError) and self._reached and self.after_revision is not None:
            self.after_revision = None
        elif may_repeat(error, repeatable=True, reached=self._reached):
            await self._left.pause(error)
        else:
            raise error
