"""Starting tasks, and seeing them end.

The first to create the status file of an attempt runs its command, and nobody after it, however often and by
whomever it is started.
"""

import errno
import os
import resource
import select
import signal
from collections.abc import Iterable
from contextlib import suppress

from .children import Child, exit_code, kill
from .files import claimed, first_line, output_files, write_at
from .ledger import Ledger
from .protocol import (
    ENDED,
    FAILED,
    KILL,
    NO_OUTPUT,
    NO_PROCESS,
    NO_STATUS,
    READ_BYTES,
    RELEASE,
    START,
    STARTED,
    SWARM,
    TAKEN,
    Frames,
    framed,
    most_at_once,
)

PASSING_ERRORS = frozenset({errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE})
"""No process, memory or file descriptor left just now."""
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""There may be some later."""

SESSION, GROUP = {"setsid": True}, {"setpgroup": 0}
MOST_ANSWERS = 16
"""So many are not held back while more is being started."""
HOLD_SECONDS = 0.004
"""How long the news that something started wait for others: most often for the end of what is short."""
POLL_SECONDS = 0.02
"""How often those are looked at that have no pidfd."""
AGAIN_SECONDS = 0.5
"""How often it is tried to write what there was no room for."""
IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
"""Whoever ends all processes of the daemon ends the tasks, whose exit codes are then still to be written."""
OF_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)
"""What Python ignores and programs do not expect to be ignored."""

Words = list[bytes]
Variables = dict[bytes, bytes]
What = tuple[Words, Words | None, bytes, bytes | None]
How = tuple[Variables, int, int, bool]


class StartError(Exception):
    """Nothing was started; `kind` says what could not be had."""

    def __init__(self, kind: int, error: OSError | ValueError) -> None:
        self.kind = kind
        self.error = error


class TakenError(Exception):
    """Somebody else has or had the attempt."""


class Launcher:
    """Does what the daemon says, and looks after what runs."""

    def __init__(self, daemon: int, mark: bytes, ledger: Ledger, defaults: list[signal.Signals]) -> None:
        """`daemon`: the descriptor of a stream to it and from it. `mark`: how the first line of a status file ends.

        `defaults`: the signals that tasks are to have as programs expect them.
        """
        self._daemon = daemon
        self._is_served = True
        """The daemon is there."""
        self._frames = Frames()
        self._answers: list[tuple[object, ...]] = []
        self._is_urgent = False
        """One of the answers says more than that something started."""
        self._epoll = select.epoll()
        self._epoll.register(daemon, select.EPOLLIN)
        self._children: dict[int, Child] = {}
        self._of_pidfd: dict[int, Child] = {}
        self._strangers: dict[int, int] = {}
        """Processes that nobody asks after, by pidfd."""
        self._polled: list[Child] = []
        self._untold: list[Child] = []
        """Those of which more is known than there was room for in their status files."""
        self._swarms: dict[int, tuple[Variables, bytes | None]] = {}
        self._home, self._is_away = _home(), False
        self._most = most_at_once(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        self._mark, self._ledger, self._defaults = mark, ledger, defaults

    def run(self) -> None:
        """Until the daemon is gone and no task is left."""
        while self._is_served or self._children:
            is_patient = bool(self._answers)  # all of them say that something started
            events = self._epoll.poll(HOLD_SECONDS if is_patient else self._patience())
            for descriptor, _ in events:
                child = self._of_pidfd.get(descriptor)
                if child is not None:
                    self._ended(child)
                elif descriptor in self._strangers:
                    self._stranger_ended(descriptor)
                elif descriptor == self._daemon and self._is_served:
                    self._listen()
            for child in [each for each in self._polled if exit_code(each.pid) is not None]:
                self._ended(child)
            if self._untold:
                self._write_untold()
            if self._is_urgent or (is_patient and not events):
                self._answer()

    def take_over(self, child: Child) -> None:
        """Look after what another launcher had started."""
        child.untold = True
        self._untold.append(child)
        self._write_untold()
        self._watch(child)
        self.say((STARTED, child.key, child.pid, child.ticks))

    def adopt_stranger(self, pid: int) -> None:
        """See that nothing is left of a child of ours when it ends; it is not waited for."""
        with suppress(AttributeError, OSError):
            descriptor = os.pidfd_open(pid)
            self._strangers[descriptor] = pid
            self._epoll.register(descriptor, select.EPOLLIN)

    def _stranger_ended(self, descriptor: int) -> None:
        with suppress(ChildProcessError):
            os.waitpid(self._strangers.pop(descriptor), os.WNOHANG)
        os.close(descriptor)

    @property
    def children(self) -> Iterable[Child]:
        """All that are looked after."""
        return self._children.values()

    def say(self, answer: tuple[object, ...]) -> None:
        """To the daemon, before long."""
        self._answers.append(answer)
        self._is_urgent = True

    def _patience(self) -> float | None:
        return POLL_SECONDS if self._polled else AGAIN_SECONDS if self._untold else None

    # -- what the daemon says --------------------------------------------------------------------------------------

    def _listen(self) -> None:
        data = b""
        with suppress(OSError):
            data = os.read(self._daemon, READ_BYTES)
        if not data:
            self._on_our_own()
            return
        for order in self._frames.taken(data):
            self._obey(order)
            if len(self._answers) >= MOST_ANSWERS:
                self._answer()
        self._go_home()

    def _obey(self, order: tuple) -> None:  # type: ignore[type-arg]
        kind, key = order[:2]
        if kind == START:
            self._start(key, *order[2:])
        elif kind == RELEASE:
            if key in self._children:
                self._release(self._children[key])
        elif kind == KILL:
            if key in self._children:
                kill(self._children[key])
        elif kind == SWARM:
            self._swarms[key] = order[2:]
        else:
            self._swarms.pop(key, None)

    def _on_our_own(self) -> None:
        """The daemon is gone: what ends with it is ended, and nobody waits for the others but we."""
        self._is_served = False
        self._epoll.unregister(self._daemon)
        os.close(self._daemon)
        for child in list(self._children.values()):
            if not child.survives:
                kill(child)
            if child.code is not None:
                self._release(child)

    def _answer(self) -> None:
        if self._answers and self._is_served:
            with suppress(BrokenPipeError, ConnectionResetError):  # first all is done that the daemon still said
                write_all(self._daemon, framed(self._answers))
        self._answers.clear()
        self._is_urgent = False

    # -- starting --------------------------------------------------------------------------------------------------

    def _start(self, key: int, swarm: int, variables: Variables, *what: *What) -> None:
        environment, folder = self._swarms[swarm]
        try:
            self._check_descriptors()
            self._go_to(folder)
            child = self._child(key, {**environment, **variables}, *what)
        except TakenError:
            self.say((TAKEN, key))
        except StartError as failed:
            error = failed.error
            name, why = getattr(error, "filename", None), getattr(error, "strerror", None) or str(error)
            named = os.fsencode(name) if isinstance(name, str | bytes) else b""
            self.say((FAILED, key, failed.kind, getattr(error, "errno", None) or 0, why, named))
        else:
            if child.survives:
                self._write(child, first_line(child.pid, child.ticks, self._mark), 0)
            self._watch(child)
            self._answers.append((STARTED, key, child.pid, child.ticks))

    def _check_descriptors(self) -> None:
        """That there are enough for all that comes: with too few it could not be told who runs."""
        if len(self._children) >= self._most:
            raise StartError(NO_PROCESS, OSError(errno.EMFILE, os.strerror(errno.EMFILE)))

    def _go_to(self, folder: bytes | None) -> None:
        if folder is not None:
            try:
                os.chdir(folder)
            except (OSError, ValueError) as error:
                raise StartError(NO_PROCESS, error) from None
            self._is_away = True
        else:
            self._go_home()

    def _go_home(self) -> None:
        if self._is_away:
            try:
                os.fchdir(self._home)
            except OSError:  # it may not be entered any more
                os.chdir("/")
            self._is_away = False

    def _child(self, key: int, environment: Variables, *what: *What) -> Child:
        """The command as a process. Raises StartError and TakenError; then no process and no status file is left."""
        arguments, shell_arguments, output, status = what
        (out, err), kept = _output(output), -1
        place = self._ledger.note(key, output, status)
        try:
            if status is not None:
                kept = self._claimed(status)
            for descriptor in (out, err):  # only now: they may be those of whoever was first
                with suppress(OSError):  # no regular file
                    os.ftruncate(descriptor, 0)
            try:
                pid = self._spawned(arguments, shell_arguments, environment, out, err, status is not None)
            except (OSError, ValueError) as error:
                if status is not None:
                    os.close(kept)
                    with suppress(OSError):
                        os.unlink(status)  # noqa: PTH108 - there is no pathlib here
                raise StartError(NO_PROCESS, error) from None
        except BaseException:
            self._ledger.give_up(place)
            raise
        finally:
            os.close(out)
            os.close(err)
        self._ledger.started(place, pid)
        child = Child(key, pid, place)
        child.status, child.survives = kept, status is not None
        return child

    def _claimed(self, path: bytes) -> int:
        try:
            return claimed(path, first_line(0, 0, self._mark))
        except FileExistsError:
            raise TakenError from None
        except OSError as error:
            raise StartError(NO_STATUS, error) from None

    def _spawned(self, arguments: Words, shell_arguments: Words | None, *how: *How) -> int:
        try:
            return self._spawn(arguments, *how)
        except OSError as error:
            if shell_arguments is None or error.errno in PASSING_ERRORS:
                raise
            # The shell knows what to do with a script without #!, and what to say when there is no such program.
            return self._spawn(shell_arguments, *how)

    def _spawn(self, arguments: Words, environment: Variables, out: int, err: int, alone: bool) -> int:
        """`alone`: in a session of its own; otherwise only in a group, in our session, which has no terminal either."""
        try:
            return os.posix_spawn(
                arguments[0],
                arguments,
                environment,
                file_actions=((os.POSIX_SPAWN_DUP2, out, 1), (os.POSIX_SPAWN_DUP2, err, 2)),
                setsigdef=self._defaults,
                **(SESSION if alone else GROUP),
            )
        except NotImplementedError:  # Python was built for a C library that makes no sessions there
            return self._spawn(arguments, environment, out, err, alone=False)

    # -- ending ----------------------------------------------------------------------------------------------------

    def _watch(self, child: Child) -> None:
        self._children[child.key] = child
        try:
            child.pidfd = os.pidfd_open(child.pid)
            self._epoll.register(child.pidfd, select.EPOLLIN)
            self._of_pidfd[child.pidfd] = child
        except (AttributeError, OSError):
            self._polled.append(child)

    def _ended(self, child: Child) -> None:
        code = exit_code(child.pid)
        if child.pidfd >= 0:
            del self._of_pidfd[child.pidfd]
            os.close(child.pidfd)  # which takes it out of the epoll
            child.pidfd = -1
        if code is None:  # a debugger that is attached to it must let go first
            if child not in self._polled:
                self._polled.append(child)
            return
        with suppress(ValueError):
            self._polled.remove(child)
        child.code = code
        if child.survives:
            line = first_line(child.pid, child.ticks, self._mark)
            self._write(child, b"%d\n" % code, len(line))
        self._settle(child)
        if self._is_served and not child.is_released:
            self.say((ENDED, child.key, code))
        else:
            self._release(child)

    def _settle(self, child: Child) -> None:
        """Note that it is over, unless its status file does not say so yet."""
        if child.code is not None and not child.untold:
            child.is_over = True
            if child.status >= 0:
                os.close(child.status)
                child.status = -1

    def _release(self, child: Child) -> None:
        """The daemon has seen its end, maybe before we did, or is not there: its number is free.

        As soon as its status file tells how it ended: until then the next daemon has to find it as it is.
        """
        child.is_released = True
        if child.code is None:
            self._ended(child)
        if child.is_over and child.key in self._children:
            del self._children[child.key]
            os.waitpid(child.pid, 0)
            self._ledger.give_up(child.place)

    # -- status files ----------------------------------------------------------------------------------------------

    def _write(self, child: Child, text: bytes, offset: int) -> None:
        """Into its status file; later, together with what else it lacks, when there is no room."""
        if child.untold or child.status < 0:
            return
        try:
            write_at(child.status, text, offset)
        except OSError as error:
            if error.errno in NO_ROOM:
                child.untold = True
                self._untold.append(child)

    def _write_untold(self) -> None:
        untold, self._untold = self._untold, []
        for child in untold:
            child.untold = False
            code = b"" if child.code is None else b"%d\n" % child.code
            self._write(child, first_line(child.pid, child.ticks, self._mark) + code, 0)
            self._settle(child)
            if child.is_released:
                self._release(child)


def ignore_signals() -> list[signal.Signals]:
    """Those that tasks are to have as they would be without us."""
    changed = [number for number in IGNORED if signal.getsignal(number) != signal.SIG_IGN]
    for number in changed:
        signal.signal(number, signal.SIG_IGN)
    return [*changed, *OF_PYTHON]


def write_all(descriptor: int, data: bytes) -> None:
    """However many pieces it takes."""
    while data:
        data = data[os.write(descriptor, data) :]


def _output(beginning: bytes) -> tuple[int, int]:
    try:
        return output_files(beginning)
    except OSError as error:
        raise StartError(NO_OUTPUT, error) from None


def _home() -> int:
    """Where tasks without a directory of their own are: where we are, or where that cannot be returned to, `/`."""
    with suppress(OSError):
        return os.open(".", os.O_PATH)
    os.chdir("/")
    return os.open("/", os.O_PATH)
