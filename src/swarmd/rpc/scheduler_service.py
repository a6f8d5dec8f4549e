"""SchedulerService: Tick, HasWork and the ApplyUpdate stream."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import cast

import grpc

from swarmd._pb.swarm.v1 import batch_pb2, scheduler_service_pb2_grpc
from swarmd._pb.swarm.v1 import scheduler_service_pb2 as pb
from swarmd.core.change import Change
from swarmd.core.errors import SwarmdError
from swarmd.host.registry import Registry
from swarmd.host.requests import fingerprint
from swarmd.host.swarm import HostedSwarm
from swarmd.rpc import answers
from swarmd.rpc.errors import to_update_error
from swarmd.rpc.streams import Messages, OpenStreams, stopping
from swarmd.rpc.tick_answer import tick_answer
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
            message = await tick_answer(answer)
            return await swarm.remember_tick(request.request_id, asked, message) if request.request_id else message

        encoded = await swarm.ticks.once(request.request_id, asked, tick)
        if request.view != batch_pb2.BATCH_VIEW_FULL:
            return cast("pb.TickResponse", encoded)  # it is sent as it is
        response = pb.TickResponse.FromString(encoded)
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
        """News in, answers out, in order. A wrong message is answered with an error and the stream goes on.

        Messages are read ahead while answers are on their way: each costs less then.
        """
        del context
        messages = self._streams.read(request_iterator)
        swarm_id = ""
        async for request in messages:
            swarm_id = request.swarm_id or swarm_id
            begun = self._begin_update(request, swarm_id)
            async for answer in self._answers(messages, begun, swarm_id):
                yield answer
            break
        if not messages.ended:
            raise stopping()

    async def _answers(
        self, messages: Messages[pb.ApplyUpdateRequest], first: "_Begun", swarm_id: str
    ) -> AsyncIterator[pb.ApplyUpdateResponse]:
        """What the first message came to, and those behind it: many may be on their way to the disk at once."""
        begun: asyncio.Queue[_Begun | None] = asyncio.Queue(UNANSWERED_UPDATES)
        reading = asyncio.create_task(self._read_updates(messages, begun, swarm_id))
        messages.are_read_by(reading)
        each: _Begun | None = first
        try:
            while each is not None:
                yield each.known() or await each.answer()
                each = begun.get_nowait() if begun.qsize() else await begun.get()
            await reading
        finally:
            reading.cancel()

    async def _read_updates(
        self, messages: Messages[pb.ApplyUpdateRequest], begun: "asyncio.Queue[_Begun | None]", swarm_id: str
    ) -> None:
        """Begin with each message as it comes; what it leads to is answered in the order of the messages."""
        try:
            async for request in messages:
                swarm_id = request.swarm_id or swarm_id
                each = self._begin_update(request, swarm_id)
                if begun.full():
                    await begun.put(each)
                else:
                    begun.put_nowait(each)
        except asyncio.CancelledError:
            raise
        except BaseException:
            await begun.put(None)
            raise
        await begun.put(None)

    def _begin_update(self, request: pb.ApplyUpdateRequest, swarm_id: str) -> "_Begun":
        swarm = None
        try:
            swarm = self._registry.get(swarm_id)
            from_proto.check_groups(request.update)
            update = from_proto.state_update(request.update, swarm.limits.texts)
            from_proto.check_size(update)
            applying = swarm.apply(update, b"" if swarm.in_memory else told(request))
            return _Begun(request.sequence, swarm, applying)
        except SwarmdError as error:
            return _Begun(request.sequence, swarm, error.with_traceback(None))  # whose frames hold the message


@dataclass(slots=True)
class _Begun:
    """What became of a message of an update stream or will; many wait for a client that reads no answers.

    Nothing here holds the message, which may take 32 MB.
    """

    sequence: int
    swarm: HostedSwarm | None
    outcome: "asyncio.Future[Change] | SwarmdError"

    def known(self) -> pb.ApplyUpdateResponse | None:
        """The answer to it, if it is known that it was applied."""
        outcome = self.outcome
        if isinstance(outcome, SwarmdError) or not outcome.done() or outcome.exception() is not None:
            return None
        return _applied(self.sequence, outcome.result())

    async def answer(self) -> pb.ApplyUpdateResponse:
        """The answer to it, as soon as there is one. Giving up waiting changes nothing."""
        if isinstance(self.outcome, SwarmdError):
            return self._refused(self.outcome)
        try:
            return _applied(self.sequence, await self.outcome)
        except SwarmdError as error:
            return self._refused(error)

    def _refused(self, error: SwarmdError) -> pb.ApplyUpdateResponse:
        revision = 0 if self.swarm is None else self.swarm.state.revision
        return pb.ApplyUpdateResponse(sequence=self.sequence, error=to_update_error(error), revision=revision)


def told(request: pb.ApplyUpdateRequest) -> bytes:
    """The update as it came, without what this version does not know: a later one would apply that after a restart."""
    request.update.DiscardUnknownFields()
    return request.update.SerializeToString()


def _applied(sequence: int, change: Change) -> pb.ApplyUpdateResponse:
    return pb.ApplyUpdateResponse(
        sequence=sequence,
        changed_count=change.changed_count,
        newly_ready_count=change.newly_ready_count,
        ignored=to_proto.ignored(change) if change.ignored else None,
        revision=change.revision,
    )
