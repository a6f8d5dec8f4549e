"""A segment: rows are there wholly or not at all, nothing in them changes unseen, and what fails is told."""

import json
import os
import signal
import sqlite3
import stat
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from swarmd.core.errors import DamagedError, StorageError, StorageFullError
from swarmd.journal.segment import APPLICATION_ID, FORMAT, Record, Segment, checksum, storage_error

RECORDS = [Record(seq, seq / 3, bytes(range(seq))) for seq in range(1, 40)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "records-000001.db"


@pytest.fixture
def segment(path: Path) -> Segment:
    made = Segment.create(path)
    made.append(RECORDS)
    return made


def closed(segment: Segment) -> Path:
    segment.close()
    return segment.path


def edited(path: Path, statement: str, *values: object) -> None:
    """What somebody with SQLite could do to a file."""
    connection = sqlite3.connect(path)
    connection.execute(statement, values)
    connection.commit()
    connection.close()


def test_what_was_appended_is_read_in_its_order(segment):
    segment.append([Record(40, 1e9, b"")])
    assert list(segment.read()) == [*RECORDS, Record(40, 1e9, b"")]
    assert [record.seq for record in segment.read(after=38)] == [39, 40]
    assert list(segment.read(after=40)) == []


def test_it_comes_back_as_it_was_closed(segment):
    assert closed(segment).exists()
    assert [each.name for each in segment.path.parent.iterdir()] == [segment.path.name]
    assert list(Segment(segment.path).read()) == RECORDS


def test_it_is_one_file_of_its_user(segment):
    assert stat.S_IMODE(segment.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(segment.path.with_name(f"{segment.path.name}-wal").stat().st_mode) == 0o600


def test_its_header_says_what_it_is(segment):
    head = closed(segment).read_bytes()[:100]
    assert struct.unpack_from(">I", head, 68) == (APPLICATION_ID,)
    assert struct.unpack_from(">I", head, 60) == (FORMAT,)


def test_what_another_process_finds_does_not_wait_for_a_close(segment, tmp_path):
    for name in (segment.path.name, f"{segment.path.name}-wal"):
        (tmp_path / f"copy-{name}").write_bytes((tmp_path / name).read_bytes())
    assert list(Segment(tmp_path / f"copy-{segment.path.name}").read()) == RECORDS


KILLED = """
import os, signal, sys
from pathlib import Path
from swarmd.journal import segment

real = segment._connected

class Dying:
    def __init__(self, connection):
        self.connection, self.left = connection, int(sys.argv[2])
    def execute(self, *arguments):
        self.left -= 1
        if not self.left:
            os.kill(os.getpid(), signal.SIGKILL)
        return self.connection.execute(*arguments)
    def close(self):
        os.kill(os.getpid(), signal.SIGKILL)

segment._connected = lambda path: Dying(real(path))
segment.Segment.create(Path(sys.argv[1]))
"""


@pytest.mark.parametrize("statement", [1, 2, 3, 4, 5])
def test_one_that_is_half_made_when_its_maker_is_killed_is_not_there(path, statement):
    ended = subprocess.run([sys.executable, "-c", KILLED, path, str(statement)], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert not path.exists()
    assert list(Segment.create(path).read()) == [], "what it left is in nobody's way"


# -- damage ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("UPDATE record SET event = x'00' WHERE seq = 7", "record 7 in .* does not match its checksum"),
        ("UPDATE record SET event = CAST(event AS TEXT) WHERE seq = 7", "record 7 in .* is not of the kinds"),
        ("UPDATE record SET event = 7 WHERE seq = 7", "record 7 in .* is not of the kinds"),
        ("UPDATE record SET at = at + 1 WHERE seq = 7", "record 7 in .* does not match its checksum"),
        ("UPDATE record SET at = 'noon' WHERE seq = 7", "record 7 in .* is not of the kinds"),
        ("UPDATE record SET crc = crc + 1 WHERE seq = 7", "record 7 in .* does not match its checksum"),
        ("UPDATE record SET crc = 'none' WHERE seq = 7", "record 7 in .* does not match its checksum"),
        ("UPDATE record SET seq = 77 WHERE seq = 7", "record 77 in .* does not match its checksum"),
        ("ALTER TABLE record RENAME TO recorb", "cannot be read: no such table: record"),
        ("ALTER TABLE record RENAME COLUMN at TO it", "cannot be read: no such column: at"),
    ],
)
def test_no_field_changes_unseen(segment, change, sentence):
    edited(closed(segment), change)
    with pytest.raises(DamagedError, match=f"{sentence}") as caught:
        list(Segment(segment.path).read())
    assert str(segment.path) in caught.value.message


def test_rows_before_a_wrong_one_are_given(segment):
    edited(closed(segment), "UPDATE record SET at = 0.0 WHERE seq = 7")
    reading = Segment(segment.path).read()
    assert [next(reading).seq for _ in range(6)] == [1, 2, 3, 4, 5, 6]
    with pytest.raises(DamagedError):
        next(reading)


def test_every_field_is_in_the_checksum():
    sums = {checksum(Record(1, 1.0, b"x")), checksum(Record(2, 1.0, b"x")), checksum(Record(1, 2.0, b"x"))}
    assert len(sums | {checksum(Record(1, 1.0, b"y"))}) == 4


@pytest.mark.parametrize(
    ("at", "data", "sentence"),
    [
        (0, b"sqlite", "does not begin as an SQLite database does"),
        (68, b"\0\0\0\7", "not a journal of swarmd: its application id is another"),
        (60, struct.pack(">I", FORMAT + 1), f"newer version of swarmd .format {FORMAT + 1}; this one reads up to"),
        (60, struct.pack(">I", 0), "its format is 0, and there is none below 1"),
        (16, b"\0\7", "cannot be read: file is not a database"),
        (44, b"\0\0\0\7", "cannot be read: unsupported file format"),
    ],
)
def test_a_header_that_is_wrong_is_told(segment, at, data, sentence):
    whole = closed(segment).read_bytes()
    segment.path.write_bytes(whole[:at] + data + whole[at + len(data) :])
    with pytest.raises(DamagedError, match=sentence) as caught:
        list(Segment(segment.path).read())
    assert str(segment.path) in caught.value.message


def test_a_schema_that_is_no_text_is_told(segment):
    """Python fails to read what SQLite says about it."""
    whole = closed(segment).read_bytes()
    segment.path.write_bytes(whole.replace(b"tablerecordrecord", b"tablerec\xa4rdrecord").replace(b"CREATE", b"CREATA"))
    with pytest.raises(DamagedError, match="cannot be read: its schema is damaged"):
        list(Segment(segment.path).read())


@pytest.mark.parametrize("length", [0, 1, 99])
def test_a_file_that_is_too_short_is_told(segment, length):
    os.truncate(closed(segment), length)
    with pytest.raises(DamagedError, match="does not begin as an SQLite database does"):
        Segment(segment.path)


def test_a_file_that_is_not_there_is_told(path):
    with pytest.raises(DamagedError, match="cannot be read: No such file or directory"):
        Segment(path)
    assert not path.exists()


# -- what cannot be written --------------------------------------------------------------------------------------------


def test_a_commit_that_is_refused_leaves_nothing(segment):
    with pytest.raises(StorageError, match=r"cannot be written to: .*; nothing was changed; try again later"):
        segment.append([Record(40, 1.0, b"new"), Record(7, 1.0, b"a number that is taken")])
    assert list(segment.read()) == RECORDS
    segment.append([Record(40, 2.0, b"newer")])
    assert list(segment.read(after=39)) == [Record(40, 2.0, b"newer")]


def test_what_is_behind_a_row_is_cut(segment):
    segment.cut_after(30)
    assert list(segment.read()) == RECORDS[:30]
    segment.cut_after(30)
    segment.append([Record(31, 1.0, b"other")])
    assert [record.event for record in segment.read(after=30)] == [b"other"]


def test_a_full_disk_and_a_failing_one_are_told_apart(path):
    assert isinstance(storage_error(OSError(28, "No space left on device"), path), StorageFullError)
    assert isinstance(storage_error(OSError(122, "Disk quota exceeded"), path), StorageFullError)
    failing = storage_error(OSError(5, "Input/output error"), path)
    assert not isinstance(failing, StorageFullError)
    assert failing.message.startswith(f"{path.parent} cannot be written to: [Errno 5] Input/output error")


LIMITED = """
import json, resource, sys
from pathlib import Path
from swarmd.core.errors import StorageError
from swarmd.journal.segment import Record, Segment

hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
segment = Segment.create(Path(sys.argv[1]))
done, refused, seq = [], [], 1
for size in [100, 30_000, 2_000_000, 9_000_000]:
    for limit in [20_000, 1_000_000, 1]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            segment.append([Record(seq, 1.0, bytes(size)), Record(seq + 1, 1.0, bytes(size))])
            done += [seq, seq + 1]
            seq += 2
        except StorageError as error:
            refused.append(error.message)
        try:
            segment.cut_after(seq - 1)
        except StorageError as error:
            refused.append(error.message)
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        assert [record.seq for record in segment.read()] == done
        segment.cut_after(seq - 1)
        segment.append([Record(seq, 2.0, b"room again")])
        done.append(seq)
        seq += 1
print(json.dumps([done, refused]), flush=True)
import os
os.kill(os.getpid(), 9)
"""


def test_what_was_refused_for_want_of_room_is_not_there_and_the_rest_is(path):
    """A real limit on the size of files, in a process of its own; killed at the end, so that nobody tidies up."""
    ended = subprocess.run([sys.executable, "-c", LIMITED, path], check=False, capture_output=True, text=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    done, refused = json.loads(ended.stdout)
    assert [record.seq for record in Segment(path).read()] == done
    assert len(refused) > 10
    assert all("cannot be written to: disk I/O error" in each for each in refused)


def test_one_cannot_be_made_where_nothing_can_be_written(tmp_path):
    (tmp_path / "records.db.tmp").mkdir()
    with pytest.raises(StorageError, match="cannot be written to"):
        Segment.create(tmp_path / "records.db")
    assert not (tmp_path / "records.db").exists()
