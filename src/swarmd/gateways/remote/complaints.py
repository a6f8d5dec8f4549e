"""Warnings about an engine that does again and again what it must not: each is in the log once a minute at most."""

import logging
import time
from collections.abc import Iterable
from itertools import islice

log = logging.getLogger(__name__)

QUIET_SECONDS = 60.0
MOST_KINDS = 100
"""So many different problems are told apart; an engine can make up any number of them."""


class Complaints:
    """About one engine."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._said_at: dict[str, float] = {}

    def about_news(self, problem: str, task_ids: Iterable[int] = ()) -> None:
        """Some of its news is of no use, for this reason; about these tasks, if it is known which."""
        now = time.monotonic()
        if now - self._said_at.get(problem, now - QUIET_SECONDS) < QUIET_SECONDS:
            return
        if len(self._said_at) >= MOST_KINDS:
            self._said_at.clear()
        self._said_at[problem] = now
        tasks = ", ".join(map(str, islice(task_ids, 5)))
        whose = f"news from the engine at {self._address}" + (f" about the tasks {tasks} ..." if tasks else "")
        log.warning("%s is left out: %s (said once a minute, however much there is)", whose, problem)
