"""Asking for a run's workflow: the run seems lost for a moment, and for no longer."""

import asyncio

import pytest
import pytest_asyncio

from swarmd.core.errors import NotFoundError
from swarmd.gateways.jobmon import finding
from swarmd.gateways.jobmon.failures import CallError
from swarmd.gateways.jobmon.finding import told_workflow, workflow_of
from swarmd.gateways.jobmon.server import JobmonServer
from swarmd.gateways.jobmon.settings import JobmonSettings
from tests.gateways.jobmon.fake import FakeJobmon, Fault
from tests.gateways.recording import eventually

SETTINGS = JobmonSettings()


@pytest_asyncio.fixture
async def server(fake):
    server = JobmonServer.at(fake.url, seconds=60)
    await server.open()
    yield server
    await server.close()


def said(fake: FakeJobmon) -> list[float]:
    """For how long each heartbeat was to hold."""
    return [body["next_report_increment"] for body in fake.paths("log_heartbeat")]


@pytest.mark.parametrize("status", ["L", "R"])
async def test_a_run_is_alive_again_at_once(fake, server, status):
    fake.add_run(1, 4, [1], status=status)
    assert await workflow_of(server, 1, SETTINGS, lambda: None) == 4
    assert said(fake) == [0, 93]


@pytest.mark.parametrize("path", ["log_heartbeat", "lost_workflow_run"])
@pytest.mark.parametrize("fault", [Fault(), Fault(500, "OperationalError", does_it=True), Fault(503)])
async def test_it_is_alive_again_whatever_comes_of_the_question(fake, server, path, fault):
    fake.add_run(1, 4, [1])
    fake.faults[path] = [fault]
    with pytest.raises(CallError):
        await told_workflow(server, 1, "R", SETTINGS)
    assert said(fake)[-1] == 93


async def test_a_server_that_takes_long_is_not_waited_for_meanwhile(fake, server, monkeypatch):
    monkeypatch.setattr(finding, "LOST_SECONDS", 0.2)
    fake.add_run(1, 4, [1])

    async def never(path, body):
        if "lost_workflow_run" in path:
            await asyncio.Event().wait()

    fake.before = never
    async with asyncio.timeout(30):
        with pytest.raises(CallError, match="does not say within"):
            await told_workflow(server, 1, "R", SETTINGS)
    assert said(fake) == [0, 93]


async def test_who_does_not_want_to_wait_leaves_it_alive(fake, server):
    fake.add_run(1, 4, [1])
    asked = asyncio.Event()

    async def slow(path, body):
        if "lost_workflow_run" in path:
            asked.set()
            await asyncio.sleep(0.3)

    fake.before = slow
    asking = asyncio.ensure_future(told_workflow(server, 1, "R", SETTINGS))
    await asked.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert said(fake) == [0, 93]


async def test_a_run_that_nothing_is_told_of_is_not_made_to_seem_lost_again_and_again(fake, server, monkeypatch):
    monkeypatch.setattr(finding, "ASK_SECONDS", 0.01)
    fake.add_run(1, 4, [1])
    monkeypatch.setattr(finding, "SERVER_VERSION", "9.9.9")
    monkeypatch.setattr(JobmonServer, "lost_runs", nothing)
    with pytest.raises(NotFoundError, match="name it: --workflow ID"):
        await workflow_of(server, 1, SETTINGS, lambda: None)
    assert said(fake) == [0, 93] * finding.MOST_TIMES_LOST


async def nothing(self: JobmonServer, statuses: str, server_version: str) -> dict[int, int]:
    return {}


async def test_the_reaper_that_comes_by_afterwards_finds_it_alive(jobmon):
    """At the real server: the reaper looks for lost runs, and gives up those it finds."""
    workflow = await asyncio.to_thread(jobmon.workflow, [["true"]])
    await asyncio.to_thread(jobmon.set_run_status, workflow.run_id, "I", "O", "R")
    server = JobmonServer.at(jobmon.url, seconds=60)
    await server.open()
    try:
        assert await told_workflow(server, workflow.run_id, "R", SETTINGS) == workflow.workflow_id
        assert workflow.run_id not in await server.lost_runs("R", finding.SERVER_VERSION)
    finally:
        await server.close()
    jobmon.put(f"/workflow_run/{workflow.run_id}/reap")
    assert jobmon.run_status(workflow.run_id) == "R"


@pytest.mark.parametrize("status", ["L", "R"])
async def test_no_heartbeat_of_a_swarm_is_shorter_than_the_pause_to_the_next(fake, drive, status):
    run = fake.add_run(1, 1, [1], status=status) and fake.runs[1]
    await drive(fake.url, heartbeat_seconds=0.05, heartbeat_buffer=3)
    run.status = "O"
    await eventually(lambda: len(said(fake)) > 5)
    assert said(fake) == pytest.approx([0.15] * len(said(fake)))
