"""A gRPC server that a path which is no UTF-8 does not end, and that a call costs less.

grpcio's server (1.85) decodes the path of a call that it does not know in its main loop, and an error there shuts the
whole server down: one header of a stranger, who needs no token, is enough. And for each call that loop looks at every
method there is, since it waits for the next call of any of them anew. Here no call reaches that loop: each method has
one of its own. It leans on grpcio's inner parts; with a grpcio whose parts are others, its own server is taken, and the
log says so.
"""

import asyncio
import inspect
from collections.abc import Mapping, Sequence
from typing import Any, cast

import grpc
from grpc._cython import cygrpc
from grpc.aio import _server

from swarmd.loggers import get_logger

log = get_logger("swarmd.rpc")

UNKNOWN = "/unknown"

_PARTS = {
    "_handle_rpc": ["method_name", "method_resolver", "interceptors", "rpc_state", "loop", "concurrency_exceeded"],
    "_schedule_rpc_coro": ["rpc_coro", "rpc_state", "loop", "method_name"],
}
_REGISTERS = "add_registered_method_handlers"


def sturdy_server(
    interceptors: Sequence[grpc.aio.ServerInterceptor], options: Sequence[tuple[str, int]]
) -> grpc.aio.Server:
    """As `grpc.aio.server` makes it. Only methods that are registered are found: generic handlers are not asked."""
    if _fits():
        return cast("grpc.aio.Server", SturdyServer(interceptors, options))
    log.warning(
        "this grpcio is another one than swarmd was made for: a call with a path that is no text can end its server; "
        "guard its addresses well, or install the version of grpcio that swarmd was tested with",
        grpcio=grpc.__version__,
    )
    return grpc.aio.server(interceptors=interceptors, options=options)


def _fits() -> bool:
    """Whether grpcio's inner parts are those that `_SturdyCore` leans on."""
    try:
        found = {name: list(inspect.signature(getattr(cygrpc, name)).parameters) for name in _PARTS}
    except (AttributeError, TypeError, ValueError):
        return False
    server = cygrpc.AioServer
    waits = (getattr(server, name, None) for name in ("_request_call", "_request_registered_call"))
    return found == _PARTS and all(map(inspect.iscoroutinefunction, waits)) and hasattr(server, _REGISTERS)


class _Methods:
    """Where the handler of a method is looked up."""

    def __init__(self) -> None:
        self.known: dict[str, Any] = {}

    def resolve_handler(self, details: grpc.HandlerCallDetails) -> Any:
        return self.known.get(details.method)


class _SturdyCore(cygrpc.AioServer):  # type: ignore[misc, name-defined, unused-ignore]
    """Registered methods have queues of their own; what is in the general one is unknown, whatever its name."""

    def hold(self, loop: asyncio.AbstractEventLoop, interceptors: Sequence[grpc.aio.ServerInterceptor]) -> None:
        self._own_loop, self._own_interceptors = loop, tuple(interceptors)
        self._methods = _Methods()
        self._answering: set[asyncio.Task[None]] = set()

    def add_registered_method_handlers(self, method_handlers: Mapping[str, Any]) -> None:
        super().add_registered_method_handlers(method_handlers)
        self._methods.known.update(method_handlers)

    async def _request_call(self) -> Any:
        while True:
            self._begin(await super()._request_call(), UNKNOWN)

    async def _request_registered_call(self, method: bytes) -> Any:
        name = method.decode()
        while True:
            self._begin(await super()._request_registered_call(method), name)

    def _begin(self, call: Any, name: str) -> None:
        """Answer a call that has come, as grpcio's main loop does."""
        loop = self._own_loop
        answer = cygrpc._handle_rpc(name, self._methods, self._own_interceptors, call, loop, False)  # noqa: SLF001
        task = loop.create_task(cygrpc._schedule_rpc_coro(answer, call, loop, name))  # noqa: SLF001
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)


class SturdyServer(_server.Server):
    """See `sturdy_server`."""

    def __init__(self, interceptors: Sequence[grpc.aio.ServerInterceptor], options: Sequence[tuple[str, int]]) -> None:
        self._loop = cygrpc.get_working_loop()
        self._server = _SturdyCore(self._loop, None, (), interceptors, tuple(options), None)
        self._server.hold(self._loop, interceptors)
