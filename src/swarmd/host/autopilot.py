"""Autopilot: the daemon ticks a swarm by itself whenever there is work, so that it goes on without its client."""

import asyncio
import contextvars
from typing import TYPE_CHECKING

from swarmd.core.errors import StorageError
from swarmd.loggers import get_logger
from swarmd.observing.subject import SWARM

if TYPE_CHECKING:
    from swarmd.host.swarm import HostedSwarm

log = get_logger("swarmd.autopilot")

TICK_SECONDS = 0.5
"""How long a tick waits for slow calls before the next one may start what became ready meanwhile."""
FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 10.0
FULL_DISK_PAUSE_SECONDS = 1.0


class Autopilot:
    """Ticks one swarm. An engine that refuses everything is asked less and less often."""

    def __init__(self, swarm: "HostedSwarm") -> None:
        self._swarm = swarm
        self._task: asyncio.Task[None] | None = None

    @property
    def is_on(self) -> bool:
        return self._task is not None

    def start(self) -> None:
        """Begin to tick."""
        self.turn(on=True)

    def turn(self, *, on: bool) -> None:
        """On or off. A tick that is under way when it is turned off ends by itself."""
        if on and self._task is None:
            # With a context of its own: what it does belongs to no call, also not to the one that turned it on.
            name, own = f"autopilot {self._swarm.swarm_id}", contextvars.Context()
            self._task = asyncio.create_task(self._fly(), name=name, context=own)
        elif not on and self._task is not None:
            self._task.cancel()
            self._task = None

    async def _fly(self) -> None:
        SWARM.set(self._swarm.swarm_id)
        pause = 0.0
        while True:
            if not self._swarm.state.has_work():
                await self._swarm.wait_for_change(None)
                continue
            try:
                update = await self._swarm.iterate(TICK_SECONDS)
            except StorageError:  # the journal has said so, and tries until it can
                await asyncio.sleep(FULL_DISK_PAUSE_SECONDS)
                continue
            refused = [result.error for result in update.batch_results if result.error]
            if refused and not update.batches:
                pause = min(LONGEST_PAUSE_SECONDS, pause * 2 or FIRST_PAUSE_SECONDS)
                log.warning("the engine refused", swarm=self._swarm.swarm_id, error=refused[0], again_in=pause)
                await asyncio.sleep(pause)
            else:
                pause = 0.0
                await asyncio.sleep(0)
