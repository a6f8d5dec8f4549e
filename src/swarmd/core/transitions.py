"""The transition table: what news of a status does to a task, by where the task stands.

The one screen on which the whole life of a task can be read. Anything not in the table is stale news. `CANCELLED` is
missing on purpose: it comes from a command, never as news.
"""

from enum import IntEnum

import numpy as np

from swarmd.core.status import STANDING_CODES, Code


class Effect(IntEnum):
    """What happens to a task whose news arrived."""

    SAME = 0  # it stands there already
    START = 1  # somebody else queued it: it leaves its lane, and an attempt begins
    MOVE = 2  # further on its way
    FINISH = 3  # DONE: final, downstreams are freed
    FAIL = 4  # ERROR_FATAL: final, downstreams are blocked
    RETRY = 5  # the attempt failed: ready again while attempts are left
    ADJUST = 6  # the attempt ran out of resources: the same, with more of them, at the front
    GIVE_BACK = 7  # the engine gave it back: ready again
    STALE_FINAL = 8
    STALE_FURTHER = 9
    STALE_NOT_QUEUED = 10
    STALE_ATTEMPT = 11  # by the fence, never by the table


_G, _V, _Q, _I, _O, _R = (
    Code.REGISTERED,
    Code.RESERVED,
    Code.QUEUED,
    Code.INSTANTIATING,
    Code.LAUNCHED,
    Code.RUNNING,
)
_D, _F, _X = Code.DONE, Code.ERROR_FATAL, Code.CANCELLED
_E, _A = Code.ERROR_RECOVERABLE, Code.ADJUSTING_RESOURCES

_ENDS = {_D: Effect.FINISH, _F: Effect.FAIL, _E: Effect.RETRY, _A: Effect.ADJUST, _G: Effect.GIVE_BACK}
_MOVE, _SAME, _LATE = Effect.MOVE, Effect.SAME, Effect.STALE_FURTHER
_START, _IDLE, _FINAL = Effect.START, Effect.STALE_NOT_QUEUED, Effect.STALE_FINAL
_STALE = dict.fromkeys((_G, _Q, _I, _O, _R, _D, _F, _E, _A), _FINAL)

TABLE: dict[Code, dict[Code, Effect]] = {
    # from    news: Q, I, O, R ...                                   and D, F, E, A, G
    _G: {_Q: _START, _I: _START, _O: _START, _R: _START} | {**_ENDS, _E: _IDLE, _A: _IDLE, _G: _SAME},
    _V: {_Q: _MOVE, _I: _MOVE, _O: _MOVE, _R: _MOVE} | _ENDS,
    _Q: {_Q: _SAME, _I: _MOVE, _O: _MOVE, _R: _MOVE} | _ENDS,
    _I: {_Q: _LATE, _I: _SAME, _O: _MOVE, _R: _MOVE} | _ENDS,
    _O: {_Q: _LATE, _I: _LATE, _O: _SAME, _R: _MOVE} | _ENDS,
    _R: {_Q: _LATE, _I: _LATE, _O: _LATE, _R: _SAME} | _ENDS,
    _D: {**_STALE, _D: _SAME},
    _F: {**_STALE, _F: _SAME},
    _X: _STALE,
}
"""What news does: TABLE[where the task stands][what the news says]."""


def _as_array() -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    effects = np.full((STANDING_CODES, len(Code)), Effect.STALE_FINAL, dtype=np.uint8)
    for code, row in TABLE.items():
        for news, effect in row.items():
            effects[code, news] = effect
    return effects


EFFECTS = _as_array()
"""The same as an array, for many tasks at once."""
EFFECT_OF = [[Effect(number) for number in row] for row in EFFECTS.tolist()]
"""The same again, for tasks that all stand alike."""
