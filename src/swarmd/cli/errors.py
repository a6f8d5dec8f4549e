"""How a command ends: the exit codes, and which error leads to which.

Commands raise SwarmdError or OSError; `main` shows one line and exits with what is found here.
"""

from enum import IntEnum

from swarmd.client.errors import RpcError
from swarmd.core.errors import SwarmdError


class ExitCode(IntEnum):
    """What programs can read from the end of a command."""

    OK = 0
    """All right; of `run` and `watch`: all tasks are done."""
    NOT_DONE = 1
    """The workflow did not finish with all tasks done. `has-work`: there is none. `health`: it does not serve."""
    USAGE = 2
    """Wrong usage, or a file that cannot be used."""
    NO_DAEMON = 3
    """No daemon answers."""
    REFUSED = 4
    """Not found, or refused by the daemon."""
    BUG = 70
    """An error in swarmd itself."""
    INTERRUPTED = 130
    """Interrupted, or cancelled by a signal."""


EPILOG = (
    "Exit codes: 0 all right (run, watch: all tasks done); 1 the workflow did not finish with all tasks done "
    "(has-work: no work; health: not serving); 2 wrong usage or a file that cannot be used; 3 no daemon answers; 4 not "
    "found or refused by the daemon; 130 interrupted."
)


class UsageError(SwarmdError):
    """The command line makes no sense; the message says how it would."""

    default_reason = "USAGE"


class NotThereError(SwarmdError):
    """What the command is about does not exist; found by the command itself."""

    default_reason = "NOT_FOUND"


def exit_code_of(error: SwarmdError | OSError) -> ExitCode:
    """The exit code for an error that ends a command."""
    if isinstance(error, NotThereError):
        return ExitCode.REFUSED
    if not isinstance(error, RpcError):
        return ExitCode.USAGE
    return ExitCode.NO_DAEMON if error.code in {"UNAVAILABLE", "DEADLINE_EXCEEDED"} else ExitCode.REFUSED


def sentence_of(error: SwarmdError | OSError) -> str:
    """What is told on standard error."""
    if isinstance(error, SwarmdError):
        return error.message
    return f"{error.filename}: {error.strerror}" if error.filename else str(error)
