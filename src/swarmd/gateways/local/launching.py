"""The daemon's end of the launcher: it is told what to start, and what it says goes to whoever wants to know.

The only module that makes a process: the launcher, which makes all others. It is started when it is first needed, and
again when it was killed; what it had started runs on, and is then watched as what an earlier daemon left.
"""

import asyncio
import contextlib
import errno
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swarmd.gateways.local import launcher as program
from swarmd.gateways.local.adoption import Adopted
from swarmd.gateways.local.attempt import Attempt, LocalSwarm, environment_of_programs
from swarmd.gateways.local.commands import plain_arguments, shell_arguments
from swarmd.gateways.local.exits import ExitWatch
from swarmd.gateways.local.leader import Leader
from swarmd.gateways.local.procfs import boot_id, stat_of
from swarmd.gateways.local.status_file import Started

log = logging.getLogger(__name__)

PROGRAM = (os.path.realpath(sys.executable), "-I", "-S", program.__file__)
"""Python without the packages of an environment, which it does not need."""

LOST_STATUS = "its exit status was lost: the launcher, which had started it, is gone"
NOT_READY = "could not be started: the launcher ended before it had started anything"

_WHAT = {
    program.NO_OUTPUT: "its output file could not be opened",
    program.NO_STATUS: "could not be started: its status file could not be written",
    program.NO_PROCESS: "could not be started",
}


class StartFailedError(Exception):
    """The command cannot be started; its text says why."""


class StartPostponedError(Exception):
    """The machine is short of something just now; the same start may work a little later."""


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Who is told what became of an attempt that was to be started."""

    started: Callable[[Attempt, "Launched"], None]
    failed: Callable[[Attempt, StartFailedError | StartPostponedError], None]
    """Nothing runs."""
    taken: Callable[[Attempt], None]
    """Somebody else had started it, or made sure that it never runs."""
    lost: Callable[[Attempt], None]
    """The launcher is gone, and may have started it before."""


class Launched(Leader):
    """A process that the launcher started. Its number and its group's are nobody else's before `reap`."""

    __slots__ = ("_adopted", "_code", "_ended", "_exits", "_is_over", "_launchpad", "attempt", "key", "ticks")

    def __init__(self, key: int, attempt: Attempt, launchpad: "Launchpad") -> None:
        super().__init__(0, -1)
        self.key = key
        self.attempt = attempt
        self.ticks = 0
        self._launchpad = launchpad
        self._is_over = False
        self._code: int | None = None
        self._ended: Callable[[], None] | None = None
        self._exits: ExitWatch | None = None
        self._adopted: Adopted | None = None
        """How it is looked after without the launcher."""

    @property
    def without_status(self) -> str:  # type: ignore[override]
        return LOST_STATUS if self._adopted else ""

    def when_ended(self, exits: ExitWatch, ended: Callable[[], None]) -> None:
        self._exits, self._ended = exits, ended

    def unwatch(self, exits: ExitWatch) -> None:
        self._ended = None
        if self._adopted:
            exits.forget(self._adopted)

    def end_told(self, code: int) -> None:
        """It ended with this code."""
        self._is_over, self._code = True, code
        if self._ended:
            self._ended()

    def launcher_lost(self) -> None:
        """Nobody will tell of its end."""
        if self._is_over:
            return
        started = Started(self.pid, self.ticks, boot_id(), None)
        self._adopted = Adopted(started, self.attempt.status)
        if self._adopted.has_ended():
            self._adopted.let_go()  # its number, and the descriptor, may be another process's by now
        if self._ended and self._exits:
            self._exits.watch(self._adopted, self._ended)

    def has_ended(self) -> bool:
        if self._adopted:
            return self._adopted.has_ended()
        if self._is_over:
            return True
        stat = stat_of(self.pid)
        return stat is None or stat.is_dead

    def reap(self) -> int | None:
        if self._adopted:
            return self._adopted.reap()
        self._launchpad.release(self)
        return self._code

    def let_go(self) -> None:
        self._launchpad.disown(self)
        if self._adopted:
            self._adopted.let_go()

    def kill(self) -> None:
        """KILL, also before it is known as what it runs."""
        self._launchpad.kill(self)

    def signal(self, number: int) -> None:
        (self._adopted.signal if self._adopted else super().signal)(number)

    def signal_group(self, number: int) -> None:
        (self._adopted.signal_group if self._adopted else super().signal_group)(number)


class Launchpad:
    """Where attempts are started from."""

    def __init__(self, outcomes: Outcomes) -> None:
        self._outcomes = outcomes
        self._loop = asyncio.get_running_loop()
        self._launcher: _Launcher | None = None
        self._keys = 0
        self._launched: dict[int, Launched] = {}
        """Those that are not over, by key."""
        self._leaves_some = False
        """The launcher has some that nobody here waits for."""

    def start(self, attempt: Attempt) -> Launched:
        """Have it started; the outcome comes later. Raises StartPostponedError and StartFailedError."""
        launcher = self._ready_launcher()
        self._keys += 1
        launched = self._launched[self._keys] = Launched(self._keys, attempt, self)
        swarm, spec = attempt.swarm, attempt.spec
        launcher.tell_of(swarm.key, swarm.environment, swarm.info.working_directory)
        plain = plain_arguments(spec.command)
        shell = shell_arguments(spec.command)
        arguments = (shell, None) if plain is None else (plain, shell)
        output, status = attempt.file_names()
        launcher.send((program.START, launched.key, swarm.key, attempt.variables(), *arguments, output, status))
        return launched

    def forget(self, swarm: LocalSwarm) -> None:
        """Nothing more of it is going to be started."""
        if self._launcher:
            self._launcher.forget(swarm.key)

    def release(self, launched: Launched) -> None:
        """Its end has been seen, and its group is empty."""
        if self._launched.pop(launched.key, None) and self._launcher:
            self._launcher.send((program.RELEASE, launched.key))

    def disown(self, launched: Launched) -> None:
        """It goes on, and nobody here wants to know of it."""
        if self._launched.pop(launched.key, None):
            self._leaves_some = True

    def kill(self, launched: Launched) -> None:
        """KILL, also where it is not known yet as what it runs; told at once."""
        if self._launcher:
            self._launcher.send((program.KILL, launched.key))
            self._launcher.flush()

    async def close(self) -> None:
        """The launcher ends as soon as nothing runs any more."""
        launcher, self._launcher = self._launcher, None
        if launcher is None:
            return
        launcher.hang_up()
        if self._launched or self._leaves_some:
            launcher.reap_later()
        else:
            try:
                async with asyncio.timeout(END_SECONDS):
                    await launcher.ended()
            except TimeoutError:
                launcher.reap_later()

    def hang_up(self) -> None:
        """The same without waiting."""
        launcher, self._launcher = self._launcher, None
        if launcher is not None:
            launcher.hang_up()
            launcher.reap_later()

    def _ready_launcher(self) -> "_Launcher":
        if self._launcher is None:
            try:
                self._launcher = _Launcher(self._loop, self._told, self._lost)
            except OSError as error:
                raise _start_error(error, "the launcher could not be started") from error
        return self._launcher

    def _told(self, answer: tuple[Any, ...]) -> None:
        kind, *about = answer
        if kind == program.BROKEN:
            log.error("the launcher of tasks is broken: %s", about[0])
            return
        launched = self._launched.get(about[0])
        if launched is None:
            return
        if kind == program.ENDED:
            launched.end_told(about[1])
        elif kind == program.STARTED:
            launched.pid, launched.ticks = about[1:]
            self._outcomes.started(launched.attempt, launched)
        else:
            del self._launched[launched.key]
            if kind == program.TAKEN:
                self._outcomes.taken(launched.attempt)
            else:
                self._outcomes.failed(launched.attempt, _failure(*about[1:]))

    def _lost(self, launcher: "_Launcher") -> None:
        """It is gone, and we did not want that."""
        self._launcher = None
        launcher.hang_up()
        launcher.reap_later()
        log.warning("the launcher of tasks (process %d) is gone; what it had started goes on", launcher.pid)
        launched, self._launched = self._launched, {}
        for each in launched.values():
            if each.pid:
                each.launcher_lost()
            elif launcher.has_answered:
                self._outcomes.lost(each.attempt)
            else:
                self._outcomes.failed(each.attempt, StartPostponedError(NOT_READY))


class _Launcher:
    """One launcher process and the connection to it."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        told: Callable[[tuple[Any, ...]], None],
        lost: Callable[["_Launcher"], None],
    ) -> None:
        """Start it. Raises OSError."""
        self._loop = loop
        self._told = told
        self._lost = lost
        self._frames = program.Frames()
        self._orders: list[tuple[object, ...]] = []
        self._unsent = b""
        self._flushing: asyncio.Handle | None = None
        self._known: dict[int, dict[bytes, bytes]] = {}
        """The environments of swarms that it was told of."""
        self.has_answered = False
        """It may have read an order."""
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                self.pid = _spawned(theirs)
            except BaseException:
                ours.close()
                raise
        ours.setblocking(False)
        self._socket = ours
        loop.add_reader(ours, self._listen)

    def tell_of(self, key: int, environment: dict[bytes, bytes], folder: Path | None) -> None:
        """What all tasks of a swarm have in common, unless it knows."""
        if self._known.get(key) is not environment:
            self._known[key] = environment
            self.send((program.SWARM, key, environment, None if folder is None else os.fsencode(folder.absolute())))

    def forget(self, key: int) -> None:
        """What it was told of a swarm is not needed any more."""
        if self._known.pop(key, None) is not None:
            self.send((program.FORGET, key))

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
        if self._orders:
            data = program.framed(self._orders)
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
            data = self._socket.recv(program.READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._lost(self)
            return
        self.has_answered = True
        for answer in self._frames.taken(data):
            self._told(answer)


REAP_SECONDS = 0.002
END_SECONDS = 5.0
LAST_WORDS_SECONDS = 1.0
"""How long a launcher that is slow to read is waited for."""


def _spawned(connection: socket.socket) -> int:
    """The launcher as a child: its standard input is the connection, and it leaves our session by itself."""
    actions = [(os.POSIX_SPAWN_DUP2, connection.fileno(), 0)]
    actions += [(os.POSIX_SPAWN_OPEN, descriptor, os.devnull, os.O_WRONLY, 0) for descriptor in (1, 2)]  # type: ignore[misc]
    return os.posix_spawn(
        PROGRAM[0],
        (*PROGRAM, boot_id()),
        environment_of_programs(),
        file_actions=actions,
        setsigdef=[signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD],
    )


def _failure(kind: int, number: int, why: str, name: bytes) -> StartFailedError | StartPostponedError:
    what = _WHAT[kind]
    if not number:
        return StartFailedError(f"{what}: {why}")
    return _start_error(OSError(number, why, os.fsdecode(name) if name else None), what)


def _start_error(error: OSError, what: str) -> StartFailedError | StartPostponedError:
    named = error.filename
    where = f": {os.fsdecode(named)}" if isinstance(named, str | bytes | os.PathLike) else ""
    text = f"{what}: {error.strerror or error}{where}"
    if error.errno in program.PASSING_ERRORS:
        return StartPostponedError(text)
    if error.errno == errno.E2BIG:
        text += " (the command and its environment are longer than this machine lets a process start with)"
    return StartFailedError(text)
