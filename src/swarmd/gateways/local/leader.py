"""The process that an attempt runs as, leader of a process group of its own, whoever started it.

`launching.Launched` is one that this daemon's launcher started, `adoption.Adopted` one that an earlier daemon's did.
Whoever looks after running attempts needs no more than this.
"""

import os
import resource
import signal
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from swarmd.gateways.local.exits import ExitWatch


class Leader(ABC):
    """A process and its group. Nothing may be called after `reap` or `let_go`."""

    __slots__ = ("pid", "pidfd")

    without_status = ""
    """What there is to say when `reap` gives None."""

    def __init__(self, pid: int, pidfd: int) -> None:
        self.pid = pid
        self.pidfd = pidfd
        """-1 where the kernel has none, or no descriptor was left."""

    def when_ended(self, exits: "ExitWatch", ended: Callable[[], None]) -> None:
        """Have `ended` called, once, when it can be reaped."""
        exits.watch(self, ended)

    def unwatch(self, exits: "ExitWatch") -> None:
        """Nobody is called back any more."""
        exits.forget(self)

    @abstractmethod
    def has_ended(self) -> bool:
        """Whether `reap` would return at once."""

    @abstractmethod
    def reap(self) -> int | None:
        """Its exit code, or the number of the signal that killed it below zero; None when nobody knows.

        Only after `has_ended`: it does not wait.
        """

    def let_go(self) -> None:
        """It goes on, and this daemon does not look after it any more."""
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1

    def signal(self, number: int) -> None:
        """Send a signal to the group, and to the leader wherever it may have gone."""
        if not self._leads_its_group() or number == signal.SIGKILL:
            with suppress(ProcessLookupError, PermissionError):
                self._signal_leader(number)
        self.signal_group(number)

    def signal_group(self, number: int) -> None:
        """Send a signal to whoever is in the group."""
        signal_group(self.pid, number)

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


def signal_group(group: int, number: int) -> None:
    """Send a signal to whoever is in the group; it may be empty."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def pidfd_of(pid: int) -> int:
    """A descriptor that stands for the process; -1 where there is none, or half of those that we may have are open.

    The others are for what cannot do without.
    """
    try:
        descriptor = os.pidfd_open(pid)
    except (AttributeError, OSError):
        return -1
    if descriptor < resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2:
        return descriptor
    os.close(descriptor)
    return -1
