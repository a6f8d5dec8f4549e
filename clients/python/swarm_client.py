"""A client of swarmd with nothing but grpcio and stubs made by grpcio-tools: the part to copy from.

Connects over a unix socket, or over TCP with TLS and a token; loads in chunks; ticks; sends updates ahead of their
answers; watches. A Python program is better off with `swarmd.client`: this one shows what there is to do in a language
without it.
"""

import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "generated"))

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from swarm.v1 import scheduler_service_pb2 as scheduler_pb
from swarm.v1 import scheduler_service_pb2_grpc, swarm_service_pb2_grpc
from swarm.v1 import swarm_service_pb2 as swarm_pb

OPTIONS = [
    ("grpc.max_receive_message_length", 64 << 20),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.keepalive_time_ms", 30_000),  # the daemon cuts off who pings more often than every 10 s
]


class Client:
    """Stubs for both services, on one connection."""

    def __init__(self, address: str, token: str = "", ca: bytes | None = None) -> None:
        """`address` is `unix:PATH` or `HOST:PORT`; with a CA certificate (PEM) the connection is TLS."""
        self.address, self._token = address, token
        if ca is None:
            self.channel = grpc.insecure_channel(address, options=OPTIONS)
        else:
            self.channel = grpc.secure_channel(address, grpc.ssl_channel_credentials(ca), options=OPTIONS)
        self.swarms = swarm_service_pb2_grpc.SwarmServiceStub(self.channel)
        self.scheduler = scheduler_service_pb2_grpc.SchedulerServiceStub(self.channel)

    @classmethod
    def from_environment(cls) -> "Client":
        """Where SWARMD_ADDRESS, SWARMD_TOKEN_FILE and SWARMD_TLS_CA say."""
        token_file, ca_file = os.environ.get("SWARMD_TOKEN_FILE"), os.environ.get("SWARMD_TLS_CA")
        token = Path(token_file).read_text().strip() if token_file else ""
        return cls(os.environ["SWARMD_ADDRESS"], token, Path(ca_file).read_bytes() if ca_file else None)

    @property
    def metadata(self) -> list[tuple[str, str]]:
        """What goes with every call."""
        return [("authorization", f"Bearer {self._token}")] if self._token else []

    def add_tasks(
        self, swarm_id: str, request_id: str, chunks: Iterable[swarm_pb.AddTasksRequest], timeout: float
    ) -> swarm_pb.AddTasksResponse:
        """Load chunks as one unit; each must stay below the daemon's message limit (4 MiB).

        The request_id makes it safe to send all of it again when the connection was lost before the answer came.
        """

        def messages() -> Iterator[swarm_pb.AddTasksRequest]:
            for place, chunk in enumerate(chunks):
                if place == 0:
                    chunk.swarm_id, chunk.request_id = swarm_id, request_id
                yield chunk

        return self.swarms.AddTasks(messages(), timeout=timeout, metadata=self.metadata)

    def apply_updates(
        self, swarm_id: str, requests: Iterable[scheduler_pb.ApplyUpdateRequest], timeout: float
    ) -> Iterator[scheduler_pb.ApplyUpdateResponse]:
        """Tell what happened. gRPC takes the requests from a thread of its own, so none waits for an answer."""

        def messages() -> Iterator[scheduler_pb.ApplyUpdateRequest]:
            for place, request in enumerate(requests):
                if place == 0:
                    request.swarm_id = swarm_id
                yield request

        yield from self.scheduler.ApplyUpdate(messages(), timeout=timeout, metadata=self.metadata)

    def watch(
        self, swarm_id: str, after_revision: int | None, timeout: float, *, until_finished: bool = False
    ) -> "grpc.CallIterator[swarm_pb.WatchSwarmResponse]":
        """What happens from now on, or after a revision; cancel() it when enough was seen."""
        request = swarm_pb.WatchSwarmRequest(
            swarm_id=swarm_id, after_revision=after_revision, until_finished=until_finished
        )
        return self.swarms.WatchSwarm(request, timeout=timeout, metadata=self.metadata)


@dataclass
class Failure:
    """What is known of a call that failed."""

    code: str
    reason: str = ""
    domain: str = ""
    field: str = ""

    @classmethod
    def of(cls, error: grpc.RpcError) -> "Failure":
        """With the details that the daemon gives beside the message."""
        failure = cls(error.code().name)
        status = rpc_status.from_call(error)
        for detail in status.details if status is not None else ():
            info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
            if detail.Unpack(info):
                failure.reason, failure.domain = info.reason, info.domain
            elif detail.Unpack(bad):
                failure.field = bad.field_violations[0].field
        return failure


def duration(seconds: float) -> Duration:
    """Seconds as a message."""
    message = Duration()
    message.FromNanoseconds(round(seconds * 1e9))
    return message
