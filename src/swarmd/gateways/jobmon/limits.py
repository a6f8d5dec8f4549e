"""Limits: what the server allows to be active, of the workflow and of each array."""

from collections.abc import Callable, Collection
from itertools import islice

from swarmd.core.update import StateUpdate
from swarmd.gateways.jobmon.failures import NoRouteError
from swarmd.gateways.jobmon.server import JobmonServer

ARRAYS_A_LOOK = 20
"""So many arrays are asked for at a time, in turn."""


class Limits:
    """The limits of one workflow, reported when they change."""

    def __init__(self, server: JobmonServer, workflow_id: int, report: Callable[[StateUpdate], None]) -> None:
        self._server = server
        self._workflow_id = workflow_id
        self._report = report
        self._workflow_limit: int | None = None
        self._array_limits: dict[int, int] = {}
        self._asked: set[int] = set()
        self._tells_arrays = True

    async def look(self, array_ids: Collection[int]) -> None:
        """Ask for the workflow's limit, and for those of the arrays whose turn it is. Raises CallError."""
        limit = await self._server.workflow_limit(self._workflow_id)
        if limit != self._workflow_limit:
            self._workflow_limit = limit
            self._report(StateUpdate(max_concurrently_running=max(0, limit)))
        if not self._tells_arrays:
            return
        if self._asked.issuperset(array_ids):
            self._asked.clear()
        for array_id in list(islice((each for each in array_ids if each not in self._asked), ARRAYS_A_LOOK)):
            await self._look_at(array_id)

    async def _look_at(self, array_id: int) -> None:
        self._asked.add(array_id)  # whatever comes of it: the others get their turn
        try:
            limit = await self._server.array_limit(array_id)
        except NoRouteError:
            self._tells_arrays = False  # 3.2.2: what was loaded stays
            return
        if self._array_limits.get(array_id) != limit:
            self._array_limits[array_id] = limit
            self._report(StateUpdate(array_limits={array_id: max(0, limit)}))
