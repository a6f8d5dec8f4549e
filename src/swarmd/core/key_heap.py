"""A heap of keys that are not searched for when they stop to hold: what goes next among lanes, and among arrays."""

from collections.abc import Callable
from heapq import heappop, heappush

Key = tuple[int, ...]
"""(rank, sequence number of the head, row of the lane or array): the smallest goes first. Under fair shares an array's
key is (rank, active tasks, number of its last turn, row)."""


class KeyHeap:
    """Keys, smallest first. A key that no longer holds is left where it is, and swept out when such keys abound."""

    __slots__ = ("_keys", "_sweep_at")

    def __init__(self) -> None:
        self._keys: list[Key] = []
        self._sweep_at = 64

    def push(self, key: Key, holds: Callable[[Key], bool]) -> None:
        heappush(self._keys, key)
        if len(self._keys) > self._sweep_at:
            self._keys = sorted({key for key in self._keys if holds(key)})
            self._sweep_at = 64 + 2 * len(self._keys)

    def first(self, holds: Callable[[Key], bool]) -> Key | None:
        """The smallest key that holds, or None."""
        while self._keys:
            if holds(self._keys[0]):
                return self._keys[0]
            heappop(self._keys)
        return None
