"""The daemon's end of one launcher: orders go to it, and what it says goes to whoever wants to know.

The only module that makes a process: the launcher, which makes all others. When that is killed, its guardian has what
it had started, and the connection goes on with the guardian. No order is given before the launcher has said that it
speaks the daemon's version: the package may have been changed since the daemon began.
"""

import asyncio
import contextlib
import os
import resource
import signal
import socket
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swarmd.gateways.local.attempt import environment_of_programs
from swarmd.gateways.local.launched import Launched
from swarmd.gateways.local.launcher import protocol
from swarmd.gateways.local.procfs import boot_id

_PYTHON = (os.path.realpath(sys.executable), "-I", "-S", *(["-B"] if sys.dont_write_bytecode else []))
PROGRAM = (*_PYTHON, str(Path(protocol.__file__).with_name("__main__.py")))
"""Python without the packages of an environment, which it does not need."""
GUARD_DESCRIPTOR = 3

REAP_SECONDS = 0.002
LAST_WORDS_SECONDS = 1.0
"""How long a launcher that is slow to read is waited for."""


@dataclass(frozen=True, slots=True)
class Hears:
    """Who is told what a launcher says, and that it is gone."""

    told: Callable[["Connection", tuple[Any, ...]], None]
    taken_over: Callable[["Connection"], None]
    """The launcher is gone, and its guardian has what it had started."""
    lost: Callable[["Connection"], None]
    """Both are gone, or there is no guardian."""


class Connection:
    """One launcher process, and after it its guardian."""

    def __init__(self, loop: asyncio.AbstractEventLoop, hears: Hears) -> None:
        """Start it. Raises OSError."""
        self._loop = loop
        self._hears = hears
        self.launched: dict[int, Launched] = {}
        """Those that it was told to start and that are not over, by key."""
        self.unanswered = 0
        """Of how many starts it has not said yet what came of them."""
        self.version: int | None = None
        """What it speaks; None: it has not said anything, and has got no order."""
        self.most = protocol.most_at_once(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        """So many at once are what it has descriptors for."""
        self._frames = protocol.Frames()
        self._orders: list[tuple[object, ...]] = []
        self._unsent = b""
        self._flushing: asyncio.Handle | None = None
        self._known: dict[int, dict[bytes, bytes]] = {}
        """The environments of swarms that it was told of."""
        self._guard: socket.socket | None
        with contextlib.ExitStack() as theirs, contextlib.ExitStack() as ours:
            self._socket, other = _pair(ours, theirs)
            self._guard, guard = _pair(ours, theirs)
            self.pid = _spawned(other, guard)
            ours.pop_all()
        loop.add_reader(self._socket, self._listen)

    @property
    def has_orders(self) -> bool:
        """Whether it may have begun to do what it was told."""
        return self.version == protocol.VERSION

    def tell_of(self, key: int, environment: dict[bytes, bytes], folder: Path | None) -> None:
        """What all tasks of a swarm have in common, unless it knows."""
        if self._known.get(key) is not environment:
            self._known[key] = environment
            self.send((protocol.SWARM, key, environment, None if folder is None else os.fsencode(folder.absolute())))

    def forget(self, key: int) -> None:
        """What it was told of a swarm is not needed any more."""
        if self._known.pop(key, None) is not None:
            self.send((protocol.FORGET, key))

    def send(self, order: tuple[object, ...]) -> None:
        """Soon, with all that is sent in the same turn of the loop."""
        self._orders.append(order)
        if self._flushing is None:
            self._flushing = self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Send everything now."""
        if self._flushing is not None:
            self._flushing.cancel()
            self._flushing = None
        if self._orders and self.has_orders:
            data = protocol.framed(self._orders)
            self._orders.clear()
            if self._unsent:
                self._unsent += data
            else:
                self._write(data)

    def hang_up(self) -> None:
        """It goes on alone until nothing that it started runs."""
        self.flush()
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        if self._unsent:
            self._socket.setblocking(True)
            self._socket.settimeout(LAST_WORDS_SECONDS)
            with contextlib.suppress(OSError):
                self._socket.sendall(self._unsent)
        self._socket.close()
        if self._guard:
            self._guard.close()

    async def ended(self) -> None:
        """Wait until it has ended, which it does at once when nothing runs."""
        with contextlib.suppress(ChildProcessError):
            while not self._is_reaped():  # noqa: ASYNC110 - there may be no descriptor left that would tell
                await asyncio.sleep(REAP_SECONDS)

    def reap_later(self) -> None:
        """Have it waited for, without anybody who waits for that."""
        with contextlib.suppress(RuntimeError):  # no thread left: a zombie stays until we end
            threading.Thread(target=self._reap, name="launcher", daemon=True).start()

    def _is_reaped(self) -> bool:
        return os.waitpid(self.pid, os.WNOHANG) != (0, 0)

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)

    def _write(self, data: bytes) -> None:
        try:
            sent = self._socket.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            return  # it is gone, and so the next to be read is the end
        self._unsent = data[sent:]
        if self._unsent:
            self._loop.add_writer(self._socket, self._write_rest)

    def _write_rest(self) -> None:
        self._loop.remove_writer(self._socket)
        self._write(self._unsent)

    def _listen(self) -> None:
        try:
            data = self._socket.recv(protocol.READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._gone()
            return
        for answer in self._frames.taken(data):
            if self.version is None:
                self._begin(answer)
            else:
                self._hears.told(self, answer)

    def _begin(self, answer: tuple[Any, ...]) -> None:
        self.version = answer[2] if answer[:2] == (protocol.READY, 0) else 0
        if self.has_orders:
            self.flush()
        else:
            self._hears.lost(self)

    def _gone(self) -> None:
        if self._guard is None or not self.has_orders:
            self._hears.lost(self)
            return
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        self._socket.close()
        self._socket, self._guard = self._guard, None
        self._frames, self._unsent = protocol.Frames(), b""
        self._orders.clear()
        self._loop.add_reader(self._socket, self._listen)
        self._hears.taken_over(self)


def _pair(ours: contextlib.ExitStack, theirs: contextlib.ExitStack) -> tuple[socket.socket, socket.socket]:
    one, other = socket.socketpair()
    one.setblocking(False)
    return ours.enter_context(one), theirs.enter_context(other)


def _spawned(connection: socket.socket, guard: socket.socket) -> int:
    """The launcher as a child: its standard input is the connection, and it leaves our session by itself."""
    actions = [
        (os.POSIX_SPAWN_DUP2, each.fileno(), target) for each, target in ((connection, 0), (guard, GUARD_DESCRIPTOR))
    ]
    actions += [(os.POSIX_SPAWN_OPEN, descriptor, os.devnull, os.O_WRONLY, 0) for descriptor in (1, 2)]  # type: ignore[misc]
    return os.posix_spawn(
        PROGRAM[0],
        (*PROGRAM, boot_id(), str(GUARD_DESCRIPTOR)),
        environment_of_programs(),
        file_actions=actions,
        setsigdef=[signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD],
    )
