"""One child process: how a command is started, signalled and reaped. The only module that makes processes.

A `Child` leads a process group of its own. Its pid and its group cannot be recycled before `reap`, because only this
module waits for it; whoever runs attempts needs no more than `pid`, `pidfd`, `has_ended`, `signal` and `reap`, so a
child that an earlier daemon started can come to stand beside this one.
"""

import errno
import os
import re
import signal
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from swarmd.gateways.local.output import OutputPaths, open_output

SHELL = b"/bin/sh"
LONGEST_ARGUMENT = 131_071
"""Linux takes 32 pages an argument (MAX_ARG_STRLEN), the closing NUL included; execve(2)."""

PASSING_ERRORS = frozenset({errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE})
"""No process, memory or file descriptor left just now."""

_PLAIN_COMMAND = re.compile(r"/[\w./@%:,+-]+(?: +[\w./@%:,+=-]+)*", re.ASCII)
"""A program by its full path with words that mean themselves to every shell."""


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


class Child:
    """A process that was started and not yet reaped, leader of its process group."""

    __slots__ = ("_popen", "pid", "pidfd")

    def __init__(self, popen: "subprocess.Popen[bytes]") -> None:
        self._popen = popen
        self.pid = popen.pid
        self.pidfd = _pidfd(popen.pid)
        """-1 where the kernel has none, or no descriptor was left."""

    def has_ended(self) -> bool:
        """Whether `reap` would return at once. Its pid stays taken."""
        try:
            return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:
            return True

    def signal(self, number: int) -> None:
        """Send a signal to the group, and to the leader wherever it may have gone. Never after `reap`."""
        if not self._leads_its_group() or number == signal.SIGKILL:
            with suppress(ProcessLookupError, PermissionError):
                self._signal_leader(number)
        self.signal_group(number)

    def signal_group(self, number: int) -> None:
        """Send a signal to whoever is in the group. Never after `reap`."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    def reap(self) -> int | None:
        """Its exit code, or the number of the signal that killed it below zero; None when the status was lost.

        Only after `has_ended`: it does not wait.
        """
        try:
            code = os.waitstatus_to_exitcode(os.waitpid(self.pid, os.WNOHANG)[1])
        except ChildProcessError:
            # Popen.poll() would call this a success.
            code = None
        self._popen.returncode = -1 if code is None else code
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1
        return code

    def _leads_its_group(self) -> bool:
        try:
            return os.getpgid(self.pid) == self.pid
        except ProcessLookupError:
            return False

    def _signal_leader(self, number: int) -> None:
        if self.pidfd >= 0:
            signal.pidfd_send_signal(self.pidfd, number)
        else:
            os.kill(self.pid, number)


def start_child(launch: Launch) -> Child:
    """Start a command with its output in files and nothing to read.

    Raises StartFailedError or StartPostponedError; then no process is left.
    """
    try:
        out, err = open_output(launch.output)
    except OSError as error:
        raise _start_error(error, "its output file could not be opened") from error
    try:
        return Child(_started(launch, out, err))
    except (OSError, ValueError) as error:
        raise _start_error(error, "could not be started") from error
    finally:
        os.close(out)
        os.close(err)


def shell_arguments(command: str) -> list[bytes]:
    """How the shell gets the command: as one argument, or in pieces where it is longer than one may be."""
    text = command.encode("utf-8", "surrogateescape")
    if len(text) <= LONGEST_ARGUMENT:
        return [SHELL, b"-c", text]
    pieces = [text[start : start + LONGEST_ARGUMENT] for start in range(0, len(text), LONGEST_ARGUMENT)]
    joined = "".join(f"${{{number}}}" for number in range(1, len(pieces) + 1))
    # The pieces are put together before eval runs the whole, whose first line hides them from the command.
    return [SHELL, b"-c", f'eval "set --\n{joined}"'.encode(), SHELL, *pieces]


def plain_arguments(command: str) -> list[bytes] | None:
    """The program and its arguments when the shell would do nothing but execute them, else None.

    Leaving the shell out halves what a short task costs. GNU make does the same, by the same reasoning.
    """
    return command.encode().split() if _PLAIN_COMMAND.fullmatch(command) else None


def _started(launch: Launch, out: int, err: int) -> "subprocess.Popen[bytes]":
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
    return subprocess.Popen(  # noqa: S603 - running the user's command is what this is for
        arguments,
        stdin=subprocess.DEVNULL,
        stdout=out,
        stderr=err,
        env=launch.environment,
        cwd=launch.working_directory,
        process_group=0,
    )


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


def _pidfd(pid: int) -> int:
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return -1
