"""HeaderBound: what is too large is turned away by name, and what it leaves behind is cleared away soon."""

import asyncio

import pytest

from swarmd.core.errors import LimitExceededError
from swarmd.rpc import headers
from swarmd.rpc.headers import LARGEST_HEADERS, HeaderBound


async def test_headers_up_to_the_limit_are_let_through():
    cleared: list[int] = []
    bound = HeaderBound(lambda: cleared.append(1))
    bound.check(None)
    bound.check([("a", "x" * (LARGEST_HEADERS - 1))])
    with pytest.raises(LimitExceededError, match="max_header_bytes: 16385 bytes") as refused:
        bound.check([("a", "x" * 8000), ("a-bin", b"x" * (LARGEST_HEADERS - 8005))])
    assert refused.value.metadata == {"limit": "max_header_bytes"}


async def test_many_refusals_are_cleared_away_at_once(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(headers, "GIVEN_BACK_AFTER_SECONDS", 0.01)
    cleared = asyncio.Event()
    count = 0

    def clear() -> None:
        nonlocal count
        count += 1
        cleared.set()

    bound = HeaderBound(clear)
    for expected in (1, 2):
        for _ in range(20):
            with pytest.raises(LimitExceededError):
                bound.check([("a", "x" * LARGEST_HEADERS)])
        await asyncio.wait_for(cleared.wait(), 30)
        cleared.clear()
        assert count == expected


def test_giving_back_works_here():
    headers.give_back()
