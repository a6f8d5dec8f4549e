"""Batches of swarms that are gone: Slurm is told to end what it has of them, until it has nothing of them any more.

They are on disk from before their swarm is gone until then, for a day at most; a gateway that starts goes on with what
an earlier one left. What Slurm has is looked for by the batches' names, which no other job has: a number alone may be
another's by now, and of some batches nobody knows whether they were submitted. Their files are gone, so that a job of
them that comes later still runs nothing.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from swarmd.gateways.left import GIVE_UP_SECONDS, LeftFiles
from swarmd.gateways.slurm.listing import list_arguments, read_listing, rows_of
from swarmd.gateways.slurm.programs import Programs
from swarmd.gateways.slurm.states import FINAL, Stage, stage_of
from swarmd.gateways.slurm.user import user_name

log = logging.getLogger(__name__)

SETTLE_SECONDS = 5.0
"""How long Slurm must have answered without a job of them: a controller that is killed forgets its last moments."""
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 30.0
AT_ONCE = 2
"""How many calls of scancel may be under way."""
_ENDED = FINAL | {Stage.ENDS}


async def _nobody_waits() -> None:
    pass


@dataclass(slots=True, eq=False)
class Abandoned:
    """What is to be ended of one swarm."""

    swarm_id: str
    batches: Sequence[str]
    since: float
    """Seconds since the epoch."""
    file: str = ""
    """The name of its file."""
    is_busy: Callable[[], bool] = lambda: False
    """Whether something of it is being submitted still."""
    over: Callable[[], Awaitable[None]] = _nobody_waits
    """Called at the end."""
    quiet_since: float | None = None
    """Since when Slurm has answered without a job of it."""

    def as_kept(self) -> dict[str, Any]:
        """What its file holds."""
        return {"swarm_id": self.swarm_id, "batches": list(self.batches), "since": self.since}


class Abandonment:
    """All that is to be ended. `start` first, `close` last."""

    def __init__(self, programs: Programs, files: LeftFiles, patience: float) -> None:
        """`patience`: seconds that Slurm must have answered without knowing a batch that may have been submitted."""
        self._programs = programs
        self._files = files
        self._patience = patience
        self._left: list[Abandoned] = []
        self._ending: asyncio.Task[None] | None = None
        self._more = asyncio.Event()
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._is_silent = False
        self._is_closed = False

    async def start(self) -> None:
        """Go on with what earlier daemons have left."""
        for name, kept in (await self._files.read()).items():
            left = _read(name, kept)
            if left is not None:
                log.info("jobs of swarm %s, which was deleted, are to be ended still", left.swarm_id)
                self.end(left)

    async def keep(self, swarm_id: str, batches: Iterable[str]) -> Abandoned:
        """These are to be ended, also by the next daemon; that is durable on return."""
        left = Abandoned(swarm_id, sorted(batches), time.time())
        left.file = await self._files.keep(left.as_kept(), f"the deleted swarm {swarm_id}")
        return left

    async def forget(self, left: Abandoned) -> None:
        """It has come to its end."""
        await self._files.forget(left.file)

    def end(self, left: Abandoned) -> None:
        """Have it ended from now on."""
        if self._is_closed:
            return
        self._left.append(left)
        self._more.set()
        if self._ending is None:
            self._ending = asyncio.create_task(self._end_all(), name="slurm: end what deleted swarms have left")

    async def close(self) -> None:
        """What is not ended is left to the next daemon."""
        self._is_closed = True
        if self._ending is not None:
            self._ending.cancel()
            await asyncio.wait((self._ending,))

    # -- inside ----------------------------------------------------------------------------------------------------

    async def _end_all(self) -> None:
        pause = FIRST_PAUSE_SECONDS
        while self._left:
            self._more.clear()
            goes_well = await self._safely(self._look_once)
            await self._safely(self._give_up_the_old)
            pause = FIRST_PAUSE_SECONDS if self._more.is_set() else min(2 * pause, LONGEST_PAUSE_SECONDS)
            if self._left:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(min(pause, SETTLE_SECONDS) if goes_well else pause):
                        await self._more.wait()
        self._ending = None

    async def _safely(self, work: Callable[[], Awaitable[bool]]) -> bool:
        try:
            return await work()
        except Exception:
            log.exception("what deleted swarms have left at Slurm could not be ended; it is tried again")
            return False

    async def _look_once(self) -> bool:
        """Tell Slurm to end what it has. Returns whether it answered."""
        left = list(self._left)
        jobs = await self._live_jobs({name for each in left for name in each.batches})
        if jobs is None:
            return False
        await asyncio.gather(*(self._cancel(name, job_id) for name, job_id in sorted(jobs)))
        live, now = {name for name, _ in jobs}, asyncio.get_running_loop().time()
        for each in left:
            if each.is_busy() or not live.isdisjoint(each.batches):
                each.quiet_since = None
            elif each.quiet_since is None:
                each.quiet_since = now
            elif now - each.quiet_since >= max(SETTLE_SECONDS, self._patience):
                await self._is_over(each)
        return True

    async def _live_jobs(self, names: set[str]) -> set[tuple[str, int]] | None:
        """Slurm's jobs with these names that are not being ended, with their numbers; None: it does not answer."""
        user = await asyncio.to_thread(user_name)
        answer = await self._programs.call("squeue", *list_arguments(user, sorted(names)))
        if not answer.is_good:
            log.log(
                logging.DEBUG if self._is_silent else logging.INFO,
                "Slurm has not heard yet what to end of deleted swarms, and is told again: %s",
                answer.why,
            )
            self._is_silent = True
            return None
        self._is_silent = False
        rows = await asyncio.to_thread(lambda: rows_of(read_listing(answer.out, {}), names))
        return {(row.name, row.job_id) for row in rows if stage_of(row.state) not in _ENDED}

    async def _cancel(self, name: str, job_id: int) -> None:
        async with self._turns:
            answer = await self._programs.call("scancel", f"--name={name}", str(job_id))
        if not answer.is_good:
            log.info("scancel of job %d of batch %s: %s", job_id, name, answer.why)

    async def _give_up_the_old(self) -> bool:
        long_ago = time.time() - GIVE_UP_SECONDS
        for each in [each for each in self._left if each.since <= long_ago]:
            what = "jobs of swarm %s, which was deleted, may run on at Slurm, which could not be told for a day: %s"
            log.warning(what, each.swarm_id, ", ".join(each.batches))
            await self._is_over(each)
        return True

    async def _is_over(self, left: Abandoned) -> None:
        self._left.remove(left)
        await left.over()
        await self.forget(left)


def _read(name: str, kept: Any) -> Abandoned | None:
    try:
        batches = [str(batch) for batch in kept["batches"]]
        return Abandoned(str(kept["swarm_id"]), batches, float(kept["since"]), name)
    except (ValueError, KeyError, TypeError) as error:
        log.warning("%s: jobs of a deleted swarm may run on, as its file is damaged (%r); remove it", name, error)
        return None
