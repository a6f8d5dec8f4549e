"""The local queue: which attempt starts next.

Attempts wait in one line per shape, in order of arrival. The oldest goes first; while it does not fit, smaller ones may
overtake it, but no more than a few machines full of them, so that a large task is never starved. Knows shapes and room,
nothing of processes.
"""

import itertools
from collections import deque

from swarmd.gateways.local.attempt import Attempt, Phase
from swarmd.gateways.local.machine import Machine, Shape

MACHINES_OF_OVERTAKERS = 4
"""How many times the machine's cores may start past an attempt that waits for room."""


class WaitingLines:
    """What waits. A choice costs the number of shapes, never the number of attempts."""

    def __init__(self) -> None:
        self._lines: dict[Shape, deque[Attempt]] = {}
        self._size = 0
        self._overtaken: Attempt | None = None
        self._overtakers = 0
        """Cores that started past the overtaken one."""

    def __len__(self) -> int:
        return self._size

    def add(self, attempt: Attempt) -> None:
        """Append to the end of its line."""
        self._lines.setdefault(attempt.shape, deque()).append(attempt)
        self._size += 1

    def put_back(self, attempt: Attempt) -> None:
        """An attempt that was taken and could not start: its old place again."""
        line = self._lines.setdefault(attempt.shape, deque())
        before = itertools.takewhile(lambda other: other.order < attempt.order, line)
        line.insert(sum(1 for _ in before), attempt)
        self._size += 1

    def note_dropped(self) -> None:
        """One of them is no longer WAITING. It leaves its line when it gets to the front."""
        self._size -= 1

    def take(self, machine: Machine) -> Attempt | None:
        """Remove and return the attempt that should start now; None when none may."""
        oldest: Attempt | None = None
        chosen: Attempt | None = None
        for shape in tuple(self._lines):
            head = self._head(shape)
            if head is None:
                continue
            if oldest is None or head.order < oldest.order:
                oldest = head
            if machine.fits(shape) and (chosen is None or head.order < chosen.order):
                chosen = head
        if oldest is None or chosen is None or not self._may_start(chosen, oldest, machine):
            return None
        self._lines[chosen.shape].popleft()
        self._size -= 1
        return chosen

    def _head(self, shape: Shape) -> Attempt | None:
        line = self._lines[shape]
        while line and line[0].phase is not Phase.WAITING:
            line.popleft()
        if line:
            return line[0]
        del self._lines[shape]
        return None

    def _may_start(self, chosen: Attempt, oldest: Attempt, machine: Machine) -> bool:
        if chosen is oldest:
            return True
        if self._overtaken is not oldest:
            self._overtaken, self._overtakers = oldest, 0
        if self._overtakers >= MACHINES_OF_OVERTAKERS * machine.cores:
            return False
        self._overtakers += max(1, chosen.shape.cores)
        return True
