"""JobmonSession: one workflow run of Jobmon's server, for as long as its swarm is in the daemon.

Heartbeats, triage, limits and syncs go on side by side, each in a task and on connections of its own, so that none
waits for another. The server's word about the run counts: when it says that the run is to be resumed elsewhere, or is
over, nothing is queued any more.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from swarmd.core.batch import Batch
from swarmd.core.errors import InvalidInputError, UnavailableError
from swarmd.core.model import QueueLimits
from swarmd.core.update import StateUpdate
from swarmd.gateways.contract import FindOutcome, QueueOutcome, SwarmInfo
from swarmd.gateways.jobmon import life
from swarmd.gateways.jobmon.abandoned import AbandonedRun
from swarmd.gateways.jobmon.binding import Binding
from swarmd.gateways.jobmon.book import Phase, Synced, TaskBook
from swarmd.gateways.jobmon.failures import CallError, RefusedError
from swarmd.gateways.jobmon.http import insist
from swarmd.gateways.jobmon.keeping import DistributorKeeper
from swarmd.gateways.jobmon.leftovers import Leftovers
from swarmd.gateways.jobmon.limits import Limits
from swarmd.gateways.jobmon.news import Reporter
from swarmd.gateways.jobmon.queueing import Queueing
from swarmd.gateways.jobmon.server import JobmonServer
from swarmd.gateways.jobmon.settings import FIELD, JobmonSettings, RunOptions
from swarmd.gateways.jobmon.syncing import SLOWING, Syncing
from swarmd.loggers import get_logger

log = get_logger("swarmd.jobmon")

PATIENCE_SECONDS = 10.0
"""How long a call that somebody waits for is tried again."""
SHORT_PATIENCE_SECONDS = 1.0
"""The same when it is known that nobody answers."""
SHORTEST_RETRY_SECONDS, LONGEST_RETRY_SECONDS = 0.5, 5.0
TERMINATE_SECONDS = 5.0
"""Between two calls that end what runs, while a run is drained."""
TAKE_BACK_TASKS = 500


class JobmonSession:
    """One run. `start` first; `close` or `remove` last."""

    def __init__(
        self,
        swarm: SwarmInfo,
        options: RunOptions,
        settings: JobmonSettings,
        report: Callable[[StateUpdate], None],
        folder: Path,
    ) -> None:
        """`folder` is for what belongs to distributors."""
        self.swarm_id = swarm.swarm_id
        self.options = options
        self.status = ""
        """The run's, as the server said last."""
        self._settings = settings
        self._report = report
        self._server = JobmonServer.at(
            options.url,
            client_version=options.client_version,
            ca_file=settings.ca_file,
            seconds=settings.call_timeout_seconds,
        )
        self._book = TaskBook()
        self._reporter = Reporter(self._server, report)
        self._binding = Binding(self._server, self._tell_queue_limits)
        self._syncing = Syncing(
            self._server,
            options.workflow_id,
            self._book,
            settings,
            tell=self._hear_tasks,
            is_over=lambda: self.is_over,
        )
        self._limits = Limits(self._server, options.workflow_id, report)
        self._queueing = Queueing(
            self._server,
            options,
            settings,
            book=self._book,
            binding=self._binding,
            syncing=self._syncing,
            obstacle=self._obstacle,
            tell=self._reporter.tell,
        )
        self._keeper = self._made_keeper(swarm, folder) if options.distributor_cluster else None
        self._tasks: set[asyncio.Task[None]] = set()
        self._keeping: asyncio.Task[None] | None = None
        self._ending = asyncio.Lock()
        self._was_cancelled = False
        self._has_queued = False
        self._last_status = ""
        """What the run was to have at its end."""
        self._silence = self._silent_since = ""
        """Since when and why heartbeats are not heard; empty while they are."""
        self._is_closed = False

    @property
    def is_over(self) -> bool:
        """Whether the run is over, as the server said last."""
        return self.status in life.OVER

    def _made_keeper(self, swarm: SwarmInfo, folder: Path) -> DistributorKeeper:
        leftovers = Leftovers(
            self._server,
            self.options.workflow_run_id,
            self.options.workflow_id,
            all_statuses=self._syncing.all_statuses,
            launched_seconds=self._settings.launched_seconds,
            pass_seconds=self._settings.distributor_pass_seconds,
        )
        return DistributorKeeper(
            swarm, self.options, self._settings, folder, status=lambda: self.status, leftovers=leftovers
        )

    # -- the beginning ---------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """See how run and tasks stand, and go on from there.

        Raises InvalidInputError when there is no such run or workflow, UnavailableError when nobody answers.
        """
        try:
            await self._server.open()
            was_bound = await self._look()
            if self._keeper is not None:
                await self._keeper.prepare(was_bound=was_bound)
        except BaseException:
            await self.close()
            raise
        if self._keeper is not None:
            self._keeping = self._in_background(self._keeper.run)
        for work in (self._syncing.run, self._heartbeats, self._triage, self._follow_limits):
            self._in_background(work)

    async def _look(self) -> bool:
        """Gives whether somebody else had bound the run."""
        run_id, workflow_id = self.options.workflow_run_id, self.options.workflow_id
        try:
            status = await insist(lambda: self._server.run_status(run_id), seconds=PATIENCE_SECONDS)
            workflow = await insist(lambda: self._server.workflow(workflow_id), seconds=PATIENCE_SECONDS)
            if workflow is None:
                message = f"{FIELD}[workflow_id]: {self._server.url} has no workflow {workflow_id}"
                raise InvalidInputError(message, field=FIELD)
            self._hear_run(status)
            await insist(self._beat, seconds=PATIENCE_SECONDS)
            await insist(self._syncing.once, seconds=PATIENCE_SECONDS)
            return status == "B"
        except RefusedError as error:
            message = f"{FIELD}: run {run_id} of workflow {workflow_id} cannot be had from {self._server.url}: {error}"
            raise InvalidInputError(message, field=FIELD) from error
        except CallError as error:
            raise UnavailableError(str(error), reason="ENGINE_UNAVAILABLE") from error

    # -- what the contract asks for --------------------------------------------------------------------------------

    async def queue_batch(self, batch: Batch) -> QueueOutcome | None:
        """As `ServerGateway` has it, like the other methods with names from there."""
        self._has_queued, self._last_status = True, ""
        return await self._queueing.queue(batch)

    async def find_batch(self, batch: Batch) -> FindOutcome:
        """What became of a batch in doubt."""
        self._has_queued = True
        return await self._queueing.find(batch)

    async def resume(self, batches: Sequence[Batch], cancelled: Sequence[Batch]) -> None:
        """What an earlier daemon gave to the server."""
        for batch in batches:
            self._has_queued = True
            self._book.resume(batch.task_ids.tolist(), batch.attempts.tolist())
            self._queueing.array_ids.add(batch.array_id)
        self._was_cancelled |= bool(cancelled)
        for batch in cancelled:
            self._book.cancel(batch.task_ids.tolist(), batch.attempts.tolist())
        self._syncing.hurry(full=True)

    async def cancel(self, task_ids: Sequence[int], attempts: Sequence[int]) -> None:
        """End these attempts at the server: they are in G there afterwards. Raises CallError or TimeoutError."""
        self._was_cancelled = True
        self._book.cancel(task_ids, attempts)
        if self.status not in life.OVER:
            async with asyncio.timeout(self._settings.call_timeout_seconds):
                await self._syncing.all_statuses()  # whoever hears it takes back what was cancelled

    async def finish(self, *, succeeded: bool) -> None:
        """Nothing is left to do: set the run's last status. Raises CallError or TimeoutError.

        What the server still has was cancelled, whether that was heard here before this or not.
        """
        async with self._ending:
            if self._book.has_active():
                await self._end_what_is_left()
            wanted = life.last_status(self.status, succeeded=succeeded, cancelled=self._was_cancelled)
            if wanted:
                self._last_status = wanted
                await self._set_status(wanted)

    async def remove(self) -> AbandonedRun | None:
        """The swarm is gone. A run that is not over is stopped, with its tasks, if anything of it was queued.

        Also when its distributor goes with the swarm: from then on it could not be told that it has none.
        One that had come to its end, which could not be set, gets the status that it was to have.
        One that is to be resumed elsewhere is let go of: somebody waits for that.
        Gives what is still to be stopped when the server has not heard it.
        """
        left = None
        try:
            async with asyncio.timeout(SHORT_PATIENCE_SECONDS if self._silence else PATIENCE_SECONDS):
                if self.status not in life.RESUMING:
                    await self._stop()
                if self.status in life.RESUMING:
                    await self._let_go()
        except (CallError, TimeoutError) as error:
            log.warning("the run is stopped when its server answers again", swarm=self.swarm_id, error=str(error))
            ids, status = self._book.to_end(), self._last_status
            left = AbandonedRun(self.swarm_id, self.options, time.time(), last_status=status, task_ids=ids)
        finally:
            if self._keeper is not None and self._keeping is not None:
                self._keeping.cancel()
                await self._keeper.end()
            await self.close()
        return left

    async def _stop(self) -> None:
        async with self._ending:
            is_taken_up = self._keeper is not None and self._keeper.has_begun
            if (self._has_queued or is_taken_up) and self.status not in life.OVER:
                await self._end_what_is_left()
                await self._set_status(self._last_status or ("S" if self.status == "R" else "E"))

    async def _let_go(self) -> None:
        """Return when nothing more is done in a run that is to be resumed (`_wind_up`)."""
        await self._end_what_is_left()
        while self.status in life.RESUMING:  # noqa: ASYNC110 - it looks at the server as often itself
            await asyncio.sleep(self._settings.fastest_sync_seconds)

    async def _end_what_is_left(self) -> None:
        """Also what was cancelled a moment ago. Raises CallError or TimeoutError."""
        left = list(self._book.entries.items())
        await self.cancel([task_id for task_id, _ in left], [entry.attempt for _, entry in left])

    async def close(self) -> None:
        """End; the run is left as it is, and is taken for alive for a few heartbeats more."""
        self._is_closed = True
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        if self._keeper is not None:
            await self._keeper.close()
        self._syncing.close()
        await self._server.close()

    @property
    def trouble(self) -> str:
        """Why nothing goes on just now, as far as it is known; empty otherwise."""
        waits = self._obstacle() if self.status in life.WAITING else ""
        return self._silence or (self._keeper.trouble if self._keeper is not None else "") or waits

    def standing(self, task_id: int, attempt: int) -> str:
        """What the server says of an attempt, and why nothing is done for it now."""
        entry = self._book.entries.get(task_id)
        trouble = self._keeper.trouble if self._keeper is not None else ""
        run = "; ".join(filter(None, [f"run {self.options.workflow_run_id} is {life.in_words(self.status)}", trouble]))
        if entry is None or entry.attempt != attempt:
            waits = f"{run}: it waits for Jobmon's distributor" if self.status in life.WAITING else ""
            return trouble or waits
        if entry.phase is Phase.CALLED:
            return f"the answer of Jobmon's server to the call that queues it is not there; {run}"
        said = life.task_status_in_words(entry.status) if entry.status else "QUEUED"
        return f"Jobmon's server has it as {said}; {run}"

    # -- the run ---------------------------------------------------------------------------------------------------

    def _obstacle(self) -> str:
        """Why nothing may be queued now; empty when something may."""
        if self._is_closed:
            return "the gateway closes"
        if self.status == "R":
            return self._keeper.trouble if self._keeper is not None else ""
        what = f"the run {self.options.workflow_run_id} is {life.in_words(self.status)}"
        if self.status in life.WAITING:
            return f"{what}: it waits for Jobmon's distributor"
        return f"{what}, says Jobmon's server: nothing is queued any more"

    def _hear_run(self, status: str) -> None:
        if status == self.status or self._is_closed:
            return
        log.info("the run's status", swarm=self.swarm_id, run=self.options.workflow_run_id, status=status)
        self.status = status
        if self._keeper is not None:
            self._keeper.look()
        if status in life.RUN_STATUSES:
            self._report(StateUpdate(workflow_run_status=status))
        if status in life.RESUMING:
            self._in_background(self._wind_up)

    async def _set_status(self, wanted: str) -> None:
        """Take the run to a status, step by step; the server may have another mind. Raises CallError."""
        for status in life.way(self.status, wanted):
            answer = await insist(
                lambda status=status: self._server.set_run_status(self.options.workflow_run_id, status),  # type: ignore[misc]
                seconds=PATIENCE_SECONDS,
            )
            self._hear_run(answer)
            if answer != status:
                log.warning("the server does not set the run's status", swarm=self.swarm_id, wanted=status, is_=answer)
                return

    async def _heartbeats(self) -> None:
        retry, looks = SHORTEST_RETRY_SECONDS, self._settings.start_poll_seconds
        while self.status not in life.OVER and self.status not in life.RESUMING:
            waits = self.status in life.WAITING
            await asyncio.sleep(looks if waits else self._settings.heartbeat_seconds)
            looks = min(LONGEST_RETRY_SECONDS, looks * SLOWING) if looks < LONGEST_RETRY_SECONDS else looks
            while True:
                try:
                    await self._beat()
                    retry, self._silence, self._silent_since = SHORTEST_RETRY_SECONDS, "", ""
                    break
                except CallError as error:
                    log.warning("a heartbeat was not heard", swarm=self.swarm_id, error=str(error))
                    self._silent_since = self._silent_since or time.strftime("%Y-%m-%d %H:%M:%S")
                    self._silence = f"Jobmon's server does not answer since {self._silent_since}: {error}"
                    await asyncio.sleep(retry * random.uniform(0.5, 1.5))  # noqa: S311 (many daemons, one server)
                    retry = min(LONGEST_RETRY_SECONDS, 2 * retry)

    async def _beat(self) -> None:
        """One heartbeat; a run that is being linked is bound. Raises CallError."""
        if self.status in life.OVER or self.status in life.RESUMING:
            return
        settings, run_id = self._settings, self.options.workflow_run_id
        said = await self._server.heartbeat(
            run_id,
            life.heartbeat_status(self.status),
            lives_for=settings.heartbeat_seconds * settings.heartbeat_buffer,
            seconds=settings.heartbeat_timeout_seconds,
        )
        if said == "L":
            said = await self._server.set_run_status(run_id, "B")
        self._hear_run(said)

    async def _wind_up(self) -> None:
        """Somebody wants to resume the workflow: end what runs, wait until it has ended, and let go of the run."""
        loop = asyncio.get_running_loop()
        until, terminate_at = loop.time() + self._settings.drain_seconds, 0.0
        while self.status in life.RESUMING:
            try:
                if loop.time() >= terminate_at:
                    await self._server.terminate(self.options.workflow_run_id)
                    terminate_at = loop.time() + TERMINATE_SECONDS
                statuses = await self._syncing.all_statuses()
                left = sum(len(statuses.get(status, ())) for status in life.active_statuses(self.status))
                left += self._book.calls()  # what is on its way would be queued in a run that nobody has any more
                if left and loop.time() >= until:
                    log.warning("the run is let go of with tasks that have not ended", swarm=self.swarm_id, tasks=left)
                if not left or loop.time() >= until:
                    async with self._ending:
                        await self._set_status("T")
                    return
            except CallError as error:
                log.warning("the run cannot be drained now; again soon", swarm=self.swarm_id, error=str(error))
            await asyncio.sleep(self._settings.fastest_sync_seconds)

    # -- what goes on beside it ------------------------------------------------------------------------------------

    async def _triage(self) -> None:
        async def look() -> None:
            if self._keeper is None or not self._keeper.trouble:  # what has no distributor is not lost for that
                await self._server.triage(self.options.workflow_run_id)

        await self._every(self._settings.triage_seconds, look)

    async def _follow_limits(self) -> None:
        async def look() -> None:
            await self._limits.look(self._queueing.array_ids)
            await self._binding.look_again()

        await self._every(self._settings.limits_seconds, look)

    async def _every(self, seconds: float, work: Callable[[], Awaitable[None]]) -> None:
        """Do it again and again while the run goes on; what fails is tried the next time."""
        while self.status not in life.OVER:
            await asyncio.sleep(seconds)
            if self.status == "R":
                try:
                    await work()
                except CallError as error:
                    log.warning("a call to Jobmon's server failed", swarm=self.swarm_id, error=str(error))

    async def _hear_tasks(self, synced: Synced) -> None:
        """A sync was answered: report it, and end what was cancelled and goes on all the same.

        What runs while a run is resumed hot is the next one's, as is everything when it was let go of: that goes on.
        """
        await self._reporter.tell_with_reasons(synced.news)
        spared = {"H": synced.running, "T": frozenset(synced.revived)}.get(self.status, frozenset[int]())
        revived = [task_id for task_id in synced.revived if task_id not in spared]
        for start in range(0, len(revived), TAKE_BACK_TASKS):
            ids = revived[start : start + TAKE_BACK_TASKS]
            try:
                await self._server.take_back(self.options.workflow_id, ids)
            except CallError as error:
                log.warning("cancelled tasks could not be ended; again soon", swarm=self.swarm_id, error=str(error))
                self._syncing.hurry(full=True)
            else:
                self._book.taken_back(ids)

    def _tell_queue_limits(self, limits: list[QueueLimits]) -> None:
        self._report(StateUpdate(queue_limits=limits))

    def _in_background(self, work: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
        task = asyncio.create_task(self._keep_going(work), name=f"jobmon {self.swarm_id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _keep_going(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do it to its end. An error of our own must not leave a run without heartbeats or syncs."""
        while True:
            try:
                return await work()
            except Exception:
                log.exception("a part of the gateway broke; it begins again", swarm=self.swarm_id)
                await asyncio.sleep(LONGEST_RETRY_SECONDS)
