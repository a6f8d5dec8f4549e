"""A swarm that is deleted while Jobmon's server is away: its run is stopped when that is back, by whichever daemon."""

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import pytest_asyncio

from swarmd.config import DaemonConfig
from swarmd.core.errors import UnavailableError
from swarmd.gateways.catalogue import made_gateways
from swarmd.gateways.jobmon import abandoned, session
from swarmd.gateways.jobmon.distributor import Mark
from swarmd.gateways.jobmon.gateway import JobmonGateway
from swarmd.gateways.jobmon.settings import JobmonSettings
from swarmd.gateways.left import GIVE_UP_SECONDS
from tests.daemon import running, until
from tests.gateways.jobmon.conftest import QUICK, Driven
from tests.gateways.jobmon.fake import FakeJobmon, Fault
from tests.gateways.jobmon.proxy import FaultyProxy
from tests.gateways.jobmon.real import Jobmon, Workflow
from tests.gateways.jobmon.test_at_server import batch as batch_at_server
from tests.gateways.jobmon.test_at_server import comes_true, made, taken_up
from tests.gateways.jobmon.test_distributor import settings
from tests.gateways.jobmon.test_real import WAIT_SECONDS, environment, home, swarmd_run
from tests.gateways.jobmon.test_run import batch
from tests.gateways.recording import SWARM, eventually

__all__ = ["home"]

MANY = 100_000


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    for module in (session, abandoned):
        monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.3)
    monkeypatch.setattr(abandoned, "FIRST_RETRY_SECONDS", 0.05)
    monkeypatch.setattr(abandoned, "LONGEST_RETRY_SECONDS", 0.2)
    monkeypatch.setattr(abandoned, "LATE_LOOK_SECONDS", 0.1)


@pytest_asyncio.fixture
async def next_daemon(tmp_path):
    """Gateways that know no swarm, in the folder of the others."""
    begun: list[JobmonGateway] = []

    async def begin(**options: object) -> JobmonGateway:
        gateway = JobmonGateway(JobmonSettings.model_validate({**QUICK, **options}), tmp_path / "jobmon")
        await gateway.start(lambda swarm_id, update: None)
        begun.append(gateway)
        return gateway

    yield begin
    for gateway in begun:
        await gateway.close()


def left(folder: Path) -> list[Path]:
    return list((folder / "jobmon").glob("*.left"))


def is_away(fake: FakeJobmon) -> None:
    fake.faults = {"/": [Fault(503) for _ in range(MANY)]}


def is_back(fake: FakeJobmon) -> None:
    fake.faults = {}


async def deleted_while_away(fake: FakeJobmon, driven: Driven) -> None:
    """Two tasks are at the server, the first of which runs; the gateway has ended, too."""
    await driven.gateway.queue_batch(batch(1, 2))
    fake.set("R", 1)
    await driven.record.running(1)
    is_away(fake)
    await driven.gateway.remove_swarm(SWARM)
    await driven.gateway.close()


async def test_the_next_daemon_stops_the_run_and_takes_its_tasks_back(fake, drive, next_daemon, tmp_path):
    run = fake.add_run(1, 1, [1, 2, 3]) and fake.runs[1]
    fake.add_run(2, 2, [11])
    fake.set("R", 11)
    await deleted_while_away(fake, await drive(fake.url))
    fake.set("Q", 3)  # nobody has queued it here
    assert len(left(tmp_path)) == 1
    await next_daemon()
    await asyncio.sleep(0.3)
    assert run.status == "R"
    is_back(fake)
    await eventually(lambda: not left(tmp_path))
    assert run.status == "S"
    assert fake.statuses() == {1: "G", 2: "G", 3: "Q"}
    assert fake.statuses(2) == {11: "R"}
    assert fake.runs[2].status == "R"


async def test_the_same_daemon_stops_it(fake, drive, tmp_path):
    run = fake.add_run(1, 1, [1]) and fake.runs[1]
    driven = await drive(fake.url)
    await driven.gateway.queue_batch(batch(1))
    is_away(fake)
    await driven.gateway.remove_swarm(SWARM)
    assert len(left(tmp_path)) == 1
    is_back(fake)
    await eventually(lambda: not left(tmp_path))
    assert run.status == "S"
    assert fake.statuses() == {1: "G"}


async def test_what_was_cancelled_a_moment_before_is_taken_back_too(fake, drive, next_daemon, tmp_path):
    """As the daemon does it: first the tasks are cancelled, then the swarm is removed."""
    run = fake.add_run(1, 1, [1, 2]) and fake.runs[1]
    driven = await drive(fake.url)
    await driven.gateway.queue_batch(batch(1, 2))
    is_away(fake)
    cancelling = asyncio.ensure_future(driven.gateway.cancel_tasks(SWARM, [1, 2], [1, 1], "the swarm was deleted"))
    await asyncio.sleep(0)
    await driven.gateway.remove_swarm(SWARM)
    await driven.gateway.close()
    await asyncio.gather(cancelling, return_exceptions=True)
    is_back(fake)
    await next_daemon()
    await eventually(lambda: not left(tmp_path))
    assert run.status == "S"
    assert fake.statuses() == {1: "G", 2: "G"}


async def test_what_a_lost_call_queues_late_is_taken_back(fake, drive, next_daemon, tmp_path):
    run = fake.add_run(1, 1, [1]) and fake.runs[1]
    driven = await drive(fake.url)
    await deleted_while_away_in_call(fake, driven)
    is_back(fake)
    await next_daemon(doubt_seconds=60)
    await eventually(lambda: run.status == "S")
    fake.set("Q", 1)  # the server gets to it only now
    await eventually(lambda: fake.statuses() == {1: "G"})
    assert len(left(tmp_path)) == 1


async def deleted_while_away_in_call(fake: FakeJobmon, driven: Driven) -> None:
    begun = asyncio.Event()

    async def never(path, body):
        if "queue_task_batch" in path:
            begun.set()
            await asyncio.Event().wait()

    fake.before = never
    queueing = asyncio.ensure_future(driven.gateway.queue_batch(batch(1)))
    await begun.wait()
    fake.before = None
    is_away(fake)
    await driven.gateway.remove_swarm(SWARM)
    await driven.gateway.close()
    await asyncio.gather(queueing, return_exceptions=True)


async def test_a_run_that_was_not_taken_up_yet_is_stopped_too(fake, drive, next_daemon, tmp_path):
    """The daemon started while the server was away, and the swarm was deleted before it came back."""
    run = fake.add_run(1, 1, [1, 2]) and fake.runs[1]
    driven = await drive(fake.url)
    await driven.gateway.queue_batch(batch(1))
    await driven.gateway.close()
    is_away(fake)
    gateway = await next_daemon()
    with pytest.raises(UnavailableError):
        await gateway.add_swarm(driven.info)
    await gateway.remove_swarm(SWARM)
    assert len(left(tmp_path)) == 1
    is_back(fake)
    await eventually(lambda: not left(tmp_path))
    assert run.status == "S"
    assert fake.statuses() == {1: "G", 2: "G"}


async def test_a_run_of_which_nothing_has_begun_is_left_for_another_try(fake, drive, next_daemon, tmp_path):
    run = fake.add_run(1, 1, [1], status="B") and fake.runs[1]
    driven = await drive(fake.url)
    is_away(fake)
    await driven.gateway.remove_swarm(SWARM)
    await driven.gateway.close()
    assert not left(tmp_path)
    gateway = await next_daemon()
    with pytest.raises(UnavailableError):
        await gateway.add_swarm(driven.info)
    await gateway.remove_swarm(SWARM)
    is_back(fake)
    await eventually(lambda: not left(tmp_path))
    assert run.status == "B"


async def test_a_run_that_came_to_its_end_meanwhile_is_left_in_peace(fake, drive, next_daemon, tmp_path):
    """The reaper has ended it, and somebody goes on with the workflow."""
    run = fake.add_run(1, 1, [1, 2]) and fake.runs[1]
    await deleted_while_away(fake, await drive(fake.url))
    run.status = "E"
    is_back(fake)
    await next_daemon()
    await eventually(lambda: not left(tmp_path))
    assert run.status == "E"
    assert fake.statuses() == {1: "R", 2: "Q"}


async def test_a_run_that_is_to_be_resumed_is_let_go_of_when_its_tasks_have_ended(fake, drive, next_daemon, tmp_path):
    run = fake.add_run(1, 1, [1, 2]) and fake.runs[1]
    await deleted_while_away(fake, await drive(fake.url))
    fake.set("I", 2)
    run.status = "C"
    is_back(fake)
    await next_daemon()
    await eventually(lambda: len(fake.terminated) > 1)
    assert run.status == "C"
    fake.set("F", 2)
    await eventually(lambda: not left(tmp_path))
    assert run.status == "T"
    assert fake.statuses()[1] == "F"


async def test_the_status_that_it_was_to_have_is_set(fake, drive, next_daemon, tmp_path):
    run = fake.add_run(1, 1, [1]) and fake.runs[1]
    driven = await drive(fake.url)
    await driven.gateway.queue_batch(batch(1))
    fake.set("D", 1)
    await driven.record.ended(1)
    is_away(fake)
    with pytest.raises(Exception, match="503"):
        await driven.gateway.swarm_finished(SWARM, succeeded=True)
    await driven.gateway.remove_swarm(SWARM)
    await driven.gateway.close()
    is_back(fake)
    await next_daemon()
    await eventually(lambda: not left(tmp_path))
    assert run.status == "D"


async def test_a_swarm_that_wants_the_workflow_again_waits_for_it(fake, drive, next_daemon, tmp_path):
    run = fake.add_run(1, 1, [1, 2]) and fake.runs[1]
    driven = await drive(fake.url)
    await deleted_while_away(fake, driven)
    gateway = await next_daemon()
    with pytest.raises(UnavailableError, match="which is to be stopped first"):
        await gateway.add_swarm(driven.info)
    assert run.status == "R"


async def test_nothing_is_written_when_the_server_hears_it(fake, drive, tmp_path):
    fake.add_run(1, 1, [1])
    driven = await drive(fake.url)
    await driven.gateway.queue_batch(batch(1))
    await driven.gateway.remove_swarm(SWARM)
    assert not left(tmp_path)
    assert driven.gateway._abandonment is None


async def test_after_a_day_it_is_given_up_with_words(fake, drive, next_daemon, tmp_path, caplog):
    run = fake.add_run(1, 1, [1, 2]) and fake.runs[1]
    await deleted_while_away(fake, await drive(fake.url))
    (path,) = left(tmp_path)
    path.write_text(json.dumps({**json.loads(path.read_text()), "since": time.time() - GIVE_UP_SECONDS - 1}))
    (tmp_path / "jobmon" / "damaged.left").write_text("{}")
    is_back(fake)
    await next_daemon()
    await eventually(lambda: not path.exists())
    assert "may go on: its server could not be told for a day" in caplog.text
    assert "its file is damaged" in caplog.text
    assert run.status == "R"


async def test_the_daemon_makes_the_gateway_for_it(fake, drive, tmp_path):
    fake.add_run(1, 1, [1, 2])
    assert "jobmon" not in made_gateways(DaemonConfig(state_dir=tmp_path)).made
    await deleted_while_away(fake, await drive(fake.url))
    assert "jobmon" in made_gateways(DaemonConfig(state_dir=tmp_path)).made


@pytest.mark.timeout(600)
async def test_at_the_real_server_the_next_daemon_stops_the_run(jobmon, drive, next_daemon, tmp_path):
    workflow, other = made(jobmon, 3), made(jobmon, 1)
    async with FaultyProxy(int(jobmon.url.rpartition(":")[2]), seed=1, share=0).serving() as proxy:
        driven = await taken_up(drive, jobmon, workflow, proxy.url)
        await driven.gateway.queue_batch(batch_at_server(workflow, 0, 1))
        proxy.is_away = True
        await driven.gateway.remove_swarm(SWARM)
        await driven.gateway.close()
        assert len(left(tmp_path)) == 1
        await next_daemon()
        await asyncio.sleep(0.5)
        assert jobmon.run_status(workflow.run_id) == "R"
        proxy.is_away = False
        await comes_true(lambda: not left(tmp_path))
    assert jobmon.run_status(workflow.run_id) == "S"
    assert set(jobmon.statuses(workflow).values()) == {"G"}
    instances = "select ti.status from task_instance ti join task t on ti.task_id = t.id where t.workflow_id = ?"
    assert {status for (status,) in jobmon.rows(instances, workflow.workflow_id)} <= {"K", "F"}
    assert jobmon.run_status(other.run_id) == "R"


@pytest.mark.e2e
@pytest.mark.timeout(600)
async def test_a_daemon_that_is_killed_after_the_deletion_leaves_it_to_the_next(jobmon, home):
    workflow = jobmon.workflow([["sleep 300"] * 2], cluster="multiprocess", bound=False)
    async with FaultyProxy(int(jobmon.url.rpartition(":")[2]), seed=1, share=0).serving() as proxy:
        await asyncio.to_thread(killed_after_the_deletion, jobmon, workflow, home, proxy)
    assert jobmon.run_status(workflow.run_id) == "S"
    assert set(jobmon.statuses(workflow).values()) == {"G"}


def killed_after_the_deletion(jobmon: Jobmon, workflow: Workflow, home: Path, proxy: FaultyProxy) -> None:
    variables = environment(home, **settings(jobmon))
    mark = Mark(proxy.url, workflow.run_id)
    chosen = ["--jobmon", workflow.run_id, "--server", proxy.url, "--workflow", workflow.workflow_id]
    with (
        running(home=home, environment=variables) as daemon,
        swarmd_run({**variables, **daemon.environment}, home, *chosen, "--swarm-id", "gone") as run,
    ):
        until(lambda: "R" in jobmon.statuses(workflow).values(), f"a task to run: {run.said}", WAIT_SECONDS)
        run.process.kill()
        proxy.is_away = True
        command = [sys.executable, "-m", "swarmd", "delete", "--force", "gone"]
        subprocess.run(command, env={**variables, **daemon.environment}, check=True, timeout=100)
        (path,) = (home / "state").rglob("jobmon/*.left")
        assert not list(mark.processes())
        daemon.process.kill()
        daemon.process.wait()
    with running(home=home, environment=variables) as daemon:
        assert jobmon.run_status(workflow.run_id) == "R"
        proxy.is_away = False
        until(lambda: not path.exists(), "the end of what was left", WAIT_SECONDS)
        assert daemon.stop() == 0
