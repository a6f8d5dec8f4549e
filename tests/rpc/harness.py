"""A real `swarmd.rpc.server.Server` in this process, a real client channel over a unix socket, and few words to use it.

The tests reach behind the server to its registry only to see what a client cannot.
"""

import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from swarmd._pb.swarm.v1 import array_pb2, state_pb2, swarm_pb2, swarm_service_pb2, task_pb2
from swarmd._pb.swarm.v1 import scheduler_service_pb2 as scheduler_pb
from swarmd._pb.swarm.v1.scheduler_service_pb2_grpc import SchedulerServiceStub
from swarmd._pb.swarm.v1.swarm_service_pb2_grpc import SwarmServiceStub
from swarmd.addresses import Address
from swarmd.core.checks import inconsistencies
from swarmd.core.comparing import differences
from swarmd.core.state import SwarmState
from swarmd.gateways.pull import PullGateway
from swarmd.host.registry import Registry
from swarmd.host.swarm import HostedSwarm, HostLimits
from swarmd.journal.directory import StateDirectory
from swarmd.rpc.server import Access, Server
from swarmd.rpc.traffic import RpcLimits
from tests.host.engine import Engine

MIB = 1024 * 1024
PATIENCE = 60.0


@dataclass
class Rpc:
    """The server, its parts, and stubs on a channel of its own."""

    registry: Registry
    server: Server
    engine: Engine
    address: Address
    channel: grpc.aio.Channel
    channels: list[grpc.aio.Channel] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.scheduler = SchedulerServiceStub(self.channel)
        self.swarms = SwarmServiceStub(self.channel)

    def state(self, swarm_id: str = "") -> SwarmState:
        return self.hosted(swarm_id).state

    def hosted(self, swarm_id: str = "") -> HostedSwarm:
        return self.registry.get(swarm_id)

    def another_channel(self) -> grpc.aio.Channel:
        """Another client's connection."""
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", 64 * MIB)]
        channel = grpc.aio.insecure_channel(self.address.target, options=options)
        self.channels.append(channel)
        return channel

    # -- one call each -------------------------------------------------------------------------------------------------

    async def create(self, swarm_id: str = "s", *, gateway: str = "engine", **more: Any) -> swarm_pb2.Swarm:
        swarm = swarm_pb2.Swarm(swarm_id=swarm_id, gateway=gateway, **more)
        return (
            await self.swarms.CreateSwarm(swarm_service_pb2.CreateSwarmRequest(swarm=swarm), timeout=PATIENCE)
        ).swarm

    async def add(self, *chunks: swarm_service_pb2.AddTasksRequest) -> swarm_service_pb2.AddTasksResponse:
        return await self.swarms.AddTasks(iter(chunks), timeout=PATIENCE)

    async def tick(self, swarm_id: str = "", **more: Any) -> scheduler_pb.TickResponse:
        return await self.scheduler.Tick(scheduler_pb.TickRequest(swarm_id=swarm_id, **more), timeout=PATIENCE)

    async def has_work(self, swarm_id: str = "", wait: float | None = None) -> scheduler_pb.HasWorkResponse:
        request = scheduler_pb.HasWorkRequest(swarm_id=swarm_id, wait=None if wait is None else duration(wait))
        return await self.scheduler.HasWork(request, timeout=PATIENCE)

    async def get(self, swarm_id: str = "", *, full: bool = False) -> swarm_pb2.Swarm:
        view = swarm_pb2.SWARM_VIEW_FULL if full else swarm_pb2.SWARM_VIEW_BASIC
        request = swarm_service_pb2.GetSwarmRequest(swarm_id=swarm_id, view=view)
        return (await self.swarms.GetSwarm(request, timeout=PATIENCE)).swarm

    async def task(self, task_id: int, swarm_id: str = "") -> task_pb2.Task:
        request = swarm_service_pb2.GetTaskRequest(swarm_id=swarm_id, task_id=task_id)
        return (await self.swarms.GetTask(request, timeout=PATIENCE)).task

    async def apply(self, *requests: scheduler_pb.ApplyUpdateRequest) -> list[scheduler_pb.ApplyUpdateResponse]:
        """All requests in one stream; all answers."""
        call = self.scheduler.ApplyUpdate(iter(requests), timeout=PATIENCE)
        return [response async for response in call]

    async def tell(self, status: str, *task_ids: int, swarm_id: str = "") -> scheduler_pb.ApplyUpdateResponse:
        (response,) = await self.apply(update(0, (status, task_ids), swarm_id=swarm_id))
        assert not response.HasField("error"), response.error
        return response

    def watch(self, **request: Any) -> Any:
        """The call of WatchSwarm; `read` gives a WatchSwarmResponse or EOF."""
        return self.swarms.WatchSwarm(swarm_service_pb2.WatchSwarmRequest(**request), timeout=PATIENCE)


@contextlib.asynccontextmanager
async def serving(
    home: Path,
    *,
    engine: Engine | None = None,
    max_swarms: int = 1000,
    limits: HostLimits | None = None,
    rpc_limits: RpcLimits | None = None,
    access: Access | None = None,
) -> AsyncIterator[Rpc]:
    """A server with the gateways `engine` (does what the test says) and `pull`.

    At the end every swarm is read from its journal once more: it must be the same in everything.
    """
    engine = engine or Engine(can_cancel=True)
    state = home / "state"
    state.mkdir(exist_ok=True)
    directory = StateDirectory(state)
    directory.claim()
    registry = Registry(
        {"engine": engine, "pull": PullGateway()}, directory=directory, max_swarms=max_swarms, limits=limits
    )
    server = Server(registry, limits=rpc_limits, access=access)
    address = server.bind(Address(path=home / "s.sock"))
    await registry.start()
    await registry.recover()
    await server.start()
    await server.serve()
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", 64 * MIB)]
    channel = grpc.aio.insecure_channel(address.target, options=options)
    rpc = Rpc(registry, server, engine, address, channel)
    try:
        yield rpc
        for hosted in registry.all():
            assert inconsistencies(hosted.state) == []
    finally:
        await registry.drain(0)
        registry.dismiss_watchers()
        for each in [channel, *rpc.channels]:
            await each.close()
        await server.stop(5)
        await registry.close()
        directory.release()
    for hosted in registry.all():
        recovered = directory.store(hosted.swarm_id).recover()
        assert recovered.warnings == []
        recovered.swarm.state.batch_prefix = hosted.state.batch_prefix  # a new one each time
        assert differences(hosted.swarm, recovered.swarm) == []


# -- messages ------------------------------------------------------------------------------------------------------


def duration(seconds: float) -> Duration:
    message = Duration()
    message.FromMicroseconds(int(seconds * 1e6))
    return message


def status_value(name: str) -> task_pb2.TaskStatus:
    return cast("task_pb2.TaskStatus", task_pb2.TaskStatus.Value(f"TASK_STATUS_{name}"))


def group(
    status: str, task_ids: Iterable[int], attempts: Iterable[int] = (), reason: str = ""
) -> state_pb2.TaskStatusGroup:
    return state_pb2.TaskStatusGroup(status=status_value(status), task_ids=task_ids, attempts=attempts, reason=reason)


def update(
    sequence: int, *groups: tuple[str, Iterable[int]], swarm_id: str = "", **more: Any
) -> scheduler_pb.ApplyUpdateRequest:
    """One request of ApplyUpdate: (status, ids) groups, and other fields of StateUpdate."""
    statuses = [group(status, ids) for status, ids in groups]
    news = state_pb2.StateUpdate(task_statuses=statuses, **more)
    return scheduler_pb.ApplyUpdateRequest(swarm_id=swarm_id, sequence=sequence, update=news)


def a_task(task_id: int, *upstreams: int, array: int = 1, resources: int = 1, **more: Any) -> task_pb2.Task:
    return task_pb2.Task(
        task_id=task_id, array_id=array, task_resources_id=resources, upstream_task_ids=upstreams, **more
    )


def a_chunk(
    tasks: int | Iterable[task_pb2.Task] = (),
    *,
    arrays: Sequence[int | array_pb2.Array] = (),
    resources: Sequence[int] = (),
    swarm_id: str = "",
    request_id: str = "",
) -> swarm_service_pb2.AddTasksRequest:
    """A chunk of a load: tasks (or so many, numbered from 1, all of array 1), arrays and resources by id."""
    numbered = [a_task(number) for number in range(1, tasks + 1)] if isinstance(tasks, int) else tasks
    return swarm_service_pb2.AddTasksRequest(
        swarm_id=swarm_id,
        request_id=request_id,
        arrays=[array_pb2.Array(array_id=each) if isinstance(each, int) else each for each in arrays],
        task_resources=[task_pb2.TaskResources(task_resources_id=each) for each in resources],
        tasks=numbered,
    )


def whole(
    tasks: int | Iterable[task_pb2.Task], *, arrays: Sequence[int | array_pb2.Array] = (1,), **more: Any
) -> swarm_service_pb2.AddTasksRequest:
    """A load in one chunk, with array 1 and resources 1."""
    return a_chunk(tasks, arrays=arrays, resources=(1,), **more)


# -- errors --------------------------------------------------------------------------------------------------------


@dataclass
class Refused:
    """What a call ended with, once the block is left."""

    code: grpc.StatusCode = grpc.StatusCode.OK
    message: str = ""
    reason: str = ""
    domain: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    fields: list[str] = field(default_factory=list)
    preconditions: list[str] = field(default_factory=list)
    retry_after: float | None = None


@contextlib.contextmanager
def refused(code: str, reason: str = "", field: str = "") -> Any:
    """The call in the block must end with this code, this ErrorInfo reason and this field."""
    found = Refused()
    try:
        yield found
    except grpc.aio.AioRpcError as error:
        _read(error, found)
    assert found.code.name == code, found
    assert found.reason == reason, found
    if reason:
        assert found.domain == "swarmd"
        assert found.message
    if field:
        assert field in (*found.fields, *found.preconditions), found


_READERS: dict[Any, Callable[[Any, Refused], None]] = {
    error_details_pb2.ErrorInfo: lambda info, to: _read_info(info, to),
    error_details_pb2.BadRequest: lambda bad, to: to.fields.extend(each.field for each in bad.field_violations),
    error_details_pb2.PreconditionFailure: lambda failure, to: to.preconditions.extend(
        each.subject for each in failure.violations
    ),
    error_details_pb2.RetryInfo: lambda info, to: setattr(to, "retry_after", info.retry_delay.ToSeconds()),
}


def _read_info(info: Any, to: Refused) -> None:
    to.reason, to.domain, to.metadata = info.reason, info.domain, dict(info.metadata)


def _read(error: grpc.aio.AioRpcError, to: Refused) -> None:
    to.code, to.message = error.code(), error.details() or ""
    status = rpc_status.from_call(error)  # type: ignore[arg-type]
    for detail in status.details if status is not None else ():
        for kind, read in _READERS.items():
            if detail.Is(kind.DESCRIPTOR):
                message = kind()
                detail.Unpack(message)
                read(message, to)
