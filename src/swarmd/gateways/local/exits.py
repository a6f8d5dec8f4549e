"""Learning that a child has ended, in the event loop, without signal handlers and without threads.

A pidfd becomes readable when its process ends; children without one are looked at every few milliseconds. Nothing is
reaped here: whoever is called does that, while the pid is still the child's.
"""

import asyncio
from collections.abc import Callable

from swarmd.gateways.local.process import Child

POLL_SECONDS = 0.02

Ended = Callable[[], None]


class ExitWatch:
    """Calls back, once for each child, when it can be reaped."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._polled: dict[Child, Ended] = {}
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, child: Child, ended: Ended) -> None:
        if child.pidfd >= 0:
            self._loop.add_reader(child.pidfd, self._readable, child, ended)
        else:
            self._poll_from_now(child, ended)

    def forget(self, child: Child) -> None:
        """Not of interest any more."""
        if child.pidfd >= 0:
            self._loop.remove_reader(child.pidfd)
        self._polled.pop(child, None)

    def _readable(self, child: Child, ended: Ended) -> None:
        self._loop.remove_reader(child.pidfd)
        if child.has_ended():
            ended()
        else:
            # It is over, but a debugger that is attached to it must let go first.
            self._poll_from_now(child, ended)

    def _poll_from_now(self, child: Child, ended: Ended) -> None:
        self._polled[child] = ended
        if self._timer is None:
            self._timer = self._loop.call_later(POLL_SECONDS, self._poll)

    def _poll(self) -> None:
        self._timer = None
        for child in [child for child in self._polled if child.has_ended()]:
            self._polled.pop(child)()
        if self._polled and self._timer is None:
            self._timer = self._loop.call_later(POLL_SECONDS, self._poll)
