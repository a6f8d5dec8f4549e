"""Calls of methods that do not exist, by names that are no text, and with headers that are none: each is answered."""

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
import structlog
from grpc._cython import cygrpc

from swarmd._pb.swarm.v1 import swarm_service_pb2
from swarmd._pb.swarm.v1.swarm_service_pb2_grpc import SwarmServiceStub
from swarmd.rpc import sturdy
from swarmd.rpc.sturdy import SturdyServer, sturdy_server
from swarmd.tokens import TOKEN_NAME, read_token
from tests.daemon import DaemonProcess, running, until
from tests.security import http2
from tests.security.calls import GUARDED, RPCS, Rpc, bearer, call, channel_to

pytestmark = pytest.mark.e2e
LIST = "/swarm.v1.SwarmService/ListSwarms"
SECONDS = 10.0


@pytest.fixture(scope="module")
def daemon() -> Iterator[DaemonProcess]:
    with running("--listen", "127.0.0.1:0", "--channelz", "--log-level", "debug") as found:
        yield found


@pytest.fixture(scope="module")
def token(daemon: DaemonProcess) -> str:
    return read_token(Path(daemon.ready["state_dir"]) / TOKEN_NAME)


@pytest.fixture
def channel(daemon: DaemonProcess) -> Iterator[grpc.Channel]:
    with channel_to(daemon.address) as found:
        yield found


def answer_to(daemon: DaemonProcess, block: bytes) -> bytes:
    """What a call with these headers is answered, as bytes."""
    words = http2.hello() + http2.frame(http2.Kind.HEADERS, block, flags=5, stream=1)
    with http2.connect(daemon.address, SECONDS) as connection:
        connection.sendall(words)
        heard = b""
        while b"grpc-status" not in heard and (more := connection.recv(65536)):
            heard += more
    return heard


@pytest.mark.parametrize("odd", [b"\xff", b"\xc3", b"\xed\xa0\x80", b"\x00", b"\x80" * 200], ids=repr)
def test_a_path_that_is_no_text_is_answered_and_nothing_ends(daemon: DaemonProcess, token: str, odd: bytes):
    for shown in (token, None):
        block = http2.header_block(http2.request_fields("/a.B/C" + "@" * len(odd), shown))
        answer_to(daemon, block.replace(b"@" * len(odd), odd))
        with channel_to(daemon.address) as channel:
            assert call(channel, Rpc(LIST, False, False), bearer(token)).code is grpc.StatusCode.OK
    assert "Traceback" not in daemon.log


@pytest.mark.parametrize("path", ["/swarm.v1.SwarmService/Nothing", "/nobody.v1.Nothing/Nothing", "/unknown", "/x/"])
def test_a_method_that_does_not_exist_is_unimplemented(channel: grpc.Channel, token: str, path: str):
    for streams in (False, True):
        assert call(channel, Rpc(path, streams, streams), bearer(token)).code is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("rpc", RPCS, ids=str)
def test_every_method_of_every_service_is_found(channel: grpc.Channel, token: str, rpc: Rpc):
    code = call(channel, rpc, bearer(token)).code
    assert code not in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN)
    left_out = rpc.path == "/grpc.health.v1.Health/List"  # by grpcio's own health service
    assert (code is grpc.StatusCode.UNIMPLEMENTED) == left_out


def test_the_installed_grpcio_is_one_that_the_sturdy_server_fits():
    assert sturdy._fits(), "its inner parts have changed: look at rpc/sturdy.py and at what this test file says of it"


async def test_another_grpcio_gives_its_own_server_and_a_warning(monkeypatch: pytest.MonkeyPatch):
    assert isinstance(sturdy_server([], []), SturdyServer)
    monkeypatch.delattr(cygrpc, "_handle_rpc")
    with structlog.testing.capture_logs() as lines:
        server = sturdy_server([], [])
    assert not isinstance(server, SturdyServer)
    assert "this grpcio is another one" in lines[0]["event"]


@pytest.mark.parametrize("rpc", [each for each in GUARDED if each.path.startswith("/swarm.")], ids=str)
def test_a_message_that_is_none_is_refused_in_plain_words(channel: grpc.Channel, token: str, rpc: Rpc):
    outcome = call(channel, rpc, bearer(token), b"\xff\xff\xff")
    assert (outcome.code, outcome.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "MALFORMED_MESSAGE")


def test_a_token_in_a_header_that_is_no_text_is_not_in_the_log(daemon: DaemonProcess, token: str):
    for name in ("authorization", "x-other"):
        fields = http2.header_block([*http2.request_fields(LIST), (name, f"Bearer {token}@@")])
        answer_to(daemon, fields.replace(b"@@", b"\xff\xff"))
    with channel_to(daemon.address) as channel:
        call(channel, Rpc("/swarm.v1.SwarmService/GetTask", False, False), bearer("marker"))
    until(lambda: "SwarmService/GetTask" in daemon.log, "the log is written")
    assert token not in daemon.log


def test_headers_in_many_frames_are_bounded_together(daemon: DaemonProcess, token: str):
    first = http2.frame(http2.Kind.HEADERS, http2.header_block(http2.request_fields(LIST, token)), flags=1, stream=1)
    more = http2.header_block([("x-filler", "a" * 1000)])
    frames = [
        http2.frame(http2.Kind.CONTINUATION, more, flags=http2.END_HEADERS * (number == 29), stream=1)
        for number in range(30)
    ]
    with http2.connect(daemon.address, SECONDS) as connection:
        connection.sendall(http2.hello() + first + b"".join(frames))
        heard = b""
        while b"max_header_bytes" not in heard and (part := connection.recv(65536)):
            heard += part
    assert b"max_header_bytes" in heard


@pytest.mark.parametrize(("size", "code"), [(15_000, grpc.StatusCode.OK), (17_000, grpc.StatusCode.RESOURCE_EXHAUSTED)])
def test_headers_are_let_in_or_refused_by_their_size_and_not_by_chance(
    daemon: DaemonProcess, size: int, code: grpc.StatusCode
):
    request = swarm_service_pb2.ListSwarmsRequest()
    with channel_to(daemon.address) as channel:
        stub = SwarmServiceStub(channel)
        metadata = (("x-filler", "x" * size), ("authorization", f"Bearer {daemon.token}"))
        calls = [stub.ListSwarms.future(request, metadata=metadata, timeout=60) for _ in range(20)]
        assert {call.code() for call in calls} == {code}
        assert all(("max_header_bytes" in (call.details() or "")) == (code is not grpc.StatusCode.OK) for call in calls)
