"""SchedulerService: Tick, HasWork and the ApplyUpdate stream."""

import asyncio
from collections.abc import AsyncIterator

import grpc

from swarmd._pb.swarm.v1 import batch_pb2, scheduler_service_pb2_grpc
from swarmd._pb.swarm.v1 import scheduler_service_pb2 as pb
from swarmd.core.change import Change
from swarmd.core.errors import SwarmdError
from swarmd.host.registry import Registry
from swarmd.host.requests import fingerprint
from swarmd.rpc import answers
from swarmd.rpc.errors import to_update_error
from swarmd.rpc.streams import Messages, OpenStreams, stopping
from swarmd.wire import from_proto, to_proto

UNANSWERED_UPDATES = 64
"""How many messages of a stream may be on their way to the disk at once."""

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
        asked = fingerprint(repr((timeout, most)).encode())

        async def tick() -> bytes:
            full = request.view == batch_pb2.BATCH_VIEW_FULL
            answer = await swarm.tick(timeout, most, request.request_id, full=full)
            message = (await answers.tick_response(answer)).SerializeToString()
            return await swarm.remember_tick(request.request_id, asked, message) if request.request_id else message

        response = pb.TickResponse.FromString(await swarm.ticks.once(request.request_id, asked, tick))
        if request.view == batch_pb2.BATCH_VIEW_FULL:
            await answers.fill_batches(swarm, response)
        return response

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
        del context
        answered: asyncio.Queue[asyncio.Future[pb.ApplyUpdateResponse] | None] = asyncio.Queue(UNANSWERED_UPDATES)
        messages = self._streams.read(request_iterator)
        reading = asyncio.create_task(self._read_updates(messages, answered))
        try:
            while (answer := await answered.get()) is not None:
                yield await answer
            await reading
            if not messages.ended:
                raise stopping()
        finally:
            reading.cancel()

    async def _read_updates(
        self,
        messages: Messages[pb.ApplyUpdateRequest],
        answered: "asyncio.Queue[asyncio.Future[pb.ApplyUpdateResponse] | None]",
    ) -> None:
        """Begin with each message as it comes; what it leads to is answered in the order of the messages."""
        swarm_id = ""
        try:
            async for request in messages:
                swarm_id = request.swarm_id or swarm_id
                await answered.put(self._begin_update(request, swarm_id))
        except asyncio.CancelledError:
            raise
        except BaseException:
            await answered.put(None)
            raise
        await answered.put(None)

    def _begin_update(self, request: pb.ApplyUpdateRequest, swarm_id: str) -> "asyncio.Future[pb.ApplyUpdateResponse]":
        answer: asyncio.Future[pb.ApplyUpdateResponse] = asyncio.get_running_loop().create_future()
        revision = 0
        try:
            swarm = self._registry.get(swarm_id)
            revision = swarm.state.revision
            from_proto.check_size(request.update)
            applied = swarm.apply(from_proto.state_update(request.update, swarm.limits.texts))
        except SwarmdError as error:
            answer.set_result(_refused(request, error, revision))
            return answer

        def tell(applied: "asyncio.Future[Change]") -> None:
            if answer.cancelled():
                return
            error = applied.exception()
            if error is None:
                answer.set_result(_applied(request, applied.result()))
            elif isinstance(error, SwarmdError):
                answer.set_result(_refused(request, error, swarm.state.revision))
            else:
                answer.set_exception(error)

        if applied.done():
            tell(applied)
        else:
            applied.add_done_callback(tell)
        return answer


def _applied(request: pb.ApplyUpdateRequest, change: Change) -> pb.ApplyUpdateResponse:
    return pb.ApplyUpdateResponse(
        sequence=request.sequence,
        changed_count=change.changed_count,
        newly_ready_count=change.newly_ready_count,
        ignored=to_proto.ignored(change) if change.ignored else None,
        revision=change.revision,
    )


def _refused(request: pb.ApplyUpdateRequest, error: SwarmdError, revision: int) -> pb.ApplyUpdateResponse:
    return pb.ApplyUpdateResponse(sequence=request.sequence, error=to_update_error(error), revision=revision)
