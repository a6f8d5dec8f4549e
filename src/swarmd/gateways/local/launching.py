"""Where attempts are started from: launchers are told what to start, and what they say goes to the gateway.

A launcher is started when it is first needed, and again when it was killed. What that one had started is its guardian's
then, and when that is gone, too, it is watched as what an earlier daemon left.
"""

import asyncio
import errno
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from swarmd.gateways.local.attempt import Attempt, LocalSwarm
from swarmd.gateways.local.commands import plain_arguments, shell_arguments
from swarmd.gateways.local.connection import Connection, Hears
from swarmd.gateways.local.launched import Launched
from swarmd.gateways.local.launcher import protocol

log = logging.getLogger(__name__)

END_SECONDS = 5.0
FEW = 16
"""So many are tried at once while the machine is short of something: all of them may be refused."""
PASSING_ERRORS = frozenset({errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE})
"""No process, memory or file descriptor left just now."""

NOT_READY = "could not be started: the launcher ended before it had started anything"
NOT_STARTED = "could not be started: the launcher ended before it came to that"
OTHER_VERSION = (
    "could not be started: swarmd's files are not those that this daemon was started with "
    f"(its launcher speaks version {{}} instead of {protocol.VERSION}); restart the daemon, running tasks go on"
)

_WHAT = {
    protocol.NO_OUTPUT: "its output file could not be opened",
    protocol.NO_STATUS: "could not be started: its status file could not be written",
    protocol.NO_PROCESS: "could not be started",
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


class Launchpad:
    """Starts attempts, and follows them from launcher to guardian."""

    def __init__(self, outcomes: Outcomes) -> None:
        self._outcomes = outcomes
        self._loop = asyncio.get_running_loop()
        self._hears = Hears(self._told, self._taken_over, self._lost)
        self._connection: Connection | None = None
        """To whom orders go."""
        self._guardians: dict[Connection, set[int]] = {}
        """Those whose launchers are gone, and what they have not said anything of yet, by key."""
        self._keys = 0
        self._leaves_some = False
        """The launcher has some that nobody here waits for."""
        self._shortage = ""
        """Why a start was put off of late."""
        self._is_short = False
        """One of those that are not all answered yet was put off."""

    def start(self, attempt: Attempt) -> Launched:
        """Have it started; the outcome comes later. Raises StartPostponedError."""
        connection = self._ready_connection()
        if len(connection.launched) >= connection.most:
            raise _start_error(OSError(errno.EMFILE, os.strerror(errno.EMFILE)), _WHAT[protocol.NO_PROCESS])
        if self._shortage and connection.unanswered >= FEW:
            raise StartPostponedError(self._shortage)
        connection.unanswered += 1
        self._keys += 1
        launched = connection.launched[self._keys] = Launched(self._keys, attempt, self, connection)
        swarm, spec = attempt.swarm, attempt.spec
        connection.tell_of(swarm.key, swarm.environment, swarm.info.working_directory)
        plain = plain_arguments(spec.command)
        shell = shell_arguments(spec.command)
        arguments = (shell, None) if plain is None else (plain, shell)
        output, status = attempt.file_names()
        connection.send((protocol.START, launched.key, swarm.key, attempt.variables(), *arguments, output, status))
        return launched

    def forget(self, swarm: LocalSwarm) -> None:
        """Nothing more of it is going to be started."""
        if self._connection:
            self._connection.forget(swarm.key)

    def release(self, launched: Launched) -> None:
        """Its end has been seen, and its group is empty."""
        if self._dropped(launched):
            launched.connection.send((protocol.RELEASE, launched.key))
            self._leave_if_done(launched.connection)

    def disown(self, launched: Launched) -> None:
        """It goes on, and nobody here wants to know of it."""
        if self._dropped(launched):
            self._leaves_some = True

    def kill(self, launched: Launched) -> None:
        """KILL, also where it is not known yet as what it runs; told at once."""
        if launched.key in launched.connection.launched:
            launched.connection.send((protocol.KILL, launched.key))
            launched.connection.flush()

    async def close(self) -> None:
        """The launcher ends as soon as nothing runs any more."""
        connection = self._connection
        leaves_some = self._leaves_some or (connection is not None and bool(connection.launched))
        if connection is None or leaves_some:
            self.hang_up()
            return
        self._connection = None
        self.hang_up()
        connection.hang_up()
        try:
            async with asyncio.timeout(END_SECONDS):
                await connection.ended()
        except TimeoutError:
            connection.reap_later()

    def hang_up(self) -> None:
        """The same without waiting."""
        connections = [*self._guardians, *filter(None, [self._connection])]
        self._guardians, self._connection = {}, None
        for connection in connections:
            connection.hang_up()
            connection.reap_later()

    def _ready_connection(self) -> Connection:
        if self._connection is None:
            try:
                self._connection = Connection(self._loop, self._hears)
            except OSError as error:
                # Whatever it is, tasks have no part in it: Python itself may be being replaced.
                raise StartPostponedError(_described(error, "the launcher could not be started")) from error
        return self._connection

    def _dropped(self, launched: Launched) -> bool:
        self._guardians.get(launched.connection, set()).discard(launched.key)
        return launched.connection.launched.pop(launched.key, None) is not None

    # -- what a launcher says --------------------------------------------------------------------------------------

    def _told(self, connection: Connection, answer: tuple[Any, ...]) -> None:
        kind, *about = answer
        if kind == protocol.BROKEN:
            log.error("the launcher of tasks is broken: %s", about[0])
            return
        launched = connection.launched.get(about[0])
        if kind == protocol.KNOWN:
            self._known(connection, is_all=about[1])
        elif launched is not None:
            self._told_of(launched, kind, about)
        elif kind == protocol.ENDED:
            # Its end had been seen, and the launcher was killed before it could hear of that.
            connection.send((protocol.RELEASE, about[0]))

    def _told_of(self, launched: Launched, kind: int, about: list[Any]) -> None:
        if kind == protocol.ENDED:
            launched.end_told(about[1])
        elif kind == protocol.STARTED:
            self._guardians.get(launched.connection, set()).discard(launched.key)
            if not launched.pid:
                self._note_answer(launched.connection)
                launched.pid, launched.ticks = about[1:]
                self._outcomes.started(launched.attempt, launched)
        else:
            self._dropped(launched)
            failure = None if kind == protocol.TAKEN else _failure(*about[1:])
            self._note_answer(launched.connection, failure)
            if failure is None:
                self._outcomes.taken(launched.attempt)
            else:
                self._outcomes.failed(launched.attempt, failure)

    def _note_answer(self, connection: Connection, failure: Exception | None = None) -> None:
        """See whether the machine has room again: when all that were tried together could be started."""
        connection.unanswered -= 1
        if isinstance(failure, StartPostponedError):
            self._shortage, self._is_short = str(failure), True
        if not connection.unanswered:
            self._shortage, self._is_short = self._shortage if self._is_short else "", False

    # -- when it is gone -------------------------------------------------------------------------------------------

    def _taken_over(self, connection: Connection) -> None:
        """The guardian is going to say what it has, and goes on with that."""
        log.warning("the launcher of tasks (below process %d) is gone; what it had started goes on", connection.pid)
        self._guardians[connection] = set(connection.launched)
        if connection is self._connection:
            self._connection = None

    def _known(self, connection: Connection, *, is_all: bool) -> None:
        for key in self._guardians.get(connection, set()):
            launched = connection.launched.pop(key)
            if is_all and not launched.pid and launched.attempt.status is None:
                self._outcomes.failed(launched.attempt, StartPostponedError(NOT_STARTED))
            else:
                self._lost_one(launched)
        if connection in self._guardians:
            self._guardians[connection] = set()
            self._leave_if_done(connection)

    def _leave_if_done(self, connection: Connection) -> None:
        """Nothing of a launcher that is gone is left to wait for."""
        if connection in self._guardians and not connection.launched:
            del self._guardians[connection]
            connection.hang_up()
            connection.reap_later()

    def _lost(self, connection: Connection) -> None:
        """It is gone, and we did not want that; or it is of no use."""
        self._guardians.pop(connection, None)
        if connection is self._connection:
            self._connection = None
        connection.hang_up()
        connection.reap_later()
        launched, connection.launched = connection.launched, {}
        if connection.has_orders:
            log.warning("the launcher of tasks (process %d) is gone; what it had started goes on", connection.pid)
            for each in launched.values():
                self._lost_one(each)
            return
        why = NOT_READY if connection.version is None else OTHER_VERSION.format(connection.version)
        for each in launched.values():
            self._outcomes.failed(each.attempt, StartPostponedError(why))

    def _lost_one(self, launched: Launched) -> None:
        if launched.pid:
            launched.launcher_lost()
        else:
            self._outcomes.lost(launched.attempt)


def _failure(kind: int, number: int, why: str, name: bytes) -> StartFailedError | StartPostponedError:
    what = _WHAT[kind]
    if not number:
        return StartFailedError(f"{what}: {why}")
    return _start_error(OSError(number, why, os.fsdecode(name) if name else None), what)


def _described(error: OSError, what: str) -> str:
    named = error.filename
    where = f": {os.fsdecode(named)}" if isinstance(named, str | bytes | os.PathLike) else ""
    return f"{what}: {error.strerror or error}{where}"


def _start_error(error: OSError, what: str) -> StartFailedError | StartPostponedError:
    text = _described(error, what)
    if error.errno in PASSING_ERRORS:
        return StartPostponedError(text)
    if error.errno == errno.E2BIG:
        text += " (the command and its environment are longer than this machine lets a process start with)"
    return StartFailedError(text)
