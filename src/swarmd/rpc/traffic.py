"""How much at once: calls under way, calls a second of one client, connections. What is too much is refused by name."""

import os
import socket
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from swarmd.core.errors import BusyError
from swarmd.tokens import Grant

KNOWN_CLIENTS = 10_000
OPEN_SHARE = 10
"""Of each method that needs no token (health) one in so many: strangers must not use up the places of the others."""
COUNT_AGAIN_SECONDS = 0.05
MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class RpcLimits:
    """Bounds on calls and connections, named as in the settings."""

    max_message_bytes: int = 4 * MIB
    max_concurrent_streams: int = 1000
    max_connections: int = 1000
    max_requests_per_second: float | None = None


class Traffic:
    """The calls of all doors."""

    def __init__(self, limits: RpcLimits, clock: Callable[[], float] = time.monotonic) -> None:
        self.limits = limits
        self.under_way = 0
        self.open_under_way: Counter[str] = Counter()
        """By method: those that go on for ever must not use up the places of those that answer at once."""
        self._clock = clock
        self._buckets: OrderedDict[tuple[str, Grant, bool], _Bucket] = OrderedDict()

    @property
    def knows_clients(self) -> bool:
        """Whether it matters who calls."""
        return self.limits.max_requests_per_second is not None

    def enter(self, client: str, grant: Grant, open_method: str = "") -> None:
        """A call begins; when it is over, `leave`. Raises BusyError when it is one too many.

        Calls that need no token name their method; they have places and rates of their own.
        """
        self._spend(client, grant, is_open=bool(open_method))
        if open_method:
            limit = max(1, self.limits.max_concurrent_streams // OPEN_SHARE)
            self._check_places(self.open_under_way[open_method], limit)
            self.open_under_way[open_method] += 1
        else:
            self._check_places(self.under_way, self.limits.max_concurrent_streams)
            self.under_way += 1

    def leave(self, open_method: str = "") -> None:
        """A call that had entered is over."""
        if open_method:
            self.open_under_way[open_method] -= 1
        else:
            self.under_way -= 1

    def _check_places(self, taken: int, limit: int) -> None:
        if taken >= limit:
            message = f"max_concurrent_streams: {taken} calls are under way already; end some, or try again later"
            raise BusyError(message, reason="TOO_MANY_STREAMS", metadata={"limit": "max_concurrent_streams"})

    def _spend(self, client: str, grant: Grant, *, is_open: bool) -> None:
        rate = self.limits.max_requests_per_second
        if rate is None:
            return
        now, key = self._clock(), (client, grant, is_open)
        bucket = self._buckets.pop(key, None) or _Bucket(max(1.0, rate), now)
        self._buckets[key] = bucket
        if len(self._buckets) > KNOWN_CLIENTS:
            self._buckets.popitem(last=False)
        if not bucket.spend(rate, now):
            message = f"max_requests_per_second: more than {rate:g} calls a second from {client}; call less often"
            raise BusyError(message, reason="TOO_MANY_REQUESTS", metadata={"limit": "max_requests_per_second"})


class _Bucket:
    """Calls that a client may still make: a second's worth at most, filled up all the time."""

    __slots__ = ("_at", "_left")

    def __init__(self, left: float, at: float) -> None:
        self._left, self._at = left, at

    def spend(self, rate: float, now: float) -> bool:
        self._left = min(max(1.0, rate), self._left + (now - self._at) * rate)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class Connections:
    """The connections of one TCP listener, as far as they have called.

    gRPC closes those that exceed a listener's quota without a word. The quota has a few places more than the limit;
    who gets one of them is told why nothing else is done for it.
    """

    SPARE = 16

    def __init__(self, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._clock = clock
        self._ports: set[int] = set()
        self._admitted: OrderedDict[str, None] = OrderedDict()
        self._counted_at = -COUNT_AGAIN_SECONDS
        self._count = 0

    def listen_on(self, port: int) -> None:
        """A port whose connections count."""
        self._ports.add(port)

    def count(self) -> int:
        """How many are open."""
        return count_connections(self._ports)

    def admit(self, peer: str) -> None:
        """Raise BusyError unless the peer was there before, or there is room for one more."""
        if peer in self._admitted:
            return
        now = self._clock()
        if self._count >= self._limit or now - self._counted_at > COUNT_AGAIN_SECONDS:
            self._count, self._counted_at = count_connections(self._ports), now
        else:
            self._count += 1
        if self._count > self._limit:
            message = f"max_connections: {self._limit} connections are open already; close some, or try again later"
            raise BusyError(message, reason="TOO_MANY_CONNECTIONS", metadata={"limit": "max_connections"})
        self._admitted[peer] = None
        if len(self._admitted) > 2 * self._limit + self.SPARE:
            self._admitted.popitem(last=False)


def count_connections(ports: set[int]) -> int:
    """How many accepted connections of these ports this process has. O(open files), a few microseconds each."""
    names = os.listdir("/proc/self/fd")  # noqa: PTH208 - a Path for each is ten times slower
    return sum(1 for name in names if _is_accepted(int(name), ports))


def _is_accepted(descriptor: int, ports: set[int]) -> bool:
    try:
        found = socket.socket(fileno=descriptor)
    except OSError:  # no socket, or closed meanwhile
        return False
    try:
        if found.family not in (socket.AF_INET, socket.AF_INET6) or found.getsockname()[1] not in ports:
            return False
        return not found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError:
        return False
    finally:
        found.detach()  # it is not ours to close
