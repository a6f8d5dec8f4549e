"""Metrics: counts what the daemon's parts tell. `standing.py` has how swarms stand, `page.py` the names."""

import contextlib
import time
from collections.abc import Callable, Iterator

from swarmd.core.batch import Batch
from swarmd.observing.observer import CallEnd, Metadata, Observer
from swarmd.observing.tallies import SECONDS, SIZES, Distributions, Tally


class Metrics(Observer):
    """All counts since the daemon started."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.clock = clock
        self.calls = Tally()
        """By method and code."""
        self.under_way: dict[str, int] = {}
        """By method."""
        self.durations = Distributions(SECONDS)
        """Of calls that answer once, by method."""
        self.messages = Tally()
        """By method and direction."""
        self.refusals = Tally()
        """By reason."""
        self.ticks = Distributions(SECONDS)
        self.gateway_calls = Distributions(SECONDS)
        """By gateway and call."""
        self.gateway_errors = Tally()
        """By gateway and call."""
        self.queueing = Tally()
        """Batches whose call is under way, by gateway."""
        self.batches = Tally()
        """By gateway and outcome."""
        self.batch_sizes = Distributions(SIZES)
        """By gateway."""
        self.refused_tasks = Tally()
        """By gateway."""
        self.commits = Distributions(SECONDS)
        self.groups = Distributions(SIZES)
        self.journal_bytes = 0
        self.journal_errors = 0
        self.snapshots = Distributions(SECONDS)

    def call(self, method: str, metadata: Metadata, peer: str, *, answers_once: bool) -> CallEnd:
        del metadata, peer
        return _CountedCall(self, method, timed=answers_once)

    @contextlib.contextmanager
    def tick(self, swarm_id: str) -> Iterator[None]:
        del swarm_id
        begun = self.clock()
        try:
            yield
        finally:
            self.ticks.add(self.clock() - begun)

    @contextlib.contextmanager
    def gateway_call(self, gateway: str, call: str, batch: Batch | None = None) -> Iterator[None]:
        del batch
        begun = self.clock()
        if call == "queue_batch":
            self.queueing.add(gateway)
        try:
            yield
        except BaseException:
            self.gateway_errors.add(gateway, call)
            raise
        finally:
            self.gateway_calls.add(self.clock() - begun, gateway, call)
            if call == "queue_batch":
                self.queueing.add(gateway, count=-1)

    def batch_over(self, gateway: str, outcome: str, size: int, refused: int) -> None:
        self.batches.add(gateway, outcome)
        self.batch_sizes.add(size, gateway)
        self.refused_tasks.add(gateway, count=refused)

    def committed(self, events: int, size: int, seconds: float) -> None:
        self.commits.add(seconds)
        self.groups.add(events)
        self.journal_bytes += size

    def commit_failed(self) -> None:
        self.journal_errors += 1

    def snapshot_made(self, seconds: float) -> None:
        self.snapshots.add(seconds)


class _CountedCall(CallEnd):
    """One call while it goes on."""

    __slots__ = ("_begun", "_method", "_metrics", "_timed")

    def __init__(self, metrics: Metrics, method: str, *, timed: bool) -> None:
        self._metrics, self._method, self._timed = metrics, method, timed
        self._begun = metrics.clock()
        metrics.under_way[method] = metrics.under_way.get(method, 0) + 1

    def received(self, size: int) -> None:
        del size
        self._metrics.messages.add(self._method, "received")

    def answered(self) -> None:
        self._metrics.messages.add(self._method, "sent")

    def over(self, code: str, refusal: str) -> None:
        metrics, method = self._metrics, self._method
        metrics.under_way[method] -= 1
        metrics.calls.add(method, code)
        if refusal:
            metrics.refusals.add(refusal)
        if self._timed:
            metrics.durations.add(metrics.clock() - self._begun, method)
