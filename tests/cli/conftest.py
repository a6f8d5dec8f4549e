"""A daemon for the whole folder, and the command line, called in this process or as a process of its own."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from swarmd.cli.main import execute
from tests.daemon import DaemonProcess, private_environment, running, short_home

PROCESS_SECONDS = 60.0


@dataclass
class Answer:
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def json_lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


Swarmd = Callable[..., Answer]


@pytest.fixture(scope="session")
def daemon() -> Iterator[DaemonProcess]:
    with running("--local-cores", "4", "--kill-grace", "0.2") as process:
        yield process
        assert process.stop() == 0


@pytest.fixture
def swarmd(daemon: DaemonProcess, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Swarmd:
    """Calls the command line in this process, with the daemon there."""
    for name, value in daemon.environment.items():
        monkeypatch.setenv(name, value)

    def call(*arguments: object) -> Answer:
        capsys.readouterr()
        code = execute([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return Answer(int(code), said.out, said.err)

    return call


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Directories of one's own, in which no daemon runs."""
    with short_home() as path:
        environment = private_environment(path)
        for name in os.environ.keys() - environment.keys():
            monkeypatch.delenv(name)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        yield path
        for process in daemons_below(path):
            os.kill(process, signal.SIGKILL)


def daemons_below(home: Path) -> list[int]:
    """The process ids of daemons that were started for these directories."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes()
        except OSError:
            continue
        if b"\0serve\0" in command and os.fsencode(home) in command:
            found.append(int(path.parent.name))
    return found


def swarmd_process(*arguments: object, **environment: str) -> Answer:
    """Calls the command line as a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "swarmd", *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=PROCESS_SECONDS,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    return Answer(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def workflow(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a workflow file."""

    def write(text: str) -> Path:
        path = tmp_path / "flow.yaml"
        path.write_text(text)
        return path

    return write


SMALL = """
name: small
arrays:
  first: {count: 3, command: 'echo hello {index}'}
  second: {command: 'echo bye >&2', after: [first]}
"""

FAILING = """
name: failing
defaults: {max_attempts: 2}
arrays:
  first: {count: 3, command: '[ {index} != 1 ] || { echo "no [red]table[/red]" >&2; exit 3; }'}
  second: {count: 2, command: 'true', after: [first]}
"""

ENDLESS = """
name: endless
arrays:
  first: {count: 3, command: 'echo begun; exec sleep 600'}
"""
