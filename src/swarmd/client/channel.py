"""Connects to the daemon, and turns what gRPC raises into the client's errors.

The only module of the client that imports grpc for others: what must be set before that import is set here.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")  # children are started while a channel is open
os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # a daemon that is not there is told once, by us

import grpc
import grpc.aio
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from swarmd.addresses import Address
from swarmd.client.errors import NoDaemonError, RpcError

MAX_RECEIVED_BYTES = 64 << 20

OPTIONS: list[tuple[str, int]] = [
    ("grpc.max_receive_message_length", MAX_RECEIVED_BYTES),
    ("grpc.max_send_message_length", MAX_RECEIVED_BYTES),
    ("grpc.keepalive_time_ms", 30_000),  # the daemon allows a ping every 10 s
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.enable_http_proxy", 0),  # the daemon is on this machine or next to it
    ("grpc.use_local_subchannel_pool", 1),  # a new client tries to connect anew, whatever an earlier one met
]


def open_channel(address: Address) -> grpc.aio.Channel:
    """A channel to the daemon; nothing is connected before the first call."""
    return grpc.aio.insecure_channel(address.target, options=OPTIONS)


@contextmanager
def translated_errors(address: Address, *, had_answers: bool) -> Iterator[None]:
    """Raise RpcError or NoDaemonError instead of gRPC's own error; `had_answers`: this daemon has answered before."""
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise rpc_error(error, address, had_answers=had_answers) from error


def rpc_error(error: grpc.aio.AioRpcError, address: Address, *, had_answers: bool) -> RpcError:
    """The client's error for gRPC's, with what google.rpc.ErrorInfo says when it is there."""
    code, message = error.code(), error.details() or error.code().name
    info, field = _details(error)
    if info is None and code is grpc.StatusCode.UNAVAILABLE:
        return _no_daemon(address, had_answers=had_answers)
    if info is None:
        return RpcError(message, code=code.name, field=field)
    return RpcError(message, code=code.name, reason=info.reason or None, field=field, metadata=dict(info.metadata))


def _no_daemon(address: Address, *, had_answers: bool) -> NoDaemonError:
    if had_answers:
        return NoDaemonError(f"the connection to the daemon at {address} was lost", address=str(address))
    message = f'no daemon answers at {address}; start one with "swarmd serve"'
    return NoDaemonError(message, address=str(address))


def _details(error: grpc.aio.AioRpcError) -> tuple[error_details_pb2.ErrorInfo | None, str]:
    """The ErrorInfo and the first offending field, as far as the error carries them."""
    info, field = None, ""
    status = _status(error)
    for detail in status.details if status is not None else ():
        if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            info = error_details_pb2.ErrorInfo()
            detail.Unpack(info)
        elif detail.Is(error_details_pb2.BadRequest.DESCRIPTOR):
            bad = error_details_pb2.BadRequest()
            detail.Unpack(bad)
            field = field or next((violation.field for violation in bad.field_violations), "")
    return info, field


def _status(error: grpc.aio.AioRpcError) -> status_pb2.Status | None:
    try:
        return rpc_status.from_call(error)  # type: ignore[arg-type]
    except ValueError:  # the rich status and the plain one differ: somebody between us and the daemon
        return None
