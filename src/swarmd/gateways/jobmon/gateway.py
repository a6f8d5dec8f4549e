"""JobmonGateway: swarms whose tasks Jobmon's server keeps and its distributor runs, each with a session of its own."""

import asyncio
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from swarmd.core.batch import Batch
from swarmd.core.errors import InvalidInputError, UnavailableError
from swarmd.core.update import StateUpdate
from swarmd.gateways.catalogue import LEFT
from swarmd.gateways.contract import (
    BatchRefusedError,
    Capabilities,
    FindOutcome,
    Found,
    QueueOutcome,
    Report,
    ServerGateway,
    SwarmInfo,
)
from swarmd.gateways.jobmon.settings import FIELD, JobmonSettings, RunOptions, missing, read_options
from swarmd.gateways.left import LeftFiles

if TYPE_CHECKING:
    from swarmd.gateways.jobmon.abandoned import AbandonedRun, Abandonment
    from swarmd.gateways.jobmon.session import JobmonSession

MOST_AWAY = 10_000


class JobmonGateway(ServerGateway):
    """Queues the tasks of a workflow run at Jobmon's server, whose distributor runs them.

    A swarm names its server and its run in `gateway_options` (`settings.read_options`).
    """

    name = "jobmon"
    capabilities = Capabilities(can_find=True, can_cancel=True)

    def __init__(self, settings: JobmonSettings | None = None, folder: Path = Path()) -> None:
        """`folder` is for what belongs to distributors; made when there is any."""
        self._settings = settings or JobmonSettings()
        self._folder = folder
        self._report: Report | None = None
        self._sessions: dict[str, JobmonSession] = {}
        self._starting: dict[str, RunOptions] = {}
        self._away: dict[str, RunOptions] = {}
        """Runs that could not be taken up yet, as their server does not answer; the latest."""
        self._abandonment: Abandonment | None = None

    async def trouble(self) -> str:
        return missing()

    def swarm_trouble(self, swarm_id: str) -> str:
        session = self._sessions.get(swarm_id)
        return "" if session is None else session.trouble

    async def start(self, report: Report) -> None:
        self._report = report
        if await asyncio.to_thread(_has_left, self._folder):
            await (await self._abandoned_runs()).start()

    async def close(self) -> None:
        self._report = None
        self._starting.clear()
        sessions, self._sessions = list(self._sessions.values()), {}
        await asyncio.gather(*(session.close() for session in sessions))
        if self._abandonment is not None:
            await self._abandonment.close()

    async def add_swarm(self, swarm: SwarmInfo) -> None:
        options = read_options(swarm.options)
        if swarm.swarm_id in self._sessions:
            return
        self._check_free(options)

        def report(update: StateUpdate) -> None:
            if self._report is not None:
                self._report(swarm.swarm_id, update)

        self._starting[swarm.swarm_id] = options
        try:
            if self._abandonment is not None:
                await self._abandonment.until_free(options)
            make = (await asyncio.to_thread(import_module, "swarmd.gateways.jobmon.session")).JobmonSession
            session: JobmonSession = make(swarm, options, self._settings, report, self._folder)
            await session.start()
            if self._starting.get(swarm.swarm_id) is not options:
                await session.close()
                raise RuntimeError(f"swarm {swarm.swarm_id} was removed while its run was taken up")
        except UnavailableError:
            if self._starting.get(swarm.swarm_id) is options:
                self._away.pop(swarm.swarm_id, None)
                self._away[swarm.swarm_id] = options
                if len(self._away) > MOST_AWAY:
                    del self._away[next(iter(self._away))]
            raise
        finally:
            if self._starting.get(swarm.swarm_id) is options:
                del self._starting[swarm.swarm_id]
        self._away.pop(swarm.swarm_id, None)
        self._sessions[swarm.swarm_id] = session

    def _check_free(self, options: RunOptions) -> None:
        """Raise InvalidInputError when another swarm has the run: both would queue its tasks."""
        going_on = {swarm_id: each.options for swarm_id, each in self._sessions.items() if not each.is_over}
        for swarm_id, other in (going_on | self._starting).items():
            if (other.url, other.workflow_id) == (options.url, options.workflow_id):
                message = (
                    f"{FIELD}[workflow_id]: swarm {swarm_id} has workflow {options.workflow_id} of {options.server} "
                    f"already; `swarmd watch {swarm_id}` follows it"
                )
                raise InvalidInputError(message, field=FIELD)

    async def remove_swarm(self, swarm_id: str) -> None:
        starting, away = self._starting.pop(swarm_id, None), self._away.pop(swarm_id, None)
        session, options = self._sessions.pop(swarm_id, None), starting or away
        left: AbandonedRun | None = None
        if session is not None:
            left = await session.remove()
        elif options is not None:
            left = await _not_taken_up(swarm_id, options)
        if left is not None:
            await (await self._abandoned_runs()).stop(left)

    async def _abandoned_runs(self) -> "Abandonment":
        make = (await asyncio.to_thread(import_module, "swarmd.gateways.jobmon.abandoned")).Abandonment
        if self._abandonment is None:
            self._abandonment = make(self._settings, LeftFiles(self._folder))
        return self._abandonment

    async def swarm_finished(self, swarm_id: str, *, succeeded: bool) -> None:
        await self._session(swarm_id).finish(succeeded=succeeded)

    async def queue_batch(self, batch: Batch) -> QueueOutcome | None:
        session = self._sessions.get(batch.swarm_id)
        if session is None:
            raise BatchRefusedError("the run was not taken up yet: Jobmon's server did not answer")
        return await session.queue_batch(batch)

    async def find_batch(self, batch: Batch) -> FindOutcome:
        session = self._sessions.get(batch.swarm_id)
        return FindOutcome(Found.UNKNOWN) if session is None else await session.find_batch(batch)

    async def resume(self, batches: Sequence[Batch], cancelled: Sequence[Batch] = ()) -> None:
        for swarm_id in dict.fromkeys(batch.swarm_id for batch in (*batches, *cancelled)):
            own = [batch for batch in batches if batch.swarm_id == swarm_id]
            ended = [batch for batch in cancelled if batch.swarm_id == swarm_id]
            await self._session(swarm_id).resume(own, ended)

    async def cancel_tasks(self, swarm_id: str, task_ids: Sequence[int], attempts: Sequence[int], reason: str) -> None:
        del reason  # the server has no place for it
        session = self._sessions.get(swarm_id)
        if session is not None:
            await session.cancel(task_ids, attempts)

    def standing(self, swarm_id: str, task_id: int, attempt: int) -> str:
        session = self._sessions.get(swarm_id)
        return "" if session is None else session.standing(task_id, attempt)

    def _session(self, swarm_id: str) -> "JobmonSession":
        session = self._sessions.get(swarm_id)
        if session is None:
            raise RuntimeError(f"the run of swarm {swarm_id} was not taken up yet")
        return session


async def _not_taken_up(swarm_id: str, options: RunOptions) -> "AbandonedRun":
    """What is to be stopped of a run that this daemon has not taken up. Its distributor is ended."""
    module = await asyncio.to_thread(import_module, "swarmd.gateways.jobmon.abandoned")
    had_one = False
    if options.distributor_cluster:
        keeping = await asyncio.to_thread(import_module, "swarmd.gateways.jobmon.keeping")
        had_one = await keeping.end_abandoned(options)
    run: AbandonedRun = module.AbandonedRun(swarm_id, options, time.time(), has_begun=had_one)
    return run


def _has_left(folder: Path) -> bool:
    return any(folder.glob(f"*{LEFT}"))
