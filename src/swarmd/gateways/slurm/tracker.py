"""The tracker: one look at Slurm's queue at a time, for all arrays of all swarms together, and what follows from it.

It knows which element is which attempt, and takes it from submission to its end. Looks are close to each other while
things change and rare when nothing does.
"""

import asyncio
import logging
import os
import pwd
from collections.abc import Callable, Sequence

from swarmd.core.status import TaskStatus
from swarmd.gateways.slurm import history
from swarmd.gateways.slurm.attempts import Element, Ending, Phase, SlurmBatch
from swarmd.gateways.slurm.ender import Ender
from swarmd.gateways.slurm.listing import Listing, Row, list_arguments, read_listing
from swarmd.gateways.slurm.news import News
from swarmd.gateways.slurm.options import SlurmOptions
from swarmd.gateways.slurm.programs import Programs
from swarmd.gateways.slurm.settling import Case, Outcome, ending_of, last_words_of_all, settle_all, with_past
from swarmd.gateways.slurm.site import Site
from swarmd.gateways.slurm.spool import ArrayJob
from swarmd.gateways.slurm.states import FINAL, HOPELESS, Stage, is_held_after_failed_launch, stage_of

log = logging.getLogger(__name__)

SLICE = 500
"""Elements that are looked at before others have their turn."""
GROWTH = 1.5
"""How much rarer looks become, each time that nothing had changed."""
IDLE_SHARE = 2
"""A look is followed by a pause of so many times its own duration, at least."""
WARNING_SECONDS = 60.0


class Tracker:
    """Follows elements through the queue."""

    def __init__(self, programs: Programs, site: Site, options: SlurmOptions) -> None:
        self._programs = programs
        self._site = site
        self._options = options
        self.ender = Ender(programs)
        self.over: Callable[[SlurmBatch], None] = lambda _: None
        """Called when the last attempt of a batch is over."""
        self.news: News | None = None
        self._elements: dict[str, Element] = {}
        self._new: set[Element] = set()
        """Those that no look has looked for yet."""
        self._watched: set[Element] = set()
        """Those that wait for a reason that may never pass."""
        self._followed: dict[Element, tuple[str, float]] = {}
        """Those that another element may be running, and until when that is waited for."""
        self._sought: dict[str, SlurmBatch] = {}
        """Batches that may be in the queue by their name."""
        self._lines: dict[str, str] = {}
        self._siblings: dict[tuple[SlurmBatch, int], bool] = {}
        """Whether the last look has seen other elements of an array."""
        self._callers: list[asyncio.Future[bool]] = []
        """Those who wait for a look that begins after they asked."""
        self._woken = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None
        self._pause = options.poll_min
        self._warned_at = float("-inf")

    # -- what others tell it ---------------------------------------------------------------------------------------

    def start(self, news: News) -> None:
        self.news = news
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
        for element in batch.elements[job.first : job.first + job.count]:
            if element.job_id or element.phase is Phase.OVER:
                continue
            element.job_id, element.index = job.job_id, element.position - job.first
            self._elements[element.name] = element
            self._new.add(element)
            if element.is_to_end:
                self.ender.want(element)
        self.look_soon()

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
            if self._elements or self._sought or self._callers or self._followed:
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
        new, self._new = self._new, set()
        names = {element.batch.batch_id for element in self._elements.values()} | self._sought.keys()
        answer = await self._programs.call("squeue", *list_arguments(_user(), sorted(names)))
        if not answer.is_good:
            self._new |= new
            self._warn(answer.why)
            return False
        listing = await asyncio.to_thread(read_listing, answer.out, self._lines)
        self._lines = dict(listing.lines)
        try:
            await self._fold(listing, new)
        except BaseException:
            self._lines = {}  # everything is looked at once more
            self._new |= new
            raise
        await self._site.refresh()
        return True

    def _warn(self, why: str) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._warned_at > WARNING_SECONDS:
            log.warning("Slurm does not say what is in its queue; it is asked again: %s", why)
            self._warned_at = now

    # -- what a look means -----------------------------------------------------------------------------------------

    async def _fold(self, listing: Listing, new: set[Element]) -> None:
        self._siblings.clear()
        self._adopt(listing, new)
        changed = [each for key in listing.changed if (each := self._elements.get(key)) is not None]
        gone = [self._elements[key] for key in self._elements.keys() - listing.lines.keys()]
        cases: list[Case] = []
        for number, element in enumerate(dict.fromkeys([*changed, *new, *gone, *self._watched])):
            if number % SLICE == SLICE - 1:
                await asyncio.sleep(0)
            if element.phase is not Phase.OVER and element not in self._new and element not in self._followed:
                case = self._looked_at(element, listing.row(element.name), listing)
                cases += [case] if case else []
        if changed or gone:
            self._pause = self._options.poll_min
        else:
            self._pause = min(GROWTH * self._pause, self._options.poll_max)
        self.flush()
        await self._settle(cases)
        await self._follow(listing)

    def _adopt(self, listing: Listing, new: set[Element]) -> None:
        """Take up arrays of batches that are looked for by name."""
        if not self._sought:
            return
        found: dict[tuple[str, int], list[Row]] = {}
        for key in listing.lines:
            row = listing.row(key)
            if row is not None and row.name in self._sought and not row.is_leftover:
                found.setdefault((row.name, row.job_id), []).append(row)
        for (name, job_id), rows in found.items():
            batch = self._sought[name]
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
            if place not in self._siblings:
                self._siblings[place] = _has_siblings(element, listing)
            return Case(element, None, "nothing of it", has_siblings=self._siblings[place])
        element.state, element.reason = row.state, row.reason
        stage = stage_of(row.state)
        if stage is Stage.WAITS:
            self._waits(element, row)
            return None
        self._watched.discard(element)
        if stage is Stage.RUNS:
            self._runs(element)
        elif stage is Stage.REQUEUED:
            self._requeued(element, row.state, has_killed=row.restarts > 0)
        elif stage is Stage.DONE and row.wait_status == 0:
            self.conclude(element, TaskStatus.DONE)
        elif stage in FINAL:
            return Case(element, stage, _words(row), _exit_code(row.wait_status))
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
            self._tell(element, TaskStatus.LAUNCHED)

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
            self._tell(element, TaskStatus.RUNNING)

    # -- the end of attempts ---------------------------------------------------------------------------------------

    async def _settle(self, cases: Sequence[Case]) -> None:
        for case in cases:
            if case.element.silent:
                self.conclude(case.element, TaskStatus.REGISTERED)
        await self.settle([case for case in cases if not case.element.silent])

    async def settle(self, cases: Sequence[Case]) -> None:
        """Find out what became of attempts that are over at Slurm, and say it."""
        if not cases:
            return
        known = await self._with_pasts(cases)
        outcomes = await self._programs.with_files(settle_all, known)
        for case, outcome in zip(known, outcomes, strict=True):
            self._conclude_as(case.element, outcome)
        self.flush()

    async def _with_pasts(self, cases: Sequence[Case]) -> list[Case]:
        """The cases, those that have left the queue with what Slurm's records say of them."""
        jobs = {case.element.job_id: case.element.batch.batch_id for case in cases if case.stage is None}
        jobs.pop(0, None)
        if not jobs:
            return list(cases)
        pasts: dict[str, history.Past] = {}
        if self._options.jobcomp_file is not None:
            pasts |= await self._programs.with_files(history.from_completions, self._options.jobcomp_file, jobs)
        if self._site.facts.keeps_accounts:
            pasts |= await history.from_accounts(self._programs, jobs)
        return [with_past(case, pasts.get(case.element.name)) for case in cases]

    def _conclude_as(self, element: Element, outcome: Outcome) -> None:
        if outcome.follow:
            until = asyncio.get_running_loop().time() + self._options.lost_after
            self._followed[element] = outcome.follow, until
            self._elements.pop(element.name, None)
            return
        self.conclude(element, outcome.status, outcome.reason)

    async def _follow(self, listing: Listing) -> None:
        """Look after those that another run may bring to an end."""
        if not self._followed:
            return
        followed = [element for element in self._followed if element.phase is not Phase.OVER]
        for element in self._followed.keys() - set(followed):
            del self._followed[element]
        if not followed:
            return
        last_words = await self._programs.with_files(last_words_of_all, followed)
        now = asyncio.get_running_loop().time()
        for element, outcome in zip(followed, last_words, strict=True):
            runner, until = self._followed[element]
            row = listing.row(runner)
            if outcome is not None:
                self.conclude(element, outcome.status, outcome.reason)
            elif row is not None and row.name == element.batch.batch_id and stage_of(row.state) not in FINAL:
                self._followed[element] = runner, now + self._options.lost_after
            elif now >= until:
                self.conclude(element, *ending_of(element).said)
        self.flush()

    def conclude(self, element: Element, status: TaskStatus, reason: str = "") -> None:
        """It is over, and this is said of it; nothing of one that was cancelled."""
        if element.phase is Phase.OVER:
            return
        batch, swarm = element.batch, element.batch.swarm
        element.phase = Phase.OVER
        batch.open_count -= 1
        self._elements.pop(element.name, None)
        self._watched.discard(element)
        swarm.elements.pop(element.key, None)
        if status is TaskStatus.REGISTERED:
            status, reason = self._given_back(element, reason)
        else:
            swarm.give_backs.pop(element.task_id, None)
        self._tell(element, status, reason)
        if not batch.open_count:
            self.seek_no_more(batch)
            self.over(batch)

    def _given_back(self, element: Element, reason: str) -> tuple[TaskStatus, str]:
        """A task is given back so many times in a row; then it has failed."""
        if element.silent:
            return TaskStatus.REGISTERED, reason
        counts, most = element.batch.swarm.give_backs, self._options.max_give_backs
        counts[element.task_id] = counts.get(element.task_id, 0) + 1
        if counts[element.task_id] <= most:
            return TaskStatus.REGISTERED, reason
        del counts[element.task_id]
        return TaskStatus.ERROR_RECOVERABLE, f"{reason} (for the {most + 1}. time in a row)"

    def _tell(self, element: Element, status: TaskStatus, reason: str = "") -> None:
        if self.news is not None:
            self.news.add(element, status, reason)

    def flush(self) -> None:
        """Report what is known."""
        if self.news is not None:
            self.news.flush()


def _has_siblings(element: Element, listing: Listing) -> bool:
    """Whether a look has seen other elements of the same array."""
    rows = (listing.row(other.name) for other in element.batch.elements if other.job_id == element.job_id)
    return any(row is not None and row.name == element.batch.batch_id for row in rows)


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


def _user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
