"""Requests that may come twice: the same request_id gets the same answer, and what it asks for is done once."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from swarmd.core.errors import InvalidInputError

T = TypeVar("T")

REMEMBERED = 10_000
LONGEST_REQUEST_ID = 128


class RequestLog(Generic[T]):
    """The answers to the latest requests, by request_id."""

    def __init__(self, remembered: int = REMEMBERED) -> None:
        self._remembered = remembered
        self._answers: OrderedDict[str, tuple[Hashable, asyncio.Task[T]]] = OrderedDict()

    async def once(self, request_id: str, asked: Hashable, work: Callable[[], Awaitable[T]]) -> T:
        """The answer of `work`, which is done the first time that this request_id comes and never again.

        Work that has begun goes on when its caller gives up. Work that failed is forgotten, so that a repeat tries
        again. Raises InvalidInputError when the same request_id comes with something else to do.
        """
        if not request_id:
            return await asyncio.shield(_begin(work))
        if len(request_id.encode()) > LONGEST_REQUEST_ID:
            message = f"request_id: {len(request_id.encode())} bytes is too long; give at most {LONGEST_REQUEST_ID}"
            raise InvalidInputError(message, reason="TEXT_TOO_LONG", field="request_id")
        known = self._answers.get(request_id)
        if known is None:
            known = asked, _begin(work)
            self._answers[request_id] = known
            known[1].add_done_callback(lambda task: self._forget_failed(request_id, task))
            while len(self._answers) > self._remembered:
                self._answers.popitem(last=False)
        if known[0] != asked:
            message = f"request_id: {request_id!r} was used for another request; use a new id for a new request"
            raise InvalidInputError(message, reason="REQUEST_ID_REUSED", field="request_id")
        return await asyncio.shield(known[1])

    def _forget_failed(self, request_id: str, task: asyncio.Task[T]) -> None:
        failed = task.cancelled() or task.exception() is not None
        if failed and self._answers.get(request_id, (None, None))[1] is task:
            del self._answers[request_id]


def _begin(work: Callable[[], Awaitable[T]]) -> asyncio.Task[T]:
    async def run() -> T:
        return await work()

    return asyncio.create_task(run())
