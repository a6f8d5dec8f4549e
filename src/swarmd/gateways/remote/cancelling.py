"""Attempts that an engine is to end: it is told until it has heard it, also when it is away for hours."""

import asyncio
import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass

import grpc
import grpc.aio

from swarmd.gateways.remote.calls import EngineCalls, described
from swarmd.gateways.remote.messages import cancel_request

log = logging.getLogger(__name__)

MOST_AT_ONCE = 10_000
"""Attempts of one call."""
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.2, 15.0
GIVE_UP_SECONDS = 86_400.0
"""An engine that has not heard it after so long is told no more."""
NO_USE = frozenset({grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.INVALID_ARGUMENT})
"""With these it will never be heard."""
HEARD = frozenset({grpc.StatusCode.NOT_FOUND})
"""An engine that knows nothing of the attempts has nothing to end."""

Key = tuple[int, int]
"""A task and an attempt of it."""


@dataclass(slots=True, eq=False)
class _Order:
    """What is to be ended of one swarm, for one reason."""

    wire_id: str
    reason: str
    attempts: list[Key]
    heard: "asyncio.Future[None]"
    since: float
    """Seconds since the epoch."""
    is_late: bool = False
    """It could not be told at once, and the log says so."""


class Cancels:
    """What one engine has to be told, oldest first."""

    def __init__(self, calls: EngineCalls, address: str) -> None:
        self._calls = calls
        self._address = address
        self._orders: list[_Order] = []
        self._telling: asyncio.Task[None] | None = None

    @property
    def is_empty(self) -> bool:
        """Whether the engine has heard it all."""
        return not self._orders

    async def until_empty(self) -> None:
        """Wait until the engine has heard it all."""
        while self._orders:
            await asyncio.wait([order.heard for order in self._orders])

    def of(self, wire_id: str) -> list[Key]:
        """What the engine has not heard yet of one swarm."""
        return [key for order in self._orders if order.wire_id == wire_id for key in order.attempts]

    async def until_heard(self, wire_id: str) -> bool:
        """Wait until the engine has heard all of one swarm; False when it is told no more before."""
        while orders := [order.heard for order in self._orders if order.wire_id == wire_id]:
            await asyncio.wait(orders)
            if any(heard.cancelled() for heard in orders):
                return False
        return True

    def order(
        self, wire_id: str, attempts: Iterable[Key], reason: str, *, since: float | None = None
    ) -> "asyncio.Future[None]":
        """Have these ended; done when the engine has heard it, or when there is no use in telling it.

        `since`: when it was first told, in seconds since the epoch, if that was not now.
        """
        heard: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        keys = list(attempts)
        if not keys:
            heard.set_result(None)
            return heard
        self._orders.append(_Order(wire_id, reason, keys, heard, time.time() if since is None else since))
        if self._telling is None:
            self._telling = asyncio.create_task(self._tell_all(), name=f"cancel at {self._address}")
        return heard

    async def close(self) -> None:
        """What was not heard is left to the next daemon, which is told of it again."""
        if self._telling is not None:
            self._telling.cancel()
            await asyncio.wait([self._telling])
        for order in self._orders:
            order.heard.cancel()
        self._orders.clear()

    async def _tell_all(self) -> None:
        pause = FIRST_PAUSE_SECONDS
        try:
            while self._orders:
                order = self._orders[0]
                if await self._is_told(order):
                    pause = FIRST_PAUSE_SECONDS
                    self._orders.remove(order)
                    if not order.heard.done():
                        order.heard.set_result(None)
                else:
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
        finally:
            self._telling = None

    async def _is_told(self, order: _Order) -> bool:
        """Tell the engine; False when it has to be told again. What it has heard of is taken off the order."""
        while order.attempts:
            part = order.attempts[:MOST_AT_ONCE]
            try:
                await self._calls.cancel_tasks(cancel_request(order.wire_id, part, order.reason))
            except grpc.aio.AioRpcError as error:
                if error.code() is grpc.StatusCode.UNAUTHENTICATED:
                    await self._calls.refresh_token()
                if not self._is_over(order, error):
                    return False
            del order.attempts[: len(part)]
        return True

    def _is_over(self, order: _Order, error: grpc.aio.AioRpcError) -> bool:
        """Whether it is not told any more."""
        if error.code() in HEARD:
            return True
        too_late = time.time() - order.since > GIVE_UP_SECONDS
        if too_late or error.code() in NO_USE:
            log.warning(
                "%d tasks of swarm %s may run on at the engine at %s, which was to end them: %s",
                len(order.attempts),
                order.wire_id,
                self._address,
                described(error),
            )
            return True
        log.log(
            logging.DEBUG if order.is_late else logging.INFO,
            "the engine at %s has not heard yet what to end, and is told again: %s",
            self._address,
            described(error),
        )
        order.is_late = True
        return False
