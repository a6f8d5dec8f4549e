"""Follows a swarm: WatchSwarm that goes on after a lost connection, a slow reader or a restart, without gaps."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from swarmd._pb.swarm.v1 import swarm_service_pb2
from swarmd.client.client import SwarmClient, duration
from swarmd.client.errors import RpcError

RETRY_SECONDS = 0.5
FINAL_REASONS = frozenset({swarm_service_pb2.WatchEnd.REASON_FINISHED, swarm_service_pb2.WatchEnd.REASON_DELETED})


@dataclass(slots=True)
class Follower:
    """Where a watch stands, and how long it tries to come back."""

    client: SwarmClient
    swarm_id: str = ""
    after_revision: int | None = None
    """Go on after this revision; None: begin with a snapshot."""
    until_finished: bool = False
    progress_interval: float = 10.0
    patience: float = 60.0
    """How long, in seconds, it tries to reach a daemon that was lost."""
    _reached: bool = False
    _lost_at: float | None = None

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
            except RpcError as error:
                self._check(error)
            await asyncio.sleep(RETRY_SECONDS)

    def _request(self) -> swarm_service_pb2.WatchSwarmRequest:
        return swarm_service_pb2.WatchSwarmRequest(
            swarm_id=self.swarm_id,
            after_revision=self.after_revision,
            progress_interval=duration(self.progress_interval),
            until_finished=self.until_finished,
        )

    def _note(self, message: swarm_service_pb2.WatchSwarmResponse) -> None:
        self._reached, self._lost_at = True, None
        if message.HasField("snapshot"):
            self.swarm_id = message.snapshot.swarm.swarm_id
        self.after_revision = message.end.resume_revision if message.HasField("end") else message.revision

    def _check(self, error: RpcError) -> None:
        """Raise the error unless trying again can help."""
        now = asyncio.get_running_loop().time()
        if error.code == "OUT_OF_RANGE" and self._reached and self.after_revision is not None:
            self.after_revision = None
            return
        self._lost_at = self._lost_at or now
        if not self._reached or error.code != "UNAVAILABLE" or now - self._lost_at > self.patience:
            raise error
