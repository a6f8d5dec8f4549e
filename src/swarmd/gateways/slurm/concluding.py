"""The ends of attempts: found out from Slurm's word, its records and the status files, and said once.

What the tracker and others have seen to be over comes here as cases; what becomes of it goes into the news. Attempts
that may still run, though Slurm says nothing of them, are followed by their status files.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

from swarmd.core.status import TaskStatus
from swarmd.gateways.slurm import history
from swarmd.gateways.slurm.attempts import Element, Phase, SlurmBatch
from swarmd.gateways.slurm.listing import Listing, Row
from swarmd.gateways.slurm.news import News
from swarmd.gateways.slurm.options import SlurmOptions
from swarmd.gateways.slurm.programs import Programs
from swarmd.gateways.slurm.settling import (
    Case,
    Outcome,
    ending_of,
    last_words_and_unseen,
    last_words_of_all,
    settle_all,
    with_pasts,
)
from swarmd.gateways.slurm.site import Site, bad_ones
from swarmd.gateways.slurm.states import FINAL, Stage, stage_of
from swarmd.gateways.slurm.turns import Turns


class Conclusions:
    """Brings attempts to their end, once each."""

    def __init__(self, programs: Programs, site: Site, options: SlurmOptions) -> None:
        self._programs = programs
        self._site = site
        self._options = options
        self.forget: Callable[[Element], None] = lambda _: None
        """Called with every attempt that is over, or of which the queue says nothing any more."""
        self.look_again: Callable[[Element], None] = lambda _: None
        """Called with every attempt of which nothing can be said yet."""
        self.over: Callable[[SlurmBatch], None] = lambda _: None
        """Called when the last attempt of a batch is over."""
        self.news: News | None = None
        """Where it is said; None: nobody listens any more."""
        self.followed: dict[Element, tuple[str, float]] = {}
        """Attempts that an element may be running, which one, and until when that is waited for."""

    async def settle_looked_at(self, cases: Sequence[Case]) -> None:
        """Like `settle`, but those that were cancelled are over without another thought."""
        turns = Turns()
        for case in cases:
            if turns.is_over:
                await turns.pass_on()
            if case.element.silent:
                self.conclude(case.element, TaskStatus.REGISTERED)
        await self.settle([case for case in cases if not case.element.silent])

    async def settle(self, cases: Sequence[Case]) -> None:
        """Find out what became of attempts that are over at Slurm, and say it."""
        if not cases:
            return
        known = await self._with_nodes(await self._with_pasts(cases))
        outcomes = await self._programs.with_files(settle_all, known)
        turns = Turns()
        for case, outcome in zip(known, outcomes, strict=True):
            if turns.is_over:
                self.flush()
                await turns.pass_on()
            self._conclude_as(case.element, outcome)
        self.flush()

    async def settle_hanging(self, elements: Sequence[Element]) -> None:
        """Of elements that a node cannot end: those whose status file tells of a good end are done."""
        if not elements:
            return
        outcomes = await self._programs.with_files(last_words_of_all, elements)
        for element, outcome in zip(elements, outcomes, strict=True):
            if outcome is not None and outcome.status is TaskStatus.DONE:
                self.conclude(element, outcome.status)
        self.flush()

    async def _with_nodes(self, cases: Sequence[Case]) -> Sequence[Case]:
        """The cases, those of what was cancelled before it ran with whether its node is to blame."""
        nodes = {case.node for case in cases if case.stage is Stage.CANCELLED and case.node and not case.exit_code}
        bad = await bad_ones(self._programs, nodes) if nodes else ()
        return [replace(case, has_bad_node=True) if case.node in bad else case for case in cases] if bad else cases

    async def _with_pasts(self, cases: Sequence[Case]) -> Sequence[Case]:
        """The cases, those that have left the queue with what Slurm's records say of them."""
        if self._options.jobcomp_file is None and not self._site.facts.keeps_accounts:
            return cases
        jobs = {case.element.job_id: case.element.batch.batch_id for case in cases if case.stage is None}
        jobs.pop(0, None)
        if not jobs:
            return cases
        pasts: dict[str, history.Past] = {}
        if self._options.jobcomp_file is not None:
            pasts |= await self._programs.with_files(history.from_completions, self._options.jobcomp_file, jobs)
        if self._site.facts.keeps_accounts:
            pasts |= await history.from_accounts(self._programs, jobs)
        return await asyncio.to_thread(with_pasts, cases, jobs, pasts)

    def _conclude_as(self, element: Element, outcome: Outcome) -> None:
        if outcome.follow:
            until = asyncio.get_running_loop().time() + self._options.lost_after
            self.followed[element] = outcome.follow, until
            self.forget(element)
            return
        if outcome.is_unseen:
            element.reason = outcome.reason
            self.look_again(element)
            return
        self.conclude(element, outcome.status, outcome.reason)

    async def follow(self, listing: Listing) -> None:
        """Look after those that another run may bring to an end."""
        if not self.followed:
            return
        followed = [element for element in self.followed if element.phase is not Phase.OVER]
        for element in self.followed.keys() - set(followed):
            del self.followed[element]
        if not followed:
            return
        last_words, unseen = await self._programs.with_files(last_words_and_unseen, followed)
        now, turns = asyncio.get_running_loop().time(), Turns()
        for element, outcome in zip(followed, last_words, strict=True):
            if turns.is_over:
                await turns.pass_on()
            runner, until = self.followed[element]
            row = listing.row(runner)
            if outcome is not None:
                self.conclude(element, outcome.status, outcome.reason)
            elif element.batch.swarm.shared in unseen or (
                row is not None and _is_of(row, element) and stage_of(row.state) not in FINAL
            ):
                self.followed[element] = runner, now + self._options.lost_after
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
        self.forget(element)
        swarm.elements.pop(element.key, None)
        if status is TaskStatus.REGISTERED:
            status, reason = self._given_back(element, reason)
        else:
            swarm.give_backs.pop(element.task_id, None)
        self.tell(element, status, reason)
        if not batch.open_count:
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

    def tell(self, element: Element, status: TaskStatus, reason: str = "") -> None:
        """It has this status now."""
        if self.news is not None:
            self.news.add(element, status, reason)

    def flush(self) -> None:
        """Report what is known."""
        if self.news is not None:
            self.news.flush()


def _is_of(row: Row, element: Element) -> bool:
    """Whether a job is of an attempt's batch or, when no file tells which that was, of its swarm."""
    batch = element.batch
    return row.name == batch.batch_id or (not batch.batch_id and row.name.startswith(f"{batch.swarm.swarm_id}-"))
