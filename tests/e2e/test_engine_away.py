"""An engine that is away, or that refuses: whoever looks is told why nothing runs, and all goes on when it is back."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from swarmd.client import Swarm
from swarmd.client.blocking import SwarmClient
from tests.daemon import private_environment, running, short_home, until
from tests.gateways.installing import install

MOODY = '''
import os

from swarmd.gateways import BatchRefusedError, ServerGateway, StateUpdate, TaskStatus, TaskStatuses


class Moody(ServerGateway):
    """Refuses one array until a file is there, and has done everything else at once."""

    def __init__(self, context):
        pass

    async def start(self, report):
        self.report = report

    async def add_swarm(self, swarm):
        self.gate = swarm.options["gate"]

    async def queue_batch(self, batch):
        if batch.array.name == "large" and not os.path.exists(self.gate):
            raise BatchRefusedError("no node is large enough\\nfor now")
        news = TaskStatuses()
        news.add(TaskStatus.DONE, batch.task_ids, batch.attempts)
        self.report(batch.swarm_id, StateUpdate(news))
'''
STUDY = """
name: study
arrays:
  small: {count: 3, command: "true"}
  large: {count: 2, command: "true"}
  last: {command: "true", after: [large]}
"""
WAITS = "only: It is QUEUED, in attempt 1. The engine says: it waits for room on this machine: it asks for 1 core"
PATIENCE = 60.0

pytestmark = pytest.mark.e2e


@pytest.fixture
def home() -> Iterator[Path]:
    with short_home() as home:
        (home / "study.yaml").write_text(STUDY)
        yield home


@contextlib.contextmanager
def run(home: Path, address: str, *options: str) -> "Iterator[subprocess.Popen[str]]":
    command = [sys.executable, "-m", "swarmd", "run", str(home / "study.yaml"), "--swarm-id", "study", *options]
    environment = {**private_environment(home), "SWARMD_ADDRESS": address}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment, stdout=pipe, stderr=subprocess.STDOUT, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def command(home: Path, address: str, *words: str) -> str:
    environment = {**private_environment(home), "SWARMD_ADDRESS": address}
    done = subprocess.run(
        [sys.executable, "-m", "swarmd", *words], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout


def test_it_is_said_that_an_engine_is_away_and_since_when(home: Path):
    address = f"unix:{home}/engine.sock"
    options = ["--gateway", "remote", "--gateway-option", f"address={address}"]
    with running(home=home) as daemon, run(home, daemon.address, *options) as process:
        with SwarmClient(daemon.address) as client:
            until(lambda: client.swarms(), "the swarm", PATIENCE)
            swarm = client.swarm("study")
            until(lambda: swarm.status().refusals, "a refusal", PATIENCE)
            status = swarm.status()
            words = f"the engine at {address} cannot be reached since "
            assert status.engine_trouble.startswith(words)
            assert all(each.reason.startswith(words) and each.times and each.since for each in status.refusals)
            assert {each.array_id for each in status.refusals} <= {1, 2}
            told = swarm.explain(1)
            assert [each.kind for each in told.obstacles] == ["REFUSED"]
            assert told.summary.startswith("It is ready, but the engine refuses it")
            assert words in told.summary
            assert told.summary.endswith("It is offered again by itself.")
            assert [each.kind for each in swarm.explain(6).obstacles] == ["WAITING_FOR_UPSTREAMS"]
        shown = command(home, daemon.address, "status", "study")
        assert any(line.startswith("engine  ") and words in line for line in shown.splitlines())
        assert any(line.startswith("small ") and words in line for line in shown.splitlines())
        assert process.stdout is not None
        assert words in process.stdout.readline()


def test_an_array_that_the_engine_refuses_is_named_and_why(home: Path, tmp_path: Path):
    gate = tmp_path / "gate"
    site = install(tmp_path / "site", "moody", MOODY, moody="moody:Moody")
    options = ["--gateway", "moody", "--gateway-option", f"gate={gate}"]
    environment = {"PYTHONPATH": str(site)}
    with running(home=home, environment=environment) as daemon, run(home, daemon.address, *options) as process:
        with SwarmClient(daemon.address) as client:
            until(lambda: client.swarms(), "the swarm", PATIENCE)
            swarm = client.swarm("study")
            until(lambda: swarm.status().counts.done == 3 and swarm.status().refusals, "the others", PATIENCE)
            status = swarm.status()
            assert status.engine_trouble == ""
            [refusal] = status.refusals
            assert (refusal.array_id, refusal.reason) == (2, "no node is large enough\nfor now")
            assert "no node is large enough" in swarm.explain(5).summary
            assert process.stdout is not None
            lines = iter(process.stdout.readline, "")
            assert any("the engine takes no tasks of large: no node is large enough" in line for line in lines)
            gate.touch()
            assert swarm.wait(timeout=PATIENCE).counts.done == 6
            assert swarm.status().refusals == ()
            assert [each.kind for each in swarm.explain(5).obstacles] == ["FINAL"]
        assert process.wait(timeout=PATIENCE) == 0


def test_what_waits_at_the_engine_while_nothing_runs_is_explained(home: Path):
    (home / "study.yaml").write_text('name: study\narrays:\n  only: {command: "true"}\n')
    with running("--local-cores", "1", home=home) as daemon, SwarmClient(daemon.address) as client:
        other = Swarm("other", autopilot=True)
        other.array("long", command="sleep 600", tasks=1)
        busy = client.submit(other)
        until(lambda: busy.status().counts.running, "the other to run", PATIENCE)
        with run(home, daemon.address) as process:
            assert process.stdout is not None
            lines = iter(process.stdout.readline, "")
            assert any(WAITS in line for line in lines)
            busy.cancel(everything=True)
            assert process.wait(timeout=PATIENCE) == 0
