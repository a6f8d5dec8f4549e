"""What became of batches of which nobody knows whether Slurm has them: looked for by name, and then given up for good.

A submission can arrive late: a controller that was stopped has it in its socket, and an sbatch of a daemon that was
killed may still be running. So a batch that is not found is looked for until Slurm has answered for a while, and then
every attempt of it is claimed by its status file: elements that come even later run nothing.
"""

import asyncio
from collections.abc import Sequence

from swarmd.core.status import TaskStatus
from swarmd.gateways.contract import FindOutcome, Found, Refusal
from swarmd.gateways.slurm.attempts import Element, SlurmBatch
from swarmd.gateways.slurm.concluding import Conclusions
from swarmd.gateways.slurm.programs import Programs
from swarmd.gateways.slurm.settling import Case
from swarmd.gateways.slurm.tracker import Tracker

UNKNOWN = FindOutcome(Found.UNKNOWN)
NOT_SUBMITTED = "it was not submitted"


class Finding:
    """Finds batches in doubt."""

    def __init__(self, programs: Programs, tracker: Tracker, conclusions: Conclusions, patience: float) -> None:
        """`patience`: seconds that Slurm must have answered without knowing a batch."""
        self._programs = programs
        self._tracker = tracker
        self._conclusions = conclusions
        self._patience = patience
        self._answered_since: dict[str, float] = {}

    async def find(self, batch: SlurmBatch, *, aloud: bool = False) -> FindOutcome:
        """What Slurm has of the batch now. Raises OSError when an attempt cannot be kept from starting late.

        `aloud`: what was not submitted is reported as given back, and not only told by the answer.
        """
        if batch.is_submitting:
            return UNKNOWN
        if batch.missing:
            self._tracker.seek(batch)
            if not await self._tracker.next_look():
                return UNKNOWN
        if not batch.missing:
            self._settled(batch)
            return FindOutcome(Found.QUEUED)
        if not self._has_waited_enough(batch):
            return UNKNOWN
        unstarted = await self._give_up(batch.missing, aloud=aloud)
        self._settled(batch)
        if len(unstarted) == len(batch.elements):
            return FindOutcome(Found.NOT_QUEUED)
        return FindOutcome(Found.QUEUED, [Refusal(unstarted, NOT_SUBMITTED)] if unstarted else ())

    def _has_waited_enough(self, batch: SlurmBatch) -> bool:
        now = asyncio.get_running_loop().time()
        return now - self._answered_since.setdefault(batch.batch_id, now) >= self._patience

    def _settled(self, batch: SlurmBatch) -> None:
        self._answered_since.pop(batch.batch_id, None)
        self._tracker.seek_no_more(batch)

    async def _give_up(self, elements: Sequence[Element], *, aloud: bool) -> list[int]:
        """Keep these from starting. Returns the tasks that never did; of the others it is said how they ended."""
        quicker = await self._programs.with_files(_claim_all, elements)
        unstarted = []
        for element in elements:
            if element not in quicker:
                unstarted.append(element.task_id)
                element.silent |= not aloud
                self._conclusions.conclude(element, TaskStatus.REGISTERED, NOT_SUBMITTED)
        self._conclusions.flush()
        await self._conclusions.settle([Case(element, None) for element in quicker])
        self._tracker.look_soon()  # some may be followed from now on
        return unstarted


def _claim_all(elements: Sequence[Element]) -> set[Element]:
    """Those of them that had started already."""
    return {element for element in elements if not element.claimed().never}
