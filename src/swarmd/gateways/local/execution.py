"""A running attempt: held to its runtime, ended when it must be, over when nothing of it is left.

Used by the local gateway, which is called back at the end. Knows processes and the clock, nothing of tasks and reports.
"""

import asyncio
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

from swarmd.gateways.local.exits import ExitWatch
from swarmd.gateways.local.groups import LivingGroups
from swarmd.gateways.local.leader import Leader

LINGER_SECONDS = 0.05
"""How often to look whether the rest of a group has ended as it was told."""


class Supervision:
    """What all executions share."""

    def __init__(self, kill_grace: float) -> None:
        self.kill_grace = kill_grace
        self.loop = asyncio.get_running_loop()
        self.exits = ExitWatch()
        self.groups = LivingGroups()


@dataclass(frozen=True, slots=True)
class Ending:
    """How an execution ended."""

    code: int | None
    """The exit code, the signal's number below zero, or None when nobody knows."""
    overran: bool = False
    """It was ended because its time was up."""
    pid: int = 0
    """Which process it was; 0: it ended while nobody looked."""
    without_code: str = ""
    """Why there is no code."""


class Execution:
    """One process, from when it is looked after until it is reaped and its process group is empty."""

    __slots__ = (
        "_kill_timer",
        "_leader",
        "_leader_ended",
        "_linger_timer",
        "_over",
        "_overran",
        "_runtime_timer",
        "_shared",
    )

    def __init__(
        self, leader: Leader, shared: Supervision, seconds_left: float | None, over: Callable[[Ending], None]
    ) -> None:
        """Watch over a process that runs. `seconds_left` None: as long as it likes."""
        self._leader = leader
        self._shared = shared
        self._over = over
        self._overran = False
        self._leader_ended = False
        self._kill_timer: asyncio.TimerHandle | None = None
        self._linger_timer: asyncio.TimerHandle | None = None
        self._runtime_timer: asyncio.TimerHandle | None = None
        if seconds_left is not None:
            self._runtime_timer = shared.loop.call_later(max(0.0, seconds_left), self._time_is_up)
        leader.when_ended(shared.exits, self._on_exit)

    @property
    def is_being_ended(self) -> bool:
        return self._kill_timer is not None

    def let_go(self) -> None:
        """It goes on, and nobody is called back."""
        self._stop_timers()
        self._leader.unwatch(self._shared.exits)
        self._leader.let_go()

    def end(self) -> None:
        """TERM to the whole group, and KILL when the grace is over."""
        if self._kill_timer is None:
            self._kill_timer = self._shared.loop.call_later(self._shared.kill_grace, self.kill)
            self._leader.signal(signal.SIGTERM)

    def kill(self) -> None:
        """KILL to the whole group."""
        self._leader.signal(signal.SIGKILL)
        if self._leader_ended:
            self._finish()

    def kill_and_wait(self, until: float) -> None:
        """KILL now and see it gone, holding the loop: for when there is no time left. `until`: by the loop's clock."""
        self._leader.signal(signal.SIGKILL)
        while not self._leader.has_ended() and self._shared.loop.time() < until:
            time.sleep(0.001)
        if self._leader.has_ended():
            self._finish()

    def _time_is_up(self) -> None:
        if not self._leader.has_ended():
            self._overran = True
            self.end()

    def _on_exit(self) -> None:
        self._leader_ended = True
        if self._still_in_grace() and self._shared.groups.has_followers(self._leader.pid):
            # A shell dies of TERM at once, while its programs may be writing what they want to keep.
            self._linger_timer = self._shared.loop.call_later(LINGER_SECONDS, self._on_exit)
        else:
            self._finish()

    def _still_in_grace(self) -> bool:
        return self._kill_timer is not None and self._kill_timer.when() > self._shared.loop.time()

    def _finish(self) -> None:
        self._stop_timers()
        leader = self._leader
        # Before the leader is reaped: until then its group's number is nobody else's.
        leader.signal_group(signal.SIGKILL)
        self._over(Ending(leader.reap(), self._overran, leader.pid, leader.without_status))

    def _stop_timers(self) -> None:
        for timer in (self._kill_timer, self._linger_timer, self._runtime_timer):
            if timer is not None:
                timer.cancel()
