"""`swarmd protos`: the contract for other programs, as .proto files or as a descriptor set for grpcurl."""

import shutil
from collections.abc import Iterable, Iterator
from importlib import import_module
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from swarmd.cli import options
from swarmd.cli.errors import UsageError
from swarmd.cli.output import print_json, print_line
from swarmd.cli.text import count_of

if TYPE_CHECKING:
    from google.protobuf.descriptor import FileDescriptor
    from google.protobuf.descriptor_pb2 import DescriptorProto

MODULES = (
    "swarmd._pb.swarm.v1.scheduler_service_pb2",
    "swarmd._pb.swarm.v1.swarm_service_pb2",
    "swarmd._pb.swarm.v1.gateway_service_pb2",
    "google.rpc.error_details_pb2",
    "google.rpc.status_pb2",
    "grpc_health.v1.health_pb2",
    "grpc_reflection.v1alpha.reflection_pb2",
)
"""What the daemon speaks; all that they depend on comes along."""


def protos(
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="DIR", help="Write the .proto files to this folder.")
    ] = None,
    descriptor_set: Annotated[
        Path | None,
        typer.Option("--descriptor-set", metavar="FILE", help="Write a descriptor set for grpcurl -protoset."),
    ] = None,
    json_output: options.Json = False,
) -> None:
    """Write the daemon's contract, for clients in other languages and for grpcurl."""
    if out is None and descriptor_set is None:
        raise UsageError("say what to write: --out DIR, --descriptor-set FILE, or both")
    written: list[Path] = []
    if out is not None:
        written += write_protos(out)
    if descriptor_set is not None:
        descriptor_set.parent.mkdir(parents=True, exist_ok=True)
        descriptor_set.write_bytes(descriptor_set_bytes())
        written.append(descriptor_set)
    if json_output:
        print_json({"written": [str(path) for path in written]})
    else:
        print_line(f"{count_of(len(written), 'file')} written:")
        for path in written:
            print_line(f"  {path}")


def write_protos(out: Path) -> list[Path]:
    """Copy the .proto files, with their folders; gives what was written."""
    with as_file(files("swarmd") / "protos") as source:
        found = sorted(source.rglob("*.proto"))
        if not found:
            raise UsageError(f"this installation has no .proto files in {source}")
        return [_copy(path, out / path.relative_to(source)) for path in found]


def _copy(source: Path, target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    return target


def descriptor_set_bytes() -> bytes:
    """A FileDescriptorSet of all modules, each file after those that it imports."""
    from google.protobuf.descriptor_pb2 import FileDescriptorSet

    collected = FileDescriptorSet()
    seen: set[str] = set()
    for module in MODULES:
        for descriptor in _with_dependencies(import_module(module).DESCRIPTOR, seen):
            described = collected.file.add()
            descriptor.CopyToProto(described)
            _name_in_json(described.message_type)
    return collected.SerializeToString()


def _name_in_json(messages: "Iterable[DescriptorProto]") -> None:
    """Say how fields are called in JSON, as protoc does for files and leaves out in generated modules."""
    for message in messages:
        for field in message.field:
            first, *others = field.name.split("_")
            field.json_name = first + "".join(word[:1].upper() + word[1:] for word in others)
        _name_in_json(message.nested_type)


def _with_dependencies(descriptor: "FileDescriptor", seen: set[str]) -> "Iterator[FileDescriptor]":
    if descriptor.name in seen:
        return
    seen.add(descriptor.name)
    for dependency in descriptor.dependencies:
        yield from _with_dependencies(dependency, seen)
    yield descriptor
