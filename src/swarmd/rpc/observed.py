"""What the calls look like from outside, for an Observer: how each begins, what goes to and fro, how it ends.

Stands in front of everything else, so that it sees calls that are turned away, too. Only there when somebody observes.
"""

import functools
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any

import grpc

from swarmd.observing.observer import CallEnd, Metadata, Observer
from swarmd.observing.subject import REFUSAL
from swarmd.rpc.guard import CHANGING, READING

OTHER = "other"
"""Every method that is none of ours: callers could make up names without end."""

if TYPE_CHECKING:  # generic in the stubs only
    Context = grpc.aio.ServicerContext[Any, Any]
    Handler = grpc.RpcMethodHandler[Any, Any]
else:
    Context = Handler = object


class ObservingInterceptor(grpc.aio.ServerInterceptor):
    """Tells an observer of every call."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._known = {*CHANGING, *READING}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """The handler, which tells."""
        handler = await continuation(handler_call_details)
        call = _Call(self._observer, handler_call_details)
        if handler is None:
            call.begin("", OTHER, answers_once=False).over("UNIMPLEMENTED", "")
            return None
        return call.told(handler, self._name(handler_call_details.method, handler))

    def _name(self, method: str, handler: Handler) -> str:
        """A call that was turned away may have any name; who was let in has called something that is there."""
        if getattr(handler, "request_deserializer", None) is not None:
            self._known.add(method)
        return method.removeprefix("/") if method in self._known else OTHER


class _Call:
    """One call, from its headers on."""

    __slots__ = ("_metadata", "_observer")

    def __init__(self, observer: Observer, details: grpc.HandlerCallDetails) -> None:
        self._observer = observer
        self._metadata: Metadata = details.invocation_metadata or ()

    def begin(self, peer: str, name: str, *, answers_once: bool) -> CallEnd:
        return self._observer.call(name, self._metadata, peer, answers_once=answers_once)

    def told(self, handler: Handler, name: str) -> Handler:
        sizes: list[int] = []
        read = handler.request_deserializer

        def sized(message: bytes) -> object:
            sizes.append(len(message))
            try:
                return message if read is None else read(message)
            except Exception:
                if not handler.request_streaming:  # gRPC ends the call, and the handler never hears of it
                    self.begin("", name, answers_once=False).over("UNKNOWN", "")
                raise

        if handler.response_streaming:
            stream: Any = handler.stream_stream if handler.request_streaming else handler.unary_stream
            made = (
                grpc.stream_stream_rpc_method_handler
                if handler.request_streaming
                else grpc.unary_stream_rpc_method_handler
            )
            return made(self._streaming(stream, name, sizes), sized, handler.response_serializer)
        answer: Any = handler.stream_unary if handler.request_streaming else handler.unary_unary
        make = (
            grpc.stream_unary_rpc_method_handler if handler.request_streaming else grpc.unary_unary_rpc_method_handler
        )
        return make(self._answering(answer, name, sizes), sized, handler.response_serializer)

    def _answering(self, behavior: Callable[..., Any], name: str, sizes: list[int]) -> Callable[..., Any]:
        @functools.wraps(behavior)
        async def call(request: object, context: Context) -> object:
            end = self.begin(context.peer(), name, answers_once=True)
            code = "OK"
            try:
                answer = await behavior(request, context)
                end.answered()
            except BaseException as error:
                code = _code(error, context)
                raise
            else:
                code = _code(None, context)
                return answer
            finally:
                _tell(end, sizes)
                end.over(code, REFUSAL.get())

        return call

    def _streaming(self, behavior: Callable[..., Any], name: str, sizes: list[int]) -> Callable[..., Any]:
        @functools.wraps(behavior)
        async def call(request: object, context: Context) -> AsyncIterator[object]:
            end = self.begin(context.peer(), name, answers_once=False)
            code = "OK"
            try:
                responses = behavior(request, context)
                if inspect.iscoroutine(responses):  # it writes to the context itself, or only refuses
                    await responses
                else:
                    async for response in responses:
                        _tell(end, sizes)
                        end.answered()
                        yield response
                code = _code(None, context)
            except BaseException as error:
                code = _code(error, context)
                raise
            finally:
                _tell(end, sizes)
                end.over(code, REFUSAL.get())

        return call


def _tell(end: CallEnd, sizes: list[int]) -> None:
    for size in sizes:
        end.received(size)
    sizes.clear()


def _code(error: BaseException | None, context: Context) -> str:
    """The name of the status that the call ends with."""
    set_by_handler: object = context.code()  # a number from 0 on, or one of StatusCode
    number = set_by_handler.value[0] if isinstance(set_by_handler, grpc.StatusCode) else set_by_handler
    if number:
        return next((code.name for code in grpc.StatusCode if code.value[0] == number), "UNKNOWN")
    if error is None:
        return "OK"
    if isinstance(error, Exception):
        return "UNKNOWN"
    return "DEADLINE_EXCEEDED" if _time_is_up(context) else "CANCELLED"


def _time_is_up(context: Context) -> bool:
    left: float | None = context.time_remaining()
    return left is not None and left <= 0
