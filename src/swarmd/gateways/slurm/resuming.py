"""Taking up after a restart what an earlier daemon had submitted: from the files of its batches.

Attempts that no file knows are looked for by their status files alone; batches whose job numbers were not noted are
looked for in Slurm's queue by their name.
"""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from swarmd.core.batch import Batch
from swarmd.core.model import TaskResources
from swarmd.core.status import Code
from swarmd.gateways.contract import Found
from swarmd.gateways.slurm.attempts import AttemptKey, Element, Phase, SlurmBatch, SlurmSwarm
from swarmd.gateways.slurm.concluding import Conclusions
from swarmd.gateways.slurm.finding import Finding
from swarmd.gateways.slurm.programs import Programs
from swarmd.gateways.slurm.settling import Case
from swarmd.gateways.slurm.spool import Manifest, Spool
from swarmd.gateways.slurm.submitting import add_elements, batch_record
from swarmd.gateways.slurm.tracker import Tracker

log = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 30.0


@dataclass(frozen=True, slots=True)
class _Given:
    """An attempt that the state says the engine has."""

    array_id: int
    resources: TaskResources
    was_running: bool
    silent: bool


class Resuming:
    """Takes up what earlier daemons had."""

    def __init__(
        self, programs: Programs, tracker: Tracker, conclusions: Conclusions, spool: Spool, finding: Finding
    ) -> None:
        self._programs = programs
        self._spool = spool
        self._tracker = tracker
        self._conclusions = conclusions
        self._finding = finding

    async def resume(self, swarm: SlurmSwarm, batches: Sequence[Batch], cancelled: Sequence[Batch]) -> list[SlurmBatch]:
        """Take these up, those of `cancelled` to their end in silence. Returns the batches that must be looked for."""
        given = {**_given(cancelled, silent=True), **_given(batches, silent=False)}
        given = {key: each for key, each in given.items() if key not in swarm.elements}
        manifests = await self._programs.with_files(list_batches, self._spool, swarm.swarm_id)
        lost = []
        for manifest in manifests:
            if manifest.batch_id not in swarm.batches:
                known = self._taken_up(swarm, manifest, given)
                if known is not None and known.missing:
                    lost.append(known)
        await self._without_files(swarm, given)
        return lost

    def _taken_up(self, swarm: SlurmSwarm, manifest: Manifest, given: dict[AttemptKey, _Given]) -> SlurmBatch | None:
        """The batch of a manifest, with those of its attempts that are not over; None when all are."""
        keys = list(zip(manifest.task_ids, manifest.attempts, strict=True))
        mine = {key: given.pop(key) for key in keys if key in given}
        if not mine:
            return None
        known = _batch_of(swarm, manifest, next(iter(mine.values())).resources)
        for element in known.elements:
            _set(element, mine.get(element.key))
        self._attach(known, manifest)
        return known

    def _take_up_rest(self, known: SlurmBatch) -> None:
        """Of a batch in doubt the state knew a part; what is said once more of those that are over is stale."""
        rest = [element for element in known.elements if element.is_set_aside]
        for element in rest:
            element.is_set_aside, element.phase = False, Phase.SENT
            known.swarm.elements[element.key] = element
        if rest:
            known.open_count += len(rest)
            jobs, known.jobs = known.jobs, []
            for job in jobs:
                self._tracker.attach(known, job)

    def _attach(self, known: SlurmBatch, manifest: Manifest) -> None:
        for job in manifest.jobs:
            self._tracker.attach(known, job)

    async def _without_files(self, swarm: SlurmSwarm, given: dict[AttemptKey, _Given]) -> None:
        """Attempts of which no batch file is left: their status files tell, or nobody."""
        cases = []
        for (task_id, attempt), each in given.items():
            known = SlurmBatch(swarm, "", each.array_id, each.resources, each.resources.runtime_seconds, open_count=1)
            element = Element(known, 0, task_id, attempt)
            known.elements.append(element)
            swarm.elements[element.key] = element
            _set(element, each)
            cases.append(Case(element, None, "nothing of it"))
        await self._conclusions.settle(cases)
        self._tracker.look_soon()  # some may be followed from now on

    async def find_lost(self, known: SlurmBatch) -> None:
        """Look for a batch whose job numbers were not noted, and say of its tasks what became of them."""
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                if (await self._finding.find(known, aloud=True)).found is not Found.UNKNOWN:
                    return
            except OSError as error:
                log.warning("what became of batch %s cannot be told yet: %s", known.batch_id, error)
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    async def known_batch(self, swarm: SlurmSwarm, batch: Batch) -> SlurmBatch:
        """What is known of a batch in doubt: by its files, or by itself when it has none."""
        known = swarm.batches.get(batch.batch_id)
        if known is not None:
            self._take_up_rest(known)
            return known
        manifest = await self._programs.with_files(self._spool.batch, swarm.swarm_id, batch.batch_id)
        known = swarm.batches.get(batch.batch_id)
        if known is not None:
            return known
        if manifest is None:
            return batch_record(swarm, batch)
        known = _batch_of(swarm, manifest, batch.task_resources)
        self._attach(known, manifest)
        return known


def list_batches(spool: Spool, swarm_id: str) -> list[Manifest]:
    """All that there are of a swarm."""
    return list(spool.batches(swarm_id))


def _batch_of(swarm: SlurmSwarm, manifest: Manifest, resources: TaskResources) -> SlurmBatch:
    known = SlurmBatch(swarm, manifest.batch_id, manifest.array_id, resources, manifest.runtime_seconds)
    known.directory = str(swarm.directory)
    add_elements(known, zip(manifest.task_ids, manifest.attempts, strict=True))
    return known


def _set(element: Element, given: _Given | None) -> None:
    """What the state says of an attempt; None: it is over, or in doubt."""
    if given is None:
        element.phase, element.is_set_aside = Phase.OVER, True
        element.batch.open_count -= 1
        element.batch.swarm.elements.pop(element.key, None)
        return
    element.silent = given.silent
    if given.was_running:
        element.phase, element.was_running = Phase.RUNNING, True


def _given(batches: Iterable[Batch], *, silent: bool) -> dict[AttemptKey, _Given]:
    given: dict[AttemptKey, _Given] = {}
    for batch in batches:
        running = (batch.table.status[batch.rows] == Code.RUNNING).tolist()
        keys = zip(batch.task_ids.tolist(), batch.attempts.tolist(), strict=True)
        for key, was_running in zip(keys, running, strict=True):
            given[key] = _Given(batch.array_id, batch.task_resources, bool(was_running), silent)
    return given
