"""What a launcher has started, in memory that its guardian shares: it is there when the launcher has been killed.

A place for each task, taken before its process is started and given up when that is reaped. What a place holds counts
from when its first byte says so, so that nobody reads what is half written.
"""

import mmap
import os
import struct
import time
from typing import NamedTuple

PLACES = 1 << 14
PLACE_BYTES = 4096
_NEVER, _USED, _FREE = range(3)
_OMISSIONS_AT = PLACES * PLACE_BYTES
_PID = struct.Struct("@I")
_HEAD = struct.Struct("=IQQHH")
_PID_AT, _HEAD_AT = 4, 4
_NAMES_AT = _HEAD_AT + _HEAD.size
_NO_RESERVE = 0x4000
"""MAP_NORESERVE: only what is written to takes memory, a page for each task that runs at the same time."""
NO_PLACE = -1


class Entry(NamedTuple):
    """One task."""

    place: int
    key: int
    pid: int
    """0: it was just being started."""
    since: int
    """When that began, in clock ticks since the boot."""
    output: bytes
    status: bytes | None


class Ledger:
    """Places for tasks; those that find none are not in it."""

    def __init__(self, memory: mmap.mmap | None) -> None:
        self._memory = memory
        self._used = 0
        """So many places have ever been taken."""
        self._free: list[int] = []

    @classmethod
    def shared(cls) -> "Ledger":
        """With memory that a child has as well. Raises OSError."""
        return cls(mmap.mmap(-1, _OMISSIONS_AT + 1, flags=mmap.MAP_SHARED | mmap.MAP_ANONYMOUS | _NO_RESERVE))

    def note(self, key: int, output: bytes, status: bytes | None) -> int:
        """Its place, from now on taken."""
        memory = self._memory
        if memory is None:
            return NO_PLACE
        names = output if status is None else output + status
        if len(names) > PLACE_BYTES - _NAMES_AT or not (self._free or self._used < PLACES):
            memory[_OMISSIONS_AT] = 1
            return NO_PLACE
        if self._free:
            place = self._free.pop()
        else:
            place = self._used
            self._used += 1
        start = place * PLACE_BYTES
        _HEAD.pack_into(memory, start + _HEAD_AT, 0, key, _ticks_now(), len(output), len(names) - len(output))
        memory[start + _NAMES_AT : start + _NAMES_AT + len(names)] = names
        memory[start] = _USED
        return place

    def started(self, place: int, pid: int) -> None:
        """As this process."""
        if self._memory and place != NO_PLACE:
            _PID.pack_into(self._memory, place * PLACE_BYTES + _PID_AT, pid)

    def give_up(self, place: int) -> None:
        """Nothing runs there any more."""
        if self._memory and place != NO_PLACE:
            self._memory[place * PLACE_BYTES] = _FREE
            self._free.append(place)

    @property
    def is_complete(self) -> bool:
        """Whether everything that ever ran found a place."""
        return self._memory is not None and not self._memory[_OMISSIONS_AT]

    def entries(self) -> list[Entry]:
        """All that are taken, whoever of those that share it took them."""
        found: list[Entry] = []
        memory = self._memory
        if memory is None:
            return found
        for start in range(0, PLACES * PLACE_BYTES, PLACE_BYTES):
            if memory[start] == _NEVER:
                break
            if memory[start] == _USED:
                pid, key, since, *lengths = _HEAD.unpack_from(memory, start + _HEAD_AT)
                middle = start + _NAMES_AT + lengths[0]
                output, status = memory[start + _NAMES_AT : middle], memory[middle : middle + lengths[1]]
                found.append(Entry(start // PLACE_BYTES, key, pid, since, output, status or None))
        return found


def _ticks_now() -> int:
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) * _TICKS_PER_SECOND)


_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
