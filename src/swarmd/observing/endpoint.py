"""The port at which Prometheus reads metrics: HTTP, `GET /metrics` and nothing else.

Whoever is slow, says too much or comes in crowds is cut off; nothing of it reaches the rest of the daemon.
"""

import asyncio
import contextlib
from collections.abc import Callable

from swarmd.addresses import Address, parse_address
from swarmd.core.errors import InvalidInputError, UnavailableError
from swarmd.loggers import get_logger

log = get_logger("swarmd.metrics")

LONGEST_HEAD = 8192
MAX_CONNECTIONS = 16
PATIENCE_SECONDS = 5.0
"""For the request, and again for taking the answer."""
FRESH_SECONDS = 0.5
"""So long one page serves everybody: a crowd of readers costs no more than one."""

Capture = Callable[[], Callable[[], bytes]]
"""Takes the numbers now; gives what writes them, in another thread."""


class MetricsEndpoint:
    """Serves the page until it is closed."""

    def __init__(self, capture: Capture, content_type: str, *, patience: float = PATIENCE_SECONDS) -> None:
        self._capture = capture
        self._content_type = content_type
        self._patience = patience
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._page = b""
        self._page_at = float("-inf")
        self._writing = asyncio.Lock()

    async def listen(self, where: str) -> Address:
        """Listen at HOST:PORT; the answer has the port that was picked for port 0.

        Raises InvalidInputError for what is no such address, and UnavailableError when it cannot be had.
        """
        address = parse_address(where)
        if address.path is not None:
            message = f"metrics: {where!r} cannot be used; write HOST:PORT, as Prometheus reads over TCP"
            raise InvalidInputError(message, reason="INVALID_ADDRESS", field="metrics")
        try:
            self._server = await asyncio.start_server(
                self._serve, address.host, address.port, limit=LONGEST_HEAD, backlog=MAX_CONNECTIONS
            )
        except OSError as error:
            message = f"metrics: cannot listen at {where} ({error.strerror}); give another --metrics HOST:PORT"
            raise UnavailableError(message, reason="ADDRESS_IN_USE", field="metrics") from error
        port = self._server.sockets[0].getsockname()[1]
        return Address(host=address.host, port=int(port))

    async def close(self) -> None:
        """Stop listening, and cut off who still reads."""
        if self._server is None:
            return
        self._server.close()
        for writer in tuple(self._open):
            writer.transport.abort()
        await self._server.wait_closed()
        self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._open) >= MAX_CONNECTIONS:
            writer.transport.abort()
            return
        self._open.add(writer)
        try:
            async with asyncio.timeout(self._patience):
                head = await reader.readuntil(b"\r\n\r\n")
            answer = await self._answer(head)
            async with asyncio.timeout(self._patience):
                writer.write(answer)
                await writer.drain()
                writer.close()
                await writer.wait_closed()
        except asyncio.LimitOverrunError:
            writer.write(_response("431 Request Header Fields Too Large", b"the request is too long\n"))
        except (TimeoutError, asyncio.IncompleteReadError, OSError):
            writer.transport.abort()
        except Exception:
            log.exception("the metrics could not be written")
            writer.write(_response("500 Internal Server Error", b"an error inside swarmd; its log says more\n"))
        finally:
            self._open.discard(writer)
            with contextlib.suppress(OSError):
                writer.close()

    async def _answer(self, head: bytes) -> bytes:
        words = head.split(b"\r\n", 1)[0].split(b" ")
        if len(words) != 3 or not words[2].startswith(b"HTTP/1."):
            return _response("400 Bad Request", b"that is no HTTP request\n")
        method, path = words[0], words[1].partition(b"?")[0]
        if path != b"/metrics":
            return _response("404 Not Found", b"there is nothing here but /metrics\n")
        if method not in (b"GET", b"HEAD"):
            return _response("405 Method Not Allowed", b"only GET\n", more="Allow: GET, HEAD\r\n")
        page = await self._fresh_page()
        return _response("200 OK", page, content_type=self._content_type, body_too=method == b"GET")

    async def _fresh_page(self) -> bytes:
        async with self._writing:
            now = asyncio.get_running_loop().time()
            if now - self._page_at > FRESH_SECONDS:
                self._page = await asyncio.to_thread(self._capture())
                self._page_at = now
            return self._page


def _response(
    status: str,
    body: bytes,
    *,
    content_type: str = "text/plain; charset=utf-8",
    more: str = "",
    body_too: bool = True,
) -> bytes:
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
        f"X-Content-Type-Options: nosniff\r\nConnection: close\r\n{more}\r\n"
    )
    return head.encode() + (body if body_too else b"")
