"""A real OTLP receiver: what a daemon sends it is kept."""

import contextlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as service
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as service_grpc


@dataclass(frozen=True)
class Received:
    """One span."""

    name: str
    trace: str
    span: str
    parent: str
    attributes: dict[str, str | int]
    resource: dict[str, str | int]


@dataclass
class Collector(service_grpc.TraceServiceServicer):
    """All spans that came."""

    endpoint: str = ""
    spans: list[Received] = field(default_factory=list)
    came: threading.Condition = field(default_factory=threading.Condition)

    def Export(  # noqa: N802
        self, request: service.ExportTraceServiceRequest, context: grpc.ServicerContext
    ) -> service.ExportTraceServiceResponse:
        for group in request.resource_spans:
            resource = values(group.resource.attributes)
            for scope in group.scope_spans:
                for each in scope.spans:
                    ids = each.trace_id.hex(), each.span_id.hex(), each.parent_span_id.hex()
                    self.spans.append(Received(each.name, *ids, values(each.attributes), resource))
        with self.came:
            self.came.notify_all()
        return service.ExportTraceServiceResponse()

    def named(self, name: str) -> list[Received]:
        return [span for span in self.spans if span.name == name]

    def wait_for(self, name: str) -> None:
        """Until a span of this name has come."""
        with self.came:
            assert self.came.wait_for(lambda: bool(self.named(name)), timeout=60), f"no span {name}"


def values(attributes) -> dict[str, str | int]:
    return {each.key: each.value.string_value or each.value.int_value for each in attributes}


@contextlib.contextmanager
def collecting() -> Iterator[Collector]:
    server, collector = grpc.server(ThreadPoolExecutor(2)), Collector()
    service_grpc.add_TraceServiceServicer_to_server(collector, server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    collector.endpoint = f"http://127.0.0.1:{port}"
    try:
        yield collector
    finally:
        server.stop(0).wait()
