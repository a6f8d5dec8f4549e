"""An attempt that a launcher was told to start, and the process that it is as soon as the launcher has said so.

It outlives the launcher: when that and its guardian are gone, it is looked after as what an earlier daemon left.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from swarmd.gateways.local.adoption import Adopted
from swarmd.gateways.local.attempt import Attempt
from swarmd.gateways.local.exits import ExitWatch
from swarmd.gateways.local.leader import Leader
from swarmd.gateways.local.procfs import boot_id, is_there, stat_of
from swarmd.gateways.local.status_file import Started

if TYPE_CHECKING:
    from swarmd.gateways.local.connection import Connection
    from swarmd.gateways.local.launching import Launchpad

LOST_STATUS = "its exit status was lost: the launcher, which had started it, is gone"


class Launched(Leader):
    """A process that the launcher started. Its number and its group's are nobody else's before `reap`."""

    __slots__ = (
        "_adopted",
        "_code",
        "_ended",
        "_exits",
        "_is_over",
        "_launchpad",
        "attempt",
        "connection",
        "key",
        "ticks",
    )

    def __init__(self, key: int, attempt: Attempt, launchpad: "Launchpad", connection: "Connection") -> None:
        super().__init__(0, -1)
        self.key = key
        self.attempt = attempt
        self.ticks = 0
        self.connection = connection
        """With the launcher that was told to start it."""
        self._launchpad = launchpad
        self._is_over = False
        self._code: int | None = None
        self._ended: Callable[[], None] | None = None
        self._exits: ExitWatch | None = None
        self._adopted: Adopted | None = None
        """How it is looked after without the launcher."""

    @property
    def without_status(self) -> str:  # type: ignore[override]
        return LOST_STATUS if self._adopted else ""

    def when_ended(self, exits: ExitWatch, ended: Callable[[], None]) -> None:
        self._exits, self._ended = exits, ended

    def unwatch(self, exits: ExitWatch) -> None:
        self._ended = None
        if self._adopted:
            exits.forget(self._adopted)

    def end_told(self, code: int) -> None:
        """It ended with this code. Maybe for the second time: the launcher may have said it before its guardian."""
        if self._is_over:
            return
        self._is_over, self._code = True, code
        if self._ended:
            self._ended()

    def launcher_lost(self) -> None:
        """Nobody will tell of its end."""
        if self._is_over:
            return
        started = Started(self.pid, self.ticks, boot_id(), None)
        self._adopted = Adopted(started, self.attempt.status)
        if self._adopted.has_ended():
            self._adopted.let_go()  # its number, and the descriptor, may be another process's by now
        if self._ended and self._exits:
            self._exits.watch(self._adopted, self._ended)

    def has_ended(self) -> bool:
        if self._adopted:
            return self._adopted.has_ended()
        if self._is_over:
            return True
        stat = stat_of(self.pid)
        return not is_there(self.pid) if stat is None else stat.is_dead

    def reap(self) -> int | None:
        if self._adopted:
            return self._adopted.reap()
        self._launchpad.release(self)
        return self._code

    def let_go(self) -> None:
        self._launchpad.disown(self)
        if self._adopted:
            self._adopted.let_go()

    def kill(self) -> None:
        """KILL, also before it is known as what it runs."""
        self._launchpad.kill(self)

    def signal(self, number: int) -> None:
        (self._adopted.signal if self._adopted else super().signal)(number)

    def signal_group(self, number: int) -> None:
        (self._adopted.signal_group if self._adopted else super().signal_group)(number)
