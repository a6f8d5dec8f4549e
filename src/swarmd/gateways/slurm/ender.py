"""Ending jobs at Slurm: asked for again until they are gone, however long the controller is away.

What is to be ended says so itself (`Element.is_to_end`). Every call names the batch beside the job's number: a number
that a controller lost in a crash may be another job's by now.
"""

import asyncio
import contextlib
import logging
import re
from collections import defaultdict
from collections.abc import Iterable

from swarmd.gateways.slurm.attempts import NEVER, Element, SlurmBatch, ranges
from swarmd.gateways.slurm.programs import Answer, Programs
from swarmd.gateways.slurm.turns import Turns

log = logging.getLogger(__name__)

AT_ONCE = 2
"""How many calls may be under way: there can be one for each job, and looks and submissions are not to wait for all."""
REPEAT_SECONDS = 5.0
"""How long something that was to end may be there until it is asked for again."""
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 30.0
_NOTHING_TO_END = re.compile("invalid job id|already complet", re.IGNORECASE)
"""What Slurm says of jobs that are over."""


class Ender:
    """Asks Slurm to end elements."""

    def __init__(self, programs: Programs) -> None:
        self._programs = programs
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._wanted: set[Element] = set()
        self._loop: asyncio.Task[None] | None = None
        self._more = asyncio.Event()
        self._heard = asyncio.Event()
        self._is_closed = False

    def want(self, *elements: Element) -> None:
        """End these, as soon as Slurm can be reached and has them."""
        self._wanted.update(elements)
        self._more.set()
        if self._loop is None:
            self._loop = asyncio.create_task(self._until_all_are_gone(), name="slurm: scancel")

    async def _tell(self, elements: Iterable[Element]) -> bool:
        """Ask once for those that Slurm has; whether it heard all of it."""
        by_job: dict[tuple[SlurmBatch, int], list[Element]] = defaultdict(list)
        turns = Turns()
        for element in elements:
            if turns.is_over:
                await turns.pass_on()
            if element.job_id and element.is_to_end:
                by_job[element.batch, element.job_id].append(element)
        answers = await asyncio.gather(*(self._end(batch, job, some) for (batch, job), some in by_job.items()))
        return all(answers)

    async def _told_safely(self, elements: Iterable[Element]) -> bool:
        try:
            return await self._tell(elements)
        except Exception:
            log.exception("jobs could not be ended; it is tried again")
            return False

    async def _end(self, batch: SlurmBatch, job_id: int, elements: list[Element]) -> bool:
        async with self._turns:
            answer = await self._asked(batch, job_id, elements)
        heard = answer.is_good or bool(_NOTHING_TO_END.search(answer.err))
        if heard:
            now = asyncio.get_running_loop().time()
            for element in elements:
                element.asked_at = now
        else:
            log.info("scancel of job %s of batch %s: %s", job_id, batch.batch_id, answer.why)
        return heard

    async def _asked(self, batch: SlurmBatch, job_id: int, elements: list[Element]) -> Answer:
        others = any(each.job_id == job_id and not each.is_to_end for each in batch.left)
        if others:
            return await self._end_some(batch, job_id, elements)
        return await self._programs.call("scancel", f"--name={batch.batch_id}", str(job_id))

    async def _end_some(self, batch: SlurmBatch, job_id: int, elements: list[Element]) -> Answer:
        """Elements among others of the same array.

        Given a name as well, scancel would end the whole array while its elements wait (22.05), so the name is looked
        at before.
        """
        named = await self._programs.call("squeue", "--noheader", f"--jobs={job_id}", "--states=all", "--format=%j")
        if not named.is_good or batch.batch_id not in named.out.split():
            return named
        numbers = ranges(element.index for element in elements)
        return await self._programs.call("scancel", f"{job_id}_[{numbers}]")

    async def told(self, elements: list[Element]) -> None:
        """Wait until Slurm has heard that these are to end, however long that takes."""
        while not self._is_closed and any(
            each.job_id and each.is_to_end and each.asked_at == NEVER for each in elements
        ):
            await self._heard.wait()

    async def _until_all_are_gone(self) -> None:
        pause = FIRST_PAUSE_SECONDS
        while True:
            self._more.clear()
            now = asyncio.get_running_loop().time()
            due = [each for each in self._wanted if now - each.asked_at >= REPEAT_SECONDS]
            heard = await self._told_safely(due)
            await self._forget_what_is_over()
            self._heard.set()
            self._heard.clear()
            pause = FIRST_PAUSE_SECONDS if heard else min(2 * pause, LONGEST_PAUSE_SECONDS)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if not self._wanted else REPEAT_SECONDS if heard else pause):
                    await self._more.wait()

    async def _forget_what_is_over(self) -> None:
        turns = Turns()
        for element in tuple(self._wanted):
            if turns.is_over:
                await turns.pass_on()
            if not element.is_to_end:
                self._wanted.discard(element)

    async def close(self) -> None:
        """Ask no more; nobody waits any longer."""
        self._is_closed = True
        self._heard.set()
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.wait((self._loop,))
