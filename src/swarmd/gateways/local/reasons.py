"""What a task's end means: its status, and the reason in words that help its owner.

Pure but for reading the end of the error output.
"""

import signal
from pathlib import Path

from swarmd.core.model import MAX_REASON_BYTES
from swarmd.core.status import TaskStatus
from swarmd.gateways.local.execution import Ending
from swarmd.gateways.output import harmless, tail

SHELL_SIGNALS = 128
"""A shell adds it to the number of the signal that ended a program."""

NUL_CHARACTER = "its command contains a NUL character"
STOPPED = "the daemon was stopped"
VANISHED = "it vanished while no daemon was there: its process is gone and left no exit status"
STATUS_GONE = "it vanished while no daemon was there: it had started, and its status file is gone"
FORESTALLED = "it was not started: an earlier daemon had given it up"
LAUNCHER_LOST = "the launcher that was to start it is gone"


def verdict(ending: Ending, runtime_seconds: float, error_output: Path) -> tuple[TaskStatus, str]:
    """The status that an attempt ends with, and why."""
    if ending.overran:
        return TaskStatus.ADJUSTING_RESOURCES, f"ran longer than its runtime of {runtime_seconds:g} s"
    if ending.code == 0:
        return TaskStatus.DONE, ""
    text = ending.without_code if ending.code is None else exit_text(ending.code)
    return TaskStatus.ERROR_RECOVERABLE, with_tail(text, error_output)


def with_tail(text: str, error_output: Path) -> str:
    """Why an attempt failed, with the last lines of its errors, within what a reason may hold."""
    shown = tail(error_output)
    text = _cut(text, MAX_REASON_BYTES - len(shown.encode()) - 1)
    return f"{text}\n{shown}" if shown else text


def exit_text(code: int) -> str:
    """An exit code in words: below zero it is the number of the signal.

    Above 128 it is a shell's word for a signal that ended the program (POSIX, Shell Command Language, 2.8.2).
    """
    if code < 0:
        return f"killed by {_signal_text(-code)}"
    if 0 < code - SHELL_SIGNALS <= signal.SIGRTMAX:
        return f"exit code {code} (killed by {_signal_text(code - SHELL_SIGNALS)})"
    return f"exit code {code}"


def _signal_text(number: int) -> str:
    try:
        return f"signal {number} ({signal.Signals(number).name})"
    except ValueError:
        return f"signal {number}"


def start_failure(error: Exception) -> str:
    """Why an attempt did not even start, within what a reason may hold."""
    return _cut(str(error), MAX_REASON_BYTES - 1)


def _cut(text: str, most: int) -> str:
    return harmless(text).encode()[:most].decode(errors="ignore")
