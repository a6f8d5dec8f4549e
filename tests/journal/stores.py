"""A life in files: what the tests of the journal write down, copy as a crash would leave it, and compare with."""

import contextlib
import shutil
from collections.abc import Sequence
from pathlib import Path

from swarmd.core.events import Event, LoadPart
from swarmd.core.freezing import freeze
from swarmd.core.swarm import Swarm
from swarmd.journal.encoding import encode
from swarmd.journal.segment import Record
from swarmd.journal.store import SwarmStore
from tests.core.test_freezing import CREATED, Life, told_again

Told = tuple[Event, float]


def records_of(told: Sequence[Told], first: int = 2) -> list[Record]:
    """What a journal keeps of these events; the first event of all is 1, and made the swarm."""
    return [Record(seq, at, encode(event)) for seq, (event, at) in enumerate(told, first)]


def stored(
    folder: Path, told: Sequence[Told] = (), *, at_once: int = 1, snapshot_after: int | None = None
) -> SwarmStore:
    """A store that holds a life, its files open; with a snapshot after so many of the events."""
    store = SwarmStore.create(folder, CREATED, 1.5)
    if snapshot_after is not None:
        write(store, told[:snapshot_after], at_once=at_once)
        keep_snapshot(store, told[:snapshot_after])
        write(store, told[snapshot_after:], first=2 + snapshot_after, at_once=at_once)
    else:
        write(store, told, at_once=at_once)
    return store


def write(store: SwarmStore, told: Sequence[Told], *, first: int = 2, at_once: int = 1) -> None:
    """Append events, so many a commit."""
    records = records_of(told, first)
    for start in range(0, len(records), at_once):
        store.append(records[start : start + at_once])


def keep_snapshot(store: SwarmStore, told: Sequence[Told]) -> int:
    """Let a store keep the swarm as it is after these events; gives the snapshot's bytes."""
    store.switch(store.prepare_segment())
    return store.keep_snapshot(1 + len(told), freeze(told_again(told)))


def after_a_crash(store: SwarmStore, copy: Path) -> SwarmStore:
    """What another daemon finds when this one is killed now: a copy made while no other thread changed a file."""
    while True:
        before = _as_listed(store.folder)
        with contextlib.suppress(shutil.Error):
            shutil.copytree(store.folder, copy)
            if _as_listed(store.folder) == before:
                return SwarmStore(copy)
        shutil.rmtree(copy, ignore_errors=True)


def _as_listed(folder: Path) -> list[tuple[str, int, int, int]]:
    """Names, places on the disk, sizes and times of change."""
    found = []
    for each in sorted(folder.rglob("*")):
        with contextlib.suppress(FileNotFoundError):
            at = each.stat()
            found.append((each.name, at.st_ino, at.st_size, at.st_mtime_ns))
    return found


def swarm_after(life: Life, seq: int) -> Swarm:
    """The swarm as it was after event `seq`; of a load that was not complete by then nothing is left."""
    told = life.told[: seq - 1]
    while told and isinstance(told[-1][0], LoadPart):
        told.pop()
    return told_again(told)


def flipped(data: bytes, at: int, bits: int = 0xFF) -> bytes:
    """The same with these bits of one byte turned."""
    return data[:at] + bytes([data[at] ^ bits]) + data[at + 1 :]
