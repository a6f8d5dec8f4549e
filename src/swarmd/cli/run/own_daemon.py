"""A daemon for the time of one run: started as a child process, told to stop at the end.

It gets a session of its own, so that Ctrl-C reaches only the command line, and ends by itself when it is idle, so that
nothing stays behind when the command line is killed or detaches.
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from swarmd.addresses import (
    SOCKET_NAME,
    Address,
    default_address,
    make_private,
    parse_address,
    runtime_directory,
    state_directory,
)
from swarmd.client.errors import NoDaemonError
from swarmd.core.errors import InvalidInputError

START_SECONDS = 30.0
STOP_SECONDS = 45.0
POLL_SECONDS = 0.02
IDLE_SECONDS = 10
LOG_LINES = 3


class OwnDaemon:
    """A daemon process that belongs to this command."""

    def __init__(self, local_cores: int | None = None, *, on_stop: str = "kill", stays: bool = False) -> None:
        """Where it will be; with `stays` it does not end when it is idle. Raises InvalidInputError or OSError."""
        self.address, self._scratch = _own_address()
        self._state = make_private(Path(os.environ.get("SWARMD_STATE_DIR") or state_directory()))
        self.log = self._state / f"daemon-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
        self._command = _command(self.address, self._state, local_cores, on_stop=on_stop, stays=stays)
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Start it and wait until it is ready. Raises NoDaemonError with the end of its log."""
        with self.log.open("wb") as sink:
            # not asyncio's own: that one kills its child when the loop is closed, and a detached daemon must live on
            self._process = subprocess.Popen(  # noqa: ASYNC220, S603
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=sink,
                start_new_session=True,
            )
        try:
            await self._until_ready(self._process)
        except BaseException:
            await self.stop()
            raise

    async def _until_ready(self, process: "subprocess.Popen[bytes]") -> None:
        assert process.stdout is not None  # noqa: S101 (it was started with a pipe)
        try:
            async with asyncio.timeout(START_SECONDS):
                line = await asyncio.to_thread(process.stdout.readline)
        except TimeoutError:
            raise self._not_ready(f"was not ready within {START_SECONDS:.0f} s") from None
        if not line:
            raise self._not_ready("could not start")
        self.address = parse_address(json.loads(line)["address"])

    def _not_ready(self, what: str) -> NoDaemonError:
        lines = self.log.read_text(errors="replace").splitlines()[-LOG_LINES:]
        told = "".join(f"\n  {line}" for line in lines)
        return NoDaemonError(f"the daemon {what}; its log is {self.log}{told}", address=str(self.address))

    async def stop(self) -> None:
        """Ask it to end, wait, and clear up; its log stays only when something went wrong."""
        if self._process is not None:
            self._process.terminate()
            await self._until_gone(self._process)
            if self._process.stdout is not None:
                self._process.stdout.close()
            if self._process.returncode == 0:
                self.log.unlink(missing_ok=True)
        if self._scratch is not None:
            (self._scratch / SOCKET_NAME).unlink(missing_ok=True)
            self._scratch.rmdir()

    async def _until_gone(self, process: "subprocess.Popen[bytes]") -> None:
        deadline = time.monotonic() + STOP_SECONDS
        while process.poll() is None:
            if time.monotonic() > deadline:
                process.kill()
            await asyncio.sleep(POLL_SECONDS)


def _own_address() -> tuple[Address, Path | None]:
    """The default socket, or one in a new folder of its own when that cannot be used."""
    try:
        make_private(runtime_directory())
        return parse_address(str(default_address())), None
    except (InvalidInputError, OSError):
        scratch = Path(tempfile.mkdtemp(prefix="swarmd-run-"))
        return Address(path=scratch / SOCKET_NAME), scratch


def _command(address: Address, state: Path, local_cores: int | None, *, on_stop: str, stays: bool) -> list[str]:
    command = [sys.executable, "-m", "swarmd", "serve", "--ready-json", "--on-stop", on_stop]
    command += ["--listen", str(address), "--state-dir", str(state)]
    command += [] if stays else ["--idle-timeout", str(IDLE_SECONDS)]
    command += ["--local-cores", str(local_cores)] if local_cores else []
    return command
