"""The trace of the program that calls: sent along, so that it goes on in the daemon and to the engine.

For programs that use OpenTelemetry; others send nothing, and nothing is imported for them.
"""

import sys

TRACE_MODULE = "opentelemetry.trace"


def trace_headers() -> tuple[tuple[str, str], ...]:
    """`traceparent`, and `tracestate` if there is one, of the span that the caller is in (W3C Trace Context)."""
    if TRACE_MODULE not in sys.modules:
        return ()
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    headers: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(headers)
    return tuple(headers.items())
