"""Statuses of tasks and swarms as words, with their colours; and from words."""

from typing import TYPE_CHECKING

from swarmd.cli.errors import UsageError
from swarmd.cli.output import Cell
from swarmd.core.status import TaskStatus

if TYPE_CHECKING:
    from swarmd._pb.swarm.v1 import swarm_pb2, task_pb2

STYLES = {
    "REGISTERED": "dim",
    "QUEUED": "blue",
    "INSTANTIATING": "blue",
    "LAUNCHED": "blue",
    "RUNNING": "cyan",
    "DONE": "green",
    "ERROR_RECOVERABLE": "yellow",
    "ADJUSTING_RESOURCES": "yellow",
    "ERROR_FATAL": "red",
    "CANCELLED": "magenta",
}

STATE_STYLES = {"done": "green", "error": "red", "running": "cyan", "held": "yellow", "in doubt": "yellow"}


def parse_task_status(text: str) -> TaskStatus:
    """A status by its name or its letter, whatever the case; raises UsageError."""
    wanted = text.strip().upper().replace("-", "_").removeprefix("TASK_STATUS_")
    for status in TaskStatus:
        if wanted in {status.name, status.value}:
            return status
    known = ", ".join(f"{status.name.lower()} ({status.value})" for status in TaskStatus)
    raise UsageError(f"--status: {text!r} is no status; choose one of {known}")


def task_status_name(value: "task_pb2.TaskStatus") -> str:
    """`RUNNING`; of a status that is not known here, its number."""
    from swarmd._pb.swarm.v1 import task_pb2

    try:
        return task_pb2.TaskStatus.Name(value).removeprefix("TASK_STATUS_")
    except ValueError:
        return str(int(value))


def task_status_cell(value: "task_pb2.TaskStatus") -> Cell:
    """The status with its colour."""
    name = task_status_name(value)
    return Cell(name, STYLES.get(name, ""))


def state_of(swarm: "swarm_pb2.Swarm") -> str:
    """How a swarm stands, in one word: done, error, empty, held, running, in doubt, or waiting (for a Tick)."""
    from swarmd._pb.swarm.v1 import swarm_pb2

    counts = swarm.task_counts
    if swarm.outcome == swarm_pb2.SWARM_OUTCOME_DONE:
        return "done"
    if swarm.outcome == swarm_pb2.SWARM_OUTCOME_ERROR:
        return "error"
    if not counts.total:
        return "empty"
    if swarm.held_reason:
        return "held"
    if counts.active:
        return "in doubt" if counts.in_doubt == counts.active else "running"
    return "waiting"


def policy_name(swarm: "swarm_pb2.Swarm") -> str:
    """The scheduling policy as options and files have it; empty for first come, first served, and what is unknown."""
    from swarmd.core.policy import SchedulingPolicy
    from swarmd.wire.names import POLICY_FROM_PB

    policy = POLICY_FROM_PB.get(swarm.scheduling_policy, SchedulingPolicy.FIRST_COME_FIRST_SERVED)
    return "" if policy is SchedulingPolicy.FIRST_COME_FIRST_SERVED else policy.value


def state_cell(swarm: "swarm_pb2.Swarm") -> Cell:
    """The state with its colour."""
    state = state_of(swarm)
    return Cell(state, STATE_STYLES.get(state, ""))
