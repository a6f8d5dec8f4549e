"""Server reflection, v1 and v1alpha: what grpcurl asks so that nobody has to hand it the .proto files."""

from collections.abc import Sequence

import grpc
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha import reflection, reflection_pb2, reflection_pb2_grpc

REFLECTION_V1 = "grpc.reflection.v1.ServerReflection"


class SymbolPool:
    """A descriptor pool that also finds what stands inside of something it knows: methods, fields, enum values.

    Python's pool knows files by their messages, enums and services only, and grpcurl describes methods too.
    """

    def __init__(self, pool: DescriptorPool) -> None:
        self._pool = pool

    def __getattr__(self, name: str) -> object:
        return getattr(self._pool, name)

    def FindFileContainingSymbol(self, symbol: str) -> FileDescriptor:  # noqa: N802 - the pool's own name
        """The file that says what the symbol is. Raises KeyError."""
        try:
            return self._pool.FindFileContainingSymbol(symbol)
        except KeyError:
            parent, _, name = symbol.rpartition(".")
            if not parent:
                raise
            file = self.FindFileContainingSymbol(parent)
            if not _has_member(file, parent, name):
                raise
            return file


def _has_member(file: FileDescriptor, parent: str, name: str) -> bool:
    for service in file.services_by_name.values():
        if service.full_name == parent and name in service.methods_by_name:
            return True
    return any(
        message.full_name == parent and name in message.fields_by_name
        for message in file.message_types_by_name.values()
    )


def add_reflection(server: grpc.aio.Server, services: Sequence[str]) -> None:
    """v1alpha as grpcio-reflection brings it, and the same under v1: the messages are the same on the wire."""
    names = (*services, reflection.SERVICE_NAME, REFLECTION_V1)
    servicer = reflection.aio.ReflectionServicer(names, pool=SymbolPool(descriptor_pool.Default()))
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(servicer, server)  # type: ignore[no-untyped-call]
    handler = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    server.add_registered_method_handlers(REFLECTION_V1, {"ServerReflectionInfo": handler})
