"""Which workflow a run belongs to. Jobmon's server tells it of runs only whose last heartbeat is over.

A run that is being linked or runs is given a heartbeat that is over at once, is asked for, and gets a proper one again.
One that waits for its distributor takes no heartbeat; its last one is over a minute or two after it was made.
"""

import asyncio
from collections.abc import Callable

from swarmd.core.errors import NotFoundError
from swarmd.gateways.jobmon import life
from swarmd.gateways.jobmon.failures import NoRouteError
from swarmd.gateways.jobmon.http import insist
from swarmd.gateways.jobmon.server import JobmonServer
from swarmd.gateways.jobmon.settings import JobmonSettings

SERVER_VERSION = "3.2.2"
"""Runs are kept apart by the version of the server that made them; this is the one that there is to install."""
WAIT_SECONDS = 180.0
ASK_SECONDS = 2.0
PATIENCE_SECONDS = 10.0


async def workflow_of(server: JobmonServer, run_id: int, settings: JobmonSettings, waiting: Callable[[], None]) -> int:
    """The id of the run's workflow. Calls `waiting` once when that will take longer.

    Raises NotFoundError when the server does not tell, CallError when it does not answer.
    """
    loop = asyncio.get_running_loop()
    until, is_told = loop.time() + WAIT_SECONDS, False
    while True:
        status = await insist(lambda: server.run_status(run_id), seconds=PATIENCE_SECONDS)
        try:
            found = await told_workflow(server, run_id, status, settings)
        except NoRouteError:
            raise _not_told(run_id) from None
        if found is not None:
            return found
        if status in life.OVER or loop.time() >= until:
            raise _not_told(run_id)
        if not is_told:
            waiting()
            is_told = True
        await asyncio.sleep(ASK_SECONDS)


async def told_workflow(server: JobmonServer, run_id: int, status: str, settings: JobmonSettings) -> int | None:
    """The id of the run's workflow, if the server tells it now. Raises CallError; NoRouteError: it never tells."""
    if status not in ("L", "R"):
        return (await server.lost_runs("LBIORCH", SERVER_VERSION)).get(run_id)
    seconds, lives_for = settings.heartbeat_timeout_seconds, settings.heartbeat_seconds * settings.heartbeat_buffer
    try:
        await server.heartbeat(run_id, status, lives_for=0, seconds=seconds)
        return (await server.lost_runs(status, SERVER_VERSION)).get(run_id)
    finally:
        await insist(
            lambda: server.heartbeat(run_id, status, lives_for=lives_for, seconds=seconds), seconds=PATIENCE_SECONDS
        )


def _not_told(run_id: int) -> NotFoundError:
    message = f"Jobmon's server does not tell which workflow run {run_id} belongs to; name it: --workflow ID"
    return NotFoundError(message, reason="UNKNOWN_WORKFLOW", field="workflow")
