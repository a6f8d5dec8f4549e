"""One server for each test."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.daemon import short_home
from tests.rpc.harness import Rpc, serving


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder with a short name, for the socket."""
    with short_home() as folder:
        yield folder


@pytest.fixture
async def rpc(home: Path) -> AsyncIterator[Rpc]:
    async with serving(home) as running:
        yield running
