"""StateDirectory: where all swarms of a daemon live on disk, and the lock that says whose they are.

lock            held as long as the daemon lives
format          the version of this layout
swarms/ID/      one folder a swarm (`store.py`)
logs/           the output of tasks
"""

import contextlib
import fcntl
import os
import secrets
import shutil
from collections.abc import Iterable
from pathlib import Path

from swarmd.core.errors import AlreadyExistsError, DamagedError, InvalidInputError, NotFoundError, StorageError
from swarmd.core.events import Created
from swarmd.journal.faults import reach
from swarmd.journal.segment import storage_error
from swarmd.journal.snapshot import make_lasting
from swarmd.journal.store import SwarmStore
from swarmd.ownership import make_private

FORMAT = 1
_LEFTOVERS = (".creating-", ".deleted-")
_HALF_WRITTEN = "*.tmp*"


class StateDirectory:
    """A directory that is there and belongs to the user."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.swarms = path / "swarms"
        self._lock: int | None = None

    def claim(self) -> None:
        """Take it for this process. Raises AlreadyExistsError naming who has it, DamagedError for another format.

        And InvalidInputError when the swarms in it are not the user's own. What an earlier daemon left half made or
        half removed is cleared away.
        """
        self._take_lock()
        try:
            self._check_format()
            make_private(self.swarms)
            for path in self.swarms.iterdir():
                if path.name.startswith(_LEFTOVERS):
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    _clear_away(path.glob(_HALF_WRITTEN))
        except OSError as error:
            self.release()
            raise storage_error(error, self.swarms) from error
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Leave it to others."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def stores(self) -> list[SwarmStore]:
        """The swarms that are there."""
        folders = (path for path in self.swarms.iterdir() if not path.name.startswith(".") and path.is_dir())
        return [SwarmStore(path) for path in sorted(folders)]

    def store(self, swarm_id: str) -> SwarmStore:
        """One swarm's files. Raises NotFoundError."""
        folder = self.folder(swarm_id)
        if not folder.is_dir():
            message = f"swarm: there is no {swarm_id!r} in {self.swarms}"
            raise NotFoundError(message, reason="UNKNOWN_SWARM", field="swarm")
        return SwarmStore(folder)

    def folder(self, swarm_id: str) -> Path:
        """Where the files of a swarm are, or would be. Raises InvalidInputError for what can be no swarm's id."""
        if not swarm_id or swarm_id.startswith(".") or "/" in swarm_id or "\0" in swarm_id:
            raise InvalidInputError(f"swarm: {swarm_id!r} can be no swarm's id", field="swarm")
        return self.swarms / swarm_id

    def create(self, created: Created, at: float) -> SwarmStore:
        """Make a swarm's files. Raises StorageError."""
        return SwarmStore.create(self.swarms / created.settings.swarm_id, created, at)

    def delete(self, store: SwarmStore) -> None:
        """Remove a swarm: at once for everybody who looks, and its space soon after. Raises StorageError."""
        store.rest()
        removed = self.swarms / f".deleted-{store.folder.name}-{secrets.token_hex(4)}"
        try:
            reach("delete.begun")
            store.folder.rename(removed)
            reach("delete.renamed")
            make_lasting(self.swarms)
        except FileNotFoundError:
            return
        except OSError as error:
            raise storage_error(error, store.folder) from error
        shutil.rmtree(removed, ignore_errors=True)
        reach("delete.done")

    def _take_lock(self) -> None:
        path = self.path / "lock"
        try:
            lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise StorageError(f"state_dir: {path} cannot be opened: {error.strerror}", field="state_dir") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(lock, 32).decode(errors="replace").strip() or "unknown"
            os.close(lock)
            message = (
                f"state_dir: a daemon (process {holder}) has {self.path} already; "
                "use that one, stop it, or give another --state-dir"
            )
            raise AlreadyExistsError(
                message, reason="STATE_DIR_TAKEN", field="state_dir", metadata={"pid": holder}
            ) from None
        with contextlib.suppress(OSError):  # it only tells others who has it: no reason not to start on a full disk
            os.truncate(lock, 0)
            os.write(lock, f"{os.getpid()}\n".encode())
        self._lock = lock

    def _check_format(self) -> None:
        path = self.path / "format"
        try:
            text = path.read_text(errors="replace").strip()
        except FileNotFoundError:
            new = path.with_name(".format")
            new.unlink(missing_ok=True)
            with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w") as file:
                file.write(f"{FORMAT}\n")
                file.flush()
                os.fsync(file.fileno())  # a name without its content would keep every daemon after it from starting
            new.rename(path)
            return
        if text.isdigit() and int(text) > FORMAT:
            raise DamagedError(
                f"{self.path} was written by a newer version of swarmd (format {text}; this one reads up to {FORMAT}); "
                "start that version, or give another --state-dir",
                reason="NEWER_FORMAT",
            )
        if text != str(FORMAT):
            raise DamagedError(
                f"{path} says {text[:20]!r} and not which format the directory has; write {FORMAT} into it if nobody "
                "else's files are there, or give another --state-dir"
            )


def _clear_away(files: Iterable[Path]) -> None:
    for path in files:
        with contextlib.suppress(OSError):
            path.unlink()
