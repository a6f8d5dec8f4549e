"""The tracker: one look at Slurm's queue at a time, for all arrays of all swarms together, and what follows from it.

It knows which element is which attempt, and takes it from submission to its end. Looks are close to each other while
things change and rare when nothing does.
"""

import asyncio
import logging
import os
import time
from collections.abc import Mapping
from itertools import chain

from swarmd.core.status import TaskStatus
from swarmd.gateways.slurm.attempts import Element, Ending, Phase, SlurmBatch
from swarmd.gateways.slurm.concluding import Conclusions
from swarmd.gateways.slurm.ender import Ender
from swarmd.gateways.slurm.listing import Listing, Row, list_arguments, read_listing, rows_of
from swarmd.gateways.slurm.options import SlurmOptions
from swarmd.gateways.slurm.patrol import Patrol
from swarmd.gateways.slurm.programs import Programs
from swarmd.gateways.slurm.settling import Case
from swarmd.gateways.slurm.site import Site
from swarmd.gateways.slurm.spool import ArrayJob
from swarmd.gateways.slurm.states import FINAL, HOPELESS, Stage, is_held_after_failed_launch, stage_of
from swarmd.gateways.slurm.turns import Turns
from swarmd.gateways.slurm.user import user_name

log = logging.getLogger(__name__)

GROWTH = 1.5
"""How much rarer looks become, each time that nothing had changed."""
IDLE_SHARE = 2
"""A look is followed by a pause of so many times its own duration, at least."""
WARNING_SECONDS = 60.0


class Tracker:
    """Follows elements through the queue."""

    def __init__(self, programs: Programs, site: Site, conclusions: Conclusions, options: SlurmOptions) -> None:
        self._programs = programs
        self._site = site
        self._options = options
        self._conclusions = conclusions
        conclusions.forget = self._forget
        conclusions.look_again = self._look_again
        self.ender = Ender(programs)
        self._elements: dict[str, Element] = {}
        self._batches: set[SlurmBatch] = set()
        """Those that Slurm has arrays of, with attempts that are not over; some may be over by now."""
        self._user = ""
        self._new: set[Element] = set()
        """Those that no look has looked for yet, or of which nothing could be said when one had."""
        self._watched: set[Element] = set()
        """Those that wait for a reason that may never pass, or to be ended by a node that may hang."""
        self._rivals: set[Element] = set()
        """Those that have, or had, a number of Slurm's that another has, too: looked at in every look."""
        self._patrol = Patrol(programs, options.lost_after, self.end)
        self._sought: dict[str, SlurmBatch] = {}
        """Batches that may be in the queue by their name."""
        self._lines: Mapping[str, str] = {}
        self._arrays: dict[tuple[SlurmBatch, int], bool] = {}
        """Whether the last look has seen anything of an array."""
        self._callers: list[asyncio.Future[bool]] = []
        """Those who wait for a look that begins after they asked."""
        self._woken = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None
        self._pause = options.poll_min
        self._warned_at = float("-inf")
        self.trouble = ""
        """Why nothing is known of the queue just now; empty while Slurm answers."""

    # -- what others tell it ---------------------------------------------------------------------------------------

    def start(self) -> None:
        self._looking = asyncio.create_task(self._look_for_ever(), name="slurm: squeue")

    async def close(self) -> None:
        await self.ender.close()
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait((self._looking,))
        for caller in self._callers:
            caller.cancel()

    def attach(self, batch: SlurmBatch, job: ArrayJob) -> None:
        """Slurm has an array of the batch."""
        batch.jobs.append(job)
        self._batches.add(batch)
        for element in batch.elements[job.first : job.first + job.count]:
            if element.job_id or element.phase is Phase.OVER:
                continue
            element.job_id, element.index = job.job_id, element.position - job.first
            other = self._elements.get(element.name)
            if other is not None:
                self._rivals |= {other, element}
            self._elements[element.name] = element
            self._new.add(element)
            if element.phase is Phase.RUNNING:  # for an earlier daemon
                self._patrol.watch(element)
            if element.is_to_end:
                self.ender.want(element)
        self.look_soon()

    def _forget(self, element: Element) -> None:
        if self._elements.get(element.name) is element:
            del self._elements[element.name]
        self._watched.discard(element)
        self._rivals.discard(element)

    def _look_again(self, element: Element) -> None:
        self._new.add(element)

    def seek(self, batch: SlurmBatch) -> None:
        """Look for arrays of the batch by its name, from now on."""
        self._sought[batch.batch_id] = batch
        self.look_soon()

    def seek_no_more(self, batch: SlurmBatch) -> None:
        self._sought.pop(batch.batch_id, None)

    def end(self, element: Element, ending: Ending) -> None:
        """End it at Slurm, and say this of it then."""
        if element.phase is not Phase.OVER and element.ending is None:
            element.ending = ending
            self.ender.want(element)
            self.look_soon()

    def look_soon(self) -> None:
        """Something changes: look often again."""
        self._pause = self._options.poll_min
        self._woken.set()

    async def next_look(self) -> bool:
        """Wait for a look that begins after this call; whether Slurm answered."""
        caller: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._callers.append(caller)
        self.look_soon()
        return await caller

    # -- looking ---------------------------------------------------------------------------------------------------

    async def _look_for_ever(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._woken.clear()
            begun, answered = loop.time(), True
            if self._elements or self._rivals or self._sought or self._callers or self._conclusions.followed:
                answered = await self._look_safely()
            else:
                await self._woken.wait()
                continue
            if not answered:
                self._pause = min(2 * self._pause, self._options.poll_max)
            took = loop.time() - begun
            await self._rest(begun, took)

    async def _rest(self, begun: float, took: float) -> None:
        """Until the next look is due. Being woken makes it no sooner than the shortest pause."""
        loop = asyncio.get_running_loop()
        while True:
            due = max(begun + self._pause, begun + took + IDLE_SHARE * took)
            if loop.time() >= due:
                return
            try:
                async with asyncio.timeout_at(due):
                    await self._woken.wait()
            except TimeoutError:
                return
            self._woken.clear()

    async def _look_safely(self) -> bool:
        callers, self._callers = self._callers, []
        answered = False
        try:
            answered = await self._look()
        except Exception:
            log.exception("what squeue said could not be taken up")
        finally:
            for caller in callers:
                if not caller.done():
                    caller.set_result(answered)
        return answered

    async def _look(self) -> bool:
        """Look once. Returns whether Slurm answered."""
        if not self._user:
            self._user = await asyncio.to_thread(user_name)
        new, self._new = self._new, set()
        answer = await self._programs.call("squeue", *list_arguments(self._user, self._names()))
        if not answer.is_good:
            self._new |= new
            self._is_silent(answer.why)
            return False
        self.trouble = ""
        listing = await asyncio.to_thread(read_listing, answer.out, self._lines, list(self._elements))
        self._lines = listing.lines
        try:
            await self._fold(listing, new)
        except BaseException:
            self._lines = {}  # everything is looked at once more
            self._new |= new
            raise
        await self._site.refresh()
        return True

    def _names(self) -> list[str]:
        """Those of all batches that are followed or looked for; none when all jobs of the user are to be listed."""
        self._batches = {batch for batch in self._batches if batch.open_count}
        followed = {element.batch for element in self._conclusions.followed}
        names = {batch.batch_id for batch in self._batches | followed} | self._sought.keys()
        return [] if "" in names else sorted(names)

    def _is_silent(self, why: str) -> None:
        if not self.trouble:
            since = time.strftime("%Y-%m-%d %H:%M:%S")
            self.trouble = f"Slurm does not say what is in its queue since {since}: {why}"
        now = asyncio.get_running_loop().time()
        if now - self._warned_at > WARNING_SECONDS:
            log.warning("Slurm does not say what is in its queue; it is asked again: %s", why)
            self._warned_at = now

    # -- what a look means -----------------------------------------------------------------------------------------

    async def _fold(self, listing: Listing, new: set[Element]) -> None:
        """Note everything that a look has shown; `new` are those to be looked at whether it is new or not."""
        self._arrays.clear()
        await self._adopt(listing, new)
        cases = await self._all_looked_at(listing, new)
        if listing.changed or listing.gone:
            self._pause = self._options.poll_min
        else:
            self._pause = min(GROWTH * self._pause, self._options.poll_max)
        self._conclusions.flush()
        await self._conclusions.settle_looked_at(cases)
        await self._conclusions.settle_hanging(self._hanging())
        await self._patrol.look()
        await self._conclusions.follow(listing)

    def _hanging(self) -> list[Element]:
        """Those that Slurm has been ending for so long that their node may hang."""
        since = asyncio.get_running_loop().time() - self._options.lost_after
        return [each for each in self._watched if stage_of(each.state) is Stage.ENDS and each.waiting_since <= since]

    async def _all_looked_at(self, listing: Listing, new: set[Element]) -> list[Case]:
        """The cases of those that are over; others have their turn meanwhile."""
        turns, cases = Turns(), []
        named = map(self._elements.get, chain(listing.changed, listing.gone))
        for element in chain(named, new, tuple(self._watched), tuple(self._rivals)):
            if turns.is_over:
                await turns.pass_on()
            if element is None or element.phase is Phase.OVER or self._is_not_looked_at(element):
                continue
            case = self._looked_at(element, listing.row(element.name), listing)
            if case is not None:
                cases.append(case)
        return list({case.element: case for case in cases}.values())

    def _is_not_looked_at(self, element: Element) -> bool:
        """Whether the look began before Slurm had it, or its status file is waited for."""
        return element in self._new or element in self._conclusions.followed

    async def _adopt(self, listing: Listing, new: set[Element]) -> None:
        """Take up arrays of batches that are looked for by name."""
        if not self._sought:
            return
        found: dict[tuple[str, int], list[Row]] = {}
        for row in await asyncio.to_thread(rows_of, listing, frozenset(self._sought)):
            if not row.is_leftover:
                found.setdefault((row.name, row.job_id), []).append(row)
        for (name, job_id), rows in found.items():
            batch = self._sought.get(name)
            if batch is None:
                continue
            first, count = _place(rows[0].comment)
            known = any(job.job_id == job_id for job in batch.jobs)
            taken = any(job.first == first for job in batch.jobs)
            if not known and not taken:
                log.info("batch %s was found in Slurm's queue as job %d", name, job_id)
                self.attach(batch, ArrayJob(job_id, first, count or len(batch.elements)))
                adopted = {each for each in batch.elements if each.job_id == job_id}
                self._new -= adopted
                new |= adopted

    def _looked_at(self, element: Element, row: Row | None, listing: Listing) -> Case | None:
        """Note what the queue says of an element. Returns the case of one that is over."""
        if row is None or row.name != element.batch.batch_id:
            place = element.batch, element.job_id
            if place not in self._arrays:
                self._arrays[place] = _knows_array(element, listing)
            return Case(element, None, "nothing of it", knows_array=self._arrays[place])
        element.state, element.reason = row.state, row.reason
        stage = stage_of(row.state)
        if stage is Stage.WAITS:
            self._waits(element, row)
            return None
        self._watched.discard(element)
        if stage is Stage.RUNS:
            self._runs(element)
        elif stage is Stage.ENDS:
            element.waiting_since = element.waiting_since or asyncio.get_running_loop().time()
            self._watched.add(element)
        elif stage is Stage.REQUEUED:
            self._requeued(element, row.state, has_killed=row.restarts > 0)
        elif stage is Stage.DONE and row.wait_status == 0:
            self._conclusions.conclude(element, TaskStatus.DONE)
        elif stage in FINAL:
            return Case(element, stage, _words(row), _exit_code(row.wait_status), row.node)
        return None

    def _waits(self, element: Element, row: Row) -> None:
        reason = row.reason
        if is_held_after_failed_launch(reason, row.restarts):
            self._requeued(element, reason, has_killed=False)
        elif element.phase is Phase.RUNNING:
            # Slurm counts what it puts back itself; otherwise its controller has forgotten that it had started it.
            self._requeued(element, f"PENDING, {reason}", has_killed=row.restarts > 0)
        elif reason in HOPELESS:
            self._watched.add(element)
            self._judge_wait(element, reason)
        else:
            element.waiting_since = 0.0
            self._watched.discard(element)
        if element.phase is Phase.SENT:
            element.phase = Phase.LAUNCHED
            self._conclusions.tell(element, TaskStatus.LAUNCHED)

    def _judge_wait(self, element: Element, reason: str) -> None:
        """What waits for something that cannot be is ended, and what waits too long for something doubtful, too."""
        now = asyncio.get_running_loop().time()
        element.waiting_since = element.waiting_since or now
        batch = element.batch
        objection = self._site.objection(batch.resources, batch.swarm.choices.partition)
        if objection:
            words = f"Slurm would never run it ({reason}): {objection}"
            self.end(element, Ending(TaskStatus.ERROR_FATAL, words))
        elif now - element.waiting_since >= self._options.hopeless_after:
            words = f"Slurm did not run it for {now - element.waiting_since:.0f} s: {reason}"
            self.end(element, Ending(TaskStatus.ERROR_RECOVERABLE, words))

    def _requeued(self, element: Element, words: str, *, has_killed: bool) -> None:
        reason = f"Slurm would start its job {element.name} once more ({words}); it is queued anew instead"
        self.end(element, Ending(TaskStatus.REGISTERED, reason, has_killed))

    def _runs(self, element: Element) -> None:
        element.waiting_since = 0.0
        element.was_running = True
        if element.phase is not Phase.RUNNING:
            element.phase = Phase.RUNNING
            self._patrol.watch(element)
            self._conclusions.tell(element, TaskStatus.RUNNING)


def _knows_array(element: Element, listing: Listing) -> bool:
    """Whether a look has seen other elements of the same array, or that the rest of it was cancelled as a whole."""
    name, whole = element.batch.batch_id, listing.whole(element.job_id)
    if whole is not None and whole.name == name and stage_of(whole.state) is Stage.CANCELLED:
        return True
    rows = (listing.row(other.name) for other in element.batch.elements if other.job_id == element.job_id)
    return any(row is not None and row.name == name for row in rows)


def _place(comment: str) -> tuple[int, int]:
    """Which part of its batch an array is, by its comment: `<batch_id> <first> <count>`."""
    words = comment.split()
    if len(words) == 3 and words[1].isdecimal() and words[2].isdecimal():
        return int(words[1]), int(words[2])
    return 0, 0


def _words(row: Row) -> str:
    return row.state if row.reason in ("", "None", "NonZeroExitCode") else f"{row.state}, {row.reason}"


def _exit_code(wait_status: int) -> int | None:
    try:
        return os.waitstatus_to_exitcode(wait_status)
    except ValueError:
        return None
