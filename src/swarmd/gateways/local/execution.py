"""A running attempt: held to its runtime, ended when it must be, over when nothing of it is left.

Used by the local gateway, which is called back at the end. Knows the child and the clock, nothing of tasks and reports.
"""

import asyncio
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

from swarmd.gateways.local.exits import ExitWatch
from swarmd.gateways.local.groups import LivingGroups
from swarmd.gateways.local.process import Child

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
    overran: bool
    """It was ended because its time was up."""


class Execution:
    """One child from its start until it is reaped and its process group is empty."""

    __slots__ = (
        "_child",
        "_kill_timer",
        "_leader_ended",
        "_linger_timer",
        "_over",
        "_overran",
        "_runtime_timer",
        "_shared",
    )

    def __init__(
        self, child: Child, shared: Supervision, runtime_seconds: float, over: Callable[[Ending], None]
    ) -> None:
        """Watch over a child that just started. `runtime_seconds` 0: as long as it likes."""
        self._child = child
        self._shared = shared
        self._over = over
        self._overran = False
        self._leader_ended = False
        self._kill_timer: asyncio.TimerHandle | None = None
        self._linger_timer: asyncio.TimerHandle | None = None
        self._runtime_timer: asyncio.TimerHandle | None = None
        if runtime_seconds > 0:
            self._runtime_timer = shared.loop.call_later(runtime_seconds, self._time_is_up)
        shared.exits.watch(child, self._on_exit)

    def end(self) -> None:
        """TERM to the whole group, and KILL when the grace is over."""
        if self._kill_timer is None:
            self._kill_timer = self._shared.loop.call_later(self._shared.kill_grace, self.kill)
            self._child.signal(signal.SIGTERM)

    def kill(self) -> None:
        """KILL to the whole group."""
        self._child.signal(signal.SIGKILL)
        if self._leader_ended:
            self._finish()

    def kill_and_wait(self, until: float) -> None:
        """KILL now and see it gone, holding the loop: for when there is no time left. `until`: by the loop's clock."""
        self._child.signal(signal.SIGKILL)
        while not self._child.has_ended() and self._shared.loop.time() < until:
            time.sleep(0.001)
        if self._child.has_ended():
            self._finish()

    def _time_is_up(self) -> None:
        if not self._child.has_ended():
            self._overran = True
            self.end()

    def _on_exit(self) -> None:
        self._leader_ended = True
        if self._still_in_grace() and self._shared.groups.has_followers(self._child.pid):
            # A shell dies of TERM at once, while its programs may be writing what they want to keep.
            self._linger_timer = self._shared.loop.call_later(LINGER_SECONDS, self._on_exit)
        else:
            self._finish()

    def _still_in_grace(self) -> bool:
        return self._kill_timer is not None and self._kill_timer.when() > self._shared.loop.time()

    def _finish(self) -> None:
        for timer in (self._kill_timer, self._linger_timer, self._runtime_timer):
            if timer is not None:
                timer.cancel()
        # Before the leader is reaped: until then its group's number is nobody else's.
        self._child.signal_group(signal.SIGKILL)
        self._over(Ending(self._child.reap(), self._overran))
