"""Requests that may come twice: the same request_id gets the same answer, and what it asks for is done once.

What was answered is remembered by the swarm itself, where it outlives the daemon; here are those still at work.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from swarmd.core.errors import InvalidInputError

T = TypeVar("T")

LONGEST_REQUEST_ID = 128

Recall = Callable[[str], tuple[str, T] | None]
"""What was asked for with a request_id, and the answer; None when nothing is remembered."""


class RequestLog(Generic[T]):
    """The requests under way, by request_id."""

    def __init__(self, recall: Recall[T]) -> None:
        self._recall = recall
        self._working: dict[str, tuple[str, asyncio.Task[T]]] = {}

    async def once(self, request_id: str, asked: str, work: Callable[[], Awaitable[T]]) -> T:
        """The answer of `work`, which is done the first time that this request_id comes and never again.

        Work that has begun goes on when its caller gives up. Work that failed is forgotten, so that a repeat tries
        again. Raises InvalidInputError when the same request_id comes with something else to do.
        """
        if not request_id:
            return await asyncio.shield(_begin(work))
        if len(request_id.encode()) > LONGEST_REQUEST_ID:
            message = f"request_id: {len(request_id.encode())} bytes is too long; give at most {LONGEST_REQUEST_ID}"
            raise InvalidInputError(message, reason="TEXT_TOO_LONG", field="request_id")
        remembered = self._recall(request_id)
        if remembered is not None:
            _check_same(request_id, remembered[0], asked)
            return remembered[1]
        known = self._working.get(request_id)
        if known is None:
            known = asked, _begin(work)
            self._working[request_id] = known
            known[1].add_done_callback(lambda task: self._over(request_id, task))
        _check_same(request_id, known[0], asked)
        return await asyncio.shield(known[1])

    def _over(self, request_id: str, task: asyncio.Task[T]) -> None:
        self._working.pop(request_id, None)
        if not task.cancelled():
            task.exception()  # its caller may be gone


async def to_its_end(work: Callable[[], Awaitable[T]]) -> T:
    """Work that goes on when its caller gives up: what is written down must have its consequences."""
    return await asyncio.shield(_begin(work))


def fingerprint(*parts: bytes | bytearray) -> str:
    """The same for the same parts, and for no others."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()


def _check_same(request_id: str, before: str, now: str) -> None:
    if before and before != now:
        message = f"request_id: {request_id!r} was used for another request; use a new id for a new request"
        raise InvalidInputError(message, reason="REQUEST_ID_REUSED", field="request_id")


def _begin(work: Callable[[], Awaitable[T]]) -> asyncio.Task[T]:
    async def run() -> T:
        return await work()

    return asyncio.create_task(run())
