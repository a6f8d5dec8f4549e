"""The status file of an attempt at Slurm: which job runs it, and how it ended. `script` writes it; here it is read.

Its first line is `<array job>_<index> <job> <node>`, or says that the attempt never runs; its second is the exit code.
A line counts only when it is whole. Whoever creates the file decides what becomes of the attempt.
"""

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from swarmd.gateways.output import FILE_MODE, make_folder

_CLAIM = b"never\n"
_LONGEST = 1024
_STARTED = re.compile(rb"(\d{1,12}_\d{1,12}) \d{1,12} (\S{1,255})\n(?:(\d{1,3})\n|\d{0,3})")
_CREATE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# The task may have put anything in its place: a pipe would block the daemon, a link lead elsewhere.
_READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Status:
    """What a status file says."""

    element: str = ""
    """Which element of which array runs it; empty: none does, or none has said so yet."""
    node: str = ""
    exit_code: int | None = None
    """None: it has not ended, or ended without a word."""
    never: bool = False
    """It was given up: no job ever runs it."""


def read_status(path: Path) -> Status | None:
    """What the file says; None when there is none. Raises OSError for one that cannot be read."""
    try:
        descriptor = os.open(path, _READ_FLAGS)
    except FileNotFoundError:
        return None
    try:
        data = os.read(descriptor, _LONGEST) if stat.S_ISREG(os.fstat(descriptor).st_mode) else b""
    finally:
        os.close(descriptor)
    if data == _CLAIM:
        return Status(never=True)
    found = _STARTED.fullmatch(data)
    if found is None:
        return Status()
    element, node, code = found.groups()
    return Status(element.decode(), node.decode(errors="replace"), None if code is None else int(code))


def claimed(path: Path, shared: Path) -> Status:
    """Make sure that no job runs the attempt from now on, or say which one was quicker. Raises OSError.

    Folders below `shared` are made where they are missing, but not `shared`: without it the file system is not there.
    """
    try:
        descriptor = _created(path, shared)
    except FileExistsError:
        return read_status(path) or Status()
    try:
        os.write(descriptor, _CLAIM)
    except OSError:
        path.unlink()
        raise
    finally:
        os.close(descriptor)
    return Status(never=True)


def _created(path: Path, shared: Path) -> int:
    try:
        return os.open(path, _CREATE_FLAGS, FILE_MODE)
    except FileNotFoundError:
        if not shared.is_dir():
            raise
        make_folder(path.parent)
        return os.open(path, _CREATE_FLAGS, FILE_MODE)
