"""What a daemon and its launcher say to each other.

Frames: four bytes with the length, then tuples of plain values, marshalled; both ends are the same Python. The launcher
begins with READY; a daemon that speaks another version gives it no order.
"""

import marshal

VERSION = 2
"""Raised with every change of what follows."""

START, RELEASE, KILL, SWARM, FORGET = range(5)
"""Orders: (START, id, swarm, variables, arguments, the shell's arguments or None, output, status file or None),
(RELEASE, id), (KILL, id), (SWARM, swarm, environment, working directory or None), (FORGET, swarm)."""
STARTED, ENDED, TAKEN, FAILED, BROKEN, READY, KNOWN = range(7)
"""Answers: (STARTED, id, pid, start in clock ticks), (ENDED, id, exit code), (TAKEN, id): its status file was there,
(FAILED, id, which of the next three, errno, why, file name): nothing runs, (BROKEN, traceback), (READY, 0, version),
and (KNOWN, 0, all): the guardian, which has taken over, has told of what was started, of all of it or not."""
NO_OUTPUT, NO_STATUS, NO_PROCESS = range(3)

READ_BYTES = 1 << 18
FORMAT = 4
"""Of marshal: the same in every Python that there may be at the other end."""

OTHER_DESCRIPTORS = 16
"""Those that a launcher needs besides two for each task."""


class Frames:
    """The messages in what comes in."""

    def __init__(self) -> None:
        self._data = b""

    def taken(self, data: bytes) -> list[tuple]:  # type: ignore[type-arg]
        """All that are whole, with `data` after what came before."""
        if self._data:
            data = self._data + data
        found: list[tuple] = []  # type: ignore[type-arg]
        start, size = 0, len(data)
        while size - start >= 4:
            end = start + 4 + int.from_bytes(data[start : start + 4], "big")
            if end > size:
                break
            found += marshal.loads(memoryview(data)[start + 4 : end])  # noqa: S302 - from the other end of a pair
            start = end
        self._data = data[start:]
        return found


def framed(messages: list) -> bytes:  # type: ignore[type-arg]
    """Messages as they are sent."""
    data = marshal.dumps(messages, FORMAT)
    return len(data).to_bytes(4, "big") + data


def most_at_once(descriptors: int) -> int:
    """How many tasks a launcher can have that may open so many files; at least one."""
    return max(1, (descriptors - OTHER_DESCRIPTORS) // 2)
