"""What an observer is told of calls: each begins once and ends once, with the code that the client got."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest

from swarmd._pb.swarm.v1 import scheduler_service_pb2 as scheduler_pb
from swarmd._pb.swarm.v1 import swarm_service_pb2
from swarmd._pb.swarm.v1.scheduler_service_pb2_grpc import SchedulerServiceStub
from swarmd._pb.swarm.v1.swarm_service_pb2_grpc import SwarmServiceStub
from swarmd.addresses import Address
from swarmd.core.events import SwarmSettings
from swarmd.gateways.pull import PullGateway
from swarmd.host.registry import Registry
from swarmd.observing.metrics import Metrics
from swarmd.observing.observer import CallEnd, Metadata, Observer, Observers
from swarmd.observing.subject import SWARM
from swarmd.rpc.observed import ObservingInterceptor
from swarmd.rpc.server import Access, Server
from swarmd.rpc.traffic import RpcLimits
from swarmd.tokens import Tokens
from tests.daemon import short_home
from tests.rpc.harness import duration

PATIENCE = 30.0
HAS_WORK, WATCH = "swarm.v1.SchedulerService/HasWork", "swarm.v1.SwarmService/WatchSwarm"


@dataclass
class Told(CallEnd):
    """What was told of one call."""

    method: str
    metadata: dict[str, str]
    answers_once: bool
    ended: asyncio.Queue["Told"]
    sizes: list[int] = field(default_factory=list)
    sent: int = 0
    ends: list[tuple[str, str]] = field(default_factory=list)
    swarm: str = ""

    def received(self, size: int) -> None:
        self.sizes.append(size)

    def answered(self) -> None:
        self.sent += 1

    def over(self, code: str, refusal: str) -> None:
        self.ends.append((code, refusal))
        self.swarm = SWARM.get()
        self.ended.put_nowait(self)


class Recorder(Observer):
    """Remembers all calls."""

    def __init__(self) -> None:
        self.calls: list[Told] = []
        self.begun: asyncio.Queue[Told] = asyncio.Queue()
        self.ended: asyncio.Queue[Told] = asyncio.Queue()

    def call(self, method: str, metadata: Metadata, peer: str, *, answers_once: bool) -> CallEnd:
        told = Told(method, {name: str(value) for name, value in metadata}, answers_once, self.ended)
        self.calls.append(told)
        self.begun.put_nowait(told)
        return told


@dataclass
class Observed:
    """A server, a client, and who observes."""

    server: Server
    channel: grpc.aio.Channel
    recorder: Recorder
    metrics: Metrics

    def __post_init__(self) -> None:
        self.scheduler, self.swarms = SchedulerServiceStub(self.channel), SwarmServiceStub(self.channel)

    async def over(self, count: int = 1) -> list[Told]:
        """The calls, once so many of them are over."""
        async with asyncio.timeout(PATIENCE):
            for _ in range(count):
                await self.recorder.ended.get()
        return self.recorder.calls


@contextlib.asynccontextmanager
async def serving(
    listen: Address, limits: RpcLimits | None = None, access: Access | None = None
) -> AsyncIterator[Observed]:
    recorder, metrics = Recorder(), Metrics()
    registry = Registry({"pull": PullGateway()})
    await registry.create(SwarmSettings("s", gateway="pull"))
    interceptor = ObservingInterceptor(Observers([recorder, metrics]))
    server = Server(registry, limits=limits, access=access, interceptors=[interceptor])
    address = server.bind(listen)
    await server.start()
    await server.serve()
    async with grpc.aio.insecure_channel(address.target, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        observed = Observed(server, channel, recorder, metrics)
        yield observed
    await registry.drain(0)
    registry.dismiss_watchers()
    await server.stop(PATIENCE)
    assert [call.method for call in recorder.calls if len(call.ends) != 1] == [], "each call ends once"
    assert set(metrics.under_way.values()) <= {0}


async def raw(observed: Observed, method: str, message: bytes = b"", **options: Any) -> None:
    """A call with these bytes."""
    call: Any = observed.channel.unary_unary(f"/{method}")
    await call(message, timeout=PATIENCE, **options)


@pytest.fixture
def home() -> Iterator[Path]:
    with short_home() as folder:
        yield folder


@pytest.fixture
async def observed(home: Path) -> AsyncIterator[Observed]:
    async with serving(Address(path=home / "s.sock")) as server:
        yield server


async def test_a_call_is_told_with_what_it_was_about(observed: Observed):
    request = scheduler_pb.HasWorkRequest(swarm_id="s")
    await observed.scheduler.HasWork(request, metadata=(("x-mine", "1"),), timeout=PATIENCE)
    (call,) = await observed.over()
    assert (call.method, call.answers_once, call.ends) == (HAS_WORK, True, [("OK", "")])
    assert (call.sizes, call.sent, call.swarm) == ([request.ByteSize()], 1, "s")
    assert call.metadata["x-mine"] == "1"


async def test_an_empty_id_is_told_as_the_swarm_that_it_stands_for(observed: Observed):
    await observed.scheduler.HasWork(scheduler_pb.HasWorkRequest(), timeout=PATIENCE)
    assert (await observed.over())[0].swarm == "s"


async def test_one_call_does_not_leave_its_swarm_to_the_next(observed: Observed):
    await observed.scheduler.HasWork(scheduler_pb.HasWorkRequest(swarm_id="s"), timeout=PATIENCE)
    await observed.swarms.ListSwarms(swarm_service_pb2.ListSwarmsRequest(), timeout=PATIENCE)
    assert [call.swarm for call in await observed.over(2)] == ["s", ""]


async def test_an_error_is_told_with_its_code_and_reason(observed: Observed):
    with pytest.raises(grpc.aio.AioRpcError):
        await observed.scheduler.HasWork(scheduler_pb.HasWorkRequest(swarm_id="nobody"), timeout=PATIENCE)
    (call,) = await observed.over()
    assert call.ends == [("NOT_FOUND", "UNKNOWN_SWARM")]
    assert observed.metrics.refusals.counts == {("UNKNOWN_SWARM",): 1}


async def test_a_stream_is_told_message_by_message(observed: Observed):
    requests = [scheduler_pb.ApplyUpdateRequest(swarm_id="s", sequence=n) for n in range(1, 4)]
    answers = [each async for each in observed.scheduler.ApplyUpdate(iter(requests), timeout=PATIENCE)]
    (call,) = await observed.over()
    assert len(answers) == call.sent == 3
    assert (call.sizes, call.answers_once, call.ends) == ([each.ByteSize() for each in requests], False, [("OK", "")])


async def test_a_client_that_gives_up_is_cancelled(observed: Observed):
    watch = observed.swarms.WatchSwarm(swarm_service_pb2.WatchSwarmRequest(swarm_id="s"))
    await watch.read()
    wait = observed.scheduler.HasWork(scheduler_pb.HasWorkRequest(swarm_id="s", wait=duration(PATIENCE)))
    async with asyncio.timeout(PATIENCE):
        for _ in range(2):
            await observed.recorder.begun.get()
    assert observed.metrics.under_way == {WATCH: 1, HAS_WORK: 1}
    watch.cancel()
    wait.cancel()
    assert [call.ends for call in await observed.over(2)] == [[("CANCELLED", "")]] * 2


async def test_a_deadline_that_passes_is_told_as_one(observed: Observed):
    with pytest.raises(grpc.aio.AioRpcError):
        await observed.scheduler.HasWork(
            scheduler_pb.HasWorkRequest(swarm_id="s", wait=duration(PATIENCE)), timeout=0.2
        )
    assert (await observed.over())[0].ends == [("DEADLINE_EXCEEDED", "")]


async def test_bytes_that_are_no_message_are_told_too(observed: Observed):
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await raw(observed, HAS_WORK, b"\xff\xff\xff")
    (told,) = await observed.over()
    assert told.method == HAS_WORK
    assert [code for code, _ in told.ends] == [raised.value.code().name]


async def test_methods_that_are_not_there_have_one_name(observed: Observed):
    for name in ("made.up/One", "swarm.v1.SwarmService/Nothing"):
        with pytest.raises(grpc.aio.AioRpcError):
            await raw(observed, name)
    calls = await observed.over(2)
    assert [(call.method, call.ends) for call in calls] == [("other", [("UNIMPLEMENTED", "")])] * 2


async def test_who_is_turned_away_is_told_with_the_reason(home: Path):
    tokens = Tokens.load_or_make(home)
    async with serving(Address(host="127.0.0.1"), access=Access(lambda: tokens)) as observed:
        headers: list[Any] = [(), (("authorization", "Bearer wrong"),)]
        for metadata in headers:
            for name in (HAS_WORK, "made.up/One"):
                with pytest.raises(grpc.aio.AioRpcError):
                    await raw(observed, name, metadata=metadata)
        calls = await observed.over(4)
    assert [call.method for call in calls] == [HAS_WORK, "other"] * 2, "strangers make up no names to count"
    assert [call.ends for call in calls] == [
        [("UNAUTHENTICATED", reason)] for reason in ("NO_TOKEN", "WRONG_TOKEN") for _ in "ab"
    ]
    assert observed.metrics.refusals.counts == {("NO_TOKEN",): 2, ("WRONG_TOKEN",): 2}


async def test_a_limit_that_is_hit_is_told_with_the_reason(home: Path):
    limits = RpcLimits(max_requests_per_second=1)
    async with serving(Address(path=home / "s.sock"), limits) as observed:
        request = scheduler_pb.HasWorkRequest(swarm_id="s")
        calls = (observed.scheduler.HasWork(request, timeout=PATIENCE) for _ in range(10))
        await asyncio.gather(*calls, return_exceptions=True)
        ends = [end for call in await observed.over(10) for end in call.ends]
    assert ("RESOURCE_EXHAUSTED", "TOO_MANY_REQUESTS") in ends
