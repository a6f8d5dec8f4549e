"""A daemon for the time of one run: started as a child process, told to stop at the end.

It gets a session of its own, so that Ctrl-C reaches only the command line, and ends by itself when it is idle, so that
nothing stays behind when the command line is killed or detaches.
"""

import asyncio
import os
import tempfile
import time
from pathlib import Path

from swarmd.addresses import (
    SOCKET_NAME,
    Address,
    client_address,
    daemons_state_directory,
    default_address,
    parse_address,
    runtime_directory,
)
from swarmd.client.errors import NoDaemonError
from swarmd.core.errors import InvalidInputError
from swarmd.embedding import ChildProcess
from swarmd.ownership import make_private

IDLE_SECONDS = 10


class OwnDaemon:
    """A daemon process that belongs to this command."""

    def __init__(self, local_cores: int | None = None, *, on_stop: str = "kill", stays: bool = False) -> None:
        """Where it will be; with `stays` it does not end when it is idle. Raises InvalidInputError or OSError."""
        self.address, self._scratch, listen = _own_address()
        state = make_private(daemons_state_directory())
        self.log = state / f"daemon-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
        arguments = [*listen, "--state-dir", str(state), "--on-stop", on_stop]
        arguments += [] if stays else ["--idle-timeout", str(IDLE_SECONDS)]
        arguments += ["--local-cores", str(local_cores)] if local_cores else []
        self._process = ChildProcess(arguments, self.log, tied=False)  # a detached one lives on

    @property
    def command(self) -> list[str]:
        """How it is started."""
        return self._process.command

    async def start(self) -> None:
        """Start it and wait until it is ready. Raises NoDaemonError with the end of its log."""
        try:
            self.address = parse_address((await asyncio.to_thread(self._process.start))["address"])
        except NoDaemonError as error:
            error.address = str(self.address)
            self._clear_up()
            raise
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Ask it to end, wait, and clear up; its log stays only when something went wrong."""
        await asyncio.to_thread(self._process.stop)
        if self._process.returncode == 0:
            self.log.unlink(missing_ok=True)
        self._clear_up()

    def _clear_up(self) -> None:
        if self._scratch is not None:
            (self._scratch / SOCKET_NAME).unlink(missing_ok=True)
            self._scratch.rmdir()


def _own_address() -> tuple[Address, Path | None, list[str]]:
    """Where it will listen, a new folder if one is needed for that, and what it has to be told.

    Where its settings say, and then it is told nothing; else the default socket, or one in a folder of its own when
    that cannot be used.
    """
    expected = client_address(None)  # where other commands will look
    if expected != default_address():
        return expected, None, []
    try:
        make_private(runtime_directory())
        address, scratch = parse_address(str(expected)), None
    except (InvalidInputError, OSError):
        scratch = Path(tempfile.mkdtemp(prefix="swarmd-run-"))
        address = Address(path=scratch / SOCKET_NAME)
    return address, scratch, ["--listen", str(address)]
