"""Callers over TCP without a token, with somebody else's, with one of yesterday, and with one that may only look."""

import signal
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from swarmd._pb.swarm.v1 import swarm_pb2, swarm_service_pb2
from swarmd._pb.swarm.v1.swarm_service_pb2_grpc import SwarmServiceStub
from swarmd.rpc.guard import CHANGING, READING
from swarmd.tokens import READ_ONLY_NAME, TOKEN_NAME, read_token, renew
from tests.daemon import DaemonProcess, running, until
from tests.security.calls import GUARDED, HEALTH, Metadata, Rpc, bearer, call, channel_to

pytestmark = pytest.mark.e2e
REFUSED = grpc.StatusCode.UNAUTHENTICATED
LIST = Rpc("/swarm.v1.SwarmService/ListSwarms", client_streaming=False, server_streaming=False)


@pytest.fixture(scope="module")
def daemon() -> Iterator[DaemonProcess]:
    with running("--listen", "127.0.0.1:0", "--channelz", "--log-level", "debug") as found:
        yield found


@pytest.fixture
def channel(daemon: DaemonProcess) -> Iterator[grpc.Channel]:
    with channel_to(daemon.address) as found:
        yield found


def state_of(daemon: DaemonProcess) -> Path:
    return Path(daemon.ready["state_dir"])


@pytest.mark.parametrize("rpc", GUARDED, ids=str)
def test_nothing_but_health_answers_without_a_token(channel: grpc.Channel, rpc: Rpc):
    outcome = call(channel, rpc)
    assert (outcome.code, outcome.reason) == (REFUSED, "NO_TOKEN")


@pytest.mark.parametrize("rpc", [each for each in HEALTH if each.path.endswith("Check")], ids=str)
def test_health_is_for_everybody(channel: grpc.Channel, rpc: Rpc):
    assert call(channel, rpc).code is grpc.StatusCode.OK
    assert call(channel, rpc, bearer("wrong")).code is grpc.StatusCode.OK


def test_what_does_not_exist_looks_to_strangers_like_what_does(channel: grpc.Channel):
    real = call(channel, LIST)
    for path in ("/swarm.v1.SwarmService/Nothing", "/nobody.v1.Nothing/Nothing", "/x"):
        assert call(channel, Rpc(path, False, False)) == real


WRONG: dict[str, Metadata] = {
    "empty": (("authorization", ""),),
    "only the scheme": (("authorization", "Bearer"),),
    "an empty token": (("authorization", "Bearer "),),
    "another token": bearer("A" * 43),
    "very long": bearer("A" * 5000),
    "basic": (("authorization", "Basic dXNlcjpwYXNz"),),
    "two tokens in one": bearer("A B"),
    "a digest of nothing": bearer("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
}


@pytest.mark.parametrize("metadata", WRONG.values(), ids=WRONG)
def test_a_wrong_token_is_none(channel: grpc.Channel, metadata: Metadata):
    outcome = call(channel, LIST, metadata)
    assert (outcome.code, outcome.reason) == (REFUSED, "WRONG_TOKEN")


def test_the_right_token_counts_nowhere_else(daemon: DaemonProcess, channel: grpc.Channel):
    token = read_token(state_of(daemon) / TOKEN_NAME)
    for name in ("token", "x-authorization", "authorization-bin", "cookie"):
        value = token.encode() if name.endswith("-bin") else f"Bearer {token}"
        outcome = call(channel, LIST, ((name, value),))
        assert (outcome.code, outcome.reason) == (REFUSED, "NO_TOKEN")
    for shown in (token.upper(), token[:-1], token + "x", token[::-1]):
        assert call(channel, LIST, bearer(shown)).reason == "WRONG_TOKEN"
    doubled = (*bearer("wrong"), *bearer(token))
    assert call(channel, LIST, doubled).code is REFUSED
    assert call(channel, LIST, bearer(token)).code is grpc.StatusCode.OK


@pytest.mark.parametrize("rpc", GUARDED, ids=str)
def test_a_read_only_token_looks_and_changes_nothing(daemon: DaemonProcess, channel: grpc.Channel, rpc: Rpc):
    look = bearer(read_token(state_of(daemon) / READ_ONLY_NAME))
    outcome = call(channel, rpc, look)
    if rpc.path in CHANGING:
        assert (outcome.code, outcome.reason) == (grpc.StatusCode.PERMISSION_DENIED, "READ_ONLY_TOKEN")
    elif rpc.path in READING:
        assert outcome.code not in (grpc.StatusCode.PERMISSION_DENIED, REFUSED)
    else:
        assert rpc.path.startswith("/grpc.channelz.")


def test_a_read_only_call_leaves_no_trace(daemon: DaemonProcess, channel: grpc.Channel):
    stub = SwarmServiceStub(channel)
    look, full = (bearer(read_token(state_of(daemon) / name)) for name in (READ_ONLY_NAME, TOKEN_NAME))
    request = swarm_service_pb2.CreateSwarmRequest(swarm=swarm_pb2.Swarm(swarm_id="sneaky"))
    with pytest.raises(grpc.RpcError):
        stub.CreateSwarm(request, metadata=look)
    assert not stub.ListSwarms(swarm_service_pb2.ListSwarmsRequest(), metadata=full).swarms
    assert not (state_of(daemon) / "swarms" / "sneaky").exists()


def test_renewed_tokens_end_the_old_ones_at_sighup():
    with running("--listen", "127.0.0.1:0") as daemon, channel_to(daemon.address) as channel:
        state = state_of(daemon)
        old = [read_token(state / name) for name in (TOKEN_NAME, READ_ONLY_NAME)]
        assert call(channel, LIST, bearer(old[0])).code is grpc.StatusCode.OK
        renew(state)
        daemon.signal(signal.SIGHUP)
        until(lambda: call(channel, LIST, bearer(old[0])).reason == "WRONG_TOKEN", "the old token is refused")
        assert call(channel, LIST, bearer(old[1])).reason == "WRONG_TOKEN"
        for name in (TOKEN_NAME, READ_ONLY_NAME):
            assert call(channel, LIST, bearer(read_token(state / name))).code is grpc.StatusCode.OK
        current = read_token(state / TOKEN_NAME)
        (state / TOKEN_NAME).write_text("two words\n")
        daemon.signal(signal.SIGHUP)
        until(lambda: "not reloaded" in daemon.log, "the log says that nothing was reloaded")
        assert call(channel, LIST, bearer(current)).code is grpc.StatusCode.OK


def test_no_token_is_ever_in_the_log_or_among_the_arguments(daemon: DaemonProcess, channel: grpc.Channel):
    tokens = [read_token(state_of(daemon) / name) for name in (TOKEN_NAME, READ_ONLY_NAME)]
    for token in tokens:
        call(channel, LIST, bearer(token))
        call(channel, LIST, bearer(token + "x"))
    until(lambda: "WRONG_TOKEN" in daemon.log, "the refusal is in the log")
    arguments = Path(f"/proc/{daemon.process.pid}/cmdline").read_bytes().decode()
    assert not [token for token in tokens if token in daemon.log or token in arguments]


def test_a_socket_needs_no_token_and_looks_at_one_that_is_shown():
    with running() as daemon, channel_to(daemon.address) as channel:
        assert call(channel, LIST).code is grpc.StatusCode.OK
        assert call(channel, LIST, bearer("wrong")).reason == "WRONG_TOKEN"
        look = bearer(read_token(state_of(daemon) / READ_ONLY_NAME))
        assert call(channel, LIST, look).code is grpc.StatusCode.OK
        create = Rpc("/swarm.v1.SwarmService/CreateSwarm", False, False)
        assert call(channel, create, look).reason == "READ_ONLY_TOKEN"
