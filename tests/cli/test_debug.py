"""`swarmd debug dump`: what a bug report needs is in it, and what is secret is not."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from swarmd.addresses import client_address
from swarmd.cli import debug, processes
from tests.cli.conftest import Answer, Swarmd, swarmd_process
from tests.daemon import DaemonProcess, running, short_home, until
from tests.e2e.grpcurl import ask, call

SERVICE = "swarm.v1.SwarmService"
COMMAND, OWN_COMMAND, VALUE, REASON = (f"PLANTED-{word}-5Jq8" for word in ("COMMAND", "OWN-COMMAND", "VALUE", "REASON"))
SECRETS = (COMMAND, OWN_COMMAND, VALUE, REASON)

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def planted() -> Iterator[DaemonProcess]:
    """A daemon that knows secrets, and has had trouble with all of them."""
    environment = {"SWARMD_METRICS": "127.0.0.1:0", "SWARMD_TOKEN": "a-token-in-the-environment"}
    with short_home() as home:
        listen = ["--listen", f"unix:{home}/s.sock", "--listen", "127.0.0.1:0"]
        with running("--log-level", "debug", *listen, home=home, environment=environment) as daemon:
            plant(daemon)
            yield daemon


def plant(daemon: DaemonProcess) -> None:
    token = tokens(daemon)[0]
    options = ["-H", f"authorization: Bearer {token}"]
    settings = {"swarm_id": "s", "gateway": "pull", "environment": {"MY_VARIABLE": VALUE}}
    call(daemon, f"{SERVICE}/CreateSwarm", {"swarm": settings}, options=options)
    task = {"task_id": 1, "array_id": 1, "task_resources_id": 1, "command": OWN_COMMAND}
    array = {"array_id": 1, "name": "shown", "command": f"run {COMMAND}\n{{task_id}}"}
    chunk = {"swarm_id": "s", "arrays": [array], "task_resources": [{"task_resources_id": 1}], "tasks": [task]}
    call(daemon, f"{SERVICE}/AddTasks", chunk, options=options)
    call(daemon, "swarm.v1.SchedulerService/Tick", {"swarm_id": "s"}, options=options)
    call(
        daemon,
        f"{SERVICE}/CancelTasks",
        {"swarm_id": "s", "selector": {"task_ids": [1]}, "reason": REASON},
        options=options,
    )
    ask(daemon, f"{SERVICE}/GetSwarm", data=[{"swarm_id": VALUE}], options=options)
    ask(daemon, f"{SERVICE}/GetSwarm", data=[{"swarm_id": "x"}], options=["-H", f"authorization: {token}"])


def tokens(daemon: DaemonProcess) -> list[str]:
    state = daemon.home / "state" / "swarmd"
    return [(state / name).read_text().strip() for name in ("token", "token.read-only")]


def dumped(daemon: DaemonProcess, folder: Path, *options: str) -> tuple[str, Any]:
    """The text of a dump, and what it says."""
    out = folder / "dump.json"
    environment = {**daemon.environment, "SWARMD_TOKEN": tokens(daemon)[0]}
    done = subprocess.run(
        [sys.executable, "-m", "swarmd", "debug", "dump", "--out", str(out), *options],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, f"{out} is written; read it before you send it to somebody\n")
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    text = out.read_text()
    return text, json.loads(text)


def test_no_secret_is_in_it(planted: DaemonProcess, tmp_path: Path):
    log = planted.log
    text, _ = dumped(planted, tmp_path)
    inside = (planted.home / "state" / "swarmd" / "debug.json").read_text()
    assert VALUE in log, "the log itself quotes what a caller asked for"
    for secret in (*SECRETS, *tokens(planted), "a-token-in-the-environment"):
        assert secret not in text
        assert secret not in inside


def test_what_the_daemon_writes_for_it_is_its_users_alone(planted: DaemonProcess, tmp_path: Path):
    dumped(planted, tmp_path)
    written = planted.home / "state" / "swarmd" / "debug.json"
    assert stat.S_IMODE(written.stat().st_mode) == 0o600
    assert list(written.parent.glob(".debug*")) == []


def test_what_helps_is_in_it(planted: DaemonProcess, tmp_path: Path):
    _, told = dumped(planted, tmp_path)
    assert {"swarmd", "python", "grpcio", "sqlite", "kernel"} <= told["versions"].keys()
    (seen,) = told["by_grpc"]["swarms"]
    assert seen["swarmId"] == "s"
    inside = told["inside"]
    assert inside["pid"] == inside["process"]["pid"] == planted.process.pid
    assert inside["settings"]["log_level"] == "debug"
    (swarm,) = inside["daemon"]["swarms"]
    assert (swarm["counts"]["total"], swarm["counts"]["cancelled"]) == (1, 1)
    assert (swarm["arrays"][0]["name"], swarm["environment_names"]) == ("shown", ["MY_VARIABLE"])
    assert "swarmd_swarm_tasks" in inside["metrics"]
    assert any('"ready"' in line for line in inside["log"])
    assert any("run_forever" in frame for stack in inside["threads"].values() for frame in stack)
    assert any(task["name"] == "journal s" for task in inside["tasks"])
    names = {file["name"] for file in told["state_directory"]["swarms"]["s"]}
    assert "records-000001.db" in names
    assert told["state_directory"]["free_bytes"] > 0


def test_commands_are_in_it_when_they_are_asked_for(planted: DaemonProcess, tmp_path: Path):
    text, told = dumped(planted, tmp_path, "--with-commands")
    (full,) = told["by_grpc"]["with_commands"]
    assert full["swarm"]["arrays"][0]["command"].startswith(f"run {COMMAND}")
    assert full["tasks"][0]["command"] == OWN_COMMAND
    for secret in (*tokens(planted), "a-token-in-the-environment"):
        assert secret not in text


def test_without_a_daemon_there_is_what_lies_on_disk(home: Path, tmp_path: Path):
    with running(home=home) as daemon:
        call(daemon, f"{SERVICE}/CreateSwarm", {"swarm": {"swarm_id": "left", "gateway": "pull"}})
        assert daemon.stop() == 0
    done = swarmd_process("debug", "dump", "--out", tmp_path / "dump.json")
    assert done.code == 0
    assert ["by_grpc" in line or "inside" in line for line in done.err.splitlines()] == [True, True]
    told = json.loads((tmp_path / "dump.json").read_text())
    assert "no daemon answers" in told["by_grpc"]["problem"]
    assert "no daemon was found" in told["inside"]["problem"]
    assert (told["state_directory"]["format"], list(told["state_directory"]["swarms"])) == ("1", ["left"])


def test_without_anything_it_says_so_and_is_still_written(home: Path, tmp_path: Path):
    done = swarmd_process("debug", "dump", "--out", tmp_path / "dump.json")
    assert done.code == 0
    assert "there is no state directory" in done.err
    assert json.loads((tmp_path / "dump.json").read_text())["versions"]


def test_a_daemon_in_memory_is_found_by_its_socket(home: Path, tmp_path: Path):
    with running("--in-memory", home=home) as daemon:
        _, told = dumped(daemon, tmp_path)
        assert told["inside"]["process"]["pid"] == daemon.process.pid


def test_a_daemon_on_tcp_is_found_by_the_lock_of_its_state_directory(home: Path, tmp_path: Path):
    with running("--listen", "127.0.0.1:0", home=home) as daemon:
        _, told = dumped(daemon, tmp_path)
        assert told["inside"]["process"]["pid"] == daemon.process.pid


def test_a_process_that_waits_for_no_signal_is_left_alone(home: Path, tmp_path: Path):
    """SIGUSR1 would kill it."""
    path = home / "other.sock"
    bound = f"import socket; s = socket.socket(socket.AF_UNIX); s.bind({str(path)!r}); s.listen()"
    program = f"{bound}; print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        assert processes.daemon_at(client_address(f"unix:{path}")) == other.pid
        assert not processes.tell(other.pid, signal.SIGUSR1)
        told = debug._inside(f"unix:{path}", tmp_path)
        assert told["problem"] == f"process {other.pid} is no daemon of yours that can be asked"
        other.communicate(b"\n")
        assert other.returncode == 0


def test_a_daemon_that_is_stuck_is_said_to_be(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, swarmd_here: Swarmd
):
    monkeypatch.setattr(debug, "ANSWER_SECONDS", 0.3)
    with running(home=home) as daemon:
        monkeypatch.setenv("SWARMD_ADDRESS", daemon.address)
        daemon.signal(signal.SIGSTOP)
        try:
            answer = swarmd_here("debug", "dump", "--out", tmp_path / "dump.json")
        finally:
            daemon.signal(signal.SIGCONT)
        assert answer.code == 0
        told = json.loads((tmp_path / "dump.json").read_text())
    assert told["by_grpc"]["problem"]
    assert f"kill -USR2 {daemon.process.pid}" in told["inside"]["problem"]


def test_sigusr2_writes_where_every_thread_is(home: Path):
    with running(home=home) as daemon:
        daemon.signal(signal.SIGUSR2)
        until(lambda: "most recent call first" in daemon.log, "the stacks")
        assert daemon.stop() == 0


def test_a_link_in_the_place_of_its_file_is_replaced_and_not_followed(home: Path):
    other = home / "other"
    other.write_text("precious")
    with running(home=home) as daemon:
        written = home / "state" / "swarmd" / "debug.json"
        written.symlink_to(other)
        daemon.signal(signal.SIGUSR1)
        until(lambda: not written.is_symlink(), "the file")
        assert json.loads(written.read_text())["versions"]
    assert other.read_text() == "precious"


def test_nobody_listens_at_a_dead_socket(tmp_path: Path):
    path = Path(os.path.relpath(tmp_path / "s"))
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    assert processes.daemon_at(client_address(f"unix:{tmp_path / 's'}")) is None


@pytest.fixture
def swarmd_here(capsys: pytest.CaptureFixture[str]) -> Swarmd:
    """Calls the command line in this process."""
    from swarmd.cli.main import execute

    def run(*arguments: object) -> Answer:
        code = execute([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return Answer(int(code), said.out, said.err)

    return run
