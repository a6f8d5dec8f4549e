"""A daemon that is started again and again on the same home, and calls to whichever of them runs."""

import contextlib
import json
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc

from swarmd._pb.swarm.v1.scheduler_service_pb2_grpc import SchedulerServiceStub
from swarmd._pb.swarm.v1.swarm_service_pb2_grpc import SwarmServiceStub
from tests.daemon import private_environment

ROOT = Path(__file__).resolve().parent.parent.parent
READY_SECONDS = 60.0
CRASHING = ("-m", "tests.crash.crashing_daemon")
SERVE = ("-m", "swarmd", "serve", "--ready-json")
CHANNEL_OPTIONS = (
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 200),
)


class RestartedDaemon:
    """One home, and one daemon at a time that has it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.starts = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"unix:{self.home}/daemon.sock"

    @property
    def log(self) -> str:
        """What all of them wrote on standard error."""
        return (self.home / "stderr").read_text()

    @property
    def process(self) -> "subprocess.Popen[bytes]":
        assert self._process is not None, "no daemon was started"
        return self._process

    def launch(self, *arguments: str) -> None:
        """Start the next one with these arguments of Python; it need not be ready."""
        self.close()
        self.starts += 1
        with (self.home / "stderr").open("ab") as errors:
            self._process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=private_environment(self.home),
                start_new_session=True,
            )

    def launch_crashing(self, *arguments: str) -> None:
        """Start the next one as the crashing daemon."""
        self.launch(*CRASHING, "--home", str(self.home), *arguments)

    def launch_serve(self, *arguments: str) -> None:
        """Start the next one as `swarmd serve`."""
        state = str(self.home / "state" / "swarmd")
        self.launch(*SERVE, "--listen", self.address, "--state-dir", state, *arguments)

    def crashing(self, *arguments: str) -> None:
        """Start the crashing daemon, and wait until it is ready."""
        self.launch_crashing(*arguments)
        self.until_ready()

    def serve(self, *arguments: str) -> None:
        """Start `swarmd serve`, and wait until it is ready."""
        self.launch_serve(*arguments)
        self.until_ready()

    def until_ready(self) -> None:
        """Wait for the line that says so."""
        assert self.gets_ready(), f"the daemon did not start (exit code {self.process.poll()}): {self.log[-3000:]}"

    def gets_ready(self) -> bool:
        """Wait for the line that says so; False when the daemon ended without it."""
        output = self.process.stdout
        assert output is not None
        readable, _, _ = select.select([output], [], [], READY_SECONDS)
        line = output.readline() if readable else b""
        return bool(line) and json.loads(line)["pid"] == self.process.pid

    def kill(self) -> None:
        """As `kill -9`: the daemon alone, not what it started."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """Drain it; gives the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(READY_SECONDS)

    def close(self) -> None:
        """Whatever is left of the latest one goes."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._process = None


class Stubs:
    """Calls to the daemon of a home."""

    def __init__(self, address: str) -> None:
        self.channel = grpc.insecure_channel(address, options=CHANNEL_OPTIONS)
        self.swarms = SwarmServiceStub(self.channel)
        self.scheduler = SchedulerServiceStub(self.channel)


@contextlib.contextmanager
def restarted(home: Path) -> Iterator[RestartedDaemon]:
    """Nothing runs at first, and nothing at the end."""
    daemon = RestartedDaemon(home)
    try:
        yield daemon
    finally:
        daemon.close()


@contextlib.contextmanager
def calling(address: str) -> Iterator[Stubs]:
    """Calls for as long as they are needed."""
    stubs = Stubs(address)
    with stubs.channel:
        yield stubs
