"""What SQLite's write-ahead log holds, read before SQLite reads it.

SQLite takes a log up to its first wrong frame and forgets the rest without a word. That is right for a tail that was
cut off in the middle of a commit, and wrong where whole commits follow behind a damaged one: here the two are told
apart. The format: https://www.sqlite.org/fileformat2.html#walformat.
"""

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

HEADER = struct.Struct(">8I")
FRAME_HEADER_BYTES = 24
LITTLE_ENDIAN_SUMS, BIG_ENDIAN_SUMS = 0x377F0682, 0x377F0683

Words = NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class WalReport:
    """What is in a log."""

    torn_bytes: int = 0
    """Bytes behind the last whole commit that belong to one that was never finished."""
    damaged_at: int | None = None
    """Where a wrong frame begins that has whole commits behind it."""


def inspect(path: Path) -> WalReport:
    """Look at a log; one that is missing or empty holds nothing."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return WalReport()
    if len(data) <= HEADER.size:
        return WalReport(torn_bytes=len(data) % HEADER.size)
    magic, _, page_bytes, _, salt1, salt2, sum1, sum2 = HEADER.unpack_from(data)
    if magic not in (LITTLE_ENDIAN_SUMS, BIG_ENDIAN_SUMS) or not 512 <= page_bytes <= 65536:
        return WalReport(torn_bytes=len(data))
    order = "<u4" if magic == LITTLE_ENDIAN_SUMS else ">u4"
    head = np.frombuffer(data, dtype=order, count=6).astype(np.uint32)[np.newaxis]
    zero = np.zeros(1, dtype=np.uint32)
    if _sums(zero, zero, head) != ([sum1], [sum2]):
        return WalReport(torn_bytes=len(data))
    return _frames(data, page_bytes, order, (salt1, salt2), (sum1, sum2))


def _frames(data: bytes, page_bytes: int, order: str, salts: tuple[int, int], sums: tuple[int, int]) -> WalReport:
    frame_bytes = FRAME_HEADER_BYTES + page_bytes
    count = (len(data) - HEADER.size) // frame_bytes
    body = np.frombuffer(data, dtype=np.uint8, count=count * frame_bytes, offset=HEADER.size)
    frames = body.reshape(count, frame_bytes)
    heads = frames[:, :FRAME_HEADER_BYTES].copy().view(">u4").astype(np.uint32)
    ours = np.flatnonzero((heads[:, 2] == salts[0]) & (heads[:, 3] == salts[1]))
    count = int(ours[-1]) + 1 if len(ours) else 0  # what follows is left over from before the log was begun anew
    heads, frames = heads[:count], frames[:count]
    valid = (heads[:, 2] == salts[0]) & (heads[:, 3] == salts[1])
    if count:
        before1 = np.concatenate((np.array([sums[0]], dtype=np.uint32), heads[:-1, 4]))
        before2 = np.concatenate((np.array([sums[1]], dtype=np.uint32), heads[:-1, 5]))
        words = np.concatenate((frames[:, :8], frames[:, FRAME_HEADER_BYTES:]), axis=1).view(order).astype(np.uint32)
        told1, told2 = _sums(before1, before2, words)
        valid &= (np.array(told1, dtype=np.uint32) == heads[:, 4]) & (np.array(told2, dtype=np.uint32) == heads[:, 5])
    wrong = np.flatnonzero(~valid)
    first_wrong = int(wrong[0]) if len(wrong) else count
    commits = np.flatnonzero(valid & (heads[:, 1] != 0))
    if len(commits) and int(commits[-1]) > first_wrong:
        return WalReport(damaged_at=HEADER.size + first_wrong * frame_bytes)
    kept = int(commits[-1]) + 1 if len(commits) else 0
    rest = len(data) - HEADER.size - count * frame_bytes
    partial = rest if 0 < rest < frame_bytes else 0  # whole frames behind ours are left over
    return WalReport(torn_bytes=(count - kept) * frame_bytes + partial)


def _sums(first: Words, second: Words, words: Words) -> tuple[list[int], list[int]]:
    """SQLite's checksums of many pieces at once: a row a piece, begun with the sums of the piece before it."""
    one, two = first.copy(), second.copy()
    for place in range(0, words.shape[1], 2):
        one += words[:, place] + two
        two += words[:, place + 1] + one
    return one.tolist(), two.tolist()
