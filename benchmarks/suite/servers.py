"""The processes that are measured: our daemon and the bare service, each certainly ended."""

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.suite.setting import ROOT

START_SECONDS = 120.0
END_SECONDS = 60.0
MIB = 1024.0


@dataclass
class Daemon:
    """Our daemon, or the bare service in its place, which is ready."""

    process: "subprocess.Popen[bytes]"
    address: str
    seconds: float
    """From its start until it was ready."""

    def memory_mib(self, what: str = "VmRSS") -> float:
        """Its resident memory now, or with VmHWM the most that it ever was."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(float(line.split()[1]) / MIB for line in lines if line.startswith(f"{what}:"))

    def processor_seconds(self) -> float:
        """What it has used of the processor until now."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def kill(self) -> None:
        """As a crash does."""
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def daemon(home: Path, *options: str) -> Iterator[Daemon]:
    """A daemon with a socket and a state of its own below `home`; ended at the end."""
    command = [sys.executable, "-m", "swarmd", "serve", "--ready-json", "--exit-with-parent", "--log-level", "warning"]
    command += ["--listen", f"unix:{home}/s.sock", "--state-dir", f"{home}/state", *options]
    begun = time.perf_counter()
    with _ending(command, home / "daemon.log") as process:
        ready = json.loads(_first_line(process, home / "daemon.log"))
        yield Daemon(process, ready["address"], time.perf_counter() - begun)


@contextlib.contextmanager
def bare_service(home: Path) -> Iterator[Daemon]:
    """A bare service."""
    address = f"unix:{home}/b.sock"
    begun = time.perf_counter()
    with _ending([sys.executable, "-m", "benchmarks.suite.bare_service", address], home / "bare.log") as process:
        _first_line(process, home / "bare.log")
        yield Daemon(process, address, time.perf_counter() - begun)


@contextlib.contextmanager
def _ending(command: list[str], log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    with log.open("ab") as errors:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, cwd=ROOT)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def _first_line(process: "subprocess.Popen[bytes]", log: Path) -> bytes:
    if process.stdout is None:
        raise RuntimeError("its standard output is not ours")
    readable, _, _ = select.select([process.stdout], [], [], START_SECONDS)
    line = process.stdout.readline() if readable else b""
    if not line:
        raise RuntimeError(f"a server did not start: {log.read_text()[-2000:]}")
    return line
