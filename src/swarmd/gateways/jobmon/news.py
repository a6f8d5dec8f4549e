"""Reporter: what the server says of attempts, as updates; of those that failed also why, as far as it says."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence

from swarmd.core.model import MAX_REASON_BYTES
from swarmd.core.status import TaskStatus
from swarmd.core.update import StateUpdate
from swarmd.gateways.jobmon.book import News
from swarmd.gateways.jobmon.failures import CallError
from swarmd.gateways.jobmon.server import JobmonServer

FAILURES = "EAF"
ASKED_FOR = 8
"""Of so many failures at once the server is asked why."""
ASK_SECONDS = 3.0
UNKNOWN_REASON = "it failed, says Jobmon's server"

Attempt = tuple[int, int]


class Reporter:
    """Reports for one swarm."""

    def __init__(self, server: JobmonServer, report: Callable[[StateUpdate], None]) -> None:
        self._server = server
        self._report = report

    def tell(self, news: News) -> None:
        """Report at once."""
        update = StateUpdate()
        for status, attempts in news.by_status.items():
            _add(update, status, attempts, UNKNOWN_REASON if status in FAILURES else "")
        if update:
            self._report(update)

    async def tell_with_reasons(self, news: News) -> None:
        """Report what is well at once, and failures when their reasons are there, or after a few seconds."""
        self.tell(News({status: each for status, each in news.by_status.items() if status not in FAILURES}))
        failed = {status: each for status, each in news.by_status.items() if status in FAILURES}
        if not failed:
            return
        ids = [task_id for attempts in failed.values() for task_id, _ in attempts][:ASKED_FOR]
        reasons = await self._reasons(ids)
        update = StateUpdate()
        for status, attempts in failed.items():
            by_reason: dict[str, list[Attempt]] = defaultdict(list)
            for task_id, attempt in attempts:
                by_reason[reasons.get(task_id, UNKNOWN_REASON)].append((task_id, attempt))
            for reason, alike in by_reason.items():
                _add(update, status, alike, reason)
        self._report(update)

    async def _reasons(self, task_ids: Sequence[int]) -> dict[int, str]:
        found: dict[int, str] = {}

        async def ask(task_id: int) -> None:
            try:
                said = (await self._server.last_error(task_id)).strip()
            except CallError:
                return
            if said:
                found[task_id] = said.encode(errors="replace")[:MAX_REASON_BYTES].decode(errors="ignore")

        try:
            async with asyncio.timeout(ASK_SECONDS):
                await asyncio.gather(*map(ask, task_ids))
        except TimeoutError:
            pass
        return found


def _add(update: StateUpdate, status: str, attempts: Sequence[Attempt], reason: str) -> None:
    ids, fences = zip(*attempts, strict=True)
    update.task_statuses.add(TaskStatus(status), ids, fences, reason)
