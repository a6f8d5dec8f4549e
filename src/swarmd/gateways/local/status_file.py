"""The status file of an attempt that survives its daemon: who runs it, and how it ended.

Its first line is `<pid> <start in clock ticks> <boot id> <the launcher's pid>`, or says that the attempt never runs;
its second is the exit code, or the number of the signal that ended it below zero. The launcher writes it, with a pid of
0 while it starts the process, and here it is read. Whoever creates the file decides what becomes of the attempt. A line
counts only when it is whole.
"""

import errno
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from swarmd.gateways.local.procfs import boot_id
from swarmd.gateways.output import FILE_MODE, make_folder

_CLAIM = b"never\n"
"""Nobody runs it, now or later."""
_NOT_BEGUN = b"not begun\n"
"""A launcher was killed when it was about to run it, and its guardian knows that it had not come to that."""
_LONGEST = 256
_STARTED = re.compile(rb"(\d{1,10}) (\d{1,20}) ([0-9a-f-]{36})(?: (\d{1,10}))?\n(?:(-?\d{1,3})\n|-?\d{0,3})")
_PASSING_ERRORS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.EINTR})
_CREATE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# The task may have put anything in its place: a pipe would block the daemon, a link lead elsewhere.
_READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Absent:
    """There is no file: nobody has started the attempt yet."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """It never runs."""


@dataclass(frozen=True, slots=True)
class Unbegun:
    """It has not run, and does not as long as the file is there."""


@dataclass(frozen=True, slots=True)
class Started:
    """It was started as this process."""

    pid: int
    start_ticks: int
    boot_id: str
    exit_code: int | None
    """The number of the signal that ended it below zero; None: it has not ended, or ended without a word."""
    launcher: int = 0
    """The process that started it, waits for it and writes its exit code; 0: it was to do that itself."""

    @property
    def is_of_this_boot(self) -> bool:
        return self.boot_id == boot_id()


@dataclass(frozen=True, slots=True)
class Unclear:
    """There is a file that says nothing, maybe not yet."""

    why: str
    launcher: int = 0
    """The process that is to say more, when it has started the attempt."""
    is_passing: bool = False
    """It is we who lack something just now."""


Status = Absent | Claimed | Unbegun | Started | Unclear


def read_status(path: Path) -> Status:
    """What the file says."""
    try:
        data = _content(path)
    except FileNotFoundError:
        return Absent()
    except OSError as error:
        why = f"its status file {path} cannot be read: {error.strerror or error}"
        return Unclear(why, is_passing=error.errno in _PASSING_ERRORS)
    if data == _CLAIM:
        return Claimed()
    if data == _NOT_BEGUN:
        return Unbegun()
    found = _STARTED.fullmatch(data)
    if found is None:
        return Unclear(f"its status file {path} cannot be understood")
    pid, ticks, boot, launcher, code = found.groups()
    if not int(pid):
        why = f"its status file {path} does not say as what it was started"
        return Unclear(why, int(launcher or 0) if boot.decode() == boot_id() else 0)
    return Started(int(pid), int(ticks), boot.decode(), None if code is None else int(code), int(launcher or 0))


def claim(path: Path) -> bool:
    """Make sure that nobody starts the attempt from now on. False when the file is there.

    Raises OSError, also when there is room for the beginning of it only: then the file is not there.
    """
    if not path.parent.is_dir():
        make_folder(path.parent)
    try:
        descriptor = os.open(path, _CREATE_FLAGS, FILE_MODE)
    except FileExistsError:
        return False
    try:
        if os.write(descriptor, _CLAIM) < len(_CLAIM):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))  # noqa: TRY301
    except OSError:
        path.unlink()
        raise
    finally:
        os.close(descriptor)
    return True


def _content(path: Path) -> bytes:
    descriptor = os.open(path, _READ_FLAGS)
    try:
        return os.read(descriptor, _LONGEST) if stat.S_ISREG(os.fstat(descriptor).st_mode) else b""
    finally:
        os.close(descriptor)
