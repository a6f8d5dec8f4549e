"""The launcher: a program that starts the tasks for a daemon, waits for them, and keeps their status files.

It is a process of its own, started by `launching`, so that tasks have a parent that outlives the daemon: when that is
gone, the launcher goes on until the last of its tasks has ended. It is small, and needs nothing but the standard
library, because it is run as a file. What it is told and what it answers are frames: four bytes with the length, then
tuples of plain values, marshalled; both ends are the same Python.

The first to create the status file of an attempt runs its command, and nobody after it, however often and by
whomever it is started.
"""

import errno
import marshal
import os
import select
import signal
import sys
from contextlib import suppress

START, RELEASE, KILL, SWARM, FORGET = range(5)
"""Orders: (START, id, swarm, variables, arguments, the shell's arguments or None, output, status file or None),
(RELEASE, id), (KILL, id), (SWARM, swarm, environment, working directory or None), (FORGET, swarm)."""
STARTED, ENDED, TAKEN, FAILED, BROKEN = range(5)
"""Answers: (STARTED, id, pid, start in clock ticks), (ENDED, id, exit code), (TAKEN, id): its status file was there,
(FAILED, id, which of the next three, errno, why, file name): nothing runs, and (BROKEN, traceback)."""
NO_OUTPUT, NO_STATUS, NO_PROCESS = range(3)

PASSING_ERRORS = frozenset({errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE})
"""No process, memory or file descriptor left just now."""

FILE_MODE = 0o600
FOLDER_MODE = 0o700
STATUS_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
OUTPUT_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
SESSION, GROUP = {"setsid": True}, {"setpgroup": 0}
READ_BYTES = 1 << 18
MOST_ANSWERS = 16
"""So many are not held back while more is being started."""
HOLD_SECONDS = 0.004
"""How long the news that something started wait for others: most often for the end of what is short."""
POLL_SECONDS = 0.02
"""How often those are looked at that have no pidfd."""
IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
"""Whoever ends all processes of the daemon ends the tasks, whose exit codes are then still to be written."""
OF_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)
"""What Python ignores and programs do not expect to be ignored."""

Words = list[bytes]
Variables = dict[bytes, bytes]
What = tuple[Words, Words | None, bytes, bytes | None]
How = tuple[Variables, int, int, bool]


class Child:
    """A process that was started and not yet reaped: until then its number and its group's are nobody else's."""

    __slots__ = ("is_over", "key", "pid", "pidfd", "status")

    def __init__(self, key: int, pid: int, status: int) -> None:
        self.key, self.pid = key, pid
        self.status = status
        """The descriptor of its status file; -1: it has none, and ends with the daemon."""
        self.pidfd, self.is_over = -1, False


class StartError(Exception):
    """Nothing was started; `kind` says what could not be had."""

    def __init__(self, kind: int, error: OSError | ValueError) -> None:
        self.kind = kind
        self.error = error


class TakenError(Exception):
    """Somebody else has or had the attempt."""


class Launcher:
    """Does what the daemon says, and looks after what runs."""

    def __init__(self, daemon: int, boot: str) -> None:
        """`daemon`: the descriptor of a stream to it and from it. `boot`: the id of this boot of the machine."""
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
        self._polled: list[Child] = []
        self._swarms: dict[int, tuple[Variables, bytes | None]] = {}
        self._home, self._is_away = _home(), False
        self._mark = f" {boot} {os.getpid()}\n".encode()
        """How the first line of a status file ends."""
        self._defaults = _ignore_signals()

    def run(self) -> None:
        """Until the daemon is gone and no task is left."""
        while self._is_served or self._children:
            is_patient = bool(self._answers)  # all of them say that something started
            events = self._epoll.poll(HOLD_SECONDS if is_patient else POLL_SECONDS if self._polled else None)
            for descriptor, _ in events:
                child = self._of_pidfd.get(descriptor)
                if child is not None:
                    self._ended(child)
                elif descriptor == self._daemon and self._is_served:
                    self._listen()
            for child in [each for each in self._polled if _exit_code(each.pid) is not None]:
                self._ended(child)
            if self._is_urgent or (is_patient and not events):
                self._answer()

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
        if self._is_away:
            os.fchdir(self._home)
            self._is_away = False

    def _obey(self, order: tuple) -> None:  # type: ignore[type-arg]
        kind, key = order[:2]
        if kind == START:
            self._start(key, *order[2:])
        elif kind == RELEASE:
            self._release(self._children[key])
        elif kind == KILL:
            if key in self._children:
                _kill(self._children[key])
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
            if child.status < 0:
                _kill(child)
            if child.is_over:
                self._release(child)

    def _answer(self) -> None:
        if self._answers and self._is_served:
            with suppress(BrokenPipeError, ConnectionResetError):  # first all is done that the daemon still said
                _write_all(self._daemon, framed(self._answers))
        self._answers.clear()
        self._is_urgent = False

    # -- starting --------------------------------------------------------------------------------------------------

    def _start(self, key: int, swarm: int, variables: Variables, *what: *What) -> None:
        environment, folder = self._swarms[swarm]
        try:
            self._go_to(folder)
            child = self._child(key, {**environment, **variables}, *what)
        except TakenError:
            self._answers.append((TAKEN, key))
            self._is_urgent = True
        except StartError as failed:
            error = failed.error
            name, why = getattr(error, "filename", None), getattr(error, "strerror", None) or str(error)
            named = os.fsencode(name) if isinstance(name, str | bytes) else b""
            self._answers.append((FAILED, key, failed.kind, getattr(error, "errno", None) or 0, why, named))
            self._is_urgent = True
        else:
            ticks = start_ticks(child.pid)
            if child.status >= 0:
                with suppress(OSError):  # the next daemon has to look for it
                    os.pwrite(child.status, _first_line(child.pid, ticks, self._mark), 0)
            self._watch(child)
            self._answers.append((STARTED, key, child.pid, ticks))

    def _go_to(self, folder: bytes | None) -> None:
        if folder is not None:
            try:
                os.chdir(folder)
            except (OSError, ValueError) as error:
                raise StartError(NO_PROCESS, error) from None
            self._is_away = True
        elif self._is_away:
            os.fchdir(self._home)
            self._is_away = False

    def _child(self, key: int, environment: Variables, *what: *What) -> Child:
        """The command as a process. Raises StartError and TakenError; then no process and no status file is left."""
        arguments, shell_arguments, output, status = what
        (out, err), kept = _output(output), -1
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
        finally:
            os.close(out)
            os.close(err)
        return Child(key, pid, kept)

    def _claimed(self, path: bytes) -> int:
        """The status file, new, with room for what is to be known of a process."""
        try:
            descriptor = _opened(path, STATUS_FLAGS)
        except FileExistsError:
            raise TakenError from None
        except OSError as error:
            raise StartError(NO_STATUS, error) from None
        try:
            os.write(descriptor, _first_line(0, 0, self._mark))
        except OSError as error:
            os.close(descriptor)
            os.unlink(path)  # noqa: PTH108
            error.filename = path
            raise StartError(NO_STATUS, error) from None
        return descriptor

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
        code = _exit_code(child.pid)
        if child.pidfd >= 0:
            del self._of_pidfd[child.pidfd]
            os.close(child.pidfd)  # which takes it out of the epoll
            child.pidfd = -1
        if code is None:  # a debugger that is attached to it must let go first
            self._polled.append(child)
            return
        with suppress(ValueError):
            self._polled.remove(child)
        child.is_over = True
        if child.status >= 0:
            _write_code(child.status, code)
        if self._is_served:
            self._answers.append((ENDED, child.key, code))
            self._is_urgent = True
        else:
            self._release(child)

    def _release(self, child: Child) -> None:
        """The daemon has seen its end, maybe before we did, or is not there: its number is free."""
        if not child.is_over:
            self._ended(child)
        if child.is_over:
            del self._children[child.key]
            os.waitpid(child.pid, 0)


class Frames:
    """The messages in what comes in."""

    def __init__(self) -> None:
        self._data = b""

    def taken(self, data: bytes) -> list[tuple]:  # type: ignore[type-arg]
        """All that are whole, with `data` after what came before."""
        if self._data:
            data = self._data + data
        found: list[tuple] = []  # type: ignore[type-arg]
        start, size = 0, len(data)
        while size - start >= 4:
            end = start + 4 + int.from_bytes(data[start : start + 4], "big")
            if end > size:
                break
            found += marshal.loads(memoryview(data)[start + 4 : end])  # noqa: S302 - from the other end of a pair
            start = end
        self._data = data[start:]
        return found


def framed(messages: list) -> bytes:  # type: ignore[type-arg]
    """Messages as they are sent."""
    data = marshal.dumps(messages)
    return len(data).to_bytes(4, "big") + data


def start_ticks(pid: int) -> int:
    """When the process started, in clock ticks since the boot; 0 where that is hidden."""
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:  # noqa: PTH123
            data = file.read(1024) or b""
    except OSError:  # another user's, as what `sudo` runs, with hidepid
        return 0
    return int(data[data.rindex(b")") :].split(None, 21)[20])


def _first_line(pid: int, ticks: int, mark: bytes) -> bytes:
    """As long for each process: it is written twice, so that there is room when it is known."""
    return b"%010d %020d" % (pid, ticks) + mark


def _home() -> int:
    """Where tasks without a directory of their own are: where we are, or where that cannot be returned to, `/`."""
    with suppress(OSError):
        return os.open(".", os.O_PATH)
    os.chdir("/")
    return os.open("/", os.O_PATH)


def _ignore_signals() -> list[signal.Signals]:
    """Those that tasks are to have as they would be without us."""
    changed = [number for number in IGNORED if signal.getsignal(number) != signal.SIG_IGN]
    for number in changed:
        signal.signal(number, signal.SIG_IGN)
    return [*changed, *OF_PYTHON]


def _opened(path: bytes, flags: int) -> int:
    try:
        return os.open(path, flags, FILE_MODE)
    except FileNotFoundError:
        _make_folder(os.path.dirname(path))  # noqa: PTH120
        return os.open(path, flags, FILE_MODE)


def _make_folder(folder: bytes) -> None:
    try:
        os.mkdir(folder, FOLDER_MODE)  # noqa: PTH102
    except FileNotFoundError:
        _make_folder(os.path.dirname(folder))  # noqa: PTH120
        _make_folder(folder)
    except FileExistsError:
        if not os.path.isdir(folder):  # noqa: PTH112
            raise


def _output(beginning: bytes) -> tuple[int, int]:
    """Both files for writing, with whatever is in them."""
    try:
        out = _opened(beginning + b".out", OUTPUT_FLAGS)
        try:
            return out, _opened(beginning + b".err", OUTPUT_FLAGS)
        except OSError:
            os.close(out)
            raise
    except OSError as error:
        raise StartError(NO_OUTPUT, error) from None


def _exit_code(pid: int) -> int | None:
    """How it ended, or the number of the signal that killed it below zero; None: it has not. It stays as it is."""
    result = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    if result is None:
        return None
    return result.si_status if result.si_code == os.CLD_EXITED else -result.si_status


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _write_code(descriptor: int, code: int) -> None:
    try:
        os.write(descriptor, b"%d\n" % code)
    except OSError:
        pass  # the daemon is told, and the next one finds that it left none
    finally:
        os.close(descriptor)


def _kill(child: Child) -> None:
    """KILL to it, wherever it may have gone, and to its group."""
    for kill in (os.kill, os.killpg):
        with suppress(OSError):
            kill(child.pid, signal.SIGKILL)


def main() -> None:
    """Serve the daemon at the other end of standard input."""
    if os.getpgrp() != os.getpid():
        os.setsid()
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208
        if name not in ("0", "1", "2"):
            with suppress(OSError):  # what whoever started the daemon left open is not for tasks
                os.close(int(name))
    daemon = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    os.close(nothing)
    try:
        with suppress(OSError):
            os.write(daemon, framed([]))  # who does not get this knows that no order was read
        Launcher(daemon, sys.argv[1]).run()
    except BaseException:
        import traceback

        _write_all(daemon, framed([(BROKEN, traceback.format_exc())]))
        raise


if __name__ == "__main__":
    main()
