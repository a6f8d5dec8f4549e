"""Connects to the daemon, and turns what gRPC raises into the client's errors."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import swarmd.grpc_environment  # noqa: F401 - before gRPC

# isort: split

import grpc
import grpc.aio
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from swarmd.addresses import Address
from swarmd.client.errors import NoDaemonError, RpcError, error_of
from swarmd.client.finding import Connection
from swarmd.client.retrying import service_config
from swarmd.tls_client import channel_credentials, tls_trouble

MAX_RECEIVED_BYTES = 64 << 20

OPTIONS: list[tuple[str, int | str]] = [
    ("grpc.max_receive_message_length", MAX_RECEIVED_BYTES),
    ("grpc.max_send_message_length", MAX_RECEIVED_BYTES),
    ("grpc.keepalive_time_ms", 30_000),  # the daemon allows a ping every 10 s
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.enable_http_proxy", 0),  # the daemon is on this machine or next to it
    ("grpc.use_local_subchannel_pool", 1),  # a new client tries to connect anew, whatever an earlier one met
    ("grpc.service_config_disable_resolution", 1),  # no service config but our own
]

LOST = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
"""How gRPC calls a lost connection. CANCELLED: the daemon's end has cut the call off while it stopped; a call that is
cancelled at this end is an asyncio.CancelledError."""
BROKEN_STREAM = "Internal error from Core"
"""What grpc.aio calls INTERNAL by itself when a stream's connection breaks before it knows why: no word of a daemon."""

_opened_in: int | None = None
"""The process that opened channels here: gRPC's threads and locks are of no use in a child that is forked from it."""

Metadata = tuple[tuple[str, str], ...]


def open_channel(connection: Connection, *, repeats: bool) -> grpc.aio.Channel:
    """A channel to the daemon; nothing is connected before the first call. `repeats`: gRPC may retry by itself.

    Raises RuntimeError in a child that was forked from a process with channels: gRPC would crash or wait for ever.
    """
    global _opened_in  # noqa: PLW0603
    if _opened_in not in (None, os.getpid()):
        message = (
            "this process was forked from one that has used a client, where gRPC does not work; "
            'start it by the method spawn or forkserver: multiprocessing.get_context("spawn")'
        )
        raise RuntimeError(message)
    _opened_in = os.getpid()
    options = [*OPTIONS, *([("grpc.service_config", service_config())] if repeats else [("grpc.enable_retries", 0)])]
    if connection.tls is None:
        return grpc.aio.insecure_channel(connection.address.target, options=options)
    if connection.tls.server_name:
        options.append(("grpc.ssl_target_name_override", connection.tls.server_name))
    return grpc.aio.secure_channel(connection.address.target, channel_credentials(connection.tls), options=options)


def metadata_of(connection: Connection) -> Metadata | None:
    """What goes with every call."""
    return (("authorization", f"Bearer {connection.token}"),) if connection.token else None


@contextmanager
def translated_errors(address: Address, *, had_answers: bool) -> Iterator[None]:
    """Raise an RpcError instead of gRPC's own error; `had_answers`: this daemon has answered before."""
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise rpc_error(error, address, had_answers=had_answers) from error


def rpc_error(error: grpc.aio.AioRpcError, address: Address, *, had_answers: bool) -> RpcError:
    """The client's error for gRPC's, with what google.rpc.ErrorInfo says when it is there."""
    code, message = error.code(), error.details() or error.code().name
    details = _Details(_status(error))
    if details.info is None and (code in LOST or message == BROKEN_STREAM):
        return _no_daemon(address, message, had_answers=had_answers)
    info = details.info or error_details_pb2.ErrorInfo()
    return error_of(
        code.name,
        message,
        reason=info.reason or None,
        field=details.field,
        metadata=dict(info.metadata),
        retry_after=details.retry_after,
    )


def _no_daemon(address: Address, details: str, *, had_answers: bool) -> NoDaemonError:
    trouble = tls_trouble(details)
    if trouble is not None:
        message = f"the connection to {address} cannot be secured: {trouble}"
        return NoDaemonError(message, address=str(address), reason="TLS_FAILED")
    if had_answers:
        return NoDaemonError(f"the connection to the daemon at {address} was lost", address=str(address))
    if address.path is None and "Socket closed" in details:
        message = f"{address} hangs up at once; if a daemon with TLS is there, give its CA as tls_ca"
        return NoDaemonError(message, address=str(address))
    message = f'no daemon answers at {address}; start one with "swarmd serve"'
    return NoDaemonError(message, address=str(address))


class _Details:
    """What is in google.rpc's details of an error, as far as it carries them."""

    def __init__(self, status: status_pb2.Status | None) -> None:
        self.info: error_details_pb2.ErrorInfo | None = None
        self.field = ""
        self.retry_after: float | None = None
        for detail in status.details if status is not None else ():
            info, bad, retry = (
                error_details_pb2.ErrorInfo(),
                error_details_pb2.BadRequest(),
                error_details_pb2.RetryInfo(),
            )
            if _unpacked(detail, info):
                self.info = info
            elif _unpacked(detail, bad):
                self.field = self.field or next((violation.field for violation in bad.field_violations), "")
            elif _unpacked(detail, retry):
                self.retry_after = retry.retry_delay.ToTimedelta().total_seconds()


def _unpacked(detail: "Message", into: "Message") -> bool:
    return bool(detail.Unpack(into))  # type: ignore[attr-defined]


def _status(error: grpc.aio.AioRpcError) -> status_pb2.Status | None:
    try:
        return rpc_status.from_call(error)  # type: ignore[arg-type]
    except ValueError:  # the rich status and the plain one differ: somebody between us and the daemon
        return None
