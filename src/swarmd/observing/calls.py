"""One line in the log for each RPC, at debug level. Only there when that level is on."""

import time
from collections.abc import Callable

from swarmd.loggers import get_logger
from swarmd.observing.observer import CallEnd, Metadata, Observer

log = get_logger("swarmd.rpc")


class CallLog(Observer):
    """Writes a line when a call is over."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock

    def call(self, method: str, metadata: Metadata, peer: str, *, answers_once: bool) -> CallEnd:
        del metadata, answers_once
        return _LoggedCall(method, peer.partition(":")[0], self._clock)


class _LoggedCall(CallEnd):
    __slots__ = ("_begun", "_clock", "_method", "_peer", "_received", "_received_bytes", "_sent")

    def __init__(self, method: str, peer: str, clock: Callable[[], float]) -> None:
        self._method, self._peer, self._clock = method, peer, clock
        self._begun = clock()
        self._received = self._received_bytes = self._sent = 0

    def received(self, size: int) -> None:
        self._received += 1
        self._received_bytes += size

    def answered(self) -> None:
        self._sent += 1

    def over(self, code: str, refusal: str) -> None:
        more = {"reason": refusal} if refusal else {}
        log.debug(
            "call",
            rpc=self._method,
            code=code,
            seconds=round(self._clock() - self._begun, 6),
            peer=self._peer,
            received=self._received,
            received_bytes=self._received_bytes,
            sent=self._sent,
            **more,
        )
