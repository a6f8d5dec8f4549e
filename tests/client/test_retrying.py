"""What is tried again: one table, which knows every RPC, and a daemon that is restarted while it is called."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from swarmd import tokens
from swarmd._pb.swarm.v1 import scheduler_service_pb2, swarm_service_pb2
from swarmd.client import NoDaemonError, RpcError, SwarmClient, UnavailableError
from swarmd.client.errors import CLASSES, error_of
from swarmd.client.finding import TOKEN_NAME
from swarmd.client.retrying import REPEATABLE, STREAMED, Patience, may_repeat, service_config
from tests.client.relay import Scene, scene

NEVER_BY_ITSELF = {"DeleteSwarm", "CancelTasks", "ResetTasks", "ApplyUpdate", "WatchSwarm"}
LOST = NoDaemonError("lost", address="unix:/x")
STOPS = error_of("UNAVAILABLE", "it stops", reason="DRAINING", retry_after=1.0)


def rpcs() -> dict[str, str]:
    """Every RPC of the two services, with its service."""
    services = [
        scheduler_service_pb2.DESCRIPTOR.services_by_name["SchedulerService"],
        swarm_service_pb2.DESCRIPTOR.services_by_name["SwarmService"],
    ]
    return {method.name: service.full_name for service in services for method in service.methods}


def test_every_rpc_is_either_repeatable_or_known_not_to_be():
    assert rpcs().keys() == REPEATABLE | NEVER_BY_ITSELF
    assert not REPEATABLE & NEVER_BY_ITSELF


def test_grpc_repeats_what_is_repeatable_and_no_stream_and_only_when_unavailable():
    (config,) = json.loads(service_config())["methodConfig"]
    assert {name["method"] for name in config["name"]} == REPEATABLE - STREAMED
    assert all(rpcs()[name["method"]] == name["service"] for name in config["name"])
    assert config["retryPolicy"]["retryableStatusCodes"] == ["UNAVAILABLE"]


@pytest.mark.parametrize("code", [*CLASSES, "INTERNAL", "UNKNOWN", "CANCELLED", "ABORTED", "DATA_LOSS"])
def test_nothing_but_unavailable_is_ever_tried_again(code: str):
    error = error_of(code, "no", retry_after=1.0)
    assert may_repeat(error, repeatable=True, reached=True) == (code == "UNAVAILABLE")


@pytest.mark.parametrize(
    ("error", "repeatable", "reached", "again"),
    [
        (STOPS, False, True, True),  # it has done nothing
        (LOST, True, True, True),
        (LOST, False, True, False),  # it may have been done
        (LOST, True, False, False),  # there may never be one
    ],
)
def test_a_lost_call_is_another_matter_than_one_that_was_put_off(error: RpcError, repeatable, reached, again):
    assert may_repeat(error, repeatable=repeatable, reached=reached) == again


def test_pauses_grow_up_to_a_bound_and_are_as_long_as_the_daemon_says():
    patience = Patience(60)
    pauses = [patience._next_pause(LOST) for _ in range(20)]
    assert 0.05 <= pauses[0] <= 0.1
    assert all(1 <= pause <= 2 for pause in pauses[6:])
    assert all(1 <= patience._next_pause(STOPS) <= 1.25 for _ in range(20))


async def test_no_patience_is_no_second_try():
    with pytest.raises(UnavailableError):
        await Patience(0).pause(LOST)


def test_client_and_daemon_mean_the_same_file():
    assert TOKEN_NAME == tokens.TOKEN_NAME


@pytest_asyncio.fixture
async def stage() -> AsyncIterator[Scene]:
    async with scene() as made:
        yield made


@pytest.mark.e2e
async def test_a_daemon_that_is_restarted_in_an_orderly_way_is_waited_for(stage: Scene):
    async with SwarmClient(stage.address) as client:
        await client.create_swarm("before", gateway="pull")
        stage.daemon.signal(signal.SIGTERM)
        making = asyncio.gather(*(client.create_swarm(f"after-{number}", gateway="pull") for number in range(10)))
        assert await asyncio.to_thread(stage.daemon.wait) == 0
        await stage.start()
        await making
        assert len(await client.swarms()) == 11


@pytest.mark.e2e
async def test_a_broken_connection_is_mended_by_grpc_itself(stage: Scene):
    async with SwarmClient(stage.relay.address) as client:
        await client.connect()
        stage.relay.cut()
        protocol = client.protocol
        request = swarm_service_pb2.ListSwarmsRequest()
        assert not (await protocol._swarms.ListSwarms(request, timeout=10)).swarms
