"""Since when to ask for changes: the server's own times, never parsed, with an overlap. No I/O; times are passed in.

A change is stamped when its transaction begins and becomes visible when that ends, so a question begins some time
before the one before it. A question whose answer could not be used as a whole is asked again from the same time on.
"""

from collections import deque


class SyncClock:
    """The times that the server told, and which of them the next question begins at."""

    def __init__(self, overlap: float) -> None:
        self._overlap = overlap
        self._told: deque[tuple[float, str]] = deque()
        self._held = False
        self._base: str | None = None

    def base(self, now: float) -> str | None:
        """What to give as `last_sync` now; None: ask for everything."""
        if not self._held:
            while len(self._told) > 1 and self._told[1][0] <= now - self._overlap:
                self._told.popleft()
            known = bool(self._told) and self._told[0][0] <= now - self._overlap
            self._base = self._told[0][1] if known else None
        return self._base

    def told(self, begun_at: float, server_time: str) -> None:
        """A question that began then was answered, and all of the answer counts."""
        self._held = False
        self._told.append((begun_at, server_time))

    def hold(self) -> None:
        """Some of an answer could not be told from older news: the next question begins where this one did."""
        self._held = True
