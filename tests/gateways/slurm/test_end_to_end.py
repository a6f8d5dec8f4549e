"""`swarmd run --gateway slurm` with a config file, a real daemon that is killed in the middle, and a real Slurm."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Answer
from tests.daemon import running, short_home, until
from tests.gateways.slurm.cluster import Cluster

pytestmark = pytest.mark.e2e

WORKFLOW = """
name: study
defaults: {{max_attempts: 2}}
arrays:
  first:
    count: 30
    resources: {{cores: 1, memory: 10M}}
    command: 'echo {{index}} >>{ran}/first.{{index}}; sleep 1.5'
  flaky:
    count: 4
    command: 'echo {{index}} >>{ran}/flaky.{{index}}; test $SWARM_ATTEMPT -gt 1'
  last: {{command: 'echo out; echo last >>{ran}/last', after: [first, flaky]}}
"""


@pytest.fixture
def home(cluster: Cluster) -> Iterator[Path]:
    """Directories of one's own, with a config file for this cluster."""
    with short_home() as path:
        config = path / "config" / "swarmd" / "config.toml"
        config.parent.mkdir(parents=True, mode=0o700)
        config.write_text(
            f'[gateways.slurm]\nconf = "{cluster.conf}"\ndirectory = "{path}/shared"\npoll_min = 0.1\npoll_max = 0.5\n'
        )
        (path / "shared").mkdir()
        (path / "ran").mkdir()
        (path / "flow.yaml").write_text(WORKFLOW.format(ran=path / "ran"))
        yield path


def swarmd(home: Path, environment: dict[str, str], *arguments: str) -> Answer:
    """The command line as a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "swarmd", *arguments],
        env={**os.environ, **environment},
        cwd=home,
        capture_output=True,
        text=True,
        timeout=110,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    return Answer(done.returncode, done.stdout, done.stderr)


def runs(home: Path, name: str) -> list[int]:
    """How often each task of an array ran."""
    return [path.read_text().count("\n") for path in sorted((home / "ran").glob(f"{name}*"))]


def test_a_workflow_runs_on_slurm(home: Path):
    with running(home=home) as daemon:
        answer = swarmd(home, daemon.environment, "run", "flow.yaml", "--gateway", "slurm", "--swarm-id", "e2e")
        assert answer.code == 0, answer.err + answer.out
        assert "all 35 tasks done" in answer.out
        assert runs(home, "first.") == [1] * 30
        assert runs(home, "flaky.") == [2] * 4
        assert runs(home, "last") == [1]
        assert swarmd(home, daemon.environment, "logs", "e2e", "35").out == "out\n"
        assert daemon.stop() == 0


def test_a_daemon_that_is_killed_loses_nothing_and_runs_nothing_twice(home: Path):
    with running(home=home) as daemon:
        command = [
            sys.executable,
            "-m",
            "swarmd",
            "run",
            "flow.yaml",
            "--gateway",
            "slurm",
            "--swarm-id",
            "e2e",
            "--keep",
        ]
        with subprocess.Popen(
            command,
            env={**os.environ, **daemon.environment},
            cwd=home,
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        ) as client:
            until(lambda: len(runs(home, "first.")) >= 10, "tasks that run", 60)
            daemon.signal(signal.SIGKILL)
            daemon.wait()
            client.kill()
    with running(home=home) as daemon:
        until(lambda: outcome(home, daemon.environment) == "SWARM_OUTCOME_DONE", "the end of the swarm", 90)
        assert daemon.stop() == 0
    assert runs(home, "first.") == [1] * 30
    assert runs(home, "flaky.") == [2] * 4
    assert runs(home, "last") == [1]


def test_a_swarm_that_is_deleted_while_slurm_is_frozen_is_ended_by_the_next_daemon(home: Path, cluster: Cluster):
    flow = f"name: long\narrays:\n  all: {{count: 3, command: 'echo >>{home}/ran/a; sleep 300'}}\n"
    (home / "long.yaml").write_text(flow)
    command = [sys.executable, "-m", "swarmd", "run", "long.yaml", "--gateway", "slurm", "--swarm-id", "e2e", "--keep"]
    with running(home=home) as daemon:
        environment = {**os.environ, **daemon.environment}
        with subprocess.Popen(
            command, env=environment, cwd=home, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        ) as client:
            until(lambda: runs(home, "a") == [3], "tasks that run", 60)
            client.kill()
        with cluster.frozen():
            answer = swarmd(home, daemon.environment, "delete", "--force", "e2e")
            assert answer.code == 0, answer.err + answer.out
            (left,) = (home / "state").rglob("slurm/*.left")
            daemon.signal(signal.SIGKILL)
            daemon.wait()
    with running(home=home) as daemon:
        until(lambda: not left.exists(), "the end of what was left", 90)
        assert cluster.call("squeue", "-h", "-t", "PENDING,RUNNING") == ""
        assert daemon.stop() == 0


def outcome(home: Path, environment: dict[str, str]) -> str:
    answer = swarmd(home, environment, "status", "e2e", "--json")
    return str(answer.json.get("outcome", "")) if answer.code == 0 else ""


def test_a_wrong_option_of_the_config_file_is_named(home: Path):
    config = home / "config" / "swarmd" / "config.toml"
    config.write_text(config.read_text().replace("poll_min", "pol_min"))
    answer = swarmd(home, {"XDG_CONFIG_HOME": str(home / "config")}, "config")
    assert answer.code != 0
    assert "[gateways.slurm] pol_min is no option of this gateway; did you mean 'poll_min'?" in answer.err
