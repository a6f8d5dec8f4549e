"""SlurmGateway: the contract of a gateway, kept by job arrays of a Slurm cluster.

Here the parts come together: `submitting` gives batches to Slurm, `tracker` follows them, `finding` looks for those in
doubt. It must not know the scheduler; what it says goes to `report`.
"""

import asyncio
import logging
import re
import secrets
from collections.abc import Coroutine, Sequence
from functools import partial
from pathlib import Path

from swarmd.core.batch import Batch
from swarmd.core.errors import InvalidInputError
from swarmd.core.status import TaskStatus
from swarmd.core.update import StateUpdate
from swarmd.gateways.contract import (
    BatchRefusedError,
    Capabilities,
    FindOutcome,
    Found,
    QueueOutcome,
    Refusal,
    Report,
    ServerGateway,
    SwarmInfo,
)
from swarmd.gateways.left import LeftFiles
from swarmd.gateways.output import folder_name
from swarmd.gateways.slurm.abandoned import Abandoned, Abandonment
from swarmd.gateways.slurm.attempts import Element, SlurmBatch, SlurmSwarm
from swarmd.gateways.slurm.concluding import Conclusions
from swarmd.gateways.slurm.finding import Finding
from swarmd.gateways.slurm.news import News
from swarmd.gateways.slurm.options import SlurmOptions, SwarmChoices
from swarmd.gateways.slurm.programs import Programs
from swarmd.gateways.slurm.resuming import Resuming, list_batches
from swarmd.gateways.slurm.site import Site
from swarmd.gateways.slurm.spool import Spool
from swarmd.gateways.slurm.submitting import UNUSABLE, Submitting
from swarmd.gateways.slurm.tracker import Tracker
from swarmd.gateways.slurm.turns import Turns

log = logging.getLogger(__name__)

KEPT_SECONDS = 60.0
"""How long the files of a batch stay when it is over: what was said of it may not be written down yet."""
LAST_CANCEL_SECONDS = 15.0
"""How long `close` waits for Slurm to hear that jobs of swarms in memory are to end."""
REMOVE_PATIENCE_SECONDS, NO_PATIENCE_SECONDS = 10.0, 0.5
"""How long that is waited for of a deleted swarm, and while it is known that Slurm does not answer."""
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class SlurmGateway(ServerGateway):
    """Runs batches as job arrays of a Slurm cluster.

    Jobs of a swarm with a token go on without the daemon; `resume` takes them up.
    """

    name = "slurm"
    capabilities = Capabilities(can_find=True, can_cancel=True)

    def __init__(self, options: SlurmOptions, *, batches: Path, output: Path, left: Path | None = None) -> None:
        """`batches` and `output`: folders that the compute nodes see, too.

        `left`: for what is to be ended of swarms that are gone; None: where the batches are.
        """
        self._options = options
        self._output = output
        self._programs = Programs(options.bin_directory, options.conf, options.command_timeout)
        self._spool = Spool(batches)
        self._site = Site(self._programs)
        self._conclusions = Conclusions(self._programs, self._site, options)
        self._tracker = Tracker(self._programs, self._site, self._conclusions, options)
        parts = self._programs, self._tracker, self._conclusions
        self._submitting = Submitting(*parts, self._spool, self._site, options)
        self._finding = Finding(*parts, options.find_patience)
        self._resuming = Resuming(*parts, self._spool, self._finding)
        self._abandonment = Abandonment(self._programs, LeftFiles(left or batches), options.find_patience)
        self._swarms: dict[str, SlurmSwarm] = {}
        self._not_taken_up: set[str] = set()
        """Those of an earlier daemon whose files could not be read yet."""
        self._background: set[asyncio.Task[None]] = set()
        self._is_open = self._was_started = False

    # -- the contract ----------------------------------------------------------------------------------------------

    async def trouble(self) -> str:
        missing = await self._programs.with_files(self._missing)
        return missing or (await self._site.presence()).trouble

    async def obstacle(self) -> str:
        return (await self._site.presence()).obstacle

    def swarm_trouble(self, swarm_id: str) -> str:
        return self._tracker.trouble if swarm_id in self._swarms else ""

    async def start(self, report: Report) -> None:
        self._report = report
        self._conclusions.over = self._over
        self._conclusions.news = News(report)
        self._site.limits_changed = self._tell_limits_to_all
        self._tracker.start()
        self._is_open = self._was_started = True
        await self._abandonment.start()

    async def close(self) -> None:
        """End. Jobs of swarms that live in memory are ended, as nobody will know of them; all others go on."""
        if not self._was_started:  # it may have been asked whether it can be used
            self._programs.close()
        if not self._is_open:
            return
        self._is_open = False
        self._conclusions.news = None
        await self._end_those_in_memory()
        for task in self._background:
            task.cancel()
        if self._background:
            await asyncio.wait(self._background)
        await self._abandonment.close()
        await self._tracker.close()
        self._programs.close()
        await self._submitting.close()

    def output_directory(self, swarm_id: str) -> Path | None:
        return self._output / folder_name(swarm_id)

    async def add_swarm(self, swarm: SwarmInfo) -> None:
        choices = SwarmChoices.of(swarm.options, self._options)
        for name in swarm.environment:
            if not _VARIABLE.fullmatch(name):
                message = f"swarm.environment: {name!r} cannot be a variable of a Slurm job; rename it or leave it out"
                raise InvalidInputError(message, field="swarm.environment")
        known = self._swarms.get(swarm.swarm_id)
        if known is None:
            token = swarm.token or secrets.token_hex(8)
            known = self._swarms[swarm.swarm_id] = SlurmSwarm(swarm, choices, token, self._output)
        known.info, known.choices = swarm, choices
        if self._is_open:
            self._in_background(self._tell_limits(known))

    async def swarm_finished(self, swarm_id: str, *, succeeded: bool) -> None:
        """Its batch files are of no use any more; output and status files stay."""
        del succeeded
        swarm = self._swarms.get(swarm_id)
        if swarm is not None and not swarm.batches and not self._options.keep_files:
            await self._programs.with_files(self._spool.tidy, swarm_id, lambda: bool(swarm.batches))

    def standing(self, swarm_id: str, task_id: int, attempt: int) -> str:
        swarm = self._swarms.get(swarm_id)
        element = swarm.elements.get((task_id, attempt)) if swarm else None
        return element.standing if element else ""

    async def remove_swarm(self, swarm_id: str) -> None:
        """Its jobs are ended. Returns when Slurm has heard it, or will hear it though we end."""
        swarm = self._swarms.pop(swarm_id, None)
        if swarm is None:
            return
        swarm.is_removed = True
        left = await self._abandoned(swarm)
        going_on = [] if left is None else left.batches
        abandon = partial(self._spool.abandon, swarm_id, going_on, keep_files=self._options.keep_files)
        await self._programs.with_files(abandon)
        if left is not None:
            patience = NO_PATIENCE_SECONDS if self._tracker.trouble else REMOVE_PATIENCE_SECONDS
            await self._end_within(list(swarm.elements.values()), patience)
            self._abandonment.end(left)

    async def queue_batch(self, batch: Batch) -> QueueOutcome | None:
        """Submit it as a job array, or as several where the site asks for it."""
        return await self._submitting.submit(self._swarm(batch.swarm_id), batch)

    async def resume(self, batches: Sequence[Batch], cancelled: Sequence[Batch] = ()) -> None:
        for swarm_id in {batch.swarm_id for batch in (*batches, *cancelled)}:
            swarm = self._swarm(swarm_id)
            given = [batch for batch in batches if batch.swarm_id == swarm_id]
            ended = [batch for batch in cancelled if batch.swarm_id == swarm_id]
            self._not_taken_up.add(swarm_id)
            lost = await self._resuming.resume(swarm, given, ended)
            self._not_taken_up.discard(swarm_id)
            for known in lost:
                self._in_background(self._resuming.find_lost(known))

    async def find_batch(self, batch: Batch) -> FindOutcome:
        """What was submitted counts as taken, and goes on. What was not is refused, and nobody starts it any more."""
        swarm = self._swarms.get(batch.swarm_id) if self._is_open else None
        if swarm is None:
            return FindOutcome(Found.UNKNOWN)
        known = await self._resuming.known_batch(swarm, batch)
        outcome = await self._finding.find(known)
        unusable = set(batch.task_ids.tolist()) - {element.task_id for element in known.elements}
        if outcome.found is not Found.QUEUED or not unusable:
            return outcome
        return FindOutcome(Found.QUEUED, [*outcome.refusals, Refusal(sorted(unusable), UNUSABLE, permanent=True)])

    async def cancel_tasks(self, swarm_id: str, task_ids: Sequence[int], attempts: Sequence[int], reason: str) -> None:
        """End these, whether Slurm has them already or not; waits until Slurm has heard of it."""
        del reason
        swarm = self._swarms.get(swarm_id)
        if swarm is not None:
            found = map(swarm.elements.get, zip(task_ids, attempts, strict=True))
            await self._end([element for element in found if element is not None])

    # -- inside ----------------------------------------------------------------------------------------------------

    def _missing(self) -> str:
        """What of Slurm's programs, or of the config file's folder, is not there. The state directory will be made."""
        return self._programs.trouble() or ("" if self._options.directory is None else self._spool.trouble())

    def _swarm(self, swarm_id: str) -> SlurmSwarm:
        swarm = self._swarms.get(swarm_id)
        if not self._is_open or swarm is None:
            what = f"swarm {swarm_id!r} is not known to it" if self._is_open else "it is not running"
            raise BatchRefusedError(f"the slurm gateway does not take the batch: {what}")
        return swarm

    async def _end(self, elements: list[Element]) -> None:
        for element in elements:
            element.silent = True
        self._tracker.ender.want(*elements)
        self._tracker.look_soon()
        await self._tracker.ender.told(elements)

    async def _end_within(self, elements: list[Element], seconds: float) -> bool:
        """End these as far as it can be done in this time; whether Slurm has heard of all."""
        try:
            async with asyncio.timeout(seconds):
                await self._end(elements)
        except TimeoutError:
            log.warning("%d jobs run on until Slurm answers, which does not hear what to end", len(elements))
            return False
        return all(element.job_id for element in elements)

    async def _abandoned(self, swarm: SlurmSwarm) -> Abandoned | None:
        """What is to be ended of a swarm of which nobody will know any more; on disk from now on. None: nothing."""
        names = set(swarm.batches)
        if swarm.swarm_id in self._not_taken_up:
            names |= await self._programs.with_files(self._named_by_files, swarm.swarm_id)
        self._not_taken_up.discard(swarm.swarm_id)
        if not names:
            return None
        left = await self._abandonment.keep(swarm.swarm_id, names)
        left.is_busy = lambda: any(batch.is_submitting for batch in swarm.batches.values())
        left.over = partial(self._let_go, swarm)
        return left

    def _named_by_files(self, swarm_id: str) -> set[str]:
        try:
            return {manifest.batch_id for manifest in list_batches(self._spool, swarm_id)}
        except OSError as error:
            log.warning("which jobs of the deleted swarm %s are to be ended cannot be read: %s", swarm_id, error)
            return set()

    async def _let_go(self, swarm: SlurmSwarm) -> None:
        """Slurm has nothing of it any more."""
        turns = Turns()
        for element in list(swarm.elements.values()):
            if turns.is_over:
                await turns.pass_on()
            element.silent = True
            self._conclusions.conclude(element, TaskStatus.REGISTERED)

    async def _end_those_in_memory(self) -> None:
        """Nobody will know of them, but the next daemon of those that Slurm has not heard of."""
        doomed = [swarm for swarm in self._swarms.values() if not swarm.survives and swarm.elements]
        elements = [element for swarm in doomed for element in swarm.elements.values()]
        if not elements:
            return
        left = [await self._abandoned(swarm) for swarm in doomed]
        if not all(element.job_id for element in elements):
            await self._submitting.until_over(LAST_CANCEL_SECONDS)
        if await self._end_within(elements, LAST_CANCEL_SECONDS):
            await asyncio.gather(*(self._abandonment.forget(each) for each in left if each is not None))

    def _over(self, batch: SlurmBatch) -> None:
        batch.swarm.batches.pop(batch.batch_id, None)
        self._tracker.seek_no_more(batch)
        if self._is_open and not self._options.keep_files and not batch.swarm.is_removed:
            self._in_background(self._remove_later(batch))

    async def _remove_later(self, batch: SlurmBatch) -> None:
        await asyncio.sleep(KEPT_SECONDS)
        if batch.batch_id not in batch.swarm.batches:
            await self._programs.with_files(self._spool.remove_batch, batch.swarm.swarm_id, batch.batch_id)

    async def _tell_limits(self, swarm: SlurmSwarm) -> None:
        if self._site.limits:
            self._report(swarm.swarm_id, StateUpdate(queue_limits=list(self._site.limits)))
        await self._site.refresh()

    def _tell_limits_to_all(self) -> None:
        if self._is_open:
            for swarm_id in self._swarms:
                self._report(swarm_id, StateUpdate(queue_limits=list(self._site.limits)))

    def _in_background(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background_is_over)

    def _background_is_over(self, task: asyncio.Task[None]) -> None:
        self._background.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("something in the background failed", exc_info=task.exception())
