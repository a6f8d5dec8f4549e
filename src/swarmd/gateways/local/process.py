"""One child process: how a command is started, signalled and reaped. The only module that makes processes."""

import errno
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from swarmd.gateways.local.commands import plain_arguments, shell_arguments
from swarmd.gateways.local.leader import Leader, pidfd_of
from swarmd.gateways.local.wrapper import wrapped_arguments
from swarmd.gateways.output import OutputPaths, open_output

PASSING_ERRORS = frozenset({errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE})
"""No process, memory or file descriptor left just now."""

PRIVATE_UMASK = 0o077


class StartFailedError(Exception):
    """The command cannot be started; its text says why."""


class StartPostponedError(Exception):
    """The machine is short of something just now; the same start may work a little later."""


@dataclass(frozen=True, slots=True)
class Launch:
    """What is to be started, and where."""

    command: str
    environment: dict[bytes, bytes]
    """All of it."""
    working_directory: Path | None
    output: OutputPaths
    status: Path | None = None
    """The status file of a task that survives the daemon; None: it ends with it."""


class Child(Leader):
    """A process that was started and not yet reaped.

    Its pid and its group cannot be recycled before `reap`, because only this module waits for it.
    """

    __slots__ = ("_popen",)

    without_status = "its exit status was lost: something else in the daemon's process waited for it"

    def __init__(self, popen: "subprocess.Popen[bytes]") -> None:
        super().__init__(popen.pid, pidfd_of(popen.pid))
        self._popen = popen

    def has_ended(self) -> bool:
        try:
            return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:
            return True

    def reap(self) -> int | None:
        try:
            code = os.waitstatus_to_exitcode(os.waitpid(self.pid, os.WNOHANG)[1])
        except ChildProcessError:
            # Popen.poll() would call this a success.
            code = None
        self.let_go()
        return code

    def let_go(self) -> None:
        super().let_go()
        # Popen would warn that the process still runs, and wait for it later.
        self._popen.returncode = -1


def start_child(launch: Launch) -> Child:
    """Start a command with its output in files and nothing to read.

    Raises StartFailedError or StartPostponedError; then no process is left.
    """
    try:
        out, err = open_output(launch.output, emptied=launch.status is None)
    except OSError as error:
        raise _start_error(error, "its output file could not be opened") from error
    try:
        return Child(_started(launch, out, err))
    except (OSError, ValueError) as error:
        raise _start_error(error, "could not be started") from error
    finally:
        os.close(out)
        os.close(err)


def _started(launch: Launch, out: int, err: int) -> "subprocess.Popen[bytes]":
    if launch.status is not None:
        return _popen(wrapped_arguments(launch.status, _own_umask(), launch.command), launch, out, err)
    plain = plain_arguments(launch.command)
    if plain:
        try:
            return _popen(plain, launch, out, err)
        except OSError as error:
            if error.errno in PASSING_ERRORS:
                raise
            # The shell knows what to do with a script without #!, and what to say when there is no such program.
    return _popen(shell_arguments(launch.command), launch, out, err)


def _popen(arguments: list[bytes], launch: Launch, out: int, err: int) -> "subprocess.Popen[bytes]":
    # Without preexec_fn, user and group Popen uses vfork: a fork of the daemon would be slow, and would copy gRPC's
    # threads' locks.
    survives = launch.status is not None
    return subprocess.Popen(  # noqa: S603 - running the user's command is what this is for
        arguments,
        stdin=subprocess.DEVNULL,
        stdout=out,
        stderr=err,
        env=launch.environment,
        cwd=launch.working_directory,
        umask=PRIVATE_UMASK if survives else -1,
        # A session of its own, where nothing of the daemon's terminal reaches it; or only a group.
        start_new_session=survives,
        process_group=None if survives else 0,
    )


def _own_umask() -> int:
    # There is no way to ask but to set it. Should another thread make a file just now, it is for its owner only.
    umask = os.umask(PRIVATE_UMASK)
    os.umask(umask)
    return umask


def _start_error(error: OSError | ValueError, what: str) -> StartFailedError | StartPostponedError:
    if not isinstance(error, OSError):
        return StartFailedError(f"{what}: {error}")
    named = error.filename
    where = f": {os.fsdecode(named)}" if isinstance(named, str | bytes | os.PathLike) else ""
    text = f"{what}: {error.strerror or error}{where}"
    if error.errno in PASSING_ERRORS:
        return StartPostponedError(text)
    if error.errno == errno.E2BIG:
        text += " (the command and its environment are longer than this machine lets a process start with)"
    return StartFailedError(text)
