"""The life of a workflow run: which statuses follow which, and what each of them asks for. No I/O."""

from collections import deque

from swarmd.core.status import RunStatus, TaskStatus

FOLLOWING = {"G": "L", "L": "BA", "B": "IECH", "I": "OE", "O": "RE", "R": "DSECH", "C": "T", "H": "T"}
"""What the server lets follow each status; nothing follows the others."""

WAITING = frozenset("GLBIO")
"""The run has not begun: its distributor takes it from B to O."""
BEFORE_DISTRIBUTOR = frozenset("GLB")
"""No distributor has taken the run up yet."""
RESUMING = frozenset("CH")
"""Somebody else wants to go on with the workflow: what runs is to end (C), or need only not grow (H)."""
OVER = frozenset("DSETA")

RUN_STATUSES = frozenset(status.value for status in RunStatus)
TASK_STATUSES = frozenset(status.value for status in TaskStatus)


def way(status: str, wanted: str) -> str:
    """The statuses to set one after the other to come from one to another; empty when no way leads there."""
    ways = deque([(status, "")])
    seen = {status}
    while ways:
        at, passed = ways.popleft()
        if at == wanted:
            return passed
        for following in FOLLOWING.get(at, ""):
            through = following not in RESUMING or following == wanted
            if following not in seen and through:
                seen.add(following)
                ways.append((following, passed + following))
    return ""


def last_status(status: str, *, succeeded: bool, cancelled: bool) -> str:
    """How a run whose tasks have all come to an end is to be left; empty when that is not ours to say."""
    if status in OVER or status in RESUMING:
        return ""
    if succeeded:
        return "D"
    return "S" if cancelled and status == "R" else "E"


def heartbeat_status(status: str) -> str:
    """What a heartbeat is to carry: a run that is being linked stays so, every other is, or is to be, running."""
    return "L" if status in ("G", "L") else "R"


def active_statuses(status: str) -> str:
    """Which statuses of tasks a run that is to be resumed waits for: those that run may go on when it is a hot one."""
    return "QIO" if status == "H" else "QIOR"


def in_words(status: str) -> str:
    """A run's status as people read it."""
    return RunStatus(status).name if status in RUN_STATUSES else repr(status)


def task_status_in_words(status: str) -> str:
    """A task's status as people read it."""
    return TaskStatus(status).name if status in TASK_STATUSES else repr(status)
