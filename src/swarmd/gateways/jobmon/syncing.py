"""Syncing: asks the server how the tasks stand, one question at a time, and more often while things change."""

import asyncio
from collections.abc import Awaitable, Callable

from swarmd.gateways.jobmon.book import Statuses, Synced, TaskBook
from swarmd.gateways.jobmon.clock import SyncClock
from swarmd.gateways.jobmon.failures import CallError, NotDoneError
from swarmd.gateways.jobmon.server import JobmonServer
from swarmd.gateways.jobmon.settings import JobmonSettings
from swarmd.loggers import get_logger

log = get_logger("swarmd.jobmon")

SLOWING = 1.2
"""The pause grows so much with every look that finds nothing new."""
BUSY_SHARE = 3
"""The pause is at least so many times as long as the answer took."""
LATE_SECONDS = 30.0
"""Between two looks at tasks that still go on when the run is over."""
FIRST_RETRY_SECONDS, LONGEST_RETRY_SECONDS = 0.2, 10.0


class Syncing:
    """The questions of one swarm. `run` is to go on in a task; the rest is called beside it."""

    def __init__(
        self,
        server: JobmonServer,
        workflow_id: int,
        book: TaskBook,
        settings: JobmonSettings,
        *,
        tell: Callable[[Synced], Awaitable[None]],
        is_over: Callable[[], bool],
    ) -> None:
        """`tell` is given every answer, and is waited for. When the run `is_over` little is asked any more."""
        self._server = server
        self._workflow_id = workflow_id
        self._book = book
        self._settings = settings
        self._tell = tell
        self._is_over = is_over
        self._clock = SyncClock(settings.sync_overlap_seconds)
        self._waiting: list[asyncio.Future[Statuses]] = []
        self._hurry = asyncio.Event()
        self._full_at = 0.0
        self._pause = settings.fastest_sync_seconds
        self._wants_full = True
        self._is_closed = False

    def hurry(self, *, full: bool = False) -> None:
        """Something changes now: look soon; with `full` at all tasks."""
        self._wants_full |= full
        self._pause = self._settings.fastest_sync_seconds
        self._hurry.set()

    async def all_statuses(self) -> Statuses:
        """How all tasks stand, by a question that begins after this call. The book and `tell` have heard it before.

        Raises NotDoneError when `close` comes first.
        """
        if self._is_closed:
            raise NotDoneError("the gateway closes")
        waiting: asyncio.Future[Statuses] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        self._hurry.set()
        return await waiting

    def close(self) -> None:
        """Nothing is asked any more: those who wait get a NotDoneError, now and later."""
        self._is_closed = True
        for each in self._waiting:
            if not each.done():
                each.set_exception(NotDoneError("the gateway closes"))

    async def run(self) -> None:
        """Ask until cancelled. Calls that fail are tried again, less and less often."""
        retry = FIRST_RETRY_SECONDS
        while True:
            self._hurry.clear()
            try:
                took = await self.once()
            except CallError as error:
                log.warning("the tasks cannot be looked at; again soon", workflow=self._workflow_id, error=str(error))
                await asyncio.sleep(retry)
                retry = min(LONGEST_RETRY_SECONDS, 2 * retry)
            else:
                retry = FIRST_RETRY_SECONDS
                await self._rest(self._next_pause(took))

    async def once(self) -> float:
        """One question. Gives how long the answer took. Raises CallError."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        waiting, self._waiting = self._waiting, []
        base = self._clock.base(begun)
        is_full = bool(waiting) or self._wants_full or base is None or begun >= self._full_at
        number = self._book.begin_sync()
        try:
            statuses, server_time = await self._server.statuses(self._workflow_id, None if is_full else base)
        except BaseException:
            self._waiting = waiting + self._waiting
            raise
        took = loop.time() - begun
        synced = self._book.synced(number, statuses, is_full=is_full)
        if is_full:
            self._wants_full, self._full_at = False, begun + self._settings.full_sync_seconds
        if synced.ambiguous:
            self._clock.hold()
        else:
            self._clock.told(begun, server_time)
        quick, slow = self._settings.fastest_sync_seconds, self._settings.slowest_sync_seconds
        self._pause = quick if synced.news or synced.ambiguous else min(max(quick, slow), self._pause * SLOWING)
        await self._tell(synced)
        for each in waiting:
            if not each.done():
                each.set_result(statuses)
        return took

    def _next_pause(self, took: float) -> float | None:
        """How long to wait now; None: until somebody asks."""
        if not self._is_over():
            return max(self._pause, BUSY_SHARE * took)
        return LATE_SECONDS if self._book.has_active() else None

    async def _rest(self, seconds: float | None) -> None:
        """Wait so long; when something changes meanwhile only for a quick pause, and not at all for those who wait."""
        begun = asyncio.get_running_loop().time()
        quick = begun + self._settings.fastest_sync_seconds
        until = None if seconds is None else begun + seconds
        while not self._waiting:
            try:
                async with asyncio.timeout_at(until):
                    await self._hurry.wait()
            except TimeoutError:
                return
            self._hurry.clear()
            until = quick if until is None else min(until, quick)  # however often something changes
