"""Learning that a process has ended, in the event loop, without signal handlers and without threads.

A pidfd becomes readable when its process ends; those without one are looked at every few milliseconds. Nothing is
reaped here: whoever is called does that, while the pid is still the child's.
"""

import asyncio
import select
from collections.abc import Callable

from swarmd.gateways.local.leader import Leader

POLL_SECONDS = 0.02

Ended = Callable[[], None]


class ExitWatch:
    """Calls back, once for each leader, when it can be reaped."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        # An epoll of its own, within the loop's: a reader of the loop for each process costs more than twice as much.
        self._epoll = select.epoll()
        self._watched: dict[int, tuple[Leader, Ended]] = {}
        self._polled: dict[Leader, Ended] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._loop.add_reader(self._epoll.fileno(), self._some_ended)

    def watch(self, leader: Leader, ended: Ended) -> None:
        if leader.pidfd >= 0:
            self._epoll.register(leader.pidfd, select.EPOLLIN)
            self._watched[leader.pidfd] = leader, ended
        else:
            self._poll_from_now(leader, ended)

    def forget(self, leader: Leader) -> None:
        """Nobody is called back for this one any more."""
        if self._watched.pop(leader.pidfd, None):
            self._epoll.unregister(leader.pidfd)
        self._polled.pop(leader, None)

    def close(self) -> None:
        """Nobody is called back any more."""
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()
        self._watched.clear()
        self._polled.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _some_ended(self) -> None:
        for pidfd, _ in self._epoll.poll(0):
            self._epoll.unregister(pidfd)
            leader, ended = self._watched.pop(pidfd)
            if leader.has_ended():
                ended()
            else:
                # It is over, but a debugger that is attached to it must let go first.
                self._poll_from_now(leader, ended)

    def _poll_from_now(self, leader: Leader, ended: Ended) -> None:
        self._polled[leader] = ended
        if self._timer is None:
            self._timer = self._loop.call_later(POLL_SECONDS, self._poll)

    def _poll(self) -> None:
        self._timer = None
        for leader in [leader for leader in self._polled if leader.has_ended()]:
            self._polled.pop(leader)()
        if self._polled and self._timer is None:
            self._timer = self._loop.call_later(POLL_SECONDS, self._poll)
