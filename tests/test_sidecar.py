"""A daemon and whoever started it: how it says that it is ready, and how it ends when nobody wants it any more."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from swarmd._pb.swarm.v1 import swarm_pb2, swarm_service_pb2
from swarmd._pb.swarm.v1.swarm_service_pb2_grpc import SwarmServiceStub
from swarmd.core.errors import InvalidInputError
from swarmd.sidecar import Notifier, ParentWatch, ReadyPipe
from tests.daemon import is_running, launched, private_environment, ready_line, running, short_home, until

SECONDS = 60.0
e2e = pytest.mark.e2e


@pytest.fixture
def home() -> Iterator[Path]:
    with short_home() as folder:
        yield folder


# -- ready -------------------------------------------------------------------------------------------------------------


@e2e
def test_ready_json_has_all_that_a_program_needs(home: Path):
    with running("--listen", f"unix:{home}/s.sock", "--listen", "127.0.0.1:0", home=home) as daemon:
        assert set(daemon.ready) == {"address", "addresses", "pid", "version", "token_file", "state_dir"}
        assert daemon.ready["pid"] == daemon.process.pid
        assert daemon.ready["token_file"] == str(home / "state" / "swarmd" / "token")
    with running(home=home) as daemon:
        assert daemon.ready["token_file"] is None, "a socket file needs no token"


@e2e
def test_the_descriptor_gets_the_line_and_an_end(home: Path):
    reading, writing = os.pipe()
    with launched("--ready-fd", str(writing), home=home, pass_fds=[writing]) as process:
        os.close(writing)
        with os.fdopen(reading) as pipe:
            lines = pipe.read().splitlines()  # until nobody has it open any more
        assert [json.loads(line)["pid"] for line in lines] == [process.pid]
        assert process.stdout is not None
        assert b"is ready at" in process.stdout.readline(), "standard output has it in words"
        assert process.poll() is None


@e2e
def test_a_descriptor_that_is_not_there_is_told_before_anything_is_done(home: Path):
    with launched("--ready-fd", "77", home=home) as process:
        assert process.wait(SECONDS) == 2
    assert "--ready-fd: 77 cannot be written to (Bad file descriptor)" in (home / "stderr").read_text()
    assert not (home / "state" / "swarmd").exists()


def test_a_reader_that_is_gone_does_no_harm():
    reading, writing = os.pipe()
    pipe = ReadyPipe(writing)
    os.close(reading)
    pipe.tell("ready")
    with pytest.raises(InvalidInputError):
        ReadyPipe(writing)


# -- systemd -----------------------------------------------------------------------------------------------------------


class Systemd:
    """The end that systemd has of `NOTIFY_SOCKET`."""

    def __init__(self, path: str) -> None:
        self.name = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + path[1:] if path.startswith("@") else path)
        self._socket.settimeout(SECONDS)

    def next(self) -> dict[str, str]:
        words = self._socket.recv(4096).decode().splitlines()
        return dict(word.split("=", 1) for word in words)

    def until(self, name: str) -> dict[str, str]:
        while name not in (told := self.next()):
            pass
        return told

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def systemd(home: Path) -> Iterator[Systemd]:
    made = Systemd(f"{home}/notify")
    yield made
    made.close()


@e2e
def test_systemd_hears_of_ready_reload_watchdog_and_stop(home: Path, systemd: Systemd):
    environment = {"NOTIFY_SOCKET": systemd.name, "WATCHDOG_USEC": "200000"}
    with running(home=home, environment=environment) as daemon:
        ready = systemd.next()
        assert ready["READY"] == "1"
        assert ready["MAINPID"] == str(daemon.process.pid)
        assert daemon.address in ready["STATUS"]
        assert systemd.next() == {"WATCHDOG": "1"}
        assert systemd.next() == {"WATCHDOG": "1"}
        daemon.signal(signal.SIGHUP)
        assert int(systemd.until("RELOADING")["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
        assert systemd.until("READY")["READY"] == "1"
        daemon.signal()
        assert systemd.until("STOPPING")["STOPPING"] == "1"
        assert daemon.wait() == 0


@e2e
def test_a_notify_socket_that_is_gone_stops_nothing(home: Path):
    with running(home=home, environment={"NOTIFY_SOCKET": f"{home}/nobody"}) as daemon:
        assert daemon.stop() == 0
        assert "NOTIFY_SOCKET cannot be told" in daemon.log


async def test_an_abstract_socket_and_a_watchdog_for_somebody_else():
    systemd = Systemd(f"@swarmd-test-{os.getpid()}")
    try:
        notifier = Notifier({"NOTIFY_SOCKET": systemd.name, "WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"})
        notifier.ready("all is well")
        await asyncio.sleep(0.02)
        notifier.stopping()
        await notifier.close()
        assert systemd.next()["STATUS"] == "all is well"
        assert systemd.next() == {"STOPPING": "1", "STATUS": "draining"}
    finally:
        systemd.close()


# -- the end -----------------------------------------------------------------------------------------------------------


@e2e
def test_it_ends_when_its_standard_input_does(home: Path):
    with launched("--exit-with-parent", "--ready-json", home=home, stdin=subprocess.PIPE) as process:
        ready_line(process, home)
        assert process.stdin is not None
        process.stdin.write(b"what is said here is of no account\n")
        process.stdin.flush()
        assert process.poll() is None
        process.stdin.close()
        assert process.wait(SECONDS) == 0
    assert "standard input is at its end" in (home / "stderr").read_text()


@e2e
def test_a_standard_input_that_is_no_pipe_means_nothing(home: Path):
    with running("--exit-with-parent", home=home) as daemon:  # it is /dev/null
        with socket.socket(socket.AF_UNIX) as caller:
            caller.connect(str(daemon.socket))
        assert daemon.process.poll() is None
        assert daemon.stop() == 0


@pytest.fixture(params=["gone", "somebody else's"])
def process(request: pytest.FixtureRequest) -> Iterator[int]:
    """A process that is not, or not any more, the parent of this one."""
    code = "pass" if request.param == "gone" else "input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) as other:
        if request.param == "gone":
            other.wait(SECONDS)
        yield other.pid


async def test_a_parent_that_was_gone_before_anybody_looked_is_noticed(process: int):
    told: list[str] = []
    watch = ParentWatch(told.append, parent=process, standard_input=-1)
    watch.start()
    assert told == [f"process {process}, which started it, is gone"]
    watch.close()


PARENT = """
import subprocess, sys, time
child = subprocess.Popen(
    [sys.executable, "-m", "swarmd", "serve", "--exit-with-parent", "--ready-json"],
    stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True,
)
print(child.stdout.readline().decode(), end="", flush=True)
time.sleep(600)
"""


@e2e
def test_it_ends_when_the_process_that_started_it_is_killed(home: Path):
    with (
        (home / "stderr").open("wb") as errors,
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(PARENT)],
            stdout=subprocess.PIPE,
            stderr=errors,
            env=private_environment(home),
        ) as parent,
    ):
        assert parent.stdout is not None
        pid = json.loads(parent.stdout.readline())["pid"]
        parent.kill()
        parent.wait(SECONDS)
        until(lambda: not is_running(pid), "the daemon ends", SECONDS)
    assert f"process {parent.pid}, which started it, is gone" in (home / "stderr").read_text()
    assert not (home / "runtime" / "swarmd" / "swarmd.sock").exists(), "it drained and cleaned up"


@e2e
def test_a_signal_after_the_parent_has_gone_is_the_first_one(home: Path):
    """Many parents close the pipe and then send SIGTERM: what is under way finishes all the same."""
    begun, over = threading.Event(), threading.Event()

    def chunks() -> Iterator[swarm_service_pb2.AddTasksRequest]:
        yield swarm_service_pb2.AddTasksRequest()
        begun.set()
        while not over.wait(0.05):
            yield swarm_service_pb2.AddTasksRequest()

    with launched("--exit-with-parent", "--ready-json", home=home, stdin=subprocess.PIPE) as process:
        address = ready_line(process, home)["address"]
        assert process.stdin is not None
        with grpc.insecure_channel(address) as channel:
            swarms = SwarmServiceStub(channel)
            create = swarm_service_pb2.CreateSwarmRequest(swarm=swarm_pb2.Swarm(swarm_id="s"))
            swarms.CreateSwarm(create, timeout=SECONDS)
            loading = swarms.AddTasks.future(chunks(), timeout=SECONDS)
            begun.wait(SECONDS)
            swarms.GetSwarm(swarm_service_pb2.GetSwarmRequest(), timeout=SECONDS)  # it came after the load
            process.stdin.close()
            until(lambda: "draining" in (home / "stderr").read_text(), "the drain")
            process.terminate()
            until(lambda: "a second signal" in (home / "stderr").read_text(), "the signal is noticed")
            over.set()
            loading.result()
        assert process.wait(SECONDS) == 0
