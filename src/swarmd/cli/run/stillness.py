"""What a workflow waits for while nothing of it runs and nothing changes: asked of the daemon, of one task for all."""

import time
from collections.abc import Callable

from swarmd._pb.swarm.v1 import swarm_pb2, task_pb2
from swarmd.client.errors import RpcError
from swarmd.client.protocol import ProtocolClient

STILL_SECONDS = 5.0
"""So long nothing may change until somebody wants to know why."""
ASK_SECONDS = 10.0
"""Between two questions while it stays so."""
AT_ENGINE = (task_pb2.TASK_STATUS_QUEUED, task_pb2.TASK_STATUS_INSTANTIATING, task_pb2.TASK_STATUS_LAUNCHED)


class Stillness:
    """Notices that nothing goes on, and finds out why."""

    def __init__(self, client: ProtocolClient, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._clock = clock
        self._revision = -1
        self._ask_at = 0.0
        self._why = ""

    async def why(self, swarm: swarm_pb2.Swarm) -> str:
        """Why nothing goes on, in a sentence; empty while something does, or when nobody knows."""
        counts, now = swarm.task_counts, self._clock()
        if swarm.revision != self._revision:
            self._revision, self._ask_at, self._why = swarm.revision, now + STILL_SECONDS, ""
        elif now >= self._ask_at and not counts.running and any((counts.queued, counts.instantiating, counts.launched)):
            self._why = await self._asked(swarm.swarm_id)
            self._ask_at = self._clock() + ASK_SECONDS
        return self._why

    async def _asked(self, swarm_id: str) -> str:
        try:
            async for task in self._client.list_tasks(swarm_id, statuses=AT_ENGINE, page_size=1):
                told = await self._client.explain_task(swarm_id, task.task_id)
                return f"{task.name or f'task {task.task_id}'}: {told.summary}"
        except RpcError:  # the next look at the swarm meets the same error, and is the one to tell
            pass
        return ""
