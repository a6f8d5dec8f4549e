"""docs/gateways.md is run as it is written: its gateway is installed beside swarmd and runs a workflow."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.daemon import private_environment, short_home
from tests.gateways.installing import install

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "gateways.md").read_text()
WORKFLOW = """\
name: study
arrays:
  greet:
    command: 'echo "$HOST_NAME {index}" >>"$RECORD"'
    count: 6
  fails:
    command: exit 3
    max_attempts: 2
"""
SECONDS = 60
SUITE_SECONDS = 300
WORDS = ("passed", "skipped")
CANNOT_FIND = 8
"""Tests that are about `find_batch`."""

pytestmark = pytest.mark.e2e


def block(language: str, containing: str) -> str:
    (found,) = [each for each in re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL) if containing in each]
    return str(found)


@pytest.fixture
def home():
    with short_home() as home:
        yield home


@pytest.fixture
def environment(home, tmp_path):
    ((name, place),) = re.findall(r'^(\w+) = "([\w:]+)"$', block("toml", "entry-points"), re.MULTILINE)
    module = place.partition(":")[0]
    source = block("python", f'"""{module}: ')
    site = install(tmp_path / "site", module, source, **{name: place})
    return {**private_environment(home), "PYTHONPATH": str(site), "RECORD": str(tmp_path / "record")}


def swarmd(environment: dict[str, str], *arguments: str, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "swarmd", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def configure(home: Path, shell: str) -> None:
    config = home / "config" / "swarmd" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text(block("toml", "node1") + f'shell = "{shell}"\n')
    config.chmod(0o600)


def test_the_example_is_no_longer_than_the_page_says():
    lines = [line for line in block("python", '"""swarmd_hosts: ').splitlines() if line.strip()]
    assert len(lines) <= 60


def test_the_gateway_of_the_page_keeps_the_contract_as_the_page_says_it_is_tested(environment, tmp_path):
    """With nothing but what another package has: no settings of pytest, and none of this repository's."""
    (tmp_path / "test_swarmd_hosts.py").write_text(block("python", "class TestHostsGateway"))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-c", os.devnull, "-p", "no:cacheprovider", "test_swarmd_hosts.py"],
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SUITE_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    passed, skipped = (int(found[1]) if (found := re.search(rf"(\d+) {word}", done.stdout)) else 0 for word in WORDS)
    assert passed >= 30
    assert skipped == CANNOT_FIND


def test_the_gateway_of_the_page_runs_a_workflow(home, environment, tmp_path):
    configure(home, "env HOST_NAME={host} sh -c")
    listed = {each["name"]: each for each in json.loads(swarmd(environment, "gateways", "--json"))}
    assert listed["hosts"]["usable"]
    assert listed["hosts"]["about"].startswith("Runs tasks on other machines over ssh")
    (tmp_path / "study.yaml").write_text(WORKFLOW)

    told = json.loads(swarmd(environment, "run", "--gateway", "hosts", "--json", str(tmp_path / "study.yaml"), code=1))

    assert (told["swarm"]["taskCounts"]["done"], told["swarm"]["taskCounts"]["errorFatal"]) == (6, 1)
    (failed,) = told["failedTasks"]
    assert re.fullmatch(r"exit code 3 on node[12]", failed["reason"])
    ran = (tmp_path / "record").read_text().split("\n")[:-1]
    assert sorted(line.split()[1] for line in ran) == [str(index) for index in range(6)]
    assert {line.split()[0] for line in ran} == {"node1", "node2"}


def test_without_its_section_it_says_what_is_missing_and_takes_no_swarm(environment, tmp_path):
    (tmp_path / "study.yaml").write_text(WORKFLOW)
    assert re.search(r"^hosts +no +list its hosts in \[gateways.hosts\]", swarmd(environment, "gateways"), re.MULTILINE)

    done = subprocess.run(
        [sys.executable, "-m", "swarmd", "run", "--gateway", "hosts", str(tmp_path / "study.yaml")],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode != 0
    assert "'hosts' cannot be used here: list its hosts in [gateways.hosts]" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_shell_that_is_not_there_fails_the_tasks_with_words(home, environment, tmp_path):
    configure(home, "/no/such/ssh {host}")
    (tmp_path / "study.yaml").write_text(WORKFLOW)
    told = json.loads(swarmd(environment, "run", "--gateway", "hosts", "--json", str(tmp_path / "study.yaml"), code=1))
    assert told["swarm"]["taskCounts"]["errorFatal"] == 7
    assert "could not be started" in told["failedTasks"][0]["reason"]
