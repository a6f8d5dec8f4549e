"""What is wrong with a gateway's news is in the log once a minute for each swarm, with how often it was."""

import time
from collections.abc import Callable

from swarmd.core.errors import SwarmdError
from swarmd.loggers import get_logger

log = get_logger("swarmd.swarm")

QUIET_SECONDS = 60.0


class Complaints:
    """About the news of one swarm."""

    def __init__(self, swarm_id: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._swarm_id = swarm_id
        self._clock = clock
        self._said_at = float("-inf")
        self._count = 0

    def refused(self, error: Exception) -> None:
        """News was refused because of this."""
        self._count += 1
        now = self._clock()
        if now - self._said_at < QUIET_SECONDS:
            return
        times, self._count, self._said_at = self._count, 0, now
        told = {"swarm": self._swarm_id, "times": times}
        if isinstance(error, SwarmdError):
            what = "news from the gateway was refused (said once a minute)"
            log.warning(what, error=error.message, **told)
        else:
            what = "news from the gateway was refused: it holds what is no news (said once a minute)"
            log.error(what, exc_info=error, **told)
