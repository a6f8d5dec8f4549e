"""An engine in the process of the test, that does what the test says: answers, errors, silence, news."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from swarmd._pb.swarm.v1 import gateway_service_pb2 as pb
from swarmd._pb.swarm.v1 import state_pb2
from swarmd._pb.swarm.v1.gateway_service_pb2_grpc import GatewayServiceServicer, add_GatewayServiceServicer_to_server

Context = grpc.aio.ServicerContext[Any, Any]
Queue = Callable[[pb.QueueBatchRequest, Context], Awaitable[pb.QueueBatchResponse]]

QUEUED = pb.FindBatchResponse.OUTCOME_QUEUED
NOT_QUEUED = pb.FindBatchResponse.OUTCOME_NOT_QUEUED


class ScriptedEngine(GatewayServiceServicer):
    """Listens at a socket from `start` to `stop`, as often as one likes. Its news outlives its stops."""

    def __init__(self, folder: Path) -> None:
        self.address = f"unix:{folder}/engine.sock"
        self.queue: Queue | None = None
        """None: every batch is taken."""
        self.batches: list[pb.QueueBatchRequest] = []
        self.found = pb.FindBatchResponse()
        self.asked: list[str] = []
        self.cancels: list[pb.GatewayServiceCancelTasksRequest] = []
        self.code: grpc.StatusCode | None = None
        """What CancelTasks and FindBatch end with."""
        self.news: list[pb.WatchUpdatesResponse] = []
        self.places: list[str] = []
        """The resume tokens that streams began with."""
        self.has_tokens = True
        self.refused_token: grpc.StatusCode | None = None
        """What a stream with a resume token ends with."""
        self.headers: list[dict[str, str]] = []
        self._server: grpc.aio.Server | None = None
        self._more = asyncio.Condition()
        self._speaks = asyncio.Event()
        self._speaks.set()

    async def start(self) -> None:
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        add_GatewayServiceServicer_to_server(self, self._server)
        self._server.add_insecure_port(self.address)
        await self._server.start()

    async def stop(self) -> None:
        """Cut off everything at once."""
        if self._server is not None:
            await self._server.stop(None)
            self._server = None

    # -- what a test makes it say ------------------------------------------------------------------------------------

    async def tell(self, swarm_id: str, *groups: state_pb2.TaskStatusGroup, **more: object) -> None:
        """Add one message to the news."""
        update = state_pb2.StateUpdate(task_statuses=groups, **more)  # type: ignore[arg-type]
        token = str(len(self.news) + 1) if self.has_tokens else ""
        self.news.append(pb.WatchUpdatesResponse(swarm_id=swarm_id, update=update, resume_token=token))
        async with self._more:
            self._more.notify_all()

    def be_silent(self, *, silent: bool = True) -> None:
        """Whether no message comes, not even a sign of life."""
        if silent:
            self._speaks.clear()
        else:
            self._speaks.set()

    @property
    def swarm_id(self) -> str:
        """What it knows the swarm of the last batch by."""
        return self.batches[-1].swarm_id

    # -- the service -------------------------------------------------------------------------------------------------

    async def QueueBatch(  # noqa: N802
        self, request: pb.QueueBatchRequest, context: Context
    ) -> pb.QueueBatchResponse:
        self.headers.append({name: str(value) for name, value in context.invocation_metadata() or ()})
        self.batches.append(request)
        return await self.queue(request, context) if self.queue else pb.QueueBatchResponse()

    async def FindBatch(  # noqa: N802
        self, request: pb.FindBatchRequest, context: Context
    ) -> pb.FindBatchResponse:
        self.asked.append(request.batch_id)
        if self.code is not None:
            await context.abort(self.code, "by the test")
        return self.found

    async def CancelTasks(  # noqa: N802
        self, request: pb.GatewayServiceCancelTasksRequest, context: Context
    ) -> pb.GatewayServiceCancelTasksResponse:
        if self.code is not None:
            await context.abort(self.code, "by the test")
        self.cancels.append(request)
        return pb.GatewayServiceCancelTasksResponse()

    async def WatchUpdates(  # noqa: N802
        self, request: pb.WatchUpdatesRequest, context: Context
    ) -> AsyncIterator[pb.WatchUpdatesResponse]:
        token = request.resume_token
        self.places.append(token)
        if token and self.refused_token is not None:
            await context.abort(self.refused_token, "by the test")
        place = int(token) if token else len(self.news)
        await self._speaks.wait()
        yield self._sign_of_life(place)
        while True:
            for message in self.news[place:]:
                place += 1
                yield message
            async with self._more:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(request.progress_interval.ToTimedelta().total_seconds()):
                        while len(self.news) == place:
                            await self._more.wait()
            await self._speaks.wait()
            if place == len(self.news):
                yield self._sign_of_life(place)

    def _sign_of_life(self, place: int) -> pb.WatchUpdatesResponse:
        return pb.WatchUpdatesResponse(resume_token=str(place) if self.has_tokens else "")


def group(status: str, *task_ids: int, attempt: int | None = 1, reason: str = "") -> state_pb2.TaskStatusGroup:
    """Tasks of one status, all in the same attempt."""
    attempts = [] if attempt is None else [attempt] * len(task_ids)
    return state_pb2.TaskStatusGroup(
        status=f"TASK_STATUS_{status}", task_ids=task_ids, attempts=attempts, reason=reason
    )
