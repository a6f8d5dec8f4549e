"""Runs whose swarm was deleted while Jobmon's server was away: they are stopped as soon as it is there again.

Each is in a file until then, for a day at most; a gateway that starts goes on with what an earlier one left. A run that
came to its end meanwhile is left in peace: somebody may go on with its workflow already.
"""

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from swarmd.core.errors import InvalidInputError, UnavailableError
from swarmd.gateways.jobmon import life
from swarmd.gateways.jobmon.book import ACTIVE
from swarmd.gateways.jobmon.failures import CallError, RefusedError
from swarmd.gateways.jobmon.server import JobmonServer
from swarmd.gateways.jobmon.settings import JobmonSettings, RunOptions, read_options
from swarmd.gateways.left import GIVE_UP_SECONDS, LeftFiles
from swarmd.loggers import get_logger

log = get_logger("swarmd.jobmon")

FIRST_RETRY_SECONDS, LONGEST_RETRY_SECONDS = 0.5, 15.0
LATE_LOOK_SECONDS = 2.0
"""Between two looks at tasks that a lost call may queue yet."""
TAKE_BACK_TASKS = 500
PATIENCE_SECONDS = 10.0
"""How long a swarm that wants the same workflow waits until its run is free."""


@dataclass(frozen=True, slots=True)
class AbandonedRun:
    """A run that is to be stopped."""

    swarm_id: str
    options: RunOptions
    since: float
    """Seconds since the epoch."""
    last_status: str = ""
    """What it was to have at its end; empty: that of a run that was stopped."""
    task_ids: Sequence[int] | None = None
    """Which tasks are to be taken back; None: nobody knows, so all that are active."""
    has_begun: bool = True
    """It was taken up, or something was queued; otherwise that is for the server to say."""

    def as_kept(self) -> dict[str, Any]:
        """What its file holds."""
        names = ("swarm_id", "since", "last_status", "task_ids", "has_begun")
        return {"options": self.options.as_options(), **{name: getattr(self, name) for name in names}}


class Abandonment:
    """All such runs of a gateway. `start` first, `close` last."""

    def __init__(self, settings: JobmonSettings, files: LeftFiles) -> None:
        self._settings = settings
        self._files = files
        self._stopping: dict[asyncio.Task[None], AbandonedRun] = {}
        self._is_closed = False

    async def start(self) -> None:
        """Go on with what earlier daemons have left."""
        for name, kept in (await self._files.read()).items():
            run = _read(name, kept)
            if run is not None:
                log.info("the run of a deleted swarm is to be stopped still", swarm=run.swarm_id, run=_in_words(run))
                self._stop_in_background(run, name)

    async def stop(self, run: AbandonedRun) -> None:
        """Have it stopped, by the next daemon if need be; that is durable on return."""
        name = await self._files.keep(run.as_kept(), f"the deleted swarm {run.swarm_id}")
        self._stop_in_background(run, name)

    async def until_free(self, options: RunOptions) -> None:
        """Wait until no run of this workflow is to be stopped. Raises UnavailableError."""
        theirs = [task for task, run in self._stopping.items() if _is_same(run.options, options)]
        if not theirs:
            return
        _, left = await asyncio.wait(theirs, timeout=PATIENCE_SECONDS)
        if left:
            what = f"workflow {options.workflow_id} of {options.server} has a run of a deleted swarm"
            raise UnavailableError(
                f"{what}, which is to be stopped first; its server does not let that happen yet, try again soon",
                reason="ENGINE_UNAVAILABLE",
            )

    async def close(self) -> None:
        """What is not stopped is left to the next daemon."""
        self._is_closed = True
        for task in list(self._stopping):
            task.cancel()
        await asyncio.gather(*self._stopping, return_exceptions=True)

    # -- inside ----------------------------------------------------------------------------------------------------

    def _stop_in_background(self, run: AbandonedRun, name: str) -> None:
        if self._is_closed:
            return
        task = asyncio.create_task(self._stop(run, name), name=f"jobmon: stop run {run.options.workflow_run_id}")
        self._stopping[task] = run
        task.add_done_callback(self._stopping.pop)

    async def _stop(self, run: AbandonedRun, name: str) -> None:
        pause, is_late, stop = FIRST_RETRY_SECONDS, False, _Stop(run, self._settings)
        while time.time() - run.since < GIVE_UP_SECONDS:
            try:
                if await self._is_stopped(run, stop):
                    break
            except (CallError, InvalidInputError, OSError) as error:
                if not is_late:
                    log.warning(
                        "the run of a deleted swarm cannot be stopped yet", run=_in_words(run), error=str(error)
                    )
                is_late = True
            except Exception:
                log.exception("the run of a deleted swarm could not be stopped; again soon", run=_in_words(run))
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 (many daemons, one server)
            pause = min(2 * pause, LONGEST_RETRY_SECONDS)
        else:
            what = "the run of a deleted swarm, and its tasks, may go on: its server could not be told for a day"
            log.warning(what, swarm=run.swarm_id, run=_in_words(run))
        await self._files.forget(name)

    async def _is_stopped(self, run: AbandonedRun, stop: "_Stop") -> bool:
        """Stop it; whether that is done. Raises CallError, and InvalidInputError for files that cannot be used."""
        settings, options = self._settings, run.options
        server = JobmonServer.at(
            options.url,
            client_version=options.client_version,
            ca_file=settings.ca_file,
            seconds=settings.call_timeout_seconds,
        )
        try:
            await server.open()
            return await stop.is_done(server)
        except RefusedError as error:
            log.warning("the run of a deleted swarm is not there to be stopped", run=_in_words(run), error=str(error))
            return True
        finally:
            await server.close()


class _Stop:
    """What it takes to stop a run."""

    def __init__(self, run: AbandonedRun, settings: JobmonSettings) -> None:
        self._run = run
        self._settings = settings
        self._run_id = run.options.workflow_run_id
        self._drains_since: float | None = None

    async def is_done(self, server: JobmonServer) -> bool:
        """Whether the run is stopped now. Raises CallError."""
        status = await server.run_status(self._run_id)
        if status in life.OVER:
            return True
        if status in life.RESUMING:
            return await self._is_let_go(server, status)
        active = await self._active(server, ACTIVE)
        if not (self._run.has_begun or active or status == "R"):
            return True  # nothing of it has begun: another may try
        await self._take_back(server, active)
        await self._set(server, status, self._run.last_status or ("S" if status == "R" else "E"))
        log.info("the run of a deleted swarm was stopped", swarm=self._run.swarm_id, run=_in_words(self._run))
        if self._run.task_ids:
            await self._take_back_what_comes_late(server)
        return True

    async def _active(self, server: JobmonServer, statuses: str) -> list[int]:
        """Its tasks with these statuses."""
        found, _ = await server.statuses(self._run.options.workflow_id, None)
        ids = {task_id for status in statuses for task_id in found.get(status, ())}
        return sorted(ids if self._run.task_ids is None else ids.intersection(self._run.task_ids))

    async def _take_back(self, server: JobmonServer, task_ids: Sequence[int]) -> None:
        for start in range(0, len(task_ids), TAKE_BACK_TASKS):
            some = task_ids[start : start + TAKE_BACK_TASKS]
            await server.take_back(self._run.options.workflow_id, some)

    async def _set(self, server: JobmonServer, status: str, wanted: str) -> None:
        for step in life.way(status, wanted):
            if await server.set_run_status(self._run_id, step) != step:
                return  # the server has another mind

    async def _take_back_what_comes_late(self, server: JobmonServer) -> None:
        """A call whose answer was lost when the swarm was deleted may be carried out for a moment yet."""
        until = self._run.since + self._settings.doubt_seconds
        while True:
            await asyncio.sleep(LATE_LOOK_SECONDS)
            await self._take_back(server, await self._active(server, ACTIVE))
            if time.time() >= until:
                return

    async def _is_let_go(self, server: JobmonServer, status: str) -> bool:
        """Somebody waits for it, to resume the workflow: end what runs, and let go when that has ended."""
        await server.terminate(self._run_id)
        await self._take_back(server, await self._active(server, "Q"))  # nobody begins these any more
        now = time.time()
        self._drains_since = self._drains_since or now
        is_late = now - self._drains_since >= self._settings.drain_seconds
        if not is_late and await self._active(server, life.active_statuses(status)):
            return False
        await self._set(server, status, "T")
        return True


def _is_same(one: RunOptions, other: RunOptions) -> bool:
    return (one.url, one.workflow_id) == (other.url, other.workflow_id)


def _in_words(run: AbandonedRun) -> str:
    return f"{run.options.workflow_run_id} at {run.options.server}"


def _read(name: str, kept: Any) -> AbandonedRun | None:
    try:
        ids = kept["task_ids"]
        return AbandonedRun(
            str(kept["swarm_id"]),
            read_options(kept["options"]),
            float(kept["since"]),
            str(kept["last_status"]),
            None if ids is None else [int(task_id) for task_id in ids],
            bool(kept["has_begun"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError, InvalidInputError) as error:
        log.warning("the run of a deleted swarm may go on: its file is damaged", file=name, error=repr(error))
        return None
