"""A small discrete event simulation: jobs that wait in lines. Deterministic, and knows nothing of daemons."""

import heapq
import itertools
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass

Step = tuple[tuple["Line", ...], float] | float
"""Hold these lines, got one after the other, for so long; or nothing but time passes."""
Job = Generator[Step, None, None]


class Line:
    """Something that serves as many at a time as it has places; who comes first is served first."""

    def __init__(self, name: str, places: int = 1) -> None:
        self.name = name
        self.places = places
        self.busy = 0.0
        """Seconds that its places did something, in all."""
        self.free = places
        self.waiting: deque[_Hold] = deque()


class Join:
    """Begins a job when all of several are over."""

    def __init__(self, count: int, then: Job | None) -> None:
        self.left = count
        self.then = then


@dataclass(slots=True)
class _Hold:
    """A job that gets lines, holds them and lets them go."""

    job: Job
    join: Join | None
    lines: tuple[Line, ...]
    seconds: float
    got: int = 0


class Simulation:
    """What happens at the same time happens in the order in which it was begun."""

    def __init__(self) -> None:
        self.now = 0.0
        self._numbers = itertools.count()
        self._events: list[tuple[float, int, Callable[[], None]]] = []

    def start(self, job: Job, join: Join | None = None) -> None:
        """Let a job begin now; `join` is told when it is over."""
        self._after(0.0, lambda: self._go_on(job, join))

    def run(self) -> float:
        """Until nothing is left to do; returns the time."""
        while self._events:
            self.now, _, happen = heapq.heappop(self._events)
            happen()
        return self.now

    def _after(self, seconds: float, happen: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._numbers), happen))

    def _go_on(self, job: Job, join: Join | None) -> None:
        step = next(job, None)
        if step is None:
            self._is_over(join)
        elif isinstance(step, tuple):
            self._get(_Hold(job, join, *step))
        else:
            self._after(step, lambda: self._go_on(job, join))

    def _is_over(self, join: Join | None) -> None:
        if join is None:
            return
        join.left -= 1
        if not join.left and join.then is not None:
            self.start(join.then)

    def _get(self, hold: _Hold) -> None:
        while hold.got < len(hold.lines):
            line = hold.lines[hold.got]
            if not line.free:
                line.waiting.append(hold)
                return
            line.free -= 1
            hold.got += 1
        self._after(hold.seconds, lambda: self._let_go(hold))

    def _let_go(self, hold: _Hold) -> None:
        for line in hold.lines:
            line.busy += hold.seconds
            if line.waiting:
                follower = line.waiting.popleft()
                follower.got += 1
                self._get(follower)
            else:
                line.free += 1
        self._go_on(hold.job, hold.join)
