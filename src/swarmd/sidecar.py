"""What ties a daemon to whoever started it: it is told when it is ready, and it notices when its parent is gone.

Used by `Daemon.run` only: a daemon inside of somebody's own event loop has no parent of its own.
"""

import asyncio
import contextlib
import os
import socket
import stat
import time
from collections.abc import Callable, Mapping

from swarmd.core.errors import InvalidInputError
from swarmd.loggers import get_logger

log = get_logger("swarmd.sidecar")

LARGEST_READ = 65_536
WATCHDOGS_PER_PERIOD = 2
"""systemd advises to be heard twice in the time that it gives."""


class ReadyPipe:
    """The file descriptor of `--ready-fd`."""

    def __init__(self, descriptor: int) -> None:
        """Raises InvalidInputError for a descriptor that is not open or cannot be written to."""
        try:
            mode = os.fstat(descriptor).st_mode
            os.write(descriptor, b"")
        except OSError as error:
            message = (
                f"--ready-fd: {descriptor} cannot be written to ({error.strerror}); give the number of a descriptor "
                "that this process inherits, the writing end of a pipe for example"
            )
            raise InvalidInputError(message, reason="INVALID_SETTINGS", field="ready_fd") from None
        self._descriptor = descriptor
        self._is_ours = not (stat.S_ISCHR(mode) or descriptor <= 2)  # 0, 1 and 2 stay open
        os.set_inheritable(descriptor, False)  # tasks must not keep it open

    def tell(self, line: str) -> None:
        """Write the line and close the descriptor, so that its reader sees an end. A reader that is gone is none."""
        with contextlib.suppress(OSError):
            os.write(self._descriptor, line.encode() + b"\n")
        if self._is_ours:
            with contextlib.suppress(OSError):
                os.close(self._descriptor)


class Notifier:
    """What systemd is told through `NOTIFY_SOCKET`, for `Type=notify-reload` and `WatchdogSec`. See sd_notify(3)."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        self._period = _watchdog_seconds(environment)
        self._watchdog: asyncio.Task[None] | None = None

    def ready(self, status: str) -> None:
        """It serves."""
        self._tell("READY=1", f"STATUS={status}", f"MAINPID={os.getpid()}")
        if self._address and self._period and self._watchdog is None:
            self._watchdog = asyncio.create_task(self._watch(self._period / WATCHDOGS_PER_PERIOD), name="watchdog")

    def reloading(self) -> None:
        """It takes up changed files; `ready` says that this is over."""
        self._tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """It drains. The watchdog goes on: a drain that is stuck is stuck."""
        self._tell("STOPPING=1", "STATUS=draining")

    async def close(self) -> None:
        """Be silent."""
        if self._watchdog is not None:
            self._watchdog.cancel()
            await asyncio.gather(self._watchdog, return_exceptions=True)

    async def _watch(self, period: float) -> None:
        """The event loop turns: that is what is said."""
        while True:
            self._tell("WATCHDOG=1")
            await asyncio.sleep(period)

    def _tell(self, *words: str) -> None:
        if not self._address:
            return
        place = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.setblocking(False)
                sender.sendto("\n".join(words).encode(), place)
        except OSError as error:
            log.warning("NOTIFY_SOCKET cannot be told", address=self._address, error=error.strerror)


def _watchdog_seconds(environment: Mapping[str, str]) -> float:
    """What systemd gives; 0: it does not look, or looks at another process."""
    if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0.0
    text = environment.get("WATCHDOG_USEC", "")
    return int(text) / 1e6 if text.isascii() and text.isdigit() else 0.0


class ParentWatch:
    """Calls back once when the parent is gone or has closed standard input."""

    def __init__(self, gone: Callable[[str], None], *, parent: int | None = None, standard_input: int = 0) -> None:
        """`parent`: the process that was it when this one began; it may be gone by now, with another in its place."""
        self._gone = gone
        self._parent = os.getppid() if parent is None else parent
        self._input = standard_input
        self._watched: list[int] = []
        self._process: int | None = None

    def start(self) -> None:
        """Watch from now on. What is read from standard input is thrown away."""
        if _is_stream(self._input):
            os.set_blocking(self._input, False)
            self._watch(self._input, self._read)
        try:
            self._process = os.pidfd_open(self._parent)
        except OSError:
            self._orphaned()
            return
        if os.getppid() != self._parent:
            self._orphaned()
            return
        self._watch(self._process, self._orphaned)

    def close(self) -> None:
        """Watch no more."""
        loop = asyncio.get_running_loop()
        for descriptor in self._watched:
            loop.remove_reader(descriptor)
        self._watched.clear()
        if self._process is not None:
            os.close(self._process)
            self._process = None

    def _watch(self, descriptor: int, react: Callable[[], None]) -> None:
        asyncio.get_running_loop().add_reader(descriptor, react)
        self._watched.append(descriptor)

    def _read(self) -> None:
        try:
            data = os.read(self._input, LARGEST_READ)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._report("standard input is at its end")

    def _orphaned(self) -> None:
        self._report(f"process {self._parent}, which started it, is gone")

    def _report(self, why: str) -> None:
        self.close()
        self._gone(why)


def _is_stream(descriptor: int) -> bool:
    """A pipe or a socket; a terminal, a file and /dev/null say nothing of whoever opened them."""
    try:
        mode = os.fstat(descriptor).st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)
