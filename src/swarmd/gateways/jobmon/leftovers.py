"""Leftovers: what a distributor that died has left at the server, which the next one cannot deal with.

Jobmon's distributor ends with an error when it sees an instance that is INSTANTIATED or LAUNCHED and that it has not
launched itself, and for ever fails to conclude one in TRIAGING. Each is given up the way the distributor would have
done it, so that its task is queued again and a job that begins late finds that it is not wanted.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from swarmd.gateways.jobmon.book import Statuses
from swarmd.gateways.jobmon.failures import CallError
from swarmd.gateways.jobmon.server import JobmonServer

INSTANTIATED_SECONDS = 5.0
"""So long an instance that was about to be launched may take to show that it was."""
TRIAGING_SECONDS, TRIAGING_PASSES = 60.0, 3
"""So long a distributor has at least to conclude what is in TRIAGING, before it is taken for one that it does not know:
it may know that the task needs more memory."""
AT_ONCE = 8
TAKE_BACK_TASKS = 500
WHY = "Jobmon's distributor ended before the task began"
WHY_LOST = "it was not heard of any more, and the distributor that launched it has ended"


class Leftovers:
    """Those of one run."""

    def __init__(
        self,
        server: JobmonServer,
        run_id: int,
        workflow_id: int,
        *,
        all_statuses: Callable[[], Awaitable[Statuses]],
        launched_seconds: float,
        pass_seconds: float,
    ) -> None:
        """`launched_seconds`: how long an instance that was launched may take to begin.

        `pass_seconds`: how often the distributor looks for work.
        """
        self._server = server
        self._run_id = run_id
        self._workflow_id = workflow_id
        self._all_statuses = all_statuses
        self._launched_seconds = launched_seconds
        self._triaging_seconds = max(TRIAGING_SECONDS, TRIAGING_PASSES * pass_seconds)
        self._triaging: set[int] = set()
        self._look_at = 0.0

    async def clear(self, waited: float) -> int:
        """Give up what had its time, `waited` seconds after the death. Gives how many tasks are left.

        Raises CallError.
        """
        statuses = await self._all_statuses()
        left = [*statuses.get("I", ()), *statuses.get("O", ())]
        if not left:
            return 0
        if waited >= INSTANTIATED_SECONDS:
            await self._give_up("I")
        if waited >= self._launched_seconds:
            await self._give_up("O")
            statuses = await self._all_statuses()
            left = [*statuses.get("I", ()), *statuses.get("O", ())]
            await self._take_back(left)  # their instances are to be killed, by nobody
        return len(left)

    async def count_killed(self) -> int:
        """How many instances the distributor has yet to end. Raises CallError."""
        return len(await self._server.instances(self._run_id, "K"))

    async def look(self, now: float) -> None:
        """Give up what the distributor of now cannot conclude; looks once in a while. Raises CallError."""
        if now < self._look_at:
            return
        self._look_at = now + self._triaging_seconds
        triaging = set(await self._server.instances(self._run_id, "T"))
        await self._each(sorted(triaging & self._triaging), "T")
        self._triaging = triaging

    async def _give_up(self, status: str) -> None:
        await self._each(await self._server.instances(self._run_id, status), status)

    async def _each(self, instances: Sequence[int], status: str) -> None:
        turns = asyncio.Semaphore(AT_ONCE)
        why = WHY_LOST if status == "T" else WHY

        async def give_up(instance: int) -> None:
            async with turns:
                with suppress(CallError):  # it has moved meanwhile, or comes again with the next look
                    await self._server.give_up_instance(instance, status, why)

        await asyncio.gather(*map(give_up, instances))

    async def _take_back(self, task_ids: Sequence[int]) -> None:
        for start in range(0, len(task_ids), TAKE_BACK_TASKS):
            await self._server.take_back(self._workflow_id, task_ids[start : start + TAKE_BACK_TASKS])
