"""ProtocolClient: one asyncio method for each RPC of the daemon, which takes and gives the messages of the contract.

Adds deadlines, paging, chunking and repeats; raises RpcError and its kinds. `SwarmClient` and the command line are
built on it. An empty swarm_id means the only swarm there is.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar
from uuid import uuid4

from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

import swarmd.grpc_environment  # noqa: F401 - before gRPC, which the stubs import
from swarmd._pb.swarm.v1 import batch_pb2, swarm_pb2, swarm_service_pb2, task_pb2
from swarmd._pb.swarm.v1 import scheduler_service_pb2 as scheduler_pb
from swarmd._pb.swarm.v1.scheduler_service_pb2_grpc import SchedulerServiceStub
from swarmd._pb.swarm.v1.swarm_service_pb2_grpc import SwarmServiceStub
from swarmd.addresses import Address
from swarmd.client.channel import metadata_of, open_channel, translated_errors
from swarmd.client.encoding import ColumnLoad, Loadable, add_tasks_chunks
from swarmd.client.errors import NoDaemonError, NotFoundError, RpcError, client_closed
from swarmd.client.finding import ConnectionSettings
from swarmd.client.retrying import REPEATABLE, Patience, may_repeat
from swarmd.client.sending import Streamed, is_wanted_cancelled
from swarmd.client.tracing import trace_headers
from swarmd.tls_client import check_tls

if TYPE_CHECKING:
    import grpc.aio

    from swarmd._pb.swarm.v1.scheduler_service_pb2_grpc import SchedulerServiceAsyncStub
    from swarmd._pb.swarm.v1.swarm_service_pb2_grpc import SwarmServiceAsyncStub

DEADLINE = 60.0
"""How long a call that should be quick may take, in seconds."""
PATIENCE = 60.0
"""How long a call waits for a daemon that was lost, in seconds."""

T = TypeVar("T")
Message_co = TypeVar("Message_co", covariant=True)


class Call(Protocol[Message_co]):
    """A call that is answered with a stream."""

    def __aiter__(self) -> AsyncIterator[Message_co]:
        """What it brings."""

    def cancel(self) -> bool:
        """End it."""


class ProtocolClient:
    """A connection to one daemon; an async context manager that closes it.

    `daemon` says where it is: an address, or all about the way to it; see `ConnectionSettings` for what is looked up
    where nothing is said. Raises InvalidInputError for what cannot be used. `patience`: for how many seconds a call
    is made again when the daemon was lost or is not ready; 0: never.
    """

    def __init__(
        self, daemon: "ConnectionSettings | Address | str | None" = None, *, patience: float = PATIENCE
    ) -> None:
        settings = daemon if isinstance(daemon, ConnectionSettings) else _settings(daemon)
        self.connection = settings.found()
        self.address = self.connection.address
        self.patience = patience
        self._had_answers = False
        self._closed = False
        self._token = metadata_of(self.connection) or ()
        if self.connection.tls is not None:
            check_tls(self.connection.tls)

    # opened by the first call: gRPC binds a channel to the event loop that runs then, and here may be none yet
    @cached_property
    def _channel(self) -> "grpc.aio.Channel":
        if self._closed:
            raise client_closed()
        return open_channel(self.connection, repeats=self.patience > 0)

    @cached_property
    def _swarms(self) -> "SwarmServiceAsyncStub":
        return SwarmServiceStub(self._channel)

    @cached_property
    def _scheduler(self) -> "SchedulerServiceAsyncStub":
        return SchedulerServiceStub(self._channel)

    @cached_property
    def _add_tasks(self) -> "grpc.aio.StreamUnaryMultiCallable[bytes, swarm_service_pb2.AddTasksResponse]":
        return self._channel.stream_unary(
            "/swarm.v1.SwarmService/AddTasks",  # its chunks are bytes already
            response_deserializer=swarm_service_pb2.AddTasksResponse.FromString,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End all calls and the connection. Calls under way, and later ones, raise RpcError: CLIENT_CLOSED."""
        self._closed = True
        channel: grpc.aio.Channel | None = self.__dict__.pop("_channel", None)
        for stub in ("_swarms", "_scheduler", "_add_tasks"):
            self.__dict__.pop(stub, None)
        if channel is not None:  # gRPC crashes the process when a stub is made of a closed one: nobody has it any more
            await channel.close()

    async def connect(self, *, within: float = 5.0) -> None:
        """Make sure that a daemon answers; raises NoDaemonError. Calls connect by themselves: this is a check."""
        request = swarm_service_pb2.ListSwarmsRequest(page_size=1)
        with self._errors():
            await self._swarms.ListSwarms(request, timeout=within, metadata=self._metadata())
        self._had_answers = True

    async def is_serving(self, *, within: float = 5.0) -> bool:
        """What the daemon's health service says, which needs no token; raises NoDaemonError where there is none."""
        from grpc_health.v1 import health_pb2, health_pb2_grpc

        stub: Any = health_pb2_grpc.HealthStub(self._channel)  # its methods are in no stub file
        with self._errors():
            answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=within)
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    # -- swarms ----------------------------------------------------------------------------------------------------

    async def create_swarm(self, swarm: swarm_pb2.Swarm) -> swarm_pb2.Swarm:
        """Make a swarm without tasks."""
        request = swarm_service_pb2.CreateSwarmRequest(swarm=swarm, request_id=str(uuid4()))
        return (await self._call("CreateSwarm", self._swarms.CreateSwarm, request)).swarm

    async def get_swarm(self, swarm_id: str = "", *, full: bool = False) -> swarm_pb2.Swarm:
        """One swarm with its counts, and with `full` every array with its own."""
        view = swarm_pb2.SWARM_VIEW_FULL if full else swarm_pb2.SWARM_VIEW_BASIC
        request = swarm_service_pb2.GetSwarmRequest(swarm_id=swarm_id, view=view)
        return (await self._call("GetSwarm", self._swarms.GetSwarm, request)).swarm

    async def list_swarms(self) -> list[swarm_pb2.Swarm]:
        """All swarms, in the order of their creation."""
        found: list[swarm_pb2.Swarm] = []
        request = swarm_service_pb2.ListSwarmsRequest(page_size=1000)
        while True:
            page = await self._call("ListSwarms", self._swarms.ListSwarms, request)
            found += page.swarms
            if not page.next_page_token:
                return found
            request.page_token = page.next_page_token

    async def set_aside_swarms(self) -> list[swarm_pb2.SetAsideSwarm]:
        """The swarms that the daemon could not take up when it started, and what is wrong with them."""
        request = swarm_service_pb2.ListSwarmsRequest(page_size=1)
        return list((await self._call("ListSwarms", self._swarms.ListSwarms, request)).set_aside)

    async def update_swarm(self, swarm: swarm_pb2.Swarm, fields: Sequence[str]) -> swarm_pb2.Swarm:
        """Change the named fields to what `swarm` holds."""
        request = swarm_service_pb2.UpdateSwarmRequest(swarm=swarm, update_mask=FieldMask(paths=fields))
        return (await self._call("UpdateSwarm", self._swarms.UpdateSwarm, request)).swarm

    async def delete_swarm(self, swarm_id: str, *, force: bool = False) -> None:
        """Forget a swarm; with `force` also when tasks are active.

        When the connection is lost meanwhile it is repeated only while the very same swarm is still there.
        """
        request = swarm_service_pb2.DeleteSwarmRequest(swarm_id=swarm_id, force=force)
        made = (await self.get_swarm(swarm_id)).create_time if swarm_id and self.patience > 0 else None
        patience = Patience(self.patience)
        while True:
            try:
                await self._call("DeleteSwarm", self._swarms.DeleteSwarm, request)
                return
            except NoDaemonError as error:
                if made is None:
                    raise
                await patience.pause(error)
            if not await self._is_still(swarm_id, made):
                return

    async def _is_still(self, swarm_id: str, made: object) -> bool:
        try:
            return (await self.get_swarm(swarm_id)).create_time == made
        except NotFoundError:
            return False

    # -- tasks -----------------------------------------------------------------------------------------------------

    async def add_tasks(self, swarm_id: str, load: Loadable | ColumnLoad) -> swarm_service_pb2.AddTasksResponse:
        """Load arrays, task resources and tasks, as one unit. A repeat sends all of it again, and it counts once.

        Raises InvalidInputError for what cannot be sent; nothing is loaded then.
        """
        request_id = str(uuid4())

        async def send(
            _request: None,
            /,
            *,
            timeout: float | None,  # noqa: ASYNC109 (of each attempt)
            metadata: Any,
        ) -> swarm_service_pb2.AddTasksResponse:
            chunks = Streamed(add_tasks_chunks(swarm_id, load, request_id=request_id))
            try:
                return await self._add_tasks(chunks.each(), timeout=timeout, metadata=metadata)
            except asyncio.CancelledError:
                chunks.tell_error()
                raise

        return await self._call("AddTasks", send, None, timeout=None)

    async def get_task(self, swarm_id: str, task_id: int) -> task_pb2.Task:
        """One task with its command and its upstreams."""
        request = swarm_service_pb2.GetTaskRequest(swarm_id=swarm_id, task_id=task_id)
        return (await self._call("GetTask", self._swarms.GetTask, request)).task

    async def list_tasks(
        self,
        swarm_id: str = "",
        *,
        statuses: Iterable[task_pb2.TaskStatus] = (),
        array_ids: Iterable[int] = (),
        page_size: int = 10_000,
    ) -> AsyncIterator[task_pb2.Task]:
        """The matching tasks in the order of their loading, without upstreams and commands; paged as needed."""
        request = swarm_service_pb2.ListTasksRequest(
            swarm_id=swarm_id, statuses=statuses, array_ids=array_ids, page_size=page_size
        )
        while True:
            page = await self._call("ListTasks", self._swarms.ListTasks, request)
            for task in page.tasks:
                yield task
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def explain_task(self, swarm_id: str, task_id: int) -> swarm_service_pb2.ExplainTaskResponse:
        """Why a task is not running, and what became of its attempts."""
        request = swarm_service_pb2.ExplainTaskRequest(swarm_id=swarm_id, task_id=task_id)
        return await self._call("ExplainTask", self._swarms.ExplainTask, request)

    async def cancel_tasks(
        self, swarm_id: str, selector: task_pb2.TaskSelector, *, reason: str = ""
    ) -> swarm_service_pb2.CancelTasksResponse:
        """End tasks for good, at the engine too.

        Repeated after a lost connection when the tasks are named, by ids, arrays or `all`; the answer then counts
        what the repeat found. By status it is not: other tasks have that status a moment later.
        """
        request = swarm_service_pb2.CancelTasksRequest(swarm_id=swarm_id, selector=selector, reason=reason)
        named = not selector.statuses
        return await self._call("CancelTasks", self._swarms.CancelTasks, request, repeatable=named)

    async def reset_tasks(
        self, swarm_id: str, selector: task_pb2.TaskSelector, *, include_downstreams: bool = False, reason: str = ""
    ) -> swarm_service_pb2.ResetTasksResponse:
        """Take final tasks back to REGISTERED. Never repeated after a lost connection: they could run once more."""
        request = swarm_service_pb2.ResetTasksRequest(
            swarm_id=swarm_id, selector=selector, include_downstreams=include_downstreams, reason=reason
        )
        return await self._call("ResetTasks", self._swarms.ResetTasks, request)

    # -- scheduling ------------------------------------------------------------------------------------------------

    async def tick(
        self,
        swarm_id: str = "",
        *,
        timeout: float | None = None,  # noqa: ASYNC109 (the daemon's own timeout, which does not end the call)
        max_batches: int = 0,
        view: batch_pb2.BatchView = batch_pb2.BATCH_VIEW_BASIC,
    ) -> scheduler_pb.TickResponse:
        """One scheduling iteration; no new batch starts after `timeout` seconds (None: unlimited)."""
        request = scheduler_pb.TickRequest(
            swarm_id=swarm_id,
            timeout=None if timeout is None else duration(timeout),
            max_batches=max_batches,
            request_id=str(uuid4()),
            view=view,
        )
        return await self._call("Tick", self._scheduler.Tick, request, timeout=None)

    async def has_work(self, swarm_id: str = "", *, wait: float | None = None) -> scheduler_pb.HasWorkResponse:
        """Whether a tick would queue something; waits up to `wait` seconds until it would, or all is finished."""
        request = scheduler_pb.HasWorkRequest(swarm_id=swarm_id, wait=None if wait is None else duration(wait))
        return await self._call("HasWork", self._scheduler.HasWork, request, timeout=DEADLINE + (wait or 0))

    # -- streams ---------------------------------------------------------------------------------------------------

    def watch_swarm(
        self, request: swarm_service_pb2.WatchSwarmRequest
    ) -> AsyncIterator[swarm_service_pb2.WatchSwarmResponse]:
        """One stream of changes as the daemon sends it; `watching.Follower` also resumes it."""
        return self._messages(lambda: self._swarms.WatchSwarm(request, metadata=self._metadata()))

    def apply_updates(
        self, requests: AsyncIterator[scheduler_pb.ApplyUpdateRequest]
    ) -> AsyncIterator[scheduler_pb.ApplyUpdateResponse]:
        """Tell what happened: each request is answered by one response, in order; `updating.UpdateStream` resumes."""
        return self._messages(lambda: self._scheduler.ApplyUpdate(requests, metadata=self._metadata()))

    # -- calls -----------------------------------------------------------------------------------------------------

    @property
    def is_closed(self) -> bool:
        """Whether it was closed: every call is refused then."""
        return self._closed

    @property
    def had_answers(self) -> bool:
        """Whether the daemon has answered before: only then is it waited for when it is lost."""
        return self._had_answers

    async def _call(
        self,
        method: str,
        rpc: Callable[..., Awaitable[T]],
        request: object,
        *,
        timeout: float | None = DEADLINE,  # noqa: ASYNC109 (of each attempt)
        repeatable: bool | None = None,
    ) -> T:
        """The answer to one call, made again where that is safe and can help."""
        harmless = method in REPEATABLE if repeatable is None else repeatable
        patience = Patience(self.patience)
        while True:
            try:
                with self._errors():
                    answer = await rpc(request, timeout=timeout, metadata=self._metadata())
            except RpcError as error:
                self._had_answers |= not isinstance(error, NoDaemonError)
                if not may_repeat(error, repeatable=harmless, reached=self._had_answers):
                    raise
                await patience.pause(error)
            else:
                self._had_answers = True
                return answer

    async def _messages(self, start: Callable[[], Call[T]]) -> AsyncIterator[T]:
        """What a stream brings, from when the first of it is asked for; the call ends with who reads it."""
        with self._errors():
            call = start()
            try:
                async for message in call:
                    self._had_answers = True
                    yield message
            finally:
                call.cancel()

    def _metadata(self) -> tuple[tuple[str, str], ...] | None:
        """What goes with a call: the token, and the trace that the caller is part of."""
        return (*self._token, *trace_headers()) or None

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Raise the client's errors: also when it was closed, which gRPC tells as a cancellation."""
        if self.is_closed:
            raise client_closed()
        try:
            with translated_errors(self.address, had_answers=self._had_answers):
                yield
        except (asyncio.CancelledError, NoDaemonError):
            if self._closed and not is_wanted_cancelled():
                raise client_closed() from None
            raise


def _settings(address: Address | str | None) -> ConnectionSettings:
    return ConnectionSettings(address=None if address is None else str(address))


def duration(seconds: float) -> Duration:
    """Seconds as a message."""
    message = Duration()
    message.FromNanoseconds(round(seconds * 1e9))
    return message
