"""Submitting a batch: its files, then one array, or several where the site takes no array so large.

What became of it is clear on return, or in doubt: then `finding` looks for it. A submission goes on to its end even
when whoever asked for it has given up.
"""

import asyncio
import logging
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from swarmd.core.batch import Batch, TaskSpec
from swarmd.core.status import TaskStatus
from swarmd.gateways.contract import BatchRefusedError, OutcomeUnknownError, QueueOutcome, Refusal
from swarmd.gateways.output import make_folder
from swarmd.gateways.slurm.attempts import Element, SlurmBatch, SlurmSwarm
from swarmd.gateways.slurm.concluding import Conclusions
from swarmd.gateways.slurm.options import SlurmOptions
from swarmd.gateways.slurm.programs import Answer, Programs
from swarmd.gateways.slurm.refusals import Failure, failure_of, says_there_is_no_room
from swarmd.gateways.slurm.requests import ForbiddenOptionError, resource_options
from swarmd.gateways.slurm.script import ScriptPlaces, batch_script
from swarmd.gateways.slurm.site import Site
from swarmd.gateways.slurm.spool import ArrayJob, Manifest, Spool
from swarmd.gateways.slurm.tracker import Tracker
from swarmd.gateways.trace import TRACEPARENT

log = logging.getLogger(__name__)

DELETED = "its swarm was deleted"
UNUSABLE = "its command or name contains a NUL character"
FIXED_OPTIONS = (
    "--parsable",
    "--no-requeue",
    "--export=ALL",
    "--chdir=/",
    "--input=/dev/null",
    "--output=/dev/null",
    "--error=/dev/null",
)
"""The script goes to the working directory itself: sbatch would start somewhere else when it is not there."""


class Submitting:
    """Gives batches to Slurm."""

    def __init__(
        self,
        programs: Programs,
        tracker: Tracker,
        conclusions: Conclusions,
        spool: Spool,
        site: Site,
        options: SlurmOptions,
    ) -> None:
        self._programs = programs
        self._spool = spool
        self._site = site
        self._tracker = tracker
        self._conclusions = conclusions
        self._options = options
        self._umask = _current_umask()
        self._one_at_a_time = asyncio.Lock()
        self._submissions: set[asyncio.Task[list[Refusal]]] = set()

    async def until_over(self, seconds: float) -> None:
        """Wait for what is being submitted, at most so long."""
        if self._submissions:
            await asyncio.wait(self._submissions, timeout=seconds)

    async def close(self) -> None:
        """Wait for no submission any more: the next daemon finds out what became of it."""
        for submission in self._submissions:
            submission.cancel()
        await asyncio.gather(*self._submissions, return_exceptions=True)

    async def submit(self, swarm: SlurmSwarm, batch: Batch) -> QueueOutcome | None:
        """Submit a batch. Raises BatchRefusedError and OutcomeUnknownError as `queue_batch` does."""
        if not self._site.facts.cluster:
            await self._site.refresh()
        try:
            options = self._options_for(swarm, batch)
        except ForbiddenOptionError as error:
            reason = f"task resources {batch.task_resources.task_resources_id}: {error}"
            return QueueOutcome([Refusal(batch.task_ids.tolist(), reason, permanent=True)])
        async with self._one_at_a_time:
            await asyncio.sleep(0)  # several batches come at once: others have their turn between them
            specs, refusals = _usable(batch)
            if swarm.is_removed:
                raise BatchRefusedError(DELETED)
            if not specs:
                return QueueOutcome(refusals)
            known = batch_record(swarm, batch, specs)
        submission = asyncio.create_task(self._submit(known, batch, specs, options))
        self._submissions.add(submission)
        submission.add_done_callback(self._submissions.discard)
        outcome = await asyncio.shield(submission)
        return QueueOutcome([*outcome, *refusals]) if outcome or refusals else None

    def _options_for(self, swarm: SlurmSwarm, batch: Batch) -> list[str]:
        resources, cluster = batch.task_resources, self._site.facts.cluster
        if resources.cluster and resources.cluster != cluster:
            if not cluster:
                raise BatchRefusedError("Slurm does not answer: nobody knows yet whether its cluster is the right one")
            raise ForbiddenOptionError(f"cluster is {resources.cluster!r}, and this daemon's Slurm is {cluster!r}")
        choices = swarm.choices
        chosen = {"account": choices.account, "qos": choices.qos}
        return [
            *(f"--{name}={value}" for name, value in chosen.items() if value),
            *self._options.sbatch_options,
            *resource_options(resources, choices.partition),
        ]

    async def _submit(
        self, known: SlurmBatch, batch: Batch, specs: Sequence[TaskSpec], options: list[str]
    ) -> list[Refusal]:
        known.is_submitting = True
        try:
            environment = await self._prepare(known, specs)
            return await self._submit_parts(known, batch, environment, options)
        finally:
            known.is_submitting = False

    async def _prepare(self, known: SlurmBatch, specs: Sequence[TaskSpec]) -> Path:
        """Everything that the elements need. Gives the file with their environment."""
        try:
            environment = await self._programs.with_files(self._write, known, specs)
        except OSError as error:
            self._drop_rest(known)
            raise BatchRefusedError(f"the files of the batch cannot be written: {error}") from error
        if known.swarm.is_removed:
            await self._programs.with_files(self._spool.remove_batch, known.swarm.swarm_id, known.batch_id)
        return environment

    def _write(self, known: SlurmBatch, specs: Sequence[TaskSpec]) -> Path:
        swarm = known.swarm
        self._spool.check()
        make_folder(known.elements[0].output.out.parent)
        ids, attempts = [spec.task_id for spec in specs], [spec.attempt for spec in specs]
        manifest = Manifest(known.batch_id, known.array_id, known.runtime_seconds, ids, attempts)
        return self._spool.write(swarm.swarm_id, swarm.info.environment, manifest, specs)

    async def _submit_parts(
        self, known: SlurmBatch, batch: Batch, environment: Path, options: list[str]
    ) -> list[Refusal]:
        """Array after array until all is submitted, or Slurm takes no more."""
        first = 0
        while first < len(known.elements):
            if known.swarm.is_removed:
                self._drop_rest(known)
                raise BatchRefusedError(DELETED)
            count = min(len(known.elements) - first, self._site.largest_array)
            script = batch_script(self._places(known, environment, first))
            array = _array_option(count, batch.array_limit)
            names = (f"--job-name={known.batch_id}", f"--comment={known.batch_id} {first} {count}")
            answer = await self._programs.submit([*FIXED_OPTIONS, *names, array, *options], script)
            job_id = _job_id(answer)
            if job_id is None:
                left = known.elements[first:]
                refusals = await self._failed(known, answer, count, left)
                if refusals is None:
                    continue
                return refusals
            await self._submitted(known, ArrayJob(job_id, first, count))
            first += count
        return []

    async def _submitted(self, known: SlurmBatch, job: ArrayJob) -> None:
        self._site.took(job.count)
        self._tracker.attach(known, job)
        try:
            await self._programs.with_files(self._spool.note_job, known.swarm.swarm_id, known.batch_id, job)
        except OSError as error:
            log.warning("job %d of batch %s is not noted: %s", job.job_id, known.batch_id, error)

    async def _failed(self, known: SlurmBatch, answer: Answer, count: int, left: list[Element]) -> list[Refusal] | None:
        """What a failure means for those that are left; None: try with a smaller array."""
        failure = failure_of(answer)
        if failure is Failure.TOO_LARGE_ARRAY:
            await self._site.refresh(now=True)
        if failure in (Failure.TOO_LARGE_ARRAY, Failure.TOO_MANY) and count > 1:
            self._site.refused(count)
            return None
        if says_there_is_no_room(answer):
            self._site.refused(count)
        if failure is Failure.UNKNOWN or answer.is_good:
            self._tracker.seek(known)
            raise OutcomeUnknownError(f"sbatch does not say whether the batch was submitted: {answer.why}")
        why = f"Slurm did not take it: {answer.why}"
        self._drop_rest(known)
        if failure is not Failure.NEVER and len(left) == len(known.elements):
            raise BatchRefusedError(why)
        return [Refusal([each.task_id for each in left], why, permanent=failure is Failure.NEVER)]

    def _drop_rest(self, known: SlurmBatch) -> None:
        """Forget what no array has: the answer tells of it."""
        for element in known.missing:
            element.silent = True
            self._conclusions.conclude(element, TaskStatus.REGISTERED)

    def _places(self, known: SlurmBatch, environment: Path, first: int) -> ScriptPlaces:
        swarm = known.swarm
        return ScriptPlaces(
            batch_id=known.batch_id,
            tasks=self._spool.tasks_file(swarm.swarm_id, known.batch_id),
            first=first,
            array_id=known.array_id,
            environment=environment,
            output=known.elements[0].output.out.parent,
            token=swarm.file_token,
            directory=known.directory,
            umask=self._umask,
            traceparent=TRACEPARENT.get(),
        )


def _usable(batch: Batch) -> tuple[list[TaskSpec], list[Refusal]]:
    """What of a batch can run, and why the rest never can."""
    specs = batch.tasks()
    unusable = {spec.task_id for spec in specs if "\0" in spec.command or "\0" in spec.name}
    if not unusable:
        return specs, []
    return [spec for spec in specs if spec.task_id not in unusable], [
        Refusal(sorted(unusable), UNUSABLE, permanent=True)
    ]


def batch_record(swarm: SlurmSwarm, batch: Batch, specs: Sequence[TaskSpec] | None = None) -> SlurmBatch:
    """What the gateway holds of a batch, known to its swarm from now on. `specs`: those of its tasks that can run."""
    if specs is None:
        keys = list(zip(batch.task_ids.tolist(), batch.attempts.tolist(), strict=True))
    else:
        keys = [(spec.task_id, spec.attempt) for spec in specs]
    known = SlurmBatch(
        swarm, batch.batch_id, batch.array_id, batch.task_resources, batch.task_resources.runtime_seconds
    )
    known.directory = os.fspath(swarm.directory)
    add_elements(known, keys)
    return known


def add_elements(known: SlurmBatch, keys: Iterable[tuple[int, int]]) -> None:
    """Put the attempts of a batch into it, in their order."""
    swarm = known.swarm
    swarm.batches[known.batch_id] = known
    for position, (task_id, attempt) in enumerate(keys):
        element = Element(known, position, task_id, attempt)
        known.elements.append(element)
        swarm.elements[element.key] = element
    known.open_count = len(known.elements)


def _array_option(count: int, limit: int | None) -> str:
    """All elements at once, unless the swarm's array allows fewer by now: batches are taken within its limit."""
    some = f"%{limit}" if limit is not None and 0 < limit < count else ""
    return f"--array=0-{count - 1}{some}"


def _job_id(answer: Answer) -> int | None:
    """The number that sbatch printed, which can be followed by the cluster's name."""
    words = answer.out.split()
    number = words[-1].partition(";")[0] if words else ""
    return int(number) if answer.is_good and number.isdecimal() and int(number) > 0 else None


def _current_umask() -> int:
    """That of this process, which jobs are to have as other tasks do."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
