"""The files of an attempt: its output, and its status file, which says who runs it and how it ended."""

import errno
import os
import stat
from contextlib import suppress

NOT_BEGUN = b"not begun\n"
"""What a status file says of an attempt that a launcher was about to start when it was killed."""
FILE_MODE = 0o600
FOLDER_MODE = 0o700
STATUS_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
OUTPUT_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
# The task may have put anything in its place: a pipe would block us, a link lead elsewhere.
AGAIN_FLAGS = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def first_line(pid: int, ticks: int, mark: bytes) -> bytes:
    """Of a status file. As long for each process: it is written twice, so that there is room when it is known."""
    return b"%010d %020d" % (pid, ticks) + mark


def mark_of(boot: str, launcher: int) -> bytes:
    """How the first lines of a launcher end."""
    return f" {boot} {launcher}\n".encode()


def claimed(path: bytes, line: bytes) -> int:
    """The status file, new, with this line. Raises OSError, also when the line did not fit; then there is no file."""
    descriptor = _opened(path, STATUS_FLAGS)
    try:
        write_at(descriptor, line, 0)
    except OSError as error:
        os.close(descriptor)
        os.unlink(path)  # noqa: PTH108 - there is no pathlib here
        error.filename = path
        raise
    return descriptor


def opened_again(path: bytes, line: bytes, mark: bytes) -> int:
    """The status file of a launcher with this mark, whose first line is as long as this one; -1: it is not there."""
    try:
        descriptor = os.open(path, AGAIN_FLAGS)
    except OSError:
        return -1
    with suppress(OSError):
        if stat.S_ISREG(os.fstat(descriptor).st_mode) and os.pread(descriptor, len(line), 0).endswith(mark):
            return descriptor
    os.close(descriptor)
    return -1


def write_at(descriptor: int, data: bytes, offset: int) -> None:
    """All of it. Raises OSError."""
    written = os.pwrite(descriptor, data, offset)
    if written < len(data):  # the disk is full: there was room for the beginning
        rest = data[written:]
        if os.pwrite(descriptor, rest, offset + written) < len(rest):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def output_files(beginning: bytes) -> tuple[int, int]:
    """Both files for writing, with whatever is in them. Raises OSError."""
    out = _opened(beginning + b".out", OUTPUT_FLAGS)
    try:
        return out, _opened(beginning + b".err", OUTPUT_FLAGS)
    except OSError:
        os.close(out)
        raise


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
