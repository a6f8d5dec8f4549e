"""What a client loads: arrays, task resources and tasks, as plain values, and the bounds on their text.

These are what crosses the border of the core one by one; inside, and for large loads, the same travels as columns
(`columns.py`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from swarmd.core.errors import LimitExceededError
from swarmd.core.status import TaskStatus

MAX_NAME_BYTES = 1024
MAX_LABEL_BYTES = 256
MAX_COMMAND_BYTES = 131_072
MAX_REASON_BYTES = 4096
MAX_ENVIRONMENT_BYTES = 65_536
MAX_EXTRA_ENTRIES = 64
MAX_FALLBACK_QUEUES = 16
MAX_QUEUES = 1000
"""Of so many queues a swarm keeps what they can hold."""
MAX_ID = (1 << 62) - 1
MAX_COUNT = (1 << 31) - 1
MAX_ATTEMPT = 1 << 30
"""The highest attempt that may be told: room enough above it for all that follow."""
MAX_RUNTIME_SECONDS = 315_576_000_000.0
"""10,000 years, as long as a protobuf Duration can be."""

DEFAULT_MAX_ATTEMPTS = 3
DEFAULT_SWARM_LIMIT = 10_000
ADJUSTED_RESOURCES_BASE = 1 << 40
"""Resources that grew after ADJUSTING_RESOURCES get ids from here up; the ids of loaded ones are below."""

SCALABLE_RESOURCES = ("cores", "memory", "runtime")


@dataclass(frozen=True, slots=True)
class TextLimits:
    """How many bytes of UTF-8 a text may have, by what it is. None is above what a journal may hold."""

    name_bytes: int = MAX_NAME_BYTES
    """Names of tasks; keys and values of `extra`."""
    label_bytes: int = MAX_LABEL_BYTES
    """Names of swarms, arrays, clusters and queues."""
    command_bytes: int = MAX_COMMAND_BYTES
    reason_bytes: int = MAX_REASON_BYTES
    environment_bytes: int = MAX_ENVIRONMENT_BYTES
    """All names and values together."""

    def check(self, kind: str, text: str, field: str) -> None:
        """Raise LimitExceededError when a text of this kind (`name`, `label`, ...) is too long."""
        limit = getattr(self, f"{kind}_bytes")
        if len(text) * 4 > limit and len(text.encode(errors="replace")) > limit:
            raise self.too_long(kind, field, len(text.encode(errors="replace")))

    def too_long(self, kind: str, field: str, size: int) -> LimitExceededError:
        """The error for a text of so many bytes."""
        limit, setting = getattr(self, f"{kind}_bytes"), f"max_{kind}_bytes"
        message = f"{field}: {size} bytes is too long; give at most {limit} ({setting})"
        return LimitExceededError(message, reason="TEXT_TOO_LONG", field=field, metadata={"limit": setting})


ALL_TEXTS = TextLimits()
"""What nobody may exceed, whatever is configured."""


@dataclass(frozen=True, slots=True)
class Array:
    """Tasks of one template, with a concurrency limit of their own."""

    array_id: int
    """Chosen by the client, above 0."""
    name: str = ""
    max_concurrently_running: int | None = None
    """How many of its tasks may be active at once; None: only the swarm's limit counts."""
    command: str = ""
    """The template for tasks that bring no command (see `templates.py`)."""


@dataclass(frozen=True, slots=True)
class TaskResources:
    """What tasks ask of the engine; shared by id."""

    task_resources_id: int
    """Chosen by the client, above 0 and below 2**40."""
    cluster: str = ""
    queue: str = ""
    cores: int = 1
    memory_mib: int = 0
    """0: no memory is set aside."""
    runtime_seconds: float = 0.0
    """The longest time an attempt may run; 0: no limit."""
    extra: Mapping[str, str] = field(default_factory=dict)
    """Options that only the engine understands."""
    fallback_queues: tuple[str, ...] = ()
    """Queues of the same cluster for what has grown too large for its queue; the first that can hold it is taken."""


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """The most that one task may ask of a queue."""

    cluster: str = ""
    queue: str = ""
    """Empty: the engine's default queue, which tasks use that name none."""
    cores: int | None = None
    """None, here and below: there is no limit, or none is known."""
    memory_mib: int | None = None
    runtime_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """One command to run once successfully."""

    task_id: int
    """Chosen by the client, unique in its swarm, above 0."""
    array_id: int
    task_resources_id: int
    name: str = ""
    command: str = ""
    """Empty: the array's command is the template."""
    upstream_task_ids: tuple[int, ...] = ()
    status: TaskStatus = TaskStatus.REGISTERED
    """Where it stands already, for work that is resumed."""
    max_attempts: int = DEFAULT_MAX_ATTEMPTS
    """How many attempts may fail before the task is ERROR_FATAL; at least 1."""
    priority: int = 0
    """Higher leaves first."""
    resource_scales: Mapping[str, float] = field(default_factory=dict)
    """By how much each resource grows when an attempt ran out: `{"memory": 0.5}` is half as much again."""
    attempt: int = 0
    """How often it has been queued."""
    failed_attempts: int = 0
    """How many of its attempts have failed."""
