"""Every RPC of every service that the daemon has, and what a call of it comes to with some headers."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor
from google.rpc import error_details_pb2
from grpc_channelz.v1 import channelz_pb2
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from grpc_status import rpc_status

from swarmd._pb.swarm.v1 import scheduler_service_pb2, swarm_service_pb2

SECONDS = 20.0

Metadata = tuple[tuple[str, str | bytes], ...]


@dataclass(frozen=True)
class Rpc:
    """One method as it is called."""

    path: str
    client_streaming: bool
    server_streaming: bool

    def __str__(self) -> str:
        return self.path


@dataclass(frozen=True)
class Outcome:
    """How a call ended."""

    code: grpc.StatusCode
    reason: str = ""
    details: str = ""
    limit: str = ""
    """What ErrorInfo's metadata has under this name."""


def _methods() -> Iterator[MethodDescriptor]:
    for module in (scheduler_service_pb2, swarm_service_pb2, reflection_pb2, channelz_pb2, health_pb2):
        for service in module.DESCRIPTOR.services_by_name.values():
            yield from service.methods


def _rpcs() -> Iterator[Rpc]:
    for method in _methods():
        service = method.containing_service.full_name
        yield Rpc(f"/{service}/{method.name}", method.client_streaming, method.server_streaming)
        if service == "grpc.reflection.v1alpha.ServerReflection":
            yield Rpc("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", True, True)


RPCS = tuple(_rpcs())
HEALTH = tuple(rpc for rpc in RPCS if rpc.path.startswith("/grpc.health.v1."))
GUARDED = tuple(rpc for rpc in RPCS if rpc not in HEALTH)


def bearer(token: str) -> Metadata:
    return (("authorization", f"Bearer {token}"),)


def call(channel: grpc.Channel, rpc: Rpc, metadata: Metadata = (), message: bytes = b"", **options: Any) -> Outcome:
    """One call with one message of raw bytes; of a stream that would go on the first answer is all that is asked."""
    kind = f"{'stream' if rpc.client_streaming else 'unary'}_{'stream' if rpc.server_streaming else 'unary'}"
    made = getattr(channel, kind)(rpc.path, request_serializer=bytes, response_deserializer=bytes)
    request = iter([message]) if rpc.client_streaming else message
    try:
        answer = made(request, metadata=metadata, timeout=SECONDS, **options)
        if rpc.server_streaming:
            next(iter(answer), None)
            answer.cancel()
        return Outcome(grpc.StatusCode.OK)
    except grpc.RpcError as error:
        return outcome_of(error)


def outcome_of(error: Any) -> Outcome:
    """A failed call, with what ErrorInfo says."""
    info = error_details_pb2.ErrorInfo()
    status = rpc_status.from_call(error)
    for detail in status.details if status is not None else ():
        detail.Unpack(info)
    return Outcome(error.code(), info.reason, error.details() or "", info.metadata.get("limit", ""))


def channel_to(address: str, credentials: grpc.ChannelCredentials | None = None) -> grpc.Channel:
    """A connection of its own."""
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", -1)]
    if credentials is None:
        return grpc.insecure_channel(address, options=options)
    return grpc.secure_channel(address, credentials, options=options)
