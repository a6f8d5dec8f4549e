"""Tracing: spans for calls, ticks and what gateways are asked, sent to an OpenTelemetry collector.

The only module that needs the extra `swarmd[otel]`, which is imported when traces are asked for and not before. Spans
are put into a queue of limited length; a thread of the SDK's own sends them, so that the event loop never waits, and a
collector that is gone costs nothing but the spans.
"""

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from swarmd._version import __version__
from swarmd.core.batch import Batch
from swarmd.core.errors import InvalidInputError
from swarmd.gateways.trace import TRACEPARENT
from swarmd.observing.observer import CallEnd, Metadata, Observer
from swarmd.observing.subject import SWARM

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span

LAST_SPANS_SECONDS = 3.0
"""How long the end of the daemon waits for the collector to take the last spans."""
HEADERS = ("traceparent", "tracestate")


def exporter_for(endpoint: str) -> "SpanExporter":
    """What sends spans to `http://HOST:PORT` or `https://HOST:PORT`, by OTLP over gRPC.

    Raises InvalidInputError for what is no such address, and without the extra.
    """
    try:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    except ImportError as error:
        message = f"otlp_endpoint: traces need the extra (there is no module {error.name}); pip install 'swarmd[otel]'"
        raise InvalidInputError(message, reason="EXTRA_NEEDED", field="otlp_endpoint") from None
    try:
        parts = urlsplit(endpoint)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port is not None
    except ValueError:
        usable = False
    if not usable:
        message = (
            f"otlp_endpoint: {endpoint!r} cannot be used; write http://HOST:PORT (4317 is a collector's usual port)"
        )
        raise InvalidInputError(message, reason="INVALID_ADDRESS", field="otlp_endpoint")
    return OTLPSpanExporter(endpoint=endpoint)


class Tracing(Observer):
    """Makes spans. The environment variables of OpenTelemetry (OTEL_TRACES_SAMPLER, ...) have their usual effect."""

    def __init__(self, exporter: "SpanExporter") -> None:
        from opentelemetry.propagators.textmap import DefaultGetter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._exporter = exporter
        resource = Resource.create({"service.name": "swarmd", "service.version": __version__})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._tracer = self._provider.get_tracer("swarmd", __version__)
        self._format = TraceContextTextMapPropagator()
        self._getter = DefaultGetter()

    def start(self) -> None:
        """Send spans from now on."""
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))

    def call(self, method: str, metadata: Metadata, peer: str, *, answers_once: bool) -> CallEnd:
        """A span of the client's trace, or of a new one; all that the call does belongs to it."""
        from opentelemetry import context, trace

        del peer, answers_once
        carrier = {name: str(value) for name, value in metadata if name in HEADERS}
        parent = self._format.extract(carrier, context=context.Context(), getter=self._getter)
        service, _, name = method.rpartition("/")
        span = self._tracer.start_span(
            method,
            context=parent,
            kind=trace.SpanKind.SERVER,
            attributes={"rpc.system": "grpc", "rpc.service": service, "rpc.method": name},
        )
        context.attach(trace.set_span_in_context(span, parent))  # every call has a task, and a context, of its own
        return _TracedCall(span)

    @contextlib.contextmanager
    def tick(self, swarm_id: str) -> Iterator[None]:
        """Of the call that asked for it; a trace of its own when the daemon ticks by itself."""
        with self._tracer.start_as_current_span("tick", attributes={"swarm.id": swarm_id}):
            yield

    @contextlib.contextmanager
    def gateway_call(self, gateway: str, call: str, batch: Batch | None = None) -> Iterator[None]:
        """What the engine is asked, with the traceparent where the gateway finds it."""
        from opentelemetry import trace

        attributes: dict[str, str | int] = {"swarm.gateway": gateway}
        if batch is not None:
            attributes |= {"swarm.id": batch.swarm_id, "swarm.batch_id": batch.batch_id}
            attributes["swarm.batch_size"] = len(batch)
        with self._tracer.start_as_current_span(call, kind=trace.SpanKind.CLIENT, attributes=attributes):
            carrier: dict[str, str] = {}
            self._format.inject(carrier)
            before = TRACEPARENT.set(carrier.get("traceparent", ""))
            try:
                yield
            finally:
                TRACEPARENT.reset(before)

    async def close(self) -> None:
        """Send what is left, but wait no longer than a moment for a collector that does not answer."""
        loop, over = asyncio.get_running_loop(), asyncio.Event()

        def end() -> None:
            self._provider.shutdown()
            with contextlib.suppress(RuntimeError):  # the loop did not wait for it
                loop.call_soon_threadsafe(over.set)

        threading.Thread(target=end, name="last spans", daemon=True).start()
        try:
            async with asyncio.timeout(LAST_SPANS_SECONDS):
                await over.wait()
        except TimeoutError:
            self._exporter.shutdown()


class _TracedCall(CallEnd):
    __slots__ = ("_span",)

    def __init__(self, span: "Span") -> None:
        self._span = span

    def over(self, code: str, refusal: str) -> None:
        from opentelemetry.trace import StatusCode

        span = self._span
        if span.is_recording():
            span.set_attribute("rpc.grpc.status_code", code)
            swarm_id = SWARM.get()
            if swarm_id:
                span.set_attribute("swarm.id", swarm_id)
            if refusal:
                span.set_attribute("swarm.error_reason", refusal)
            if code != "OK":
                span.set_status(StatusCode.ERROR, code)
        span.end()
