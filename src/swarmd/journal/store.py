"""SwarmStore: the folder in which one swarm lives on disk.

    records-000001.db      segments: the events, each file going on where the one before ends
    records-000002.db
    snapshot-000000812.bin the swarm as it was after event 812: what is before it is needed no more
    mark                   the last event that was acknowledged, to notice when a journal has lost its end

Everything here blocks; `SwarmJournal` calls it from threads, one at a time for each swarm but for `keep_snapshot`.
"""

import os
import re
import secrets
import shutil
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from swarmd.core.change import Change
from swarmd.core.errors import DamagedError, StorageError
from swarmd.core.events import Created, Event, Loaded, LoadPart
from swarmd.core.freezing import Frozen
from swarmd.core.swarm import Swarm
from swarmd.journal import wal
from swarmd.journal.encoding import decode, encode
from swarmd.journal.faults import reach
from swarmd.journal.segment import Record, Segment, storage_error
from swarmd.journal.snapshot import load_snapshot, make_lasting, take_snapshot, write_snapshot

SEGMENT = re.compile(r"records-(\d{6,})\.db")
SNAPSHOT = re.compile(r"snapshot-(\d{9,})\.bin")
MARK = "mark"
FILLED_AT_ONCE = 1000
_MARK = struct.Struct("<qI")
_MARK_SEQ = struct.Struct("<q")


@dataclass
class Recovered:
    """A swarm as its journal tells it."""

    swarm: Swarm
    seq: int
    """The number of the last event."""
    warnings: list[str] = field(default_factory=list)
    """What was cut off, and what else somebody should know."""
    events: int = 0
    """How many events there are since the snapshot ..."""
    size: int = 0
    """... and how many bytes."""
    lost: int = 0
    """How many events were acknowledged and are not there any more."""


class SwarmStore:
    """One swarm's files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._segment: Segment | None = None
        self._retired: list[Segment] = []
        self._mark: int | None = None

    @classmethod
    def create(cls, folder: Path, created: Created, at: float) -> "SwarmStore":
        """Make the files of a new swarm; on return it is there for good, and before there is nothing of it.

        Raises StorageError.
        """
        making = folder.with_name(f".creating-{folder.name}-{created.token}")
        try:
            making.mkdir(mode=0o700)
            segment = Segment.create(making / _segment_name(1))
            try:
                segment.append([Record(1, at, encode(created))])
            finally:
                segment.close()
            make_lasting(making)
            reach("create.written")
            making.rename(folder)
            reach("create.renamed")
            make_lasting(folder.parent)
        except OSError as error:
            shutil.rmtree(making, ignore_errors=True)
            raise storage_error(error, folder) from error
        except BaseException:
            shutil.rmtree(making, ignore_errors=True)
            raise
        return cls(folder)

    # -- writing ---------------------------------------------------------------------------------------------------

    def append(self, records: Sequence[Record]) -> None:
        """Write events in one commit. Raises StorageError: then none of them is there."""
        self._open().append(records)
        self._set_mark(records[-1].seq)

    def probe(self, seq: int) -> None:
        """Try whether events can be written again; what is behind this one was refused. Raises StorageError."""
        self._open().cut_after(seq)

    def rest(self) -> None:
        """Close the files until they are needed again."""
        for segment in (*self._retired, self._segment):
            if segment is not None:
                segment.close()
        self._retired.clear()
        self._segment = None
        if self._mark is not None:
            os.close(self._mark)
            self._mark = None

    def _open(self) -> Segment:
        if self._segment is None:
            try:
                segments = self._segments()
                if not segments:
                    raise StorageError(f"{self.folder} has lost its records; nothing was changed")
                self._segment = Segment(segments[-1])
            except DamagedError as error:
                raise StorageError(f"{error.message}; nothing was changed") from error
            except OSError as error:
                raise storage_error(error, self.folder) from error
        return self._segment

    def _set_mark(self, seq: int) -> None:
        """Not synced: after a crash of the machine it may say less than the truth, which does no harm."""
        try:
            if self._mark is None:
                self._mark = os.open(self.folder / MARK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            os.pwrite(self._mark, _MARK.pack(seq, zlib.crc32(_MARK_SEQ.pack(seq))), 0)
        except OSError:
            return  # the disk may be full for one byte more: the events are there, which is what counts

    # -- snapshots -------------------------------------------------------------------------------------------------

    def prepare_segment(self) -> Segment:
        """The file that comes next, made beside the one in use. Raises StorageError."""
        latest = SEGMENT.fullmatch(self._segments()[-1].name)
        number = int(latest[1]) + 1 if latest else 1
        segment = Segment.create(self.folder / _segment_name(number))
        make_lasting(self.folder)
        reach("segment.made")
        return segment

    def switch(self, segment: Segment) -> None:
        """Events go to this file from now on. Takes no time."""
        if self._segment is not None:
            self._retired.append(self._segment)
        self._segment = segment

    def keep_snapshot(self, seq: int, frozen: Frozen) -> int:
        """Write down the swarm as it was after event `seq`, and remove what is needed no more. Returns its bytes.

        Only after `switch`, between this event and the next. Raises StorageError: then everything is as before.
        """
        retired, self._retired = self._retired, []
        for segment in retired:
            segment.close()
        path = self.folder / _snapshot_name(seq)
        current = self._segment.path if self._segment is not None else self._segments()[-1]
        try:
            size = take_snapshot(path, seq, frozen, reach=reach)
        except OSError as error:
            raise storage_error(error, path) from error
        for old in self.snapshots():
            if old != path:
                reach("prune.snapshot")
                old.unlink(missing_ok=True)
        for old in self._segments():
            if old.name < current.name:
                reach("prune.segment")
                for name in (old.name, f"{old.name}-wal"):
                    (self.folder / name).unlink(missing_ok=True)
        reach("prune.done")
        return size

    # -- reading ---------------------------------------------------------------------------------------------------

    def recover(self, publish: Callable[[Change], None] | None = None) -> Recovered:
        """The swarm again. `publish` gets the changes since the snapshot, in order. Raises DamagedError."""
        try:
            return self._recover(publish)
        except OSError as error:
            raise DamagedError(f"{error.filename or self.folder} cannot be read: {error.strerror}") from error

    def _recover(self, publish: Callable[[Change], None] | None) -> Recovered:
        warnings: list[str] = []
        torn = 0
        for path in self._segments():
            report = wal.inspect(path.with_name(f"{path.name}-wal"))
            if report.damaged_at is not None:
                where = f"{path}-wal is damaged at byte {report.damaged_at}"
                raise DamagedError(f"{where}, and events that were acknowledged stand behind it")
            torn += report.torn_bytes
        marked = self._read_mark()
        seq, swarm = self._latest_snapshot(warnings)
        replay = _Replay(self.folder, swarm)
        events = size = 0
        for record in self.records(after=seq):
            if record.seq != seq + 1:
                missing = f"event {seq + 1}" if record.seq == seq + 2 else f"the events {seq + 1} to {record.seq - 1}"
                raise DamagedError(f"{missing} in {self.folder} {'is' if record.seq == seq + 2 else 'are'} missing")
            seq, events, size = record.seq, events + 1, size + len(record.event)
            change = replay.apply(record)
            if publish is not None and change is not None and not change.is_empty:
                publish(change)
        if replay.swarm is None:
            raise DamagedError(f"{self.folder} holds neither a snapshot nor any events")
        lost = max(0, marked - seq)
        warnings += self._cut(torn, seq, lost)
        return Recovered(replay.swarm, seq, warnings, events, size, lost)

    def records(self, after: int = 0, damaged: Callable[[str], None] | None = None) -> Iterator[Record]:
        """All events behind this one, each checked by itself. Raises DamagedError, or tells `damaged` and goes on."""
        for path in self._segments():
            try:
                segment = Segment(path)
            except DamagedError as error:
                if damaged is None:
                    raise
                damaged(error.message)
                continue
            try:
                yield from segment.read(after, damaged)
            finally:
                segment.close()

    def fill(self, seq: int, sections: Mapping[str, bytes], records: Sequence[Record]) -> None:
        """Make the files of a swarm that was saved elsewhere: a snapshot after event `seq`, if any, and what follows.

        The folder must not be there yet; it appears when all of it is on disk. Raises StorageError.
        """
        making = SwarmStore(self.folder.with_name(f".creating-{self.folder.name}-{secrets.token_hex(4)}"))
        try:
            making.folder.mkdir(mode=0o700)
            if seq:
                write_snapshot(
                    making.folder / _snapshot_name(seq), seq, [(name, [sections[name]]) for name in sections]
                )
            segment = Segment.create(making.folder / _segment_name(1))
            try:
                for start in range(0, len(records), FILLED_AT_ONCE):
                    segment.append(records[start : start + FILLED_AT_ONCE])
            finally:
                segment.close()
            making.recover()
            make_lasting(making.folder)
            making.folder.rename(self.folder)
            make_lasting(self.folder.parent)
        except OSError as error:
            raise storage_error(error, self.folder) from error
        finally:
            shutil.rmtree(making.folder, ignore_errors=True)

    def _cut(self, torn: int, seq: int, lost: int) -> list[str]:
        if lost:
            gone = f"event {seq + 1} was" if lost == 1 else f"the events {seq + 1} to {seq + lost} were"
            return [f"{self.folder} ends with event {seq}: {gone} acknowledged and {'is' if lost == 1 else 'are'} gone"]
        if torn:
            what = f"{torn} bytes of a commit that was never finished were cut off"
            return [f"{self.folder} ends with event {seq}: {what}; nothing in them had been acknowledged"]
        return []

    def _latest_snapshot(self, warnings: list[str]) -> tuple[int, Swarm | None]:
        """The latest that checks, or nothing when the events go back to the beginning. Raises DamagedError."""
        problem = ""
        for path in reversed(self.snapshots()):
            try:
                seq, swarm = load_snapshot(path)
            except DamagedError as error:
                problem = problem or error.message
                continue
            except OSError as error:
                problem = problem or f"{path} cannot be read: {error.strerror}"
                continue
            if problem:
                self._check_reaches_back(seq, problem)
                warnings.append(f"{problem}; an older one and the events since then were taken instead")
            return seq, swarm
        if problem:
            self._check_reaches_back(0, problem)
            warnings.append(f"{problem}; the events since the beginning were taken instead")
        return 0, None

    def _check_reaches_back(self, seq: int, problem: str) -> None:
        first = next(self.records(after=seq), None)
        if first is None or first.seq != seq + 1:
            raise DamagedError(problem)

    def _read_mark(self) -> int:
        try:
            data = (self.folder / MARK).read_bytes()
        except OSError:
            return 0
        if len(data) != _MARK.size:
            return 0
        seq, crc = _MARK.unpack(data)
        return int(seq) if zlib.crc32(_MARK_SEQ.pack(seq)) == crc else 0

    def _segments(self) -> list[Path]:
        return sorted(path for path in self.folder.iterdir() if SEGMENT.fullmatch(path.name))

    def snapshots(self) -> list[Path]:
        """The snapshots that are there, the latest last."""
        return sorted(path for path in self.folder.iterdir() if SNAPSHOT.fullmatch(path.name))


class _Replay:
    """A swarm to which everything happens again."""

    def __init__(self, folder: Path, swarm: Swarm | None) -> None:
        self.swarm = swarm
        self._folder = folder
        self._parts: list[tuple[LoadPart, float]] = []  # a load that was never completed must leave nothing behind

    def apply(self, record: Record) -> Change | None:
        """What happened, if it changed anything. Raises DamagedError."""
        try:
            return self._happens(decode(record.event), record.at)
        except DamagedError as error:
            raise DamagedError(f"event {record.seq} in {self._folder} is damaged: {error.message}") from error
        except Exception as error:
            what = f"event {record.seq} in {self._folder} does not fit what was before it"
            raise DamagedError(f"{what}: {error}") from error

    def _happens(self, event: Event, at: float) -> Change | None:
        if self.swarm is None:
            self.swarm = _begun(event, at)
            return None
        if isinstance(event, LoadPart):
            self._parts = [part for part in self._parts if part[0].load_id == event.load_id]
            self._parts.append((event, at))
            return None
        if isinstance(event, Loaded):
            for part, part_at in self._parts:
                self.swarm.apply(part, part_at)
            self._parts = []
        return self.swarm.apply(event, at)


def _begun(event: Event, at: float) -> Swarm:
    if not isinstance(event, Created):
        raise DamagedError("it is the first, and does not say how the swarm was made")
    return Swarm(event, at)


def _segment_name(number: int) -> str:
    return f"records-{number:06}.db"


def _snapshot_name(seq: int) -> str:
    return f"snapshot-{seq:09}.bin"
