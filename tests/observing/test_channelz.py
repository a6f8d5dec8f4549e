"""channelz, gRPC's own statistics: there when asked for, and guarded like everything else."""

import pytest

from tests.daemon import running
from tests.e2e.grpcurl import ask, call

GET_SERVERS = "grpc.channelz.v1.Channelz/GetServers"
HAS_WORK = "swarm.v1.SchedulerService/HasWork"

pytestmark = pytest.mark.e2e


def test_it_counts_calls():
    with running("--channelz", "--in-memory") as daemon:
        ask(daemon, HAS_WORK, data=[{}])
        (answer,) = call(daemon, GET_SERVERS, {}, options=["-protoset", protoset(daemon.home)])
    (server,) = answer["server"]
    assert int(server["data"]["calls_started"]) >= 2, server
    assert server["listen_socket"]


def test_it_is_not_there_unless_asked_for():
    with running("--in-memory") as daemon:
        done = ask(daemon, GET_SERVERS, data=[{}], options=["-protoset", protoset(daemon.home)])
    assert "Unimplemented" in done.stderr


def test_over_tcp_it_needs_the_full_token():
    with running("--channelz", "--in-memory", "--listen", "127.0.0.1:0") as daemon:
        state, options = daemon.home / "state" / "swarmd", ["-protoset", protoset(daemon.home)]
        full, read_only = ((state / name).read_text().strip() for name in ("token", "token.read-only"))
        none = ask(daemon, GET_SERVERS, data=[{}], options=options)
        less = ask(daemon, GET_SERVERS, data=[{}], options=[*options, "-H", f"authorization: Bearer {read_only}"])
        (answer,) = call(daemon, GET_SERVERS, {}, options=[*options, "-H", f"authorization: Bearer {full}"])
    assert "Unauthenticated" in none.stderr
    assert "PermissionDenied" in less.stderr
    assert answer["server"]


def protoset(folder) -> str:
    """channelz has no reflection: its description as a file, for grpcurl."""
    from google.protobuf import descriptor_pb2, descriptor_pool
    from grpc_channelz.v1 import channelz_pb2

    found: dict[str, descriptor_pb2.FileDescriptorProto] = {}

    def add(name: str) -> None:
        if name not in found:
            file = descriptor_pool.Default().FindFileByName(name)
            for dependency in file.dependencies:
                add(dependency.name)
            found[name] = descriptor_pb2.FileDescriptorProto()
            file.CopyToProto(found[name])

    add(channelz_pb2.DESCRIPTOR.name)
    path = folder / "channelz.protoset"
    path.write_bytes(descriptor_pb2.FileDescriptorSet(file=found.values()).SerializeToString())
    return str(path)
