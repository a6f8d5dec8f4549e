"""The statuses of tasks and runs, and what they are called.

Everybody uses these names. They compare as Jobmon's one-letter strings; inside the columns a status is a small number,
its `code`.
"""

from enum import IntEnum, StrEnum


class TaskStatus(StrEnum):
    """Where a task stands; equal to its one-letter code (`TaskStatus.DONE == "D"`)."""

    REGISTERED = "G"
    QUEUED = "Q"
    INSTANTIATING = "I"
    LAUNCHED = "O"
    RUNNING = "R"
    DONE = "D"
    ERROR_RECOVERABLE = "E"
    ADJUSTING_RESOURCES = "A"
    ERROR_FATAL = "F"
    CANCELLED = "X"

    @property
    def is_final(self) -> bool:
        """Whether only a reset leads back."""
        return self in FINAL_STATUSES


FINAL_STATUSES = frozenset({TaskStatus.DONE, TaskStatus.ERROR_FATAL, TaskStatus.CANCELLED})


class Code(IntEnum):
    """A status as the columns hold it. RESERVED is REGISTERED to everybody outside: its batch is being queued.

    The first nine are where a task can stand; the last two are news that a task never stays in.
    """

    REGISTERED = 0
    RESERVED = 1
    QUEUED = 2
    INSTANTIATING = 3
    LAUNCHED = 4
    RUNNING = 5
    DONE = 6
    ERROR_FATAL = 7
    CANCELLED = 8
    ERROR_RECOVERABLE = 9
    ADJUSTING_RESOURCES = 10


STANDING_CODES = 9
"""How many codes a task can stand in."""

ACTIVE_CODES = (Code.RESERVED, Code.QUEUED, Code.INSTANTIATING, Code.LAUNCHED, Code.RUNNING)
"""The codes that use capacity; they are adjacent, which the columns make use of."""

FINAL_CODES = (Code.DONE, Code.ERROR_FATAL, Code.CANCELLED)
"""The codes that only a reset leaves; adjacent too."""

CODE_OF = {status: Code[status.name] for status in TaskStatus}
STATUS_OF = [TaskStatus.REGISTERED if code is Code.RESERVED else TaskStatus[code.name] for code in Code]


class RunStatus(StrEnum):
    """The status of the whole run, by Jobmon's one-letter codes. Only RUNNING queues tasks."""

    REGISTERED = "G"
    LINKING = "L"
    BOUND = "B"
    INSTANTIATED = "I"
    LAUNCHED = "O"
    RUNNING = "R"
    DONE = "D"
    ABORTED = "A"
    STOPPED = "S"
    ERROR = "E"
    COLD_RESUME = "C"
    HOT_RESUME = "H"
    TERMINATED = "T"


class Outcome(StrEnum):
    """How a swarm stands as a whole."""

    UNFINISHED = "UNFINISHED"
    DONE = "DONE"
    ERROR = "ERROR"
