"""HTTP/2 by hand (RFC 9113, RFC 7541): frames as an attacker sends them, right or wrong. No library refuses to."""

import socket
import struct
from collections.abc import Iterable
from enum import IntEnum
from pathlib import Path

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

END_STREAM, ACK, END_HEADERS = 0x1, 0x1, 0x4
INITIAL_WINDOW_SIZE = 0x4


class Kind(IntEnum):
    """Types of frames."""

    DATA = 0
    HEADERS = 1
    RST_STREAM = 3
    SETTINGS = 4
    PING = 6
    WINDOW_UPDATE = 8
    CONTINUATION = 9


def frame(kind: int, payload: bytes = b"", *, flags: int = 0, stream: int = 0) -> bytes:
    """Any frame."""
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def settings(values: Iterable[tuple[int, int]] = (), *, ack: bool = False) -> bytes:
    return frame(Kind.SETTINGS, b"".join(struct.pack(">HI", *each) for each in values), flags=ACK if ack else 0)


def hello(values: Iterable[tuple[int, int]] = ()) -> bytes:
    """How a client begins."""
    return PREFACE + settings(values)


def header_block(fields: Iterable[tuple[str, str]]) -> bytes:
    """Literal fields that are not indexed, names and values as they are."""
    return b"".join(b"\0" + _text(name) + _text(value) for name, value in fields)


def _text(text: str) -> bytes:
    data = text.encode()
    return _number(len(data)) + data


def _number(value: int) -> bytes:
    """RFC 7541, 5.1, with a prefix of seven bits."""
    if value < 127:
        return bytes([value])
    value, out = value - 127, bytearray([127])
    while value >= 128:
        out.append(value % 128 + 128)
        value //= 128
    return bytes([*out, value])


def request_fields(method: str, token: str | None = None) -> list[tuple[str, str]]:
    """The headers of a gRPC call."""
    fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", method),
        (":authority", "localhost"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
    ]
    return [*fields, ("authorization", f"Bearer {token}")] if token is not None else fields


def request(stream: int, method: str, message: bytes = b"", *, token: str | None = None) -> bytes:
    """A whole call of one message."""
    block = header_block(request_fields(method, token))
    prefixed = b"\0" + struct.pack(">I", len(message)) + message
    return frame(Kind.HEADERS, block, flags=END_HEADERS, stream=stream) + frame(
        Kind.DATA, prefixed, flags=END_STREAM, stream=stream
    )


def reset(stream: int, error: int = 8) -> bytes:
    """RST_STREAM; 8 is CANCEL."""
    return frame(Kind.RST_STREAM, struct.pack(">I", error), stream=stream)


def connect(address: str, seconds: float = 5.0) -> socket.socket:
    """A plain connection to `HOST:PORT` or `unix:PATH`."""
    if address.startswith("unix:"):
        found = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        found.settimeout(seconds)
        found.connect(str(Path(address.removeprefix("unix:"))))
        return found
    host, _, port = address.rpartition(":")
    return socket.create_connection((host.strip("[]"), int(port)), timeout=seconds)
