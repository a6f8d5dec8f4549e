"""What is asked of sbatch: a task's resources as options, and which options nobody may give.

Pure. Used for batches, and for the options of the config file.
"""

import math
import re
from collections.abc import Iterator

from swarmd.core.model import TaskResources

_NAME = re.compile(r"[a-z][a-z0-9-]+")

OWN_FIELDS = {
    "partition": "queue",
    "cpus-per-task": "cores",
    "cpus-per-gpu": "cores",
    "mem": "memory_mib",
    "time": "runtime",
    "clusters": "cluster",
}
"""Options that are fields of a task's resources, or that Slurm does not take beside those."""

_NAMES_BATCH = "it tells batches from each other"
_WRITES_OUTPUT = "output goes to files of the task's own"
_OTHER_WAY = "the daemon reads what sbatch prints"
_ENVIRONMENT = "the environment is the swarm's"
_ONCE = "an attempt runs once; what is lost is queued again as a new attempt"

FORBIDDEN = {
    "array": "a batch is an array already",
    "job-name": _NAMES_BATCH,
    "comment": _NAMES_BATCH,
    "output": _WRITES_OUTPUT,
    "error": _WRITES_OUTPUT,
    "open-mode": _WRITES_OUTPUT,
    "input": "tasks read nothing",
    "wrap": "the command is the task's",
    "container": "the batch's files would not be seen inside",
    "container-id": "the batch's files would not be seen inside",
    "external": "the command is the task's",
    "parsable": _OTHER_WAY,
    "quiet": _OTHER_WAY,
    "verbose": _OTHER_WAY,
    "wait": _OTHER_WAY,
    "test-only": _OTHER_WAY,
    "help": _OTHER_WAY,
    "usage": _OTHER_WAY,
    "version": _OTHER_WAY,
    "requeue": _ONCE,
    "no-requeue": _ONCE,
    "no-kill": "what was on a lost node is queued again, and does not wait for its time limit",
    "dependency": "dependencies are those of the tasks",
    "hold": "limits and pauses are those of the swarm",
    "chdir": "the working directory is the swarm's",
    "workdir": "the working directory is the swarm's",
    "export": _ENVIRONMENT,
    "export-file": _ENVIRONMENT,
    "get-user-env": _ENVIRONMENT,
    "uid": "tasks run as the daemon's user",
    "gid": "tasks run as the daemon's user",
    "cluster-constraint": "a daemon speaks to one cluster",
}
"""Options that would break what the gateway promises, and why."""

VALUED = frozenset(
    {
        *("account", "qos", "constraint", "gres", "nice", "nodelist", "exclude", "reservation", "licenses", "gpus"),
        *("tmp", "begin", "deadline", "signal", "mail-type", "mail-user", "wckey", "network", "nodes", "ntasks"),
        *("mem-per-cpu", "mem-per-gpu", "gpus-per-node", "gpus-per-task", "cpus-per-gpu", "time-min", "priority"),
    }
)
"""Well-known ones that mean nothing without a value: sbatch would take the option after it for one."""
PRINTS_HELP = frozenset({"gres", "hint", "mem-bind"})
"""With the value `help` these submit nothing and tell what there is."""
LONGEST_MINUTES = 10 * 365 * 1440
"""Of a time limit. Slurm counts seconds in 31 bits and takes what is longer for something else, a minute at worst."""


class ForbiddenOptionError(ValueError):
    """An option of sbatch that cannot be given here; the message says which, why, and what to do."""


def checked_option(name: str, value: str) -> str:
    """`--name=value`, or `--name` when the value is empty. Raises ForbiddenOptionError."""
    long_name = name.removeprefix("--")
    if not _NAME.fullmatch(long_name):
        raise ForbiddenOptionError(f"{name!r} is no long option of sbatch; write it like 'constraint'")
    if not value.isprintable():
        raise ForbiddenOptionError(f"{name} is {value!r}; give one line of printable text")
    field = _meant(long_name, OWN_FIELDS)
    if field:
        raise ForbiddenOptionError(f"{name} is set by the field {OWN_FIELDS[field]!r} of task resources; use that")
    forbidden = _meant(long_name, FORBIDDEN)
    if forbidden:
        raise ForbiddenOptionError(f"{name} cannot be given: {FORBIDDEN[forbidden]}; leave it out")
    if not value and long_name in VALUED:
        raise ForbiddenOptionError(f"{name} needs a value")
    objection = _objection(long_name, value)
    if objection:
        raise ForbiddenOptionError(f"{name} cannot be {value!r}: {objection}")
    return f"--{long_name}={value}" if value else f"--{long_name}"


def _objection(name: str, value: str) -> str:
    """What is wrong with just this value; empty when nothing is."""
    if value == "help" and any(option.startswith(name) for option in PRINTS_HELP):
        return "sbatch would tell what there is, and submit nothing; ask it on a command line"
    if "signal".startswith(name) and "B" in value.rpartition(":")[0].upper():
        return (
            "the signal would end the script around the command; without B: it goes to the steps that the task starts"
        )
    return ""


def checked_argument(argument: str) -> str:
    """An option as on a command line. Raises ForbiddenOptionError."""
    if not argument.startswith("--"):
        raise ForbiddenOptionError(f"{argument!r} is no long option of sbatch; write it like '--constraint=fast'")
    name, _, value = argument.partition("=")
    return checked_option(name, value)


def _meant(name: str, options: dict[str, str]) -> str:
    """The option that this is, or is short for: sbatch takes every beginning that can only be one."""
    return next((option for option in sorted(options) if option.startswith(name)), "")


def resource_options(resources: TaskResources, partition: str) -> Iterator[str]:
    """What a task's resources ask of sbatch. `partition`: for those that name no queue.

    Raises ForbiddenOptionError for an entry of `extra` that cannot be used.
    """
    if resources.queue or partition:
        yield f"--partition={resources.queue or partition}"
    yield f"--cpus-per-task={max(1, resources.cores)}"
    if resources.memory_mib > 0:
        yield f"--mem={resources.memory_mib}M"
    if resources.runtime_seconds > 0:
        yield f"--time={limit_minutes(resources.runtime_seconds)}"
    for name, value in resources.extra.items():
        if resources.memory_mib > 0 and name.removeprefix("--").startswith("mem-per-"):
            raise ForbiddenOptionError(
                f"{name} cannot be given beside memory_mib {resources.memory_mib}; leave one out"
            )
        yield checked_option(name, value)


def limit_minutes(seconds: float) -> int:
    """A runtime as Slurm takes it: whole minutes, not less than was asked for, but ten years at most."""
    return min(max(1, math.ceil(seconds / 60)), LONGEST_MINUTES)
