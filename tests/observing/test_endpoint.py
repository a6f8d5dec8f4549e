"""The port for metrics: it answers who asks properly, and is held up by nobody."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest

from swarmd.core.errors import InvalidInputError, UnavailableError
from swarmd.observing.endpoint import LONGEST_HEAD, MAX_CONNECTIONS, MetricsEndpoint

PAGE = b"some_metric 1\n"
PATIENCE = 0.2


@contextlib.asynccontextmanager
async def serving(page: bytes = PAGE, patience: float = 30.0) -> AsyncIterator[int]:
    endpoint = MetricsEndpoint(lambda: lambda: page, "text/plain", patience=patience)
    address = await endpoint.listen("127.0.0.1:0")
    try:
        yield address.port
    finally:
        await endpoint.close()


async def asked(port: int, request: bytes) -> bytes:
    """All that is answered to these bytes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    answer = await reader.read()
    writer.close()
    return answer


def get(path: str = "/metrics", method: str = "GET") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


async def test_it_gives_the_page():
    async with serving() as port:
        answer = await asked(port, get())
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Content-Type: text/plain\r\n" in head
    assert f"Content-Length: {len(PAGE)}".encode() in head
    assert body == PAGE


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (get(method="HEAD"), b"200"),
        (get("/metrics?x=1"), b"200"),
        (get("/"), b"404"),
        (get("/metrics/../../etc/passwd"), b"404"),
        (get(method="POST"), b"405"),
        (b"hello\r\n\r\n", b"400"),
        (b"\x16\x03\x01\x02\x00\r\n\r\n", b"400"),
        (b"GET /metrics SPDY/3\r\n\r\n", b"400"),
        (b"GET /metrics HTTP/1.1\r\nX: " + b"x" * 2 * LONGEST_HEAD, b"431"),
    ],
)
async def test_whatever_else_is_refused(request_bytes, status):
    async with serving() as port:
        answer = await asked(port, request_bytes)
    assert answer.split(b" ")[1] == status
    assert (PAGE in answer) == (status == b"200" and not request_bytes.startswith(b"HEAD"))


async def test_who_says_nothing_is_cut_off_and_others_are_served_meanwhile():
    async with serving(patience=PATIENCE) as port:
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        slow, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /metr")
        assert PAGE in await asked(port, get())
        for reader, _ in [*silent, (slow, writer)]:
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
        for _, each in [*silent, (slow, writer)]:
            each.close()


async def test_who_does_not_read_is_cut_off():
    """Even when there are so many of them that nobody else gets in: they have to make room."""
    page = b"x" * 20_000_000
    async with serving(page, patience=PATIENCE) as port:
        with contextlib.ExitStack() as sockets:
            for _ in range(MAX_CONNECTIONS):
                connection = sockets.enter_context(socket.socket())
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                connection.setblocking(False)
                await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", port))
                await asyncio.get_running_loop().sock_sendall(connection, get())
            await until_served(port, get("/"), b"404")


async def until_served(port: int, request: bytes, wanted: bytes) -> None:
    """Ask until the answer has this in it."""
    async with asyncio.timeout(30):
        while True:
            with contextlib.suppress(ConnectionError):
                if wanted in await asked(port, request):
                    return


async def test_a_crowd_is_turned_away_and_leaves_room_when_it_goes():
    async with serving() as port:
        crowd = [await asyncio.open_connection("127.0.0.1", port) for _ in range(MAX_CONNECTIONS)]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        for each in (writer, *(writer for _, writer in crowd)):
            each.close()
        await until_served(port, get(), PAGE)


async def test_many_readers_at_once_cost_one_page():
    made = []

    def capture():
        made.append(1)
        return lambda: PAGE

    endpoint = MetricsEndpoint(capture, "text/plain")
    port = (await endpoint.listen("127.0.0.1:0")).port
    try:
        answers = await asyncio.gather(*(asked(port, get()) for _ in range(MAX_CONNECTIONS // 2)))
    finally:
        await endpoint.close()
    assert all(PAGE in answer for answer in answers)
    assert len(made) == 1


async def test_a_page_that_cannot_be_made_is_an_error_and_the_next_one_is_tried():
    pages = iter([RuntimeError("no"), PAGE])

    def capture():
        page = next(pages)
        if isinstance(page, Exception):
            raise page
        return lambda: page

    endpoint = MetricsEndpoint(capture, "text/plain")
    port = (await endpoint.listen("127.0.0.1:0")).port
    try:
        first, second = await asked(port, get()), await asked(port, get())
    finally:
        await endpoint.close()
    assert first.startswith(b"HTTP/1.1 500")
    assert PAGE in second


@pytest.mark.parametrize("where", ["unix:/tmp/x", "localhost", "127.0.0.1:99999"])
async def test_where_it_cannot_listen_it_says_so(where):
    with pytest.raises(InvalidInputError):
        await MetricsEndpoint(lambda: lambda: PAGE, "text/plain").listen(where)


async def test_a_port_that_is_taken_is_named():
    async with serving() as port:
        with pytest.raises(UnavailableError, match=f"metrics: cannot listen at 127.0.0.1:{port}"):
            await MetricsEndpoint(lambda: lambda: PAGE, "text/plain").listen(f"127.0.0.1:{port}")
