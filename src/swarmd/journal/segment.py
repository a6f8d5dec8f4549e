"""One file of a journal: an SQLite database whose rows are events, in the order in which they were accepted.

Bytes in, bytes out; what they mean is known elsewhere. Every row carries a checksum over all that is in it, and its
number follows on that of the row before it, so that nothing can be changed, dropped or doubled unseen.
"""

import contextlib
import sqlite3
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from swarmd.core.errors import DamagedError, StorageError, StorageFullError
from swarmd.journal.faults import reach

APPLICATION_ID = 0x73776A6C
FORMAT = 1
_SQLITE_MAGIC = b"SQLite format 3\0"
_VERSION_AT, _APPLICATION_AT = 60, 68
_NUMBER = struct.Struct(">I")
_CHECKED = struct.Struct("<qd")
_PAGE = bytes(4096)

_FULL = (sqlite3.SQLITE_FULL,)
_BROKEN = (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class Record(NamedTuple):
    """One event as it is kept."""

    seq: int
    """1, 2, 3, ... within a swarm."""
    at: float
    """When it was accepted, in seconds since the epoch."""
    event: bytes


class Segment:
    """An open file. One thread at a time; which one does not matter."""

    def __init__(self, path: Path) -> None:
        """Open a file that is there. Raises DamagedError when it is none of ours, and StorageError."""
        self.path = path
        _check_header(path)
        self._connection = _connected(path)

    @classmethod
    def create(cls, path: Path) -> "Segment":
        """Make a file without rows, wholly or not at all; its directory is to be synced yet. Raises StorageError."""
        temporary = path.with_name(f"{path.name}.tmp")
        _remove(temporary)
        try:
            with contextlib.closing(_connected(temporary)) as connection:
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {FORMAT}")
                connection.execute(
                    "CREATE TABLE record (seq INTEGER PRIMARY KEY, at REAL NOT NULL, crc INTEGER NOT NULL,"
                    " event BLOB NOT NULL)"
                )
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            temporary.chmod(0o600)
            temporary.rename(path)
        except BaseException as error:
            _remove(temporary)
            if isinstance(error, (sqlite3.Error, OSError)):
                raise storage_error(error, path) from error
            raise
        return cls(path)

    def append(self, records: Sequence[Record]) -> None:
        """Write rows in one commit; on return they are on disk. Raises StorageError: then none of them is there."""
        connection = self._connection
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(
                "INSERT INTO record (seq, at, crc, event) VALUES (?, ?, ?, ?)",
                [(record.seq, record.at, checksum(record), record.event) for record in records],
            )
            reach("commit.written")
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            if not self._is_there_after_all(records[-1].seq):
                raise storage_error(error, self.path) from error
        reach("commit.done")

    def _is_there_after_all(self, seq: int) -> bool:
        """After an error: end what was begun, and look whether it was committed nevertheless."""
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            found: int | None = self._connection.execute("SELECT max(seq) FROM record").fetchone()[0]
        except sqlite3.Error:
            return False
        return found == seq

    def cut_after(self, seq: int) -> None:
        """Take back what is behind this row, in a commit of its own: shows that there is room. Raises StorageError."""
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.execute("DELETE FROM record WHERE seq > ?", (seq,))
            self._connection.execute("INSERT INTO record (seq, at, crc, event) VALUES (?, 0.0, 0, ?)", (seq + 1, _PAGE))
            self._connection.execute("DELETE FROM record WHERE seq > ?", (seq,))
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._is_there_after_all(0)
            raise storage_error(error, self.path) from error

    def read(self, after: int = 0, damaged: Callable[[str], None] | None = None) -> Iterator[Record]:
        """The rows behind this one, each checked. Raises DamagedError, or tells `damaged` and goes on where it can."""
        query = "SELECT seq, at, crc, event FROM record WHERE seq > ? ORDER BY seq"
        try:
            for row in self._connection.execute(query, (after,)):
                problem = self._problem(*row)
                if not problem:
                    yield Record(row[0], row[1], row[3])
                elif damaged is None:
                    raise DamagedError(problem)
                else:
                    damaged(problem)
        except (sqlite3.Error, OverflowError, UnicodeDecodeError) as error:
            unreadable = _unreadable(error, self.path)
            if damaged is None:
                raise unreadable from error
            damaged(unreadable.message)

    def _problem(self, seq: object, at: object, crc: object, event: object) -> str:
        """What is wrong with a row; empty when nothing is."""
        if not (isinstance(seq, int) and isinstance(at, float) and isinstance(event, bytes)):
            return f"record {seq} in {self.path} is not of the kinds that a record is made of"
        if checksum(Record(seq, at, event)) != crc:
            return f"record {seq} in {self.path} does not match its checksum"
        return ""

    def close(self) -> None:
        """Bring everything into the one file. Raises nothing: what is in its log is as safe there."""
        try:
            self._connection.close()
        except sqlite3.Error:  # pragma: no cover - what could be done was
            return


def checksum(record: Record) -> int:
    """Over all that is in a record."""
    return zlib.crc32(record.event, zlib.crc32(_CHECKED.pack(record.seq, record.at)))


def storage_error(error: sqlite3.Error | OSError, path: Path) -> StorageError:
    """What could not be written, for a user."""
    if isinstance(error, sqlite3.Error):
        full = getattr(error, "sqlite_errorcode", 0) in _FULL
    else:
        full = error.errno in (28, 122)  # ENOSPC, EDQUOT
    if full:
        message = f"the disk with {path.parent} is full; nothing was changed; make room there and try again"
        return StorageFullError(message, metadata={"limit": "disk space"})
    name = getattr(error, "sqlite_errorname", "")
    told = f"{error} ({name})" if name else str(error)
    return StorageError(f"{path.parent} cannot be written to: {told}; nothing was changed; try again later")


def _unreadable(error: Exception, path: Path) -> DamagedError:
    # SQLite quotes what it finds in a broken schema, and Python cannot read what is no text.
    what = "its schema is damaged" if isinstance(error, UnicodeDecodeError) else str(error)
    return DamagedError(f"{path} cannot be read: {what}")


def _remove(path: Path) -> None:
    for name in (path.name, f"{path.name}-wal"):
        with contextlib.suppress(OSError):
            path.with_name(name).unlink()


def _connected(path: Path) -> sqlite3.Connection:
    try:
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=0)
        # Nobody else ever opens it while a daemon has it: without shared memory it is quicker, and one file less.
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA wal_autocheckpoint = 2000")
        connection.execute("PRAGMA cell_size_check = ON")
        connection.execute("PRAGMA trusted_schema = OFF")
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in _BROKEN:
            raise _unreadable(error, path) from error
        raise storage_error(error, path) from error
    except UnicodeDecodeError as error:
        raise _unreadable(error, path) from error
    return connection


def _check_header(path: Path) -> None:
    """Whether it is a file of ours, and of a version that can be read: before SQLite touches it."""
    try:
        with path.open("rb") as file:
            head = file.read(100)
    except OSError as error:
        raise DamagedError(f"{path} cannot be read: {error.strerror}") from error
    if len(head) < 100 or not head.startswith(_SQLITE_MAGIC):
        raise DamagedError(f"{path} is damaged: it does not begin as an SQLite database does")
    if _NUMBER.unpack_from(head, _APPLICATION_AT)[0] != APPLICATION_ID:
        raise DamagedError(f"{path} is damaged, or not a journal of swarmd: its application id is another")
    version = _NUMBER.unpack_from(head, _VERSION_AT)[0]
    if version > FORMAT:
        raise DamagedError(
            f"{path} was written by a newer version of swarmd (format {version}; this one reads up to {FORMAT}); "
            "start that version"
        )
    if version < 1:
        raise DamagedError(f"{path} is damaged: its format is {version}, and there is none below 1")
