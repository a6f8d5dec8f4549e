"""What the work under way is about: the swarm and the batch, and why its call was refused.

Set where it is known (`Registry.get`, the journal, the scheduler) and seen by everything that the same task, and tasks
that it starts, do after it: log lines carry it, and so do spans. Setting one costs about 50 ns.
"""

from contextvars import ContextVar

SWARM: ContextVar[str] = ContextVar("swarm", default="")
BATCH: ContextVar[str] = ContextVar("batch", default="")
REFUSAL: ContextVar[str] = ContextVar("refusal", default="")
"""The reason of the error that ended the present call."""
