"""Jobmon's distributor of one run as a process of this machine: found again by its environment, started, ended.

It outlives the daemon that started it. What it was started with has a mark in its environment, which its own processes
have too; so the next daemon knows it without any note that a crash could have kept from being written.
"""

import contextlib
import hashlib
import os
import signal
import subprocess
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from swarmd.gateways.local.procfs import command_of, environment_of, process_ids, stat_of

MARK = "SWARM_JOBMON_RUN"
"""The variable that says whose distributor it is."""
RUN_OPTION = b"--workflow_run_id"
"""What the command of every distributor has, and that of nothing that it starts."""
MOST_LOG_BYTES = 1024 * 1024
SHOWN_BYTES = 4096
SIGNS = ("ALIVE", "SHUTDOWN")
"""What it writes on standard error, without an end of the line, when it begins and when it ends."""


@dataclass(frozen=True, slots=True)
class Mark:
    """What tells the processes of one run's distributor from all others."""

    server: str
    workflow_run_id: int

    @property
    def value(self) -> str:
        return f"{self.workflow_run_id}@{self.server}"

    @property
    def digest(self) -> str:
        """Short, and another for every server."""
        return hashlib.sha256(self.server.encode()).hexdigest()[:12]

    def processes(self) -> Iterator[tuple[int, int]]:
        """The processes that have it, with their groups."""
        wanted = f"{MARK}={self.value}".encode()
        for pid in process_ids():
            stat = stat_of(pid)
            if stat is not None and not stat.is_dead and wanted in environment_of(pid):
                yield pid, stat.group


class Distributor:
    """A distributor that runs, or has run. The methods touch /proc and block for a moment only."""

    def __init__(self, pid: int, start_ticks: int, process: "subprocess.Popen[bytes] | None" = None) -> None:
        self.pid = pid
        self._start_ticks = start_ticks
        self._process = process

    @classmethod
    def found(cls, mark: Mark) -> "Distributor | None":
        """The one that goes on from an earlier daemon. It leads a group; what it forked has the same command."""
        for pid, group in mark.processes():
            stat = stat_of(pid)
            if pid == group and stat is not None and RUN_OPTION in command_of(pid):
                return cls(pid, stat.start_ticks)
        return None

    @classmethod
    def started(
        cls, arguments: Sequence[str], environment: Mapping[bytes, bytes], directory: Path, log: Path
    ) -> "Distributor":
        """A new one, in a session of its own; what it says goes to `log`, which is emptied first. Raises OSError.

        A log without a distributor says that there was to be one, also to the daemon that comes after a crash.
        """
        with opened(log) as errors:
            os.ftruncate(errors, 0)
            process = subprocess.Popen(  # noqa: S603 (its arguments are ours, but for two that were checked)
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                env=environment,
                cwd=directory,
                start_new_session=True,
            )
        stat = stat_of(process.pid)
        return cls(process.pid, stat.start_ticks if stat else 0, process)

    def is_alive(self) -> bool:
        """Whether it runs."""
        if self._process is not None:
            return self._process.poll() is None
        stat = stat_of(self.pid)
        return stat is not None and not stat.is_dead and stat.start_ticks == self._start_ticks

    def in_words(self) -> str:
        """How it ended, as far as that is known."""
        code = self._process.returncode if self._process is not None else None
        if code is None:
            return "ended"
        return f"ended with exit code {code}" if code >= 0 else f"was ended by signal {-code}"

    def ask_to_end(self) -> None:
        """SIGTERM, which it takes as a wish to end what it has begun and go."""
        if self.is_alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)

    def leave(self) -> None:
        """Nobody looks at it any more. While this process is there its end is waited for, so that it is no zombie."""
        if self._process is not None and self._process.returncode is None:
            threading.Thread(target=self._process.wait, name="jobmon distributor", daemon=True).start()


def end_forks(mark: Mark) -> None:
    """SIGKILL for what a dead distributor forked, which would launch what is given up. Tasks that run are left."""
    for pid, _ in mark.processes():
        if RUN_OPTION in command_of(pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def end_all(mark: Mark, leaders: Collection[int]) -> None:
    """SIGKILL for a run's distributors, what they forked, and all that is in their groups still."""
    marked = list(mark.processes())
    groups = {group for pid, group in marked if RUN_OPTION in command_of(pid)}.union(leaders)
    for pid, group in marked:
        if group in groups:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def opened(log: Path) -> Iterator[int]:
    """The end of a log file that nobody else can read."""
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def shorten(log: Path) -> None:
    """Empty a log that has grown too long; whoever appends to it goes on at its beginning."""
    with contextlib.suppress(OSError):
        if log.stat().st_size > MOST_LOG_BYTES:
            os.truncate(log, 0)


def says_that_it_lives(log: Path) -> bool:
    """Whether the distributor that writes there has begun its work."""
    try:
        return SIGNS[0].encode() in log.read_bytes()
    except OSError:
        return False


def last_line(log: Path) -> str:
    """What was said last; empty when there is nothing."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - SHOWN_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    for sign in SIGNS:
        text = text.replace(sign, "\n")
    lines = [line.strip() for line in text.splitlines()]
    return next((line for line in reversed(lines) if line), "")
