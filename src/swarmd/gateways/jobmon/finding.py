"""Which workflow a run belongs to. Jobmon's server tells it of runs only whose last heartbeat is over.

A run that is being linked or runs is given a heartbeat that is over at once, is asked for, and gets a proper one again.
In between the reaper could take it for lost, should it come by just then (every five minutes); so that is one short
call, and the proper heartbeat follows whatever comes of it. One that waits for its distributor takes no heartbeat; its
last one is over a minute or two after it was made.
"""

import asyncio
from collections.abc import Callable

from swarmd.core.errors import NotFoundError
from swarmd.gateways.jobmon import life
from swarmd.gateways.jobmon.failures import LostError, NoRouteError
from swarmd.gateways.jobmon.http import insist
from swarmd.gateways.jobmon.server import JobmonServer
from swarmd.gateways.jobmon.settings import JobmonSettings

SERVER_VERSION = "3.2.2"
"""Runs are kept apart by the version of the server that made them; this is the one that there is to install."""
SEEMS_LOST = ("L", "R")
"""Runs that take heartbeats."""
WAIT_SECONDS = 180.0
ASK_SECONDS = 2.0
PATIENCE_SECONDS = 10.0
LOST_SECONDS = 3.0
"""How long the one call may take while a run seems lost."""
MOST_TIMES_LOST = 3
"""A run that is told nothing of so often is not made to seem lost again."""


async def workflow_of(server: JobmonServer, run_id: int, settings: JobmonSettings, waiting: Callable[[], None]) -> int:
    """The id of the run's workflow. Calls `waiting` once when that will take longer.

    Raises NotFoundError when the server does not tell, CallError when it does not answer.
    """
    loop = asyncio.get_running_loop()
    until, is_told, times_lost = loop.time() + WAIT_SECONDS, False, 0
    while True:
        status = await insist(lambda: server.run_status(run_id), seconds=PATIENCE_SECONDS)
        try:
            found = await told_workflow(server, run_id, status, settings)
        except NoRouteError:
            raise _not_told(run_id) from None
        if found is not None:
            return found
        times_lost += status in SEEMS_LOST
        if status in life.OVER or loop.time() >= until or times_lost >= MOST_TIMES_LOST:
            raise _not_told(run_id)
        if not is_told:
            waiting()
            is_told = True
        await asyncio.sleep(ASK_SECONDS)


async def told_workflow(server: JobmonServer, run_id: int, status: str, settings: JobmonSettings) -> int | None:
    """The id of the run's workflow, if the server tells it now. Raises CallError; NoRouteError: it never tells."""
    if status not in SEEMS_LOST:
        return (await server.lost_runs("LBIORCH", SERVER_VERSION)).get(run_id)
    asking = asyncio.ensure_future(_told_while_lost(server, run_id, status, settings))
    try:
        return await asyncio.shield(asking)
    except asyncio.CancelledError:
        await asyncio.wait([asking])  # not before it is alive again
        raise


async def _told_while_lost(server: JobmonServer, run_id: int, status: str, settings: JobmonSettings) -> int | None:
    seconds, lives_for = settings.heartbeat_timeout_seconds, settings.heartbeat_seconds * settings.heartbeat_buffer
    try:
        await server.heartbeat(run_id, status, lives_for=0, seconds=min(seconds, LOST_SECONDS))
        async with asyncio.timeout(LOST_SECONDS):
            return (await server.lost_runs(status, SERVER_VERSION)).get(run_id)
    except TimeoutError:
        raise LostError(f"Jobmon's server does not say within {LOST_SECONDS:.0f} s which workflow it is") from None
    finally:
        await insist(
            lambda: server.heartbeat(run_id, status, lives_for=lives_for, seconds=seconds),
            seconds=max(lives_for, seconds),
        )


def _not_told(run_id: int) -> NotFoundError:
    message = f"Jobmon's server does not tell which workflow run {run_id} belongs to; name it: --workflow ID"
    return NotFoundError(message, reason="UNKNOWN_WORKFLOW", field="workflow")
