"""The patrol: attempts that Slurm calls running are looked after now and then, should it have missed their end.

A controller that is killed forgets its last seconds: what ended then is running for it until it notices, which can take
until the time limit. The status files know better. So that a look stays cheap whatever runs, each reads only a few of
them, those of the longest neglected first.
"""

import asyncio
from collections import deque
from collections.abc import Callable

from swarmd.core.status import TaskStatus
from swarmd.gateways.slurm.attempts import Element, Ending, Phase
from swarmd.gateways.slurm.programs import Programs
from swarmd.gateways.slurm.settling import Outcome, last_words_of_all
from swarmd.gateways.slurm.states import Stage, stage_of

INTERVAL_SECONDS = 15.0
"""How often the status file of an attempt that runs is read, at most."""
RATE = 100
"""So many files a second are read, at most, on a file system that many share."""
MOST_AT_ONCE = 500


class Patrol:
    """Ends at Slurm what has ended, and runs there all the same."""

    def __init__(self, programs: Programs, patience: float, end: Callable[[Element, Ending], None]) -> None:
        """`patience`: how many seconds Slurm has to say itself why an attempt failed."""
        self._programs = programs
        self._patience = patience
        self._end = end
        self._line: deque[tuple[float, Element]] = deque()

    def watch(self, element: Element) -> None:
        """It runs from now on, until it is over."""
        self._queue(element, asyncio.get_running_loop().time())

    async def look(self) -> None:
        """Look after those whose turn it is."""
        now = asyncio.get_running_loop().time()
        due = self._due(now)
        if due:
            outcomes = await self._programs.with_files(last_words_of_all, due)
            for element, outcome in zip(due, outcomes, strict=True):
                self._judge(element, outcome, now)

    def _queue(self, element: Element, now: float) -> None:
        self._line.append((now + max(INTERVAL_SECONDS, len(self._line) / RATE), element))

    def _due(self, now: float) -> list[Element]:
        found: list[Element] = []
        while self._line and self._line[0][0] <= now and len(found) < MOST_AT_ONCE:
            _, element = self._line.popleft()
            if element.phase is Phase.OVER:
                continue
            if stage_of(element.state) is Stage.RUNS and not element.is_to_end:
                found.append(element)
            self._queue(element, now)
        return found

    def _judge(self, element: Element, outcome: Outcome | None, now: float) -> None:
        """Once is not enough: Slurm may be about to say it, and knows more of a failure than an exit code tells."""
        if outcome is None:
            element.ended_at = 0.0
            return
        element.ended_at = element.ended_at or now
        patience = INTERVAL_SECONDS if outcome.status is TaskStatus.DONE else self._patience
        if now - element.ended_at >= patience:
            self._end(element, Ending(outcome.status, outcome.reason))
