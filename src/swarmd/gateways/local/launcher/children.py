"""Processes that were started, and what the kernel says of them."""

import os
import signal
from contextlib import suppress
from typing import NamedTuple

PF_FORKNOEXEC = 0x40
"""Among the flags of a process: include/linux/sched.h."""


class Child:
    """A process that was started and not yet reaped: until then its number and its group's are nobody else's."""

    __slots__ = (
        "code",
        "is_over",
        "is_released",
        "key",
        "pid",
        "pidfd",
        "place",
        "status",
        "survives",
        "ticks",
        "untold",
    )

    def __init__(self, key: int, pid: int, place: int) -> None:
        self.key, self.pid = key, pid
        self.place = place
        """In the ledger."""
        self.ticks = start_ticks(pid)
        self.status = -1
        """The descriptor of its status file."""
        self.survives = False
        """It goes on without the daemon."""
        self.pidfd = -1
        self.code: int | None = None
        """How it ended."""
        self.untold = False
        """Its status file lacks something, for which there was no room on the disk."""
        self.is_over = False
        """It ended, and its status file says so, as far as anything will."""
        self.is_released = False
        """The daemon has seen its end."""


class Stat(NamedTuple):
    """A process as its `stat` file shows it: proc(5)."""

    is_dead: bool
    parent: int
    group: int
    has_program: bool
    """It runs one of its own, or did; otherwise it was forked and not more."""
    ticks: int


def stat_of(pid: int) -> Stat | None:
    """None when there is none, or when it is hidden."""
    fields = _fields(pid)
    if not fields:
        return None
    parent, group, flags, ticks = (int(fields[place]) for place in (1, 2, 6, 19))
    return Stat(fields[0] in (b"Z", b"X"), parent, group, not flags & PF_FORKNOEXEC, ticks)


def start_ticks(pid: int) -> int:
    """When the process started, in clock ticks since the boot; 0 where that is hidden."""
    fields = _fields(pid)
    return int(fields[19]) if fields else 0


def _fields(pid: int) -> list[bytes]:
    """Those after the program's name, which may hold anything; none when it cannot be read."""
    try:
        descriptor = os.open(b"/proc/%d/stat" % pid, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:  # another user's, as what `sudo` runs, with hidepid
        return []
    try:
        data = os.read(descriptor, 1024)
    except OSError:  # it has just gone
        return []
    finally:
        os.close(descriptor)
    return data[data.rindex(b")") + 1 :].split(None, 20) if data else []


def exit_code(pid: int) -> int | None:
    """How it ended, or the number of the signal that killed it below zero; None: it has not. It stays as it is."""
    result = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    if result is None:
        return None
    return result.si_status if result.si_code == os.CLD_EXITED else -result.si_status


def kill(child: Child) -> None:
    """KILL to it, wherever it may have gone, and to its group."""
    for send in (os.kill, os.killpg):
        with suppress(OSError):
            send(child.pid, signal.SIGKILL)
