"""Calls to Jobmon's server over HTTP: a connection and a deadline for each; `failures` has what can go wrong.

A connection is never used twice: after an error the newer servers drop theirs, so that the next call on it would be
lost, and a slow call cannot be in the way of another.
"""

import asyncio
import json
import random
import ssl
from collections.abc import Awaitable, Callable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from swarmd.core.errors import InvalidInputError
from swarmd.gateways.jobmon.failures import CallError, LostError, NoRouteError, NotDoneError, RefusedError, failure

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")

CONNECT_SECONDS = 5.0
MUCH_BYTES = 256 * 1024
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.1, 5.0


class HttpServer:
    """The way to one server. `open` first; `close` ends all calls."""

    def __init__(self, url: str, *, query: Mapping[str, str], ca_file: Path | None = None) -> None:
        self.url = url
        self._query = dict(query)
        self._ca_file = ca_file
        self._client: httpx.AsyncClient | None = None

    async def open(self) -> None:
        """Get ready. Raises InvalidInputError for a CA file that cannot be used."""
        httpx = await asyncio.to_thread(import_module, "httpx")
        verify = await asyncio.to_thread(self._trusted)
        self._client = httpx.AsyncClient(
            verify=verify,
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
            headers={"Content-Type": "application/json", "Connection": "close"},
            trust_env=False,
        )

    async def close(self) -> None:
        """End all calls."""
        if self._client is not None:
            await self._client.aclose()

    async def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        seconds: float,
        read: Callable[[bytes], Any] = json.loads,
        **query: object,
    ) -> Any:
        """The answer to one call, which is made once. Raises RefusedError, NotDoneError or LostError.

        `read` gets what is answered, in another thread when that is much; it raises ValueError.
        """
        what = f"{method} {path}"
        if self._client is None:
            raise NotDoneError(f"{what}: not connected")
        import httpx

        params = httpx.QueryParams([*self._query.items(), *_pairs(query)])
        never_sent = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)
        timeout = httpx.Timeout(seconds, connect=min(seconds, CONNECT_SECONDS))
        try:
            async with asyncio.timeout(seconds):
                answer = await self._client.request(
                    method,
                    self.url + path,
                    content=None if body is None else json.dumps(body).encode(),
                    params=params,
                    timeout=timeout,
                )
        except (httpx.InvalidURL, UnicodeError) as error:
            raise RefusedError(f"{what}: {self.url} is no URL that can be called: {_said(error)}") from error
        except never_sent as error:
            raise NotDoneError(f"{what}: {self.url} cannot be reached: {_said(error)}") from error
        except (httpx.HTTPError, TimeoutError) as error:
            raise LostError(f"{what}: no answer from {self.url}: {_said(error)}") from error
        wrong = failure(answer.status_code, answer.content, what)
        if wrong is not None:
            raise wrong
        try:
            is_much = len(answer.content) >= MUCH_BYTES
            return await asyncio.to_thread(read, answer.content) if is_much else read(answer.content)
        except ValueError as error:
            raise LostError(f"{what}: an answer of {self.url} is no JSON: {error}") from error

    def _trusted(self) -> ssl.SSLContext | bool:
        if not self.url.startswith("https:"):
            return False  # nothing to trust, and the system's CAs take long to read
        if self._ca_file is None:
            return ssl.create_default_context()
        try:
            return ssl.create_default_context(cafile=self._ca_file)
        except (OSError, ssl.SSLError) as error:
            message = f"[gateways.jobmon] ca_file: {self._ca_file} cannot be used: {error}"
            raise InvalidInputError(message, field="gateways.jobmon.ca_file") from None


def _pairs(query: Mapping[str, object]) -> Iterator[tuple[str, str | int | float | bool | None]]:
    """The query's names with their values; a list is a name that comes several times."""
    for name, given in query.items():
        for value in given if isinstance(given, list) else [given]:
            yield name, str(value)


def _said(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "it took too long"
    return str(error) or type(error).__name__


async def insist(make: Callable[[], Awaitable[T]], *, seconds: float) -> T:
    """The answer to a call that may be repeated, made again and again for so long. Raises what it raised last."""
    loop = asyncio.get_running_loop()
    until, pause = loop.time() + seconds, FIRST_PAUSE_SECONDS
    while True:
        try:
            return await make()
        except (RefusedError, NoRouteError):
            raise
        except CallError:
            waits = pause * random.uniform(0.5, 1.5)  # noqa: S311 (so that many clients do not come together)
            if loop.time() + waits > until:
                raise
            await asyncio.sleep(waits)
            pause = min(LONGEST_PAUSE_SECONDS, 2 * pause)
