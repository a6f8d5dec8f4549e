"""One interceptor for every RPC of a door: who may call, how much at once, and exceptions become statuses.

What nobody expected is INTERNAL and in the log. Knows nothing of what the handlers do.
"""

import asyncio
import functools
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.message import DecodeError

from swarmd.core.errors import LimitExceededError, SwarmdError, UnavailableError
from swarmd.loggers import get_logger
from swarmd.observing.subject import REFUSAL
from swarmd.rpc.errors import to_status
from swarmd.rpc.guard import OPEN_SERVICE, Guard
from swarmd.rpc.headers import HeaderBound
from swarmd.rpc.traffic import Connections, Traffic
from swarmd.rpc.under_way import CallsUnderWay, StreamUnderWay
from swarmd.tokens import Grant
from swarmd.wire.from_proto import malformed

log = get_logger("swarmd.rpc")

OWN_SERVICES = "/swarm.v1."

Check = Callable[[], None]
Read = Callable[[bytes], object]

if TYPE_CHECKING:  # generic in the stubs only
    Context = grpc.aio.ServicerContext[Any, Any]
    Handler = grpc.RpcMethodHandler[Any, Any]
else:
    Context = Handler = object


@dataclass(frozen=True, slots=True)
class Unread:
    """In the place of a message that is not taken: why."""

    error: SwarmdError


@dataclass(frozen=True, slots=True)
class _Visits:
    """The calls of one method by callers of one grant."""

    method: str
    grant: Grant
    open_method: str
    """The method again where it has places of its own, as it needs no token; otherwise empty."""
    is_own: bool


class DoorKeeper(grpc.aio.ServerInterceptor):
    """Wraps each handler of one door."""

    def __init__(
        self,
        guard: Guard,
        traffic: Traffic,
        *,
        connections: Connections | None = None,
        check: Check = lambda: None,
        touch: Callable[[], None] = lambda: None,
        under_way: CallsUnderWay | None = None,
        readers: Mapping[str, Read] = MappingProxyType({}),
    ) -> None:
        """`check` raises when none of our own services may be called just now; `touch` hears of each call of them.

        `connections` is for doors whose peers have addresses, `readers` for methods that read their messages otherwise.
        """
        self._guard = guard
        self._traffic = traffic
        self._connections = connections
        self._check = check
        self._touch = touch
        self._under_way = under_way or CallsUnderWay()
        self._readers = readers
        self._headers = HeaderBound()
        self._handlers: dict[tuple[str, Grant], Handler] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """The handler behind what is checked for each call; without a right token nothing of a message is read."""
        method = handler_call_details.method
        try:
            self._headers.check(handler_call_details.invocation_metadata)
            grant = self._guard.admit(method, handler_call_details.invocation_metadata)
        except SwarmdError as error:
            return _refusing(error, method)
        known = self._handlers.get((method, grant))
        if known is None:
            handler = await continuation(handler_call_details)
            if handler is None:
                return None
            known = self._handlers[method, grant] = self._wrapped(handler, method, grant)
        return known

    def _wrapped(self, handler: Handler, method: str, grant: Grant) -> Handler:
        # who comes by a socket file is no stranger, and health's places are for those
        is_strangers = self._connections is not None and method.startswith(OPEN_SERVICE)
        read = self._readers.get(method, handler.request_deserializer)
        visits = _Visits(method, grant, method if is_strangers else "", is_own=method.startswith(OWN_SERVICES))
        if handler.unary_unary:
            answer = self._answer(handler.unary_unary, visits)
            return self._remade(grpc.unary_unary_rpc_method_handler, answer, handler, read)
        if handler.stream_unary:
            answer = self._answer(handler.stream_unary, visits)
            return self._remade(grpc.stream_unary_rpc_method_handler, answer, handler, read)
        if handler.unary_stream:
            stream = self._stream(handler.unary_stream, visits)
            return self._remade(grpc.unary_stream_rpc_method_handler, stream, handler, read)
        if handler.stream_stream:
            stream = self._stream(handler.stream_stream, visits)
            return self._remade(grpc.stream_stream_rpc_method_handler, stream, handler, read)
        return handler

    def _let_in(self, context: Context, visits: "_Visits") -> None:
        """A call begins; `_let_out` when it is over."""
        client = ""
        if self._connections is not None:
            peer = context.peer()
            self._connections.admit(peer)
            client = peer.rpartition(":")[0]
        elif self._traffic.knows_clients:
            client = context.peer()
        self._traffic.enter(client, visits.grant, visits.open_method)
        if visits.is_own:
            try:
                self._check()
            except SwarmdError:
                self._traffic.leave(visits.open_method)
                raise
            self._touch()

    def _let_out(self, visits: "_Visits") -> None:
        if visits.is_own:
            self._touch()
        self._traffic.leave(visits.open_method)

    def _answer(self, behavior: Callable[..., Any], visits: "_Visits") -> Callable[..., Any]:
        @functools.wraps(behavior)
        async def call(request: object, context: Context) -> object:
            self._under_way.note_answering()
            try:
                self._let_in(context, visits)
                try:
                    _check_read(request)
                    return await behavior(request, context)
                finally:
                    self._let_out(visits)
            except Exception as error:
                await _end(error, context, visits.method)
                raise  # not reached: the context raises to end the call

        return call

    def _stream(self, behavior: Callable[..., Any], visits: "_Visits") -> Callable[..., Any]:
        @functools.wraps(behavior)
        async def call(request: object, context: Context) -> AsyncIterator[object]:
            stream = self._under_way.note_streaming() if visits.is_own else StreamUnderWay()
            try:
                self._let_in(context, visits)
                try:
                    _check_read(request)
                    responses = behavior(request, context)
                    if inspect.iscoroutine(responses):  # grpcio's health service writes to the context itself
                        await responses
                        return
                    async for response in responses:
                        stream.is_with_client = True
                        yield response
                        stream.is_with_client = False
                        self._under_way.note_sent()
                finally:
                    self._let_out(visits)
            except Exception as error:  # noqa: BLE001 - every exception ends as a status
                await _end(error, context, visits.method)
            finally:
                stream.is_with_client = True

        return call

    def _remade(self, make: Callable[..., Handler], behavior: object, handler: Handler, read: Read | None) -> Handler:
        """The same kind of handler, which refuses messages by our own word: gRPC's does not name the limit."""
        limit = self._traffic.limits.max_message_bytes
        streams = bool(handler.request_streaming)

        def bounded(message: bytes) -> object:
            try:
                return self._read(message, read, limit)
            except SwarmdError as error:
                if streams:
                    raise
                return Unread(error)  # gRPC would end the call by a word of its own

        return make(
            behavior, request_deserializer=bounded, response_serializer=_unless_encoded(handler.response_serializer)
        )

    def _read(self, message: bytes, read: Read | None, limit: int) -> object:
        if len(message) > limit:
            what = f"max_message_bytes: a message of {len(message)} bytes; send at most {limit}, in several messages"
            raise LimitExceededError(what, reason="MESSAGE_TOO_LARGE", metadata={"limit": "max_message_bytes"})
        try:
            return message if read is None else read(message)
        except DecodeError:
            raise malformed() from None


def _unless_encoded(write: Callable[[Any], bytes] | None) -> Callable[[Any], bytes] | None:
    """Handlers may answer with a message that is encoded already."""
    if write is None:
        return None
    return lambda answer: answer if type(answer) is bytes else write(answer)


def _check_read(request: object) -> None:
    if type(request) is Unread:
        raise request.error


def _refusing(error: SwarmdError, name: str) -> Handler:
    """A handler that reads nothing of what the caller has to say."""

    async def refuse(request_iterator: object, context: Context) -> None:
        del request_iterator
        await _end(error, context, name)

    return grpc.stream_stream_rpc_method_handler(refuse)


async def _end(error: Exception, context: Context, name: str) -> None:
    """End the call with the status of the error; an abort that the handler itself began goes on."""
    if isinstance(error, SwarmdError):
        REFUSAL.set(error.reason)
        quiet = not isinstance(error, UnavailableError) or error.reason == "DRAINING"
        log.log(10 if quiet else 30, "call refused", rpc=name, reason=error.reason, error=error.message)
        try:
            await context.abort_with_status(to_status(error))
        except grpc.aio.AbortError as abort:
            asyncio.get_running_loop().call_soon(_forget, abort)
            raise
    if isinstance(error, (grpc.aio.AbortError, grpc.aio.UsageError)):
        raise error
    if isinstance(error, NotImplementedError):  # grpcio's health service leaves one of its methods out
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")
    log.error("call failed", rpc=name, exc_info=error)
    await context.abort(grpc.StatusCode.INTERNAL, "an error inside swarmd; its log says more")


def _forget(abort: grpc.aio.AbortError) -> None:
    """Let go of the frames that an abort went through.

    They know the call, and the call knows the abort: its headers, which may be large, would stay until Python looks for
    such circles, and it does so seldom.
    """
    abort.__traceback__ = None
    abort.__context__ = None
