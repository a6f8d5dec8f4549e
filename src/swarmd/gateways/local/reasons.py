"""What a task's end means: its status, and the reason in words that help its owner.

Pure but for reading the end of the error output.
"""

import signal
from pathlib import Path

from swarmd.core.model import MAX_REASON_BYTES
from swarmd.core.status import TaskStatus
from swarmd.gateways.local.execution import Ending
from swarmd.gateways.local.output import harmless, tail


def verdict(ending: Ending, runtime_seconds: float, error_output: Path) -> tuple[TaskStatus, str]:
    """The status that an attempt ends with, and why."""
    if ending.overran:
        return TaskStatus.ADJUSTING_RESOURCES, f"ran longer than its runtime of {runtime_seconds:g} s"
    if ending.code == 0:
        return TaskStatus.DONE, ""
    shown = tail(error_output)
    text = exit_text(ending.code)
    return TaskStatus.ERROR_RECOVERABLE, f"{text}\n{shown}" if shown else text


def exit_text(code: int | None) -> str:
    """An exit code in words: below zero it is the number of the signal."""
    if code is None:
        return "its exit status was lost: something else in the daemon's process waited for it"
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by signal {-code} ({signal.Signals(-code).name})"
    except ValueError:
        return f"killed by signal {-code}"


def start_failure(error: Exception) -> str:
    """Why an attempt did not even start, within what a reason may hold."""
    return harmless(str(error)).encode()[: MAX_REASON_BYTES - 1].decode(errors="ignore")
