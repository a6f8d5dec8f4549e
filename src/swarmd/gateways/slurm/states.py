"""Slurm's states, and what each means for an attempt.

Pure. What is over is not always decided here: the status file has a say, and `settling` asks it.
"""

from enum import Enum, auto


class Stage(Enum):
    """What a state of Slurm means."""

    WAITS = auto()
    RUNS = auto()
    ENDS = auto()
    """It is being ended; how it ends is not said yet."""
    DONE = auto()
    FAILED = auto()
    """The command, or its start, failed."""
    OUT_OF_RESOURCES = auto()
    CANCELLED = auto()
    LOST = auto()
    """Ended for a reason that is not the task's: its node was lost, or others had precedence."""
    REQUEUED = auto()
    """Slurm would start it once more; an attempt runs once."""


STAGES = {
    "PENDING": Stage.WAITS,
    "CONFIGURING": Stage.WAITS,
    "RUNNING": Stage.RUNS,
    "SUSPENDED": Stage.RUNS,
    "STOPPED": Stage.RUNS,
    "SIGNALING": Stage.RUNS,
    "RESIZING": Stage.RUNS,
    "STAGE_OUT": Stage.RUNS,
    "COMPLETING": Stage.ENDS,
    "COMPLETED": Stage.DONE,
    "FAILED": Stage.FAILED,
    "DEADLINE": Stage.FAILED,
    "LAUNCH_FAILED": Stage.LOST,
    "TIMEOUT": Stage.OUT_OF_RESOURCES,
    "OUT_OF_MEMORY": Stage.OUT_OF_RESOURCES,
    "CANCELLED": Stage.CANCELLED,
    "NODE_FAIL": Stage.LOST,
    "BOOT_FAIL": Stage.LOST,
    "PREEMPTED": Stage.LOST,
    "REVOKED": Stage.LOST,
    "RECONFIG_FAIL": Stage.LOST,
    "REQUEUED": Stage.REQUEUED,
    "REQUEUE_FED": Stage.REQUEUED,
    "REQUEUE_HOLD": Stage.REQUEUED,
    "RESV_DEL_HOLD": Stage.REQUEUED,
    "SPECIAL_EXIT": Stage.REQUEUED,
}
"""By the name that squeue and sacct print (squeue(1), job state codes). Others are let pass until a known one comes."""

FINAL = frozenset({Stage.DONE, Stage.FAILED, Stage.OUT_OF_RESOURCES, Stage.CANCELLED, Stage.LOST})

HOPELESS = frozenset(
    {
        "PartitionConfig",
        "PartitionNodeLimit",
        "PartitionTimeLimit",
        "BadConstraints",
        "AccountNotAllowed",
        "QOSNotAllowed",
        "InvalidAccount",
        "InvalidQOS",
        "AssocMaxCpuPerJobLimit",
        "AssocMaxMemPerJob",
        "AssocMaxNodePerJobLimit",
        "AssocMaxWallDurationPerJobLimit",
        "QOSMaxCpuPerJobLimit",
        "QOSMaxCpuPerNode",
        "QOSMaxMemoryPerJob",
        "QOSMaxMemoryPerNode",
        "QOSMaxNodePerJobLimit",
        "QOSMaxWallDurationPerJobLimit",
        "QOSTimeLimit",
        "DependencyNeverSatisfied",
        "FedJobLock",
    }
)
"""Reasons for waiting that pass only when somebody changes something, or after nodes came back (squeue(1), job reason
codes). Those that end by themselves are not among them, nor holds and partitions that are down: these are decisions."""


def stage_of(state: str) -> Stage | None:
    """What a state means; None for one that is not known. `CANCELLED by 0` counts as CANCELLED."""
    return STAGES.get(state.split(" ", 1)[0].rstrip("+"))


def is_held_after_failed_launch(reason: str, restarts: int) -> bool:
    """Whether Slurm waits for an administrator after it could not start the element: "launch failed requeued held"."""
    words = reason.lower().replace("_", " ")
    is_said = ("requeued" in words and "held" in words) or reason == "JobHoldMaxRequeue"
    return is_said or (reason == "JobHeldAdmin" and restarts > 0)
