"""Arrays that grow at their end in amortised constant time, and exactly fit what came in one piece."""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T", bound=np.generic)


def grown(buffer: NDArray[T], used: int, added: NDArray[T]) -> NDArray[T]:
    """A buffer whose first `used` elements are kept and followed by `added`.

    The same buffer when there was room, and `added` itself when nothing was kept: it must be nobody else's.
    """
    needed = used + len(added)
    if not used and len(added) > len(buffer):
        return added if added.flags.owndata and added.flags.writeable else added.copy()
    if needed > len(buffer):
        larger = np.empty(max(needed, used + used // 4), dtype=buffer.dtype)
        larger[:used] = buffer[:used]
        buffer = larger
    buffer[used:needed] = added
    return buffer
