"""The trace that a call to a gateway belongs to, for gateways that can hand it on to their engine."""

from contextvars import ContextVar

TRACEPARENT: ContextVar[str] = ContextVar("traceparent", default="")
"""The W3C traceparent of the call under way; empty when nobody traces. Set around `queue_batch` by the daemon."""
