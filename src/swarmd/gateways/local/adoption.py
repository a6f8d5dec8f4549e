"""Processes that an earlier daemon started: found by their status files, and looked after from then on.

They are no children of this process: their end is seen through a pidfd or in /proc, their exit code is in the status
file, where the launcher that they have writes it before it reaps them. A process is the one that was started only when
its number, its start time and the boot are the same.
"""

import os
from pathlib import Path

from swarmd.gateways.local.leader import Leader, pidfd_of
from swarmd.gateways.local.procfs import command_of, environment_of, is_there, seconds_since, stat_of
from swarmd.gateways.local.status_file import Started, read_status


class Adopted(Leader):
    """A process that is not ours, with the interface of a child. `adopt` makes them."""

    __slots__ = ("_started", "_status")

    without_status = "it ended and left no exit status"

    def __init__(self, started: Started, status: Path | None) -> None:
        super().__init__(started.pid, pidfd_of(started.pid))
        self._started = started
        self._status = status

    @property
    def age_seconds(self) -> float:
        """How long it has run; 0.0 where that was hidden."""
        return seconds_since(self._started.start_ticks) if self._started.start_ticks else 0.0

    def has_ended(self) -> bool:
        return not is_running(self._started)

    def reap(self) -> int | None:
        self.let_go()
        own = self._own_code()
        status = None if self._status is None else read_status(self._status)
        return status.exit_code if isinstance(status, Started) and status.exit_code is not None else own

    def signal_group(self, number: int) -> None:
        # With no process of this number the group is still the same: a number is not given anew while a group has it.
        if _number_is_not_recycled(self._started):
            super().signal_group(number)

    def _own_code(self) -> int | None:
        """How it ended, if it has become our child: as process 1 of a container we get what has lost its parents."""
        stat = stat_of(self.pid)
        if stat is None or stat.parent != os.getpid() or stat.start_ticks != self._started.start_ticks:
            return None
        try:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
        except ChildProcessError:
            return None
        return os.waitstatus_to_exitcode(status) if pid else None

    def _signal_leader(self, number: int) -> None:
        if not self.has_ended():
            super()._signal_leader(number)


def adopt(started: Started, status: Path) -> Adopted | None:
    """Look after a process that was started; None when it is not there any more."""
    if not is_running(started):
        return None
    adopted = Adopted(started, status)
    # Again: the number may have become another process's before the descriptor was opened.
    if adopted.has_ended():
        adopted.let_go()
        return None
    return adopted


def is_running(started: Started) -> bool:
    """Whether just this process is there, or a zombie of which a launcher is about to write the exit code.

    No other zombie counts: nobody may take its status where process 1 does not. A process that cannot be seen counts as
    it as long as it is there: better to wait for somebody else's than to start what runs a second time.
    """
    if not started.is_of_this_boot:
        return False
    stat = stat_of(started.pid)
    if stat is None:
        return is_there(started.pid)
    if not started.start_ticks:  # it was hidden when it started
        return started.exit_code is None and is_launcher(stat.parent)
    if stat.start_ticks != started.start_ticks:
        return False
    return not stat.is_dead or (started.exit_code is None and is_launcher(stat.parent))


def is_launcher(pid: int) -> bool:
    """Whether it is one, or the guardian of one, of whichever version."""
    return any(word.endswith((b"/launcher.py", b"/launcher/__main__.py")) for word in command_of(pid))


def is_group_of(started: Started, followers: list[int], marks: frozenset[bytes]) -> bool:
    """Whether these are what a process that ended has left of its group.

    It may have ended long ago, and the number have been another group's since whose leader ended too: so one of them
    must have the attempt's variables in its environment.
    """
    return (
        started.is_of_this_boot
        and _number_is_not_recycled(started)
        and any(marks.issubset(environment_of(pid)) for pid in followers)
    )


def _number_is_not_recycled(started: Started) -> bool:
    stat = stat_of(started.pid)
    return not is_there(started.pid) if stat is None else stat.start_ticks == started.start_ticks
