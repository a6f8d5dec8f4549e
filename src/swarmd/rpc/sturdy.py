"""A gRPC server that a path which is no UTF-8 does not end.

grpcio's server (1.85) decodes the path of a call that it does not know in its main loop, and an error there shuts the
whole server down: one header of a stranger, who needs no token, is enough. Here such calls never reach that loop. It
leans on grpcio's inner parts; with a grpcio whose parts are others, its own server is taken, and the log says so.
"""

import asyncio
import inspect
from collections.abc import Sequence
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
    return found == _PARTS and inspect.iscoroutinefunction(getattr(cygrpc.AioServer, "_request_call", None))


class _NoMethods:
    """Where a method is looked up that does not exist."""

    def resolve_handler(self, details: grpc.HandlerCallDetails) -> None:
        del details


class _SturdyCore(cygrpc.AioServer):  # type: ignore[misc, name-defined, unused-ignore]
    """Registered methods have queues of their own; what is in the general one is unknown, whatever its name."""

    def hold(self, loop: asyncio.AbstractEventLoop, interceptors: Sequence[grpc.aio.ServerInterceptor]) -> None:
        self._own_loop, self._own_interceptors = loop, tuple(interceptors)
        self._answering: set[asyncio.Task[None]] = set()

    async def _request_call(self) -> Any:
        while True:
            call = await super()._request_call()
            answer = cygrpc._handle_rpc(  # noqa: SLF001
                UNKNOWN, _NoMethods(), self._own_interceptors, call, self._own_loop, False
            )
            task = self._own_loop.create_task(cygrpc._schedule_rpc_coro(answer, call, self._own_loop, UNKNOWN))  # noqa: SLF001
            self._answering.add(task)
            task.add_done_callback(self._answering.discard)


class SturdyServer(_server.Server):
    """See `sturdy_server`."""

    def __init__(self, interceptors: Sequence[grpc.aio.ServerInterceptor], options: Sequence[tuple[str, int]]) -> None:
        self._loop = cygrpc.get_working_loop()
        self._server = _SturdyCore(self._loop, None, (), interceptors, tuple(options), None)
        self._server.hold(self._loop, interceptors)
