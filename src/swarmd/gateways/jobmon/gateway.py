"""JobmonGateway: swarms whose tasks Jobmon's server keeps and its distributor runs, each with a session of its own."""

import asyncio
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swarmd.core.batch import Batch
from swarmd.core.errors import InvalidInputError, UnavailableError
from swarmd.core.update import StateUpdate
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

if TYPE_CHECKING:
    from swarmd.gateways.jobmon.session import JobmonSession


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
        """Runs that could not be taken up yet, and whose distributor goes on from an earlier daemon."""

    async def trouble(self) -> str:
        return missing()

    def swarm_trouble(self, swarm_id: str) -> str:
        session = self._sessions.get(swarm_id)
        return "" if session is None else session.trouble

    async def start(self, report: Report) -> None:
        self._report = report

    async def close(self) -> None:
        self._report = None
        self._starting.clear()
        sessions, self._sessions = list(self._sessions.values()), {}
        await asyncio.gather(*(session.close() for session in sessions))

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
            make = (await asyncio.to_thread(import_module, "swarmd.gateways.jobmon.session")).JobmonSession
            session: JobmonSession = make(swarm, options, self._settings, report, self._folder)
            await session.start()
            if self._starting.get(swarm.swarm_id) is not options:
                await session.close()
                raise RuntimeError(f"swarm {swarm.swarm_id} was removed while its run was taken up")
        except UnavailableError:
            if self._starting.get(swarm.swarm_id) is options and await _has_left_one(options):
                self._away[swarm.swarm_id] = options
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
        if session is not None:
            await session.remove()
        elif options is not None and options.distributor_cluster:
            await (await _keeping()).end_abandoned(options)

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


async def _has_left_one(options: RunOptions) -> bool:
    """Whether an earlier daemon has started a distributor that goes on."""
    return bool(options.distributor_cluster) and await (await _keeping()).has_left_one(options)


async def _keeping() -> Any:
    return await asyncio.to_thread(import_module, "swarmd.gateways.jobmon.keeping")
