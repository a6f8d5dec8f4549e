"""SchedulerService: Tick, HasWork and the ApplyUpdate stream."""

from collections.abc import AsyncIterator

import grpc

from swarmd._pb.swarm.v1 import batch_pb2, scheduler_service_pb2_grpc
from swarmd._pb.swarm.v1 import scheduler_service_pb2 as pb
from swarmd.core.errors import SwarmdError
from swarmd.host.registry import Registry
from swarmd.rpc import from_proto, to_proto
from swarmd.rpc.errors import to_update_error
from swarmd.rpc.streams import OpenStreams

Context = grpc.aio.ServicerContext[object, object]


class SchedulerServicer(scheduler_service_pb2_grpc.SchedulerServiceServicer):
    """Unpacks, calls and answers."""

    def __init__(self, registry: Registry, streams: OpenStreams) -> None:
        self._registry = registry
        self._streams = streams

    async def Tick(self, request: pb.TickRequest, context: Context) -> pb.TickResponse:  # noqa: N802
        """One scheduling iteration, once for each request_id."""
        del context
        self._registry.refuse_when_draining()
        swarm = self._registry.get(request.swarm_id)
        timeout = from_proto.seconds(request.timeout, "timeout") if request.HasField("timeout") else None
        most = request.max_batches or None
        if request.max_batches < 0:
            raise from_proto.negative("max_batches", request.max_batches)
        asked = (timeout, most)
        answer = await swarm.ticks.once(request.request_id, asked, lambda: swarm.tick(timeout, most))
        return await to_proto.tick_response(answer, full=request.view == batch_pb2.BATCH_VIEW_FULL)

    async def HasWork(self, request: pb.HasWorkRequest, context: Context) -> pb.HasWorkResponse:  # noqa: N802
        """Whether a tick would queue something, now or as soon as it would."""
        del context
        swarm = self._registry.get(request.swarm_id)
        if request.HasField("wait"):
            await swarm.wait_for_work(from_proto.seconds(request.wait, "wait"))
        state = swarm.state
        return pb.HasWorkResponse(
            has_work=state.has_work(),
            ready_to_run_count=state.ready_count,
            available_capacity=state.available_capacity,
            active_count=state.active_count,
            finished=state.finished,
            revision=state.revision,
        )

    async def ApplyUpdate(  # noqa: N802
        self, request_iterator: AsyncIterator[pb.ApplyUpdateRequest], context: Context
    ) -> AsyncIterator[pb.ApplyUpdateResponse]:
        """News in, answers out, in order. A wrong message is answered with an error and the stream goes on."""
        swarm_id = ""
        async for request in self._streams.requests(request_iterator, context):
            swarm_id = request.swarm_id or swarm_id
            yield self._apply(request, swarm_id)

    def _apply(self, request: pb.ApplyUpdateRequest, swarm_id: str) -> pb.ApplyUpdateResponse:
        revision = 0
        try:
            swarm = self._registry.get(swarm_id)
            revision = swarm.state.revision
            change = swarm.apply(from_proto.state_update(request.update))
        except SwarmdError as error:
            return pb.ApplyUpdateResponse(sequence=request.sequence, error=to_update_error(error), revision=revision)
        return pb.ApplyUpdateResponse(
            sequence=request.sequence,
            changed_count=change.changed_count,
            newly_ready_count=change.newly_ready_count,
            ignored=to_proto.ignored(change) if change.ignored else None,
            revision=change.revision,
        )
