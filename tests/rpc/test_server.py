"""The server around the services: health, reflection, unexpected errors, the end, and many clients at once."""

import asyncio
from pathlib import Path
from typing import Any

import grpc
import grpc_testing
import pytest
from google.rpc import code_pb2, error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status

from swarmd._pb.swarm.v1 import scheduler_service_pb2, swarm_service_pb2
from swarmd._pb.swarm.v1.scheduler_service_pb2_grpc import SchedulerServiceStub
from swarmd.addresses import Address
from swarmd.core import errors as core_errors
from swarmd.core.errors import SwarmdError, UnavailableError
from swarmd.host.registry import Registry
from swarmd.rpc.errors import CODES, to_status
from swarmd.rpc.server import SERVICES, Server
from swarmd.rpc.traffic import RpcLimits
from tests.rpc.harness import PATIENCE, Rpc, a_task, refused, serving, update, whole

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def stub_of(kind: Any, channel: grpc.aio.Channel) -> Any:
    """A stub of generated code whose types know the blocking channel only."""
    return kind(channel)


async def health(rpc: Rpc, service: str = "") -> int:
    stub = stub_of(health_pb2_grpc.HealthStub, rpc.channel)
    return int((await stub.Check(health_pb2.HealthCheckRequest(service=service))).status)


async def test_it_is_healthy_until_it_stops(rpc: Rpc):
    for service in ("", *SERVICES):
        assert await health(rpc, service) == SERVING
    with refused("NOT_FOUND"):
        await health(rpc, "nobody")
    await rpc.server.refuse()
    for service in ("", *SERVICES):
        assert await health(rpc, service) == NOT_SERVING


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_reflection_names_the_services_in_both_versions(rpc: Rpc, version: str):
    call: Any = rpc.channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    asked = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="swarm.v1.SchedulerService.Tick"),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="swarm.v1.Nothing"),
    ]
    services, file, nothing = [answer async for answer in call(iter(asked), timeout=PATIENCE)]

    names = {each.name for each in services.list_services_response.service}
    assert names >= {*SERVICES, "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}
    assert file.file_descriptor_response.file_descriptor_proto
    assert nothing.error_response.error_code == code_pb2.NOT_FOUND
    assert reflection_pb2_grpc.ServerReflectionStub is not None


async def test_an_unknown_method_is_unimplemented(rpc: Rpc):
    call: Any = rpc.channel.unary_unary("/swarm.v1.SwarmService/Nothing")
    with refused("UNIMPLEMENTED"):
        await call(b"")


async def test_bytes_that_are_no_message_end_the_call_and_nothing_else(rpc: Rpc):
    await rpc.create()
    call: Any = rpc.channel.unary_unary("/swarm.v1.SchedulerService/HasWork")
    with refused("INVALID_ARGUMENT", "MALFORMED_MESSAGE"):
        await call(b"\xff\xff\xff")
    assert not (await rpc.has_work()).has_work


async def test_an_error_that_nobody_expected_is_internal_and_says_nothing_of_the_inside(
    rpc: Rpc, monkeypatch: pytest.MonkeyPatch
):
    await rpc.create()

    def broken(*_: object) -> bool:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(type(rpc.state()), "has_work", broken)
    with refused("INTERNAL") as found:
        await rpc.has_work()
    assert "secret" not in found.message
    monkeypatch.undo()
    assert not (await rpc.has_work()).has_work


def test_every_kind_of_error_has_a_code_of_its_own():
    kinds = {each for each in vars(core_errors).values() if isinstance(each, type) and issubclass(each, SwarmdError)}
    # Those of the disk share theirs with those that mean the same to a client, and so does a bound that passes.
    assert kinds == set(CODES) | {core_errors.DamagedError, core_errors.BusyError}
    of_their_own = set(CODES) - {core_errors.StorageError, core_errors.StorageFullError}
    assert len({CODES[each] for each in of_their_own}) == len(of_their_own)


class FromStatus(Exception):  # noqa: N818 - stands in for a call that ended so
    """A status as a client sees it."""

    def __init__(self, status: grpc.Status) -> None:
        super().__init__()
        self.status = status

    def code(self) -> grpc.StatusCode:
        return self.status.code

    def details(self) -> str:
        return str(self.status.details)

    def trailing_metadata(self) -> object:
        return self.status.trailing_metadata


@pytest.mark.parametrize("kind", sorted(CODES, key=str))
def test_every_error_carries_its_reason_and_fits_into_the_headers(kind: type[SwarmdError]):
    metadata = {"ids": "7," * 5000, "é" * 10: "é" * 5000}
    error = kind("é" * 10_000, reason="SOME_REASON", field="some.field", metadata=metadata)
    status = to_status(error)

    size = len(str(status.details).encode()) * 3 + sum(len(value) * 4 // 3 for _, value in status.trailing_metadata)
    assert size < 16 * 1024, "gRPC refuses headers of more than 16 KiB"
    read = rpc_status.from_call(FromStatus(status))  # type: ignore[arg-type]
    assert read is not None
    assert read.code == CODES[kind].value[0]
    info = error_details_pb2.ErrorInfo()
    assert read.details[0].Unpack(info)
    assert (info.reason, info.domain) == ("SOME_REASON", "swarmd")
    assert info.metadata["ids"].startswith("7,7,")
    assert ("RetryInfo" in str(read)) == issubclass(kind, (UnavailableError, core_errors.StorageError))


async def test_a_port_of_0_is_picked_and_a_taken_one_is_refused(home: Path):
    first, second = (Server(Registry({})) for _ in range(2))
    picked = first.bind(Address(host="127.0.0.1", port=0))
    assert picked.port > 0
    await first.start()
    with pytest.raises(UnavailableError) as taken:
        second.bind(picked)
    assert taken.value.reason == "ADDRESS_IN_USE"
    await first.stop(0)
    await second.stop(0)


async def test_the_end_waits_neither_for_silent_clients_nor_for_open_streams(rpc: Rpc):
    """Every kind of stream that a client may leave open: none of them holds up the end."""
    await rpc.create()
    await rpc.add(whole(2))
    updates = rpc.scheduler.ApplyUpdate(timeout=PATIENCE)
    await updates.write(update(1, ("RUNNING", [1])))
    await updates.read()
    loading = rpc.swarms.AddTasks(timeout=PATIENCE)
    await loading.write(whole([a_task(9)], arrays=[9]))
    watching = rpc.watch()
    await watching.read()
    checking = stub_of(health_pb2_grpc.HealthStub, rpc.channel).Watch(health_pb2.HealthCheckRequest())
    await checking.read()
    reflecting = stub_of(reflection_pb2_grpc.ServerReflectionStub, rpc.channel).ServerReflectionInfo()
    await reflecting.write(reflection_pb2.ServerReflectionRequest(list_services=""))
    await reflecting.read()
    waiting = asyncio.create_task(rpc.has_work(wait=PATIENCE))
    await asyncio.sleep(0.05)

    began = asyncio.get_running_loop().time()
    await rpc.registry.drain(30)
    await rpc.server.finish(30)
    rpc.registry.dismiss_watchers()
    await rpc.server.stop(30)
    took = asyncio.get_running_loop().time() - began

    assert took < 15, "well below the grace time"
    await waiting
    assert (await watching.read()).end.resume_revision == rpc.state().revision
    with refused("UNAVAILABLE", "DRAINING"):
        await updates.read()
        raise_if_ended(await updates.code())
    assert await loading.code() is grpc.StatusCode.UNAVAILABLE
    assert rpc.state().task_count == 2, "the load that was not complete is not applied"


def raise_if_ended(code: grpc.StatusCode) -> None:
    metadata = grpc.aio.Metadata()
    raise grpc.aio.AioRpcError(code, metadata, metadata)


async def test_many_clients_at_once_each_on_a_connection_of_its_own(rpc: Rpc):
    """20 clients with a swarm each: load, tick, news, to the end, all at the same time."""

    async def study(number: int) -> int:
        name = f"swarm-{number}"
        scheduler = SchedulerServiceStub(rpc.another_channel())
        await rpc.create(name)
        await rpc.add(whole([a_task(n, *([n - 10] if n > 10 else [])) for n in range(1, 51)], swarm_id=name))
        ran = 0
        while not (await scheduler.HasWork(scheduler_service_pb2.HasWorkRequest(swarm_id=name))).finished:
            answer = await scheduler.Tick(scheduler_service_pb2.TickRequest(swarm_id=name))
            for batch in answer.batches:
                ran += len(batch.task_ids)
                await rpc.tell("DONE", *batch.task_ids, swarm_id=name)
        return ran

    assert await asyncio.gather(*(study(number) for number in range(20))) == [50] * 20


async def test_a_client_that_sends_messages_larger_than_allowed_is_told(home: Path):
    """By the limit's name, whichever kind of call it is; much larger ones are turned away by gRPC itself."""
    async with serving(home, rpc_limits=RpcLimits(max_message_bytes=2048)) as rpc:
        with refused("RESOURCE_EXHAUSTED", "MESSAGE_TOO_LARGE") as unary:
            await rpc.create(display_name="x" * 4000)
        await rpc.create()
        with refused("RESOURCE_EXHAUSTED", "MESSAGE_TOO_LARGE") as load:
            await rpc.add(whole([a_task(1, command="x" * 3000)]))
        with refused("RESOURCE_EXHAUSTED", "MESSAGE_TOO_LARGE") as stream:
            await rpc.apply(update(1, ("DONE", [1 << 40] * 500)))
        assert [each.metadata["limit"] for each in (unary, load, stream)] == ["max_message_bytes"] * 3
        with refused("RESOURCE_EXHAUSTED"):
            await rpc.create(display_name="x" * 40_000)
        assert (await rpc.get()).task_counts.total == 0


def test_a_client_program_can_be_tested_without_a_daemon():
    """The contract works with grpcio-testing: what a user's own tests would do with it."""
    service = scheduler_service_pb2.DESCRIPTOR.services_by_name["SchedulerService"]
    channel = grpc_testing.channel([service], grpc_testing.strict_real_time())
    stub = SchedulerServiceStub(channel)
    future = stub.HasWork.future(scheduler_service_pb2.HasWorkRequest(swarm_id="s"))
    _, request, call = channel.take_unary_unary(service.methods_by_name["HasWork"])
    assert request.swarm_id == "s"
    call.send_initial_metadata(())
    call.terminate(scheduler_service_pb2.HasWorkResponse(has_work=True), (), grpc.StatusCode.OK, "")
    assert future.result().has_work
    assert swarm_service_pb2.DESCRIPTOR.services_by_name["SwarmService"].full_name in SERVICES


async def test_channelz_is_served_when_it_is_asked_for(home: Path):
    from grpc_channelz.v1 import channelz_pb2, channelz_pb2_grpc

    server = Server(Registry({}), channelz=True)
    address = server.bind(Address(path=home / "c.sock"))
    await server.start()
    async with grpc.aio.insecure_channel(address.target) as channel:
        stub = stub_of(channelz_pb2_grpc.ChannelzStub, channel)
        servers = await stub.GetServers(channelz_pb2.GetServersRequest(start_server_id=0), timeout=PATIENCE)
        assert servers.server
        with refused("NOT_FOUND"):
            await stub.GetChannel(channelz_pb2.GetChannelRequest(channel_id=1 << 40), timeout=PATIENCE)
    await server.stop(1)
