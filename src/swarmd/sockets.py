"""Claiming a socket file: one daemon a path, a stale file is no obstacle, and nobody else can connect.

gRPC binds without asking who is there, so that is asked here before: a lock file beside the socket, held as long as
the daemon lives, decides.
"""

import contextlib
import fcntl
import os
import socket
import stat
import struct
from collections.abc import Iterator
from pathlib import Path

from swarmd.addresses import runtime_directory
from swarmd.core.errors import AlreadyExistsError, InvalidInputError
from swarmd.ownership import check_above, make_private, unsafe

_CREDENTIALS = struct.Struct("3i")


class SocketClaim:
    """The right to listen on a path, from `claim` to `release`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock_path = path.with_name(path.name + ".lock")
        self._lock: int | None = None
        self._bound: tuple[int, int] | None = None

    def claim(self) -> None:
        """Take the path. Raises AlreadyExistsError naming who has it, InvalidInputError when it cannot be used."""
        if self.path.parent == runtime_directory():
            make_private(self.path.parent)
        if not self.path.parent.is_dir():
            message = f"listen: {self.path.parent} is no directory; make it first, or choose another path"
            raise InvalidInputError(message, reason="NO_DIRECTORY", field="listen")
        check_above(self.path)
        self._take_lock()
        try:
            self._clear_path()
        except BaseException:
            self.release()
            raise

    def _take_lock(self) -> None:
        lock = self._open_lock()
        while not _is_at(lock, self._lock_path):  # its holder removed it at the end, between our open and our lock
            os.close(lock)
            lock = self._open_lock()
        os.truncate(lock, 0)
        os.write(lock, f"{os.getpid()}\n".encode())
        self._lock = lock

    def _open_lock(self) -> int:
        """The lock file, locked."""
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            lock = os.open(self._lock_path, flags, 0o600)
        except OSError as error:
            message = f"listen: {self._lock_path} cannot be opened ({error.strerror}); choose another path"
            raise InvalidInputError(message, reason="UNUSABLE_PATH", field="listen") from error
        if os.fstat(lock).st_uid != os.getuid():
            os.close(lock)
            raise unsafe(self._lock_path, "belongs to somebody else", "choose another path for the socket")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(lock, 32).decode(errors="replace").strip() or "unknown"
            os.close(lock)
            raise _taken(self.path, holder) from None
        return lock

    def _clear_path(self) -> None:
        """Remove a socket that nobody listens on; leave anything else alone."""
        try:
            found = self.path.lstat()
        except FileNotFoundError:
            return
        if not stat.S_ISSOCK(found.st_mode):
            message = f"listen: {self.path} is there and is no socket; remove it, or choose another path"
            raise InvalidInputError(message, reason="UNUSABLE_PATH", field="listen")
        holder = _who_listens(self.path)
        if holder is not None:
            raise _taken(self.path, holder)
        self.path.unlink()

    @contextlib.contextmanager
    def binding(self) -> Iterator[None]:
        """Around the bind: the socket is the user's own, 0600."""
        before = os.umask(0o177)
        try:
            yield
        finally:
            os.umask(before)
        found = self.path.lstat()
        self._bound = found.st_dev, found.st_ino

    def release(self) -> None:
        """Remove the socket, if it is still ours, and the lock."""
        with contextlib.suppress(FileNotFoundError):
            found = self.path.lstat()
            if (found.st_dev, found.st_ino) == self._bound:
                self.path.unlink()
        if self._lock is not None:
            with contextlib.suppress(FileNotFoundError):
                self._lock_path.unlink()
            os.close(self._lock)
            self._lock = None


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether the open file is the one that the path names now."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False


def _who_listens(path: Path) -> str | None:
    """The process that listens on a socket, or None when nobody does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(2)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return None
        except OSError as error:
            return f"unknown ({error.strerror})"
        credentials = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        pid, _, _ = _CREDENTIALS.unpack(credentials)
        return str(pid)


def _taken(path: Path, holder: str) -> AlreadyExistsError:
    message = f"listen: a daemon (process {holder}) has {path} already; use that one, stop it, or choose another path"
    return AlreadyExistsError(message, reason="SOCKET_TAKEN", field="listen", metadata={"pid": holder})
