"""How large the headers of a call may be, and what becomes of those that are larger.

gRPC (1.85) bounds each frame of headers and not how many frames a call may have of them, and grpcio ties every call's
headers into a circle that only Python's collector undoes, which comes by seldom. So what somebody sends whom nobody
has let in would stay for minutes, megabytes a call.
"""

import asyncio
import contextlib
import ctypes
import gc
from collections.abc import Callable, Iterable

from swarmd.core.errors import LimitExceededError

LARGEST_HEADERS = 16 * 1024
"""As gRPC has it for one frame."""
GIVEN_BACK_AFTER_SECONDS = 0.25

Metadata = Iterable[tuple[str, str | bytes]]


def give_back() -> None:
    """Free what calls have left behind, and let the system have it."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # not every C library has it
        ctypes.CDLL(None).malloc_trim(0)


class HeaderBound:
    """Turns calls away whose headers are too large, and sees to it that those are soon gone."""

    def __init__(self, give_back: Callable[[], object] = give_back) -> None:
        self._give_back = give_back
        self._waits = False

    def check(self, metadata: Metadata | None) -> None:
        """Raise LimitExceededError when there is too much of it."""
        size = 0
        for name, value in metadata or ():
            size += len(name) + len(value)
        if size <= LARGEST_HEADERS:
            return
        if not self._waits:
            self._waits = True
            asyncio.get_running_loop().call_later(GIVEN_BACK_AFTER_SECONDS, self._clear)
        message = f"max_header_bytes: {size} bytes of headers; a call may have {LARGEST_HEADERS}"
        raise LimitExceededError(message, reason="HEADERS_TOO_LARGE", metadata={"limit": "max_header_bytes"})

    def _clear(self) -> None:
        self._waits = False
        self._give_back()
