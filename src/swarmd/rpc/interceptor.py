"""One interceptor for every RPC: exceptions become statuses; what nobody expected is INTERNAL and in the log."""

import asyncio
import functools
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any

import grpc
import structlog

from swarmd.core.errors import SwarmdError, UnavailableError
from swarmd.rpc.errors import to_status

log = structlog.get_logger("swarmd.rpc")

OWN_SERVICES = "/swarm.v1."

Check = Callable[[], None]

if TYPE_CHECKING:  # generic in the stubs only
    Context = grpc.aio.ServicerContext[Any, Any]
    Handler = grpc.RpcMethodHandler[Any, Any]
else:
    Context = Handler = object


class ErrorInterceptor(grpc.aio.ServerInterceptor):
    """Wraps each handler; knows nothing of what the handlers do."""

    def __init__(self, check: Callable[[], None] = lambda: None) -> None:
        """`check` raises when none of our own services may be called just now."""
        self._check = check
        self._answering: set[asyncio.Task[object]] = set()

    async def answered(self, grace: float) -> None:
        """Wait, no longer than the grace time, until every call under way that answers once has done so."""
        if self._answering:
            await asyncio.wait(self._answering, timeout=grace)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """The handler with its errors mapped."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return handler
        name = handler_call_details.method
        check = self._check if name.startswith(OWN_SERVICES) else _no_check
        if handler.unary_unary:
            return _remade(grpc.unary_unary_rpc_method_handler, self._answer(handler.unary_unary, name, check), handler)
        if handler.stream_unary:
            answer = self._answer(handler.stream_unary, name, check)
            return _remade(grpc.stream_unary_rpc_method_handler, answer, handler)
        if handler.unary_stream:
            stream = _streaming(handler.unary_stream, name, check)
            return _remade(grpc.unary_stream_rpc_method_handler, stream, handler)
        if handler.stream_stream:
            stream = _streaming(handler.stream_stream, name, check)
            return _remade(grpc.stream_stream_rpc_method_handler, stream, handler)
        return handler

    def _answer(self, behavior: Callable[..., Any], name: str, check: Check) -> Callable[..., Any]:
        call = _answering(behavior, name, check)

        @functools.wraps(behavior)
        async def counted(request: object, context: Context) -> object:
            task = asyncio.current_task()
            if task is not None:
                self._answering.add(task)
                task.add_done_callback(self._answering.discard)
            return await call(request, context)

        return counted


def _no_check() -> None:
    return


def _remade(make: Callable[..., Handler], behavior: object, handler: Handler) -> Handler:
    return make(
        behavior,
        request_deserializer=handler.request_deserializer,
        response_serializer=handler.response_serializer,
    )


def _answering(behavior: Callable[..., Any], name: str, check: Check) -> Callable[..., Any]:
    @functools.wraps(behavior)
    async def call(request: object, context: Context) -> object:
        try:
            check()
            return await behavior(request, context)
        except Exception as error:
            await _end(error, context, name)
            raise  # not reached: the context raises to end the call

    return call


def _streaming(behavior: Callable[..., Any], name: str, check: Check) -> Callable[..., Any]:
    @functools.wraps(behavior)
    async def call(request: object, context: Context) -> AsyncIterator[object]:
        try:
            check()
            responses = behavior(request, context)
            if inspect.iscoroutine(responses):  # it writes to the context itself, as grpcio's own health service does
                await responses
                return
            async for response in responses:
                yield response
        except Exception as error:  # noqa: BLE001 - every exception ends as a status
            await _end(error, context, name)

    return call


async def _end(error: Exception, context: Context, name: str) -> None:
    """End the call with the status of the error; an abort that the handler itself began goes on."""
    if isinstance(error, SwarmdError):
        quiet = not isinstance(error, UnavailableError)
        log.log(10 if quiet else 30, "call refused", rpc=name, reason=error.reason, error=error.message)
        await context.abort_with_status(to_status(error))
    if isinstance(error, (grpc.aio.AbortError, grpc.aio.UsageError)):
        raise error
    log.error("call failed", rpc=name, exc_info=error)
    await context.abort(grpc.StatusCode.INTERNAL, "an error inside swarmd; its log says more")
