"""What SQLite's write-ahead log holds, read before SQLite reads it.

SQLite takes a log up to its first wrong frame and forgets the rest without a word. That is right for a tail that was
cut off in the middle of a commit, and wrong where whole commits follow behind a damaged one: here the two are told
apart. The format: https://www.sqlite.org/fileformat2.html#walformat.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

HEADER = struct.Struct(">8I")
SALTS = struct.Struct(">2I")
FRAME_HEADER_BYTES = 24
LITTLE_ENDIAN_SUMS, BIG_ENDIAN_SUMS = 0x377F0682, 0x377F0683

PAGE_BYTES = 4096
"""Of the databases that are made here."""

Words = NDArray[np.uint32]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class WalReport:
    """What is in a log."""

    torn_bytes: int = 0
    """Bytes behind the last whole commit that belong to one that was never finished."""
    damaged_at: int | None = None
    """Where something wrong begins that has whole commits behind it."""


def inspect(path: Path) -> WalReport:
    """Look at a log; one that is missing or empty holds nothing. Raises OSError."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return WalReport()
    if len(data) <= HEADER.size:
        return WalReport(torn_bytes=len(data) % HEADER.size)
    magic, _, page_bytes, _, salt1, salt2, sum1, sum2 = HEADER.unpack_from(data)
    order = ">u4" if magic == BIG_ENDIAN_SUMS else "<u4"
    head = np.frombuffer(data, dtype=order, count=6).astype(np.uint32)[np.newaxis]
    zero = np.zeros(1, dtype=np.uint32)
    (found1,), (found2,) = _sums(zero, zero, head)
    if magic in (LITTLE_ENDIAN_SUMS, BIG_ENDIAN_SUMS) and (found1, found2) == (sum1, sum2):
        return _report(_Frames(data, page_bytes, order, (salt1, salt2), (sum1, sum2)))
    if _has_commits(data, (salt1, salt2), ((sum1, sum2), (found1, found2))):
        return WalReport(damaged_at=0)
    return WalReport(torn_bytes=len(data))


def _has_commits(data: bytes, salts: tuple[int, int], sums: Sequence[tuple[int, int]]) -> bool:
    """Whether whole commits belong to a wrong header: it was right once, and not torn while the log was begun anew."""
    if len(data) < HEADER.size + FRAME_HEADER_BYTES:
        return False
    first: tuple[int, int] = SALTS.unpack_from(data, HEADER.size + SALTS.size)
    if first[0] != salts[0] and first[1] != salts[1]:
        return False
    candidates = (_Frames(data, PAGE_BYTES, "<u4", first, each) for each in sums)
    return any(np.any(frames.valid & frames.ends_commit) for frames in candidates)


class _Frames:
    """The frames of a log from its beginning to the last that is not left over from before it was begun anew."""

    def __init__(self, data: bytes, page_bytes: int, order: str, salts: tuple[int, int], sums: tuple[int, int]) -> None:
        self.frame_bytes = FRAME_HEADER_BYTES + page_bytes
        count = (len(data) - HEADER.size) // self.frame_bytes
        body = np.frombuffer(data, dtype=np.uint8, count=count * self.frame_bytes, offset=HEADER.size)
        frames = body.reshape(count, self.frame_bytes)
        heads = frames[:, :FRAME_HEADER_BYTES].copy().view(">u4").astype(np.uint32)
        fits = heads[:, 2:4] == np.array(salts, dtype=np.uint32)
        ours = np.flatnonzero(fits.any(axis=1))  # both salts are new each time: one that fits is no accident
        self.count = int(ours[-1]) + 1 if len(ours) else 0
        heads, frames, fits = heads[: self.count], frames[: self.count], fits[: self.count]
        told = np.concatenate((np.array([sums], dtype=np.uint32), heads[:, 4:6]))
        words = np.concatenate((frames[:, :8], frames[:, FRAME_HEADER_BYTES:]), axis=1).view(order).astype(np.uint32)
        found = _summed(told[:-1], words)
        self.valid: Flags = fits.all(axis=1) & (found == told[1:]).all(axis=1)
        """Whether each follows on the one before it, be that one right or not."""
        self.ends_commit: Flags = fits.any(axis=1) & (heads[:, 1] != 0)
        """Whether each says that it is the last of a commit."""
        wrong = np.flatnonzero(~self.valid)
        self.first_wrong = int(wrong[0]) if len(wrong) else self.count
        if self.first_wrong < self.count - 1:  # what is wrong there may be the very sum from which the next goes on
            again = _summed(found[:-1], words[1:])
            self.valid[1:] |= fits[1:].all(axis=1) & (again == told[2:]).all(axis=1)
        rest = len(data) - HEADER.size - self.count * self.frame_bytes
        self.partial_bytes = rest if 0 < rest < self.frame_bytes else 0  # whole frames behind ours are left over


def _report(frames: _Frames) -> WalReport:
    """A commit is synced as a whole: of the last one any frame may be missing, of those before it none."""
    ends = np.flatnonzero(frames.ends_commit)
    whole = ends[frames.valid[ends]]
    last = int(whole[-1]) if len(whole) else -1
    if np.any((ends >= frames.first_wrong) & (ends < last)):
        return WalReport(damaged_at=HEADER.size + frames.first_wrong * frames.frame_bytes)
    before = whole[whole < frames.first_wrong]
    kept = int(before[-1]) + 1 if len(before) else 0
    return WalReport(torn_bytes=(frames.count - kept) * frames.frame_bytes + frames.partial_bytes)


def _summed(before: Words, words: Words) -> Words:
    """The pair of sums of each piece, begun with a pair each."""
    return np.array(_sums(before[:, 0], before[:, 1], words), dtype=np.uint32).T


def _sums(first: Words, second: Words, words: Words) -> tuple[list[int], list[int]]:
    """SQLite's checksums of many pieces at once: a row a piece, begun with the sums of the piece before it."""
    one, two = first.copy(), second.copy()
    for place in range(0, words.shape[1], 2):
        one += words[:, place] + two
        two += words[:, place + 1] + one
    return one.tolist(), two.tolist()
