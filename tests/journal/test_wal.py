"""What a log holds is told as SQLite takes it: cut tails are torn, and whole commits never vanish without a word."""

import random
import shutil
import sqlite3
from dataclasses import dataclass
from pathlib import Path

import pytest

from swarmd.journal.segment import Record, Segment
from swarmd.journal.wal import FRAME_HEADER_BYTES, HEADER, PAGE_BYTES, WalReport, inspect
from tests.journal.stores import flipped

FRAME_BYTES = FRAME_HEADER_BYTES + PAGE_BYTES
SIZES = [10, 3000, 20_000, 10, 9000, 50, 14_000]
"""Bytes of the events, a commit each: of one frame and of several."""


@dataclass
class Log:
    """A log as a crash left it, and where each of its commits ends."""

    database: Path
    data: bytes
    ends: list[int]

    @property
    def path(self) -> Path:
        return self.database.with_name(f"{self.database.name}-wal")

    def left_of(self, data: bytes) -> int:
        """How many rows SQLite finds when the log holds this."""
        copy = self.database.with_name("copy.db")
        wal = copy.with_name("copy.db-wal")
        shutil.copy(self.database, copy)
        wal.write_bytes(data)
        connection = sqlite3.connect(copy)
        found: int = connection.execute("SELECT count(*) FROM record").fetchone()[0]
        connection.close()
        return found

    def told_of(self, data: bytes) -> WalReport:
        self.path.write_bytes(data)
        return inspect(self.path)


def written(folder: Path, *, before: int = 0) -> Log:
    """The log of a segment to which one row a commit was written, and which was begun anew after `before` of them."""
    folder.mkdir()
    segment = Segment.create(folder / "live.db")
    log, ends = folder / "live.db-wal", []
    for seq, size in enumerate([*[30_000] * before, *SIZES], 1):
        if before and seq == before + 1:
            segment._connection.execute("PRAGMA wal_checkpoint(RESTART)")
        segment.append([Record(seq, 1.0, bytes(seq % 251 for _ in range(size)))])
        ends.append(log.stat().st_size)
    database = folder / "records.db"
    shutil.copy(folder / "live.db", database)
    data = log.read_bytes()
    segment.close()
    return Log(database, data, ends)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Log:
    return written(tmp_path_factory.mktemp("wal") / "new")


@pytest.fixture(scope="module")
def reused(tmp_path_factory: pytest.TempPathFactory) -> Log:
    """A log that was begun anew, shorter than what is left over behind it."""
    log = written(tmp_path_factory.mktemp("wal") / "reused", before=20)
    assert log.ends[-1] == log.ends[19], "it did not grow any more"
    return log


def test_a_log_that_is_missing_or_empty_holds_nothing(tmp_path):
    assert inspect(tmp_path / "none") == WalReport()
    (tmp_path / "empty").touch()
    assert inspect(tmp_path / "empty") == WalReport()


def test_a_whole_log_is_whole(log, reused):
    assert log.told_of(log.data) == WalReport()
    assert reused.told_of(reused.data) == WalReport()
    assert reused.left_of(reused.data) == 20 + len(SIZES)


def test_a_log_that_is_cut_is_torn_by_what_is_behind_its_last_commit(log):
    lengths = {end + step for end in [0, HEADER.size, *log.ends] for step in (-1, 0, 1, 8, 24, 500)}
    lengths |= {HEADER.size + frame * FRAME_BYTES + step for frame in range(25) for step in (0, 23, 24)}
    for length in sorted(length for length in lengths if 0 <= length <= len(log.data)):
        kept = [end for end in log.ends if end <= length]
        assert log.left_of(log.data[:length]) == len(kept)
        report = log.told_of(log.data[:length])
        assert report.damaged_at is None
        behind = length - (kept[-1] if kept else HEADER.size if length >= HEADER.size else 0)
        assert report.torn_bytes == behind, length


def test_commits_behind_a_wrong_byte_do_not_vanish_without_a_word(log):
    dice = random.Random(7)
    heads = [HEADER.size + frame * FRAME_BYTES + byte for frame in range(10) for byte in range(24)]
    places = [*range(HEADER.size), *heads, *(dice.randrange(len(log.data)) for _ in range(150))]
    for at in places:
        data = flipped(log.data, at, dice.randrange(1, 256))
        left, report = log.left_of(data), log.told_of(data)
        if left == len(SIZES):
            assert report == WalReport(), at
        elif left == len(SIZES) - 1:  # the last commit alone is what may never have been finished
            assert report.damaged_at is not None or report.torn_bytes == len(data) - log.ends[-2], at
        elif at >= HEADER.size and data[_marker_of(at)] == 0:
            continue  # turned into a frame that ends no commit: nobody can see any more that one ended there
        else:
            assert report.damaged_at == (0 if at < HEADER.size else _frame_of(at)), at


def _frame_of(at: int) -> int:
    return HEADER.size + (at - HEADER.size) // FRAME_BYTES * FRAME_BYTES


def _marker_of(at: int) -> int:
    """Where zero means that this byte was what said that a frame ends a commit: databases here are of few pages."""
    return at if (at - HEADER.size) % FRAME_BYTES == 7 else 0


def test_a_commit_of_which_some_frames_never_reached_the_disk_is_torn(log):
    """A crash of the machine: frames are written in any order, and none of them was synced."""
    start, end = log.ends[-2], log.ends[-1]
    frames = range(start, end, FRAME_BYTES)
    assert len(frames) >= 4
    for missing in range(1, 1 << len(frames)):
        data = bytearray(log.data)
        for place, frame in enumerate(frames):
            if missing >> place & 1:
                data[frame : frame + FRAME_BYTES] = bytes(FRAME_BYTES)
        report = log.told_of(bytes(data))
        assert report.damaged_at is None
        assert log.left_of(bytes(data)) == len(SIZES) - 1


def test_frames_that_were_left_over_and_never_overwritten_are_torn_too(reused):
    begun = _left_over_from(reused)
    last = begun - FRAME_BYTES
    old = reused.data[begun : begun + FRAME_BYTES]
    for place in (last, last - FRAME_BYTES):
        data = reused.data[:place] + old + reused.data[place + FRAME_BYTES :]
        report = reused.told_of(data)
        assert report.damaged_at is None
        assert reused.left_of(data) == 20 + len(SIZES) - 1


def _left_over_from(log: Log) -> int:
    """Where the first frame begins that is older than the log's header."""
    places = range(HEADER.size, len(log.data), FRAME_BYTES)
    return next(place for place in places if log.data[place + 8 : place + 16] != log.data[16:24])


def test_what_is_left_over_may_be_damaged(reused):
    begun = _left_over_from(reused)
    dice = random.Random(8)
    for _ in range(50):
        data = flipped(reused.data, dice.randrange(begun, len(reused.data)))
        assert reused.told_of(data) == WalReport()
        assert reused.left_of(data) == 20 + len(SIZES)


@pytest.mark.parametrize("size", [10, 6000])
def test_the_rest_of_a_commit_that_was_refused_is_torn_and_no_damage(log, tmp_path, size):
    """It was written, could not be synced, and the next one went over its beginning: SQLite stops behind that one."""
    shutil.copy(log.database, tmp_path / "live.db")
    (tmp_path / "live.db-wal").write_bytes(log.data[: log.ends[-2]])
    segment = Segment(tmp_path / "live.db")
    segment.append([Record(len(SIZES), 2.0, b"another" * (size // 7))])
    now = (tmp_path / "live.db-wal").read_bytes()
    segment.close()
    assert log.ends[-2] < len(now) < log.ends[-1] - FRAME_BYTES
    data = now + log.data[len(now) :]
    assert log.left_of(data) == len(SIZES)
    assert log.told_of(data) == WalReport(torn_bytes=len(data) - len(now))
