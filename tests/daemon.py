"""A real daemon as a process of its own: started, driven and certainly ended, with nothing of the user's touched."""

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

START_SECONDS = 60.0
END_SECONDS = 60.0


@dataclass
class DaemonProcess:
    """One daemon that said where it is."""

    process: "subprocess.Popen[bytes]"
    home: Path
    """Holds `runtime/` and `state/`, its XDG directories, and `stderr`."""
    ready: dict[str, Any]
    """The line of `--ready-json`."""

    @property
    def address(self) -> str:
        """As `--address` and SWARMD_ADDRESS take it: `unix:PATH` or `HOST:PORT`."""
        return str(self.ready["address"])

    @property
    def socket(self) -> Path:
        """The socket that it listens on first."""
        return Path(self.address.removeprefix("unix:"))

    @property
    def token(self) -> str:
        """What callers over TCP show; empty where they need none."""
        return Path(self.ready["token_file"]).read_text().strip() if self.ready["token_file"] else ""

    @property
    def environment(self) -> dict[str, str]:
        """For other programs: the same directories, and SWARMD_ADDRESS."""
        return {**private_environment(self.home), "SWARMD_ADDRESS": self.address}

    @property
    def log(self) -> str:
        """What it wrote on standard error."""
        return (self.home / "stderr").read_text()

    def signal(self, number: signal.Signals = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    def wait(self, seconds: float = END_SECONDS) -> int:
        """Its exit code; a daemon that does not end is an error."""
        return self.process.wait(seconds)

    def stop(self) -> int:
        """Drain it; gives the exit code."""
        self.signal(signal.SIGTERM)
        return self.wait()


def private_environment(home: Path) -> dict[str, str]:
    """This process's environment, with directories below `home` and without settings of swarmd."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SWARMD_")}
    folders = {"RUNTIME_DIR": "runtime", "STATE_HOME": "state", "CONFIG_HOME": "config"}
    return {**kept, **{f"XDG_{name}": str(home / folder) for name, folder in folders.items()}}


@contextlib.contextmanager
def short_home() -> Iterator[Path]:
    """A new folder with a short name (a socket's path has at most 107 bytes), gone at the end."""
    home = Path(tempfile.mkdtemp(prefix="sw-"))
    for name in ("runtime", "state"):
        (home / name).mkdir(mode=0o700)
    try:
        yield home
    finally:
        shutil.rmtree(home, ignore_errors=True)


@contextlib.contextmanager
def launched(
    *arguments: str, home: Path, environment: Mapping[str, str] | None = None, umask: int = -1, **options: Any
) -> Iterator["subprocess.Popen[bytes]"]:
    """`swarmd serve` with these arguments, whether it gets ready or not; killed at the end if it still runs.

    `options` are those of Popen.
    """
    with (home / "stderr").open("ab") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "swarmd", "serve", *arguments],
            stdout=subprocess.PIPE,
            stderr=errors,
            env={**private_environment(home), **(environment or {})},
            umask=umask,
            start_new_session=True,
            **{"stdin": subprocess.DEVNULL, **options},
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        assert process.stdout is not None
        process.stdout.close()


@contextlib.contextmanager
def running(
    *arguments: str, home: Path | None = None, environment: Mapping[str, str] | None = None, umask: int = -1
) -> Iterator[DaemonProcess]:
    """A daemon that is ready; on its own socket unless the arguments say where. Killed at the end if it still runs."""
    with contextlib.ExitStack() as stack:
        place = home or stack.enter_context(short_home())
        process = stack.enter_context(
            launched("--ready-json", *arguments, home=place, environment=environment, umask=umask)
        )
        yield DaemonProcess(process, place, ready_line(process, place))


def ready_line(process: "subprocess.Popen[bytes]", home: Path) -> dict[str, Any]:
    """What `--ready-json` says, as soon as it does."""
    assert process.stdout is not None
    read, _, _ = select.select([process.stdout], [], [], START_SECONDS)
    line = process.stdout.readline() if read else b""
    if not line:
        raise AssertionError(f"the daemon did not start (exit code {process.poll()}): {(home / 'stderr').read_text()}")
    told: dict[str, Any] = json.loads(line)
    return told


def until(condition: "Any", what: str, seconds: float = 30.0) -> None:
    """Wait until a condition holds; an error that says what was waited for when it does not come true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds} s for: {what}"
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    """Whether the process is there and not only waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False
