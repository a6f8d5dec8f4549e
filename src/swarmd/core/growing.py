"""Arrays that grow at their end in amortised constant time, and exactly fit what came in one piece."""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T", bound=np.generic)


def grown(buffer: NDArray[T], used: int, added: NDArray[T]) -> NDArray[T]:
    """A buffer whose first `used` elements are kept and followed by `added`; the same one when there was room."""
    needed = used + len(added)
    if needed > len(buffer):
        room = needed if not used else max(needed, used + used // 4)
        larger = np.empty(room, dtype=buffer.dtype)
        larger[:used] = buffer[:used]
        buffer = larger
    buffer[used:needed] = added
    return buffer
