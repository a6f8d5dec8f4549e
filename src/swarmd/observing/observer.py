"""Observer: what the daemon's parts tell of their work. This one hears nothing of it, and costs nothing.

Called in the event loop's thread. Nothing here may raise, block or wait.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager

from swarmd.core.batch import Batch

Metadata = Iterable[tuple[str, str | bytes]]


class CallEnd:
    """Told how an RPC goes on and ends. Made for each call; this one does not care."""

    def received(self, size: int) -> None:
        """One message of the client, in bytes."""

    def answered(self) -> None:
        """One message to the client."""

    def over(self, code: str, refusal: str) -> None:
        """The name of the status code, and the reason of the error that the call was refused with."""


_NO_MATTER = CallEnd()
_NOTHING = contextlib.nullcontext()


class Observer:
    """Hears nothing of anything."""

    def call(self, method: str, metadata: Metadata, peer: str, *, answers_once: bool) -> CallEnd:
        """An RPC begins; what is set in the context stays for the time of the call. `method` is one that is known."""
        del method, metadata, peer, answers_once
        return _NO_MATTER

    def tick(self, swarm_id: str) -> AbstractContextManager[None]:
        """Around one tick."""
        del swarm_id
        return _NOTHING

    def gateway_call(self, gateway: str, call: str, batch: Batch | None = None) -> AbstractContextManager[None]:
        """Around one call to a gateway."""
        del gateway, call, batch
        return _NOTHING

    def batch_over(self, gateway: str, outcome: str, size: int, refused: int) -> None:
        """What became of the call that queued a batch: `queued`, `refused`, `in_doubt` or `failed`."""

    def committed(self, events: int, size: int, seconds: float) -> None:
        """Events of a swarm are on disk: how many, how many bytes, how long it took."""

    def commit_failed(self) -> None:
        """Events could not be written down."""

    def snapshot_made(self, seconds: float) -> None:
        """A snapshot of a swarm is on disk."""


UNOBSERVED = Observer()


class _Ends(CallEnd):
    def __init__(self, ends: Sequence[CallEnd]) -> None:
        self._ends = ends

    def received(self, size: int) -> None:
        for each in self._ends:
            each.received(size)

    def answered(self) -> None:
        for each in self._ends:
            each.answered()

    def over(self, code: str, refusal: str) -> None:
        for each in self._ends:
            each.over(code, refusal)


class Observers(Observer):
    """Several at once."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = observers

    def call(self, method: str, metadata: Metadata, peer: str, *, answers_once: bool) -> CallEnd:
        known = tuple(metadata)
        return _Ends([each.call(method, known, peer, answers_once=answers_once) for each in self._observers])

    def tick(self, swarm_id: str) -> AbstractContextManager[None]:
        return _together(lambda each: each.tick(swarm_id), self._observers)

    def gateway_call(self, gateway: str, call: str, batch: Batch | None = None) -> AbstractContextManager[None]:
        return _together(lambda each: each.gateway_call(gateway, call, batch), self._observers)

    def batch_over(self, gateway: str, outcome: str, size: int, refused: int) -> None:
        for each in self._observers:
            each.batch_over(gateway, outcome, size, refused)

    def committed(self, events: int, size: int, seconds: float) -> None:
        for each in self._observers:
            each.committed(events, size, seconds)

    def commit_failed(self) -> None:
        for each in self._observers:
            each.commit_failed()

    def snapshot_made(self, seconds: float) -> None:
        for each in self._observers:
            each.snapshot_made(seconds)


def together(observers: Sequence[Observer]) -> Observer:
    """One that stands for all of them."""
    if not observers:
        return UNOBSERVED
    return observers[0] if len(observers) == 1 else Observers(observers)


@contextlib.contextmanager
def _together(
    begin: Callable[[Observer], AbstractContextManager[None]], observers: Sequence[Observer]
) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for each in observers:
            stack.enter_context(begin(each))
        yield
