"""When the server is asked how the tasks stand, and how a long answer is read."""

import asyncio
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmd.core.model import TaskResources
from swarmd.gateways.jobmon import reading
from swarmd.gateways.jobmon.book import TaskBook
from swarmd.gateways.jobmon.http import HttpServer
from swarmd.gateways.jobmon.reading import read_in_pieces
from swarmd.gateways.jobmon.server import JobmonServer
from swarmd.gateways.jobmon.settings import JobmonSettings
from swarmd.gateways.jobmon.syncing import Syncing
from tests.gateways.recording import batch_of


class Asked(JobmonServer):
    """A server that knows no task, and counts how often it is asked."""

    def __init__(self) -> None:
        super().__init__(HttpServer("http://127.0.0.1:9", query={}), seconds=1)
        self.times = 0

    async def statuses(self, workflow_id: int, last_sync: str | None) -> tuple[dict[str, list[int]], str]:
        self.times += 1
        return {}, "now"


async def test_it_asks_on_while_something_changes_all_the_time():
    """Every answer to a call that queues a batch says that something changes: many come within one pause."""

    async def tell(synced):
        pass

    server = Asked()
    settings = JobmonSettings(fastest_sync_seconds=0.05)
    syncing = Syncing(server, 1, TaskBook(), settings, tell=tell, is_over=lambda: False)
    asking = asyncio.create_task(syncing.run())
    try:
        async with asyncio.timeout(60):
            while server.times < 10:
                syncing.hurry()
                await asyncio.sleep(0.001)
                assert not asking.done()
    finally:
        asking.cancel()


NUMBERS = st.lists(st.integers(0, 10**12), max_size=30)
VALUES = st.recursive(
    st.integers() | st.text('a[]"\\,:', max_size=6) | st.none() | NUMBERS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('b[]"\\', max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from("DGQ"), NUMBERS) | VALUES, st.integers(1, 40), st.sampled_from([None, 1]))
def test_in_pieces_the_same_is_read(value, piece, indent):
    text = json.dumps(value, indent=indent).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "PIECE_BYTES", piece)
        assert read_in_pieces(text) == value


@pytest.mark.parametrize(
    "text", ['{"a": [1,2', '{"a": [1,2,]}', '{"a": [1,,2]}', '{"a": [1 2]}', '{"a": [x]}', "[", ""]
)
def test_what_is_no_json_is_none_in_pieces_either(text, monkeypatch):
    for piece in range(1, 12):
        monkeypatch.setattr(reading, "PIECE_BYTES", piece)
        with pytest.raises(ValueError):
            read_in_pieces(text.encode())


async def test_a_long_answer_is_heard(fake, drive):
    fake.add_run(1, 1, range(1, 60_001))
    fake.set("R", 60_000)
    driven = await drive(fake.url)
    await driven.gateway.queue_batch(
        batch_of("true", first_id=60_000, resources=TaskResources(1, cluster="fake", queue="null.q"))
    )
    await driven.record.running(60_000)
    assert fake.paths("queue_task_batch") == []  # it was seen that it goes on already
