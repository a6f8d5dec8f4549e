"""SwarmClient: one asyncio method for each RPC of the daemon.

Takes and gives the messages of the contract, adds deadlines, paging and chunking, and raises RpcError or
NoDaemonError. An empty swarm_id means the only swarm there is.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterable, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Self, TypeVar
from uuid import uuid4

from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from swarmd._pb.swarm.v1 import batch_pb2, swarm_pb2, swarm_service_pb2, task_pb2
from swarmd._pb.swarm.v1 import scheduler_service_pb2 as scheduler_pb
from swarmd._pb.swarm.v1.scheduler_service_pb2_grpc import SchedulerServiceStub
from swarmd._pb.swarm.v1.swarm_service_pb2_grpc import SwarmServiceStub
from swarmd.addresses import Address, client_address, parse_address
from swarmd.client.channel import open_channel, translated_errors
from swarmd.client.encoding import Loadable, add_tasks_requests

DEADLINE = 60.0
"""How long a call that should be quick may take, in seconds."""

T = TypeVar("T")


class SwarmClient:
    """A connection to one daemon; an async context manager that closes it.

    `address` is `unix:PATH` or `HOST:PORT`; without one `SWARMD_ADDRESS` or the default socket is used. Raises
    InvalidInputError for an address that cannot be used.
    """

    def __init__(self, address: Address | str | None = None) -> None:
        wanted = address if isinstance(address, Address) else client_address(address)
        self.address = parse_address(str(wanted))  # checked here too: the default socket's path may be too long
        self._had_answers = False
        self._channel = open_channel(self.address)
        self._swarms = SwarmServiceStub(self._channel)
        self._scheduler = SchedulerServiceStub(self._channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End all calls and the connection."""
        await self._channel.close()

    async def connect(self, *, within: float = 5.0) -> None:
        """Make sure that a daemon answers; raises NoDaemonError. Calls connect by themselves: this is a check."""
        request = swarm_service_pb2.ListSwarmsRequest(page_size=1)
        await self._answer(self._swarms.ListSwarms(request, timeout=within))

    async def create_swarm(self, swarm: swarm_pb2.Swarm) -> swarm_pb2.Swarm:
        """Make a swarm without tasks."""
        request = swarm_service_pb2.CreateSwarmRequest(swarm=swarm, request_id=str(uuid4()))
        return (await self._answer(self._swarms.CreateSwarm(request, timeout=DEADLINE))).swarm

    async def get_swarm(self, swarm_id: str = "", *, full: bool = False) -> swarm_pb2.Swarm:
        """One swarm with its counts, and with `full` every array with its own."""
        view = swarm_pb2.SWARM_VIEW_FULL if full else swarm_pb2.SWARM_VIEW_BASIC
        request = swarm_service_pb2.GetSwarmRequest(swarm_id=swarm_id, view=view)
        return (await self._answer(self._swarms.GetSwarm(request, timeout=DEADLINE))).swarm

    async def list_swarms(self) -> list[swarm_pb2.Swarm]:
        """All swarms, in the order of their creation."""
        found: list[swarm_pb2.Swarm] = []
        request = swarm_service_pb2.ListSwarmsRequest(page_size=1000)
        while True:
            page = await self._answer(self._swarms.ListSwarms(request, timeout=DEADLINE))
            found += page.swarms
            if not page.next_page_token:
                return found
            request.page_token = page.next_page_token

    async def set_aside_swarms(self) -> list[swarm_pb2.SetAsideSwarm]:
        """The swarms that the daemon could not take up when it started, and what is wrong with them."""
        request = swarm_service_pb2.ListSwarmsRequest(page_size=1)
        return list((await self._answer(self._swarms.ListSwarms(request, timeout=DEADLINE))).set_aside)

    async def update_swarm(self, swarm: swarm_pb2.Swarm, fields: Sequence[str]) -> swarm_pb2.Swarm:
        """Change the named fields to what `swarm` holds."""
        request = swarm_service_pb2.UpdateSwarmRequest(swarm=swarm, update_mask=FieldMask(paths=fields))
        return (await self._answer(self._swarms.UpdateSwarm(request, timeout=DEADLINE))).swarm

    async def delete_swarm(self, swarm_id: str, *, force: bool = False) -> None:
        """Forget a swarm; with `force` also when tasks are active."""
        request = swarm_service_pb2.DeleteSwarmRequest(swarm_id=swarm_id, force=force)
        await self._answer(self._swarms.DeleteSwarm(request, timeout=DEADLINE))

    async def add_tasks(self, swarm_id: str, load: Loadable) -> swarm_service_pb2.AddTasksResponse:
        """Load arrays, task resources and tasks, as one unit."""
        chunks = _streamed(add_tasks_requests(swarm_id, load, request_id=str(uuid4())))
        return await self._answer(self._swarms.AddTasks(chunks))

    async def get_task(self, swarm_id: str, task_id: int) -> task_pb2.Task:
        """One task with its command and its upstreams."""
        request = swarm_service_pb2.GetTaskRequest(swarm_id=swarm_id, task_id=task_id)
        return (await self._answer(self._swarms.GetTask(request, timeout=DEADLINE))).task

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
            page = await self._answer(self._swarms.ListTasks(request, timeout=DEADLINE))
            for task in page.tasks:
                yield task
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def explain_task(self, swarm_id: str, task_id: int) -> swarm_service_pb2.ExplainTaskResponse:
        """Why a task is not running, and what became of its attempts."""
        request = swarm_service_pb2.ExplainTaskRequest(swarm_id=swarm_id, task_id=task_id)
        return await self._answer(self._swarms.ExplainTask(request, timeout=DEADLINE))

    async def cancel_tasks(
        self, swarm_id: str, selector: task_pb2.TaskSelector, *, reason: str = ""
    ) -> swarm_service_pb2.CancelTasksResponse:
        """End tasks for good, at the engine too."""
        request = swarm_service_pb2.CancelTasksRequest(swarm_id=swarm_id, selector=selector, reason=reason)
        return await self._answer(self._swarms.CancelTasks(request, timeout=DEADLINE))

    async def reset_tasks(
        self, swarm_id: str, selector: task_pb2.TaskSelector, *, include_downstreams: bool = False, reason: str = ""
    ) -> swarm_service_pb2.ResetTasksResponse:
        """Take final tasks back to REGISTERED."""
        request = swarm_service_pb2.ResetTasksRequest(
            swarm_id=swarm_id, selector=selector, include_downstreams=include_downstreams, reason=reason
        )
        return await self._answer(self._swarms.ResetTasks(request, timeout=DEADLINE))

    async def watch_swarm(
        self, request: swarm_service_pb2.WatchSwarmRequest
    ) -> AsyncIterator[swarm_service_pb2.WatchSwarmResponse]:
        """One stream of changes as the daemon sends it; `watching.Follower` also resumes it."""
        call = self._swarms.WatchSwarm(request)
        try:
            with self._errors():
                async for message in call:
                    self._had_answers = True
                    yield message
        finally:
            call.cancel()

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
        return await self._answer(self._scheduler.Tick(request))

    async def has_work(self, swarm_id: str = "", *, wait: float | None = None) -> scheduler_pb.HasWorkResponse:
        """Whether a tick would queue something; waits up to `wait` seconds until it would, or all is finished."""
        request = scheduler_pb.HasWorkRequest(swarm_id=swarm_id, wait=None if wait is None else duration(wait))
        return await self._answer(self._scheduler.HasWork(request, timeout=DEADLINE + (wait or 0)))

    async def apply_updates(
        self, requests: AsyncIterator[scheduler_pb.ApplyUpdateRequest]
    ) -> AsyncIterator[scheduler_pb.ApplyUpdateResponse]:
        """Tell what happened: each request is answered by one response, in order."""
        call = self._scheduler.ApplyUpdate(requests)
        try:
            with self._errors():
                async for message in call:
                    self._had_answers = True
                    yield message
        finally:
            call.cancel()

    async def _answer(self, call: Awaitable[T]) -> T:
        with self._errors():
            answer = await call
        self._had_answers = True
        return answer

    def _errors(self) -> AbstractContextManager[None]:
        return translated_errors(self.address, had_answers=self._had_answers)


def duration(seconds: float) -> Duration:
    """Seconds as a message."""
    message = Duration()
    message.FromNanoseconds(round(seconds * 1e9))
    return message


async def _streamed(messages: Iterable[T]) -> AsyncIterator[T]:
    for message in messages:
        yield message
        await asyncio.sleep(0)
