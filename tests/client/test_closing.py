"""A client that is closed: whatever was under way, or comes later, ends with an error that says so, and never hangs."""

import asyncio
import contextlib
import signal
import threading
from collections.abc import AsyncIterator, Awaitable, Iterator, Sequence

import pytest
import pytest_asyncio

from swarmd.client import LiveSwarm, RpcError, Swarm, SwarmClient, blocking
from swarmd.client.blocking.portal import Portal
from swarmd.client.updating import MAX_UNANSWERED
from tests.client.conftest import PullSwarm
from tests.daemon import DaemonProcess

CLOSED = "CLIENT_CLOSED"


@pytest_asyncio.fixture
async def closing(daemon: DaemonProcess) -> AsyncIterator[SwarmClient]:
    """The client that is closed by the test."""
    async with SwarmClient(daemon.address) as made:
        yield made


@pytest_asyncio.fixture
async def swarm(closing: SwarmClient, pull_swarm: PullSwarm) -> LiveSwarm:
    return closing.swarm((await pull_swarm(2 * MAX_UNANSWERED)).swarm_id)


@contextlib.contextmanager
def silent(daemon: DaemonProcess) -> Iterator[None]:
    """The daemon answers nothing for a while."""
    daemon.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        daemon.signal(signal.SIGCONT)


async def reasons(calls: Sequence[Awaitable[object]]) -> set[str]:
    """How calls end, which must be soon."""
    async with asyncio.timeout(5):
        ends = await asyncio.gather(*calls, return_exceptions=True)
    return {end.reason if isinstance(end, RpcError) else repr(end) for end in ends}


async def test_a_closed_client_says_so(closing: SwarmClient, swarm: LiveSwarm):
    await swarm.done([1])
    await closing.close()
    await closing.close()
    updates = swarm.updates()
    calls: list[Awaitable[object]] = [
        swarm.status(),
        swarm.done([2]),
        swarm.load(Swarm()),
        swarm.delete(),
        swarm.wait(),
        anext(swarm.watch()),
        anext(swarm.tasks()),
        updates.apply({2: "D"}),
        closing.connect(),
    ]
    assert await reasons(calls) == {CLOSED}
    await updates.close()


async def test_a_client_that_was_closed_before_its_first_call_says_so(daemon: DaemonProcess):
    client = SwarmClient(daemon.address)
    await client.close()
    with pytest.raises(RpcError) as caught:
        await client.swarms()
    assert caught.value.reason == CLOSED


async def test_calls_under_way_end(daemon: DaemonProcess, closing: SwarmClient, swarm: LiveSwarm):
    await swarm.running([1])
    events = swarm.watch()
    await anext(events)
    with silent(daemon):
        calls: list[Awaitable[object]] = [swarm.status(), swarm.wait(), anext(events), swarm.load(Swarm())]
        calls += [swarm.done([each]) for each in range(1, 2 * MAX_UNANSWERED)]  # half of them wait for room
        running = [asyncio.ensure_future(call) for call in calls]
        await asyncio.sleep(0.3)
        await closing.close()
        assert await reasons(running) == {CLOSED}


async def test_a_stream_of_its_own_ends(daemon: DaemonProcess, closing: SwarmClient, swarm: LiveSwarm):
    updates = swarm.updates()
    await updates.apply({1: "R"})
    with silent(daemon):
        await updates.done([2], attempts=1)
        calls = [asyncio.ensure_future(updates.apply({3: "D"})), asyncio.ensure_future(updates.flush())]
        await asyncio.sleep(0.3)
        await closing.close()
        assert await reasons(calls) == {CLOSED}
    assert CLOSED in await reasons([updates.apply({4: "D"}), updates.close()])


async def test_a_call_that_is_cancelled_is_cancelled(daemon: DaemonProcess, closing: SwarmClient, swarm: LiveSwarm):
    await swarm.status()
    with silent(daemon):
        call = asyncio.ensure_future(swarm.status())
        await asyncio.sleep(0.1)
        call.cancel()
        await closing.close()
        with pytest.raises(asyncio.CancelledError):
            await call


async def test_closing_a_stream_ends_who_waits_for_room(daemon: DaemonProcess, swarm: LiveSwarm):
    updates = swarm.updates()
    with silent(daemon):
        calls = [asyncio.ensure_future(updates.done([each], 1)) for each in range(1, 2 * MAX_UNANSWERED)]
        await asyncio.sleep(0.1)
        await updates.close(flush=False)
        async with asyncio.timeout(5):
            ends = await asyncio.gather(*calls, return_exceptions=True)
    assert {end.reason for end in ends if isinstance(end, RpcError)} == {"CLOSED"}


async def test_a_stream_that_breaks_leaves_nobody_waiting(swarm: LiveSwarm, monkeypatch: pytest.MonkeyPatch):
    updates = swarm.updates()

    def defect(*_: object) -> None:
        raise LookupError("a defect")

    monkeypatch.setattr(updates, "_answered", defect)
    assert await reasons([updates.apply({1: "R"})]) == {"STREAM_BROKEN"}
    monkeypatch.undo()
    assert (await updates.apply({2: "R"})).changed_count == 1
    await updates.close()


def test_blocking_calls_under_way_end(daemon: DaemonProcess):
    with blocking.SwarmClient(daemon.address) as client:
        swarm = client.create_swarm("blocking-closed", gateway="pull")
        events = swarm.watch(until_finished=False)
        next(events)
        closing = threading.Timer(0.3, client.close)
        closing.start()
        with pytest.raises(RpcError) as caught:
            list(events)
        assert caught.value.reason == CLOSED
        with pytest.raises(RpcError, match="was closed"):
            swarm.wait()
        closing.join()


def test_a_stream_that_is_cancelled_by_somebody_else_does_not_just_end():
    async def source() -> AsyncIterator[int]:
        yield 1
        raise asyncio.CancelledError

    with pytest.raises(BaseException) as caught:
        list(Portal().iterate(source()))
    assert "Cancelled" in type(caught.value).__name__
