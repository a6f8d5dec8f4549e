"""LocalGateway: the contract of a gateway, kept by processes of this machine.

Here attempts go from waiting to running to over. It must not know the scheduler; what it says goes to `report`.
"""

import asyncio
import itertools
import logging
import signal
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from swarmd.core.batch import Batch
from swarmd.core.status import TaskStatus
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
from swarmd.gateways.local.adoption import Adopted
from swarmd.gateways.local.arrivals import Arrivals
from swarmd.gateways.local.attempt import Attempt, LocalSwarm, Phase, environment_for
from swarmd.gateways.local.execution import Ending, Execution, Supervision
from swarmd.gateways.local.inheritance import Inheritance, Reception, silenced
from swarmd.gateways.local.launching import Launchpad, Outcomes, StartFailedError, StartPostponedError
from swarmd.gateways.local.leader import Leader
from swarmd.gateways.local.machine import Machine, Shape
from swarmd.gateways.local.news import News
from swarmd.gateways.local.reasons import NUL_CHARACTER, STOPPED, start_failure, verdict
from swarmd.gateways.local.waiting import WaitingLines
from swarmd.gateways.output import folder_name, make_folder

log = logging.getLogger(__name__)

START_SLICE_SECONDS = 0.003
"""How long the loop may be held with starts before others have their turn."""
POSTPONED_SECONDS = 0.2
WARNING_INTERVAL_SECONDS = 60.0
GIVE_UP_SECONDS = 5.0
"""How long after KILL `close` waits for processes that the kernel does not let go of."""
LAST_WAIT_SECONDS = 0.5
"""The same when `close` itself is cancelled."""


class LocalGateway(ServerGateway):
    """Runs tasks as processes of this machine, never more at once than fit its cores and memory.

    Those of a swarm with a token survive the daemon: the next one takes them up with `resume`.
    """

    name = "local"
    capabilities = Capabilities(can_find=True, can_cancel=True)

    def __init__(
        self,
        log_directory: Path,
        *,
        cores: int | None = None,
        memory_mib: int | None = None,
        kill_grace: float = 5.0,
        leave_on_close: bool = False,
    ) -> None:
        """Output goes below `log_directory`. `cores` and `memory_mib`: how much of the machine to use, None for all.

        `kill_grace`: seconds between TERM and KILL. `leave_on_close`: tasks that can survive the daemon go on when it
        is stopped, for the next one; otherwise they are ended and given back.
        """
        self.log_directory = log_directory.absolute()
        self._machine = Machine(cores, memory_mib)
        self._kill_grace = kill_grace
        self._leave_on_close = leave_on_close
        self._swarms: dict[str, LocalSwarm] = {}
        self._waiting = WaitingLines()
        self._running: set[Attempt] = set()
        """Those that hold room of the machine: they run, or are being started."""
        self._searches: set[asyncio.Task[list[int]]] = set()
        """For attempts that an earlier daemon may have started."""
        self._arrivals = Arrivals()
        self._open = False
        self._starting: asyncio.Handle | None = None
        self._postponed: asyncio.TimerHandle | None = None
        self._warned_at = float("-inf")
        self._nothing_runs = asyncio.Event()

    # -- the contract ----------------------------------------------------------------------------------------------

    async def start(self, report: Report) -> None:
        """Begin. Raises OSError when the folder for output can not be made."""
        make_folder(self.log_directory)
        if signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN:
            # Inherited; with it the kernel reaps children by itself, and their exit codes are lost.
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._loop = asyncio.get_running_loop()
        self._news = News(report)
        self._shared = Supervision(self._kill_grace)
        self._launchpad = Launchpad(Outcomes(self._run, self._not_started, self._taken, self._launcher_lost))
        self._inheritance = Inheritance(Reception(self._wait, self._adopt, self._conclude), self._machine)
        self._open = True

    async def close(self) -> None:
        """End: what waits is dropped, what runs gets TERM and then KILL, or is left when that was asked for.

        On return no child is left but those, and all that was ended and could have survived is given back.
        """
        if not self._open:
            return
        self._open = False
        self._inheritance.close(leave=self._leave_on_close)
        self._news.flush()
        for swarm in self._swarms.values():
            self._stop_swarm(swarm)
        try:
            async with asyncio.timeout(self._kill_grace + GIVE_UP_SECONDS):
                await self._all_over()
        except TimeoutError:
            log.warning("%d processes did not end even when killed", len(self._running))
        finally:
            self._close_at_once()
            await self._launchpad.close()

    def kill_all(self) -> None:
        """KILL everything that is not to be left, without waiting: for a daemon that must end at once."""
        self._open = False
        for attempt in list(self._running):
            if self._is_left(attempt):
                attempt.let_go()
            else:
                attempt.silent = True
                attempt.kill()
        self._launchpad.hang_up()

    def output_directory(self, swarm_id: str) -> Path | None:
        return self.log_directory / folder_name(swarm_id)

    def standing(self, swarm_id: str, task_id: int, attempt: int) -> str:
        known = self._swarms[swarm_id].attempts.get((task_id, attempt)) if swarm_id in self._swarms else None
        return self._machine.wait_of(known.shape) if known and known.phase is Phase.WAITING else ""

    async def add_swarm(self, swarm: SwarmInfo) -> None:
        await super().add_swarm(swarm)
        environment = environment_for(swarm)
        known = self._swarms.setdefault(swarm.swarm_id, LocalSwarm(swarm, environment, self.log_directory))
        known.note_info(swarm, environment)

    async def remove_swarm(self, swarm_id: str) -> None:
        swarm = self._swarms.pop(swarm_id, None)
        if swarm:
            swarm.is_removed = True
            self._drop(swarm, list(swarm.attempts.values()))
            self._news.forget_swarm(swarm_id)
            self._launchpad.forget(swarm)
            if swarm.attempts and self._open:
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._kill_grace + GIVE_UP_SECONDS):
                        await swarm.is_empty.wait()

    async def queue_batch(self, batch: Batch) -> QueueOutcome | None:
        """Take the tasks into the local queue. Those that could never run here are refused for good."""
        swarm = self._swarms.get(batch.swarm_id)
        if not self._open or swarm is None:
            what = f"swarm {batch.swarm_id!r} is not known to it" if self._open else "it is not running"
            raise BatchRefusedError(f"the local gateway does not take the batch: {what}")
        shape = Shape.of(batch.task_resources)
        objection = self._machine.objection(shape)
        if objection:
            return QueueOutcome([Refusal(batch.task_ids.tolist(), objection, permanent=True)])
        refused = []
        for attempt in self._arrivals.of(swarm, batch):
            if "\0" in attempt.spec.command:
                refused.append(attempt.spec.task_id)
            elif attempt.key not in swarm.attempts:
                self._wait(attempt)
        swarm.note_taken(batch, refused)
        return QueueOutcome([Refusal(refused, NUL_CHARACTER, permanent=True)]) if refused else None

    async def resume(self, batches: Sequence[Batch], cancelled: Sequence[Batch] = ()) -> None:
        searches = []
        for swarm_id in {batch.swarm_id for batch in (*batches, *cancelled)}:
            swarm = self._swarms.get(swarm_id)
            if self._open and swarm:
                ended = self._arrivals.inherited(swarm, [batch for batch in cancelled if batch.swarm_id == swarm_id])
                alive = self._arrivals.inherited(swarm, [batch for batch in batches if batch.swarm_id == swarm_id])
                searches.append(self._search(swarm, itertools.chain(silenced(ended), alive)))
        await asyncio.shield(asyncio.gather(*searches))

    async def find_batch(self, batch: Batch) -> FindOutcome:
        """What was started counts as taken, and goes on. What was not is refused, and nobody starts it any more."""
        swarm = self._swarms.get(batch.swarm_id) if self._open else None
        if swarm is None:
            return FindOutcome(Found.UNKNOWN)
        try:
            missing = await self._missing(swarm, batch)
        except OSError as error:
            log.warning("what became of batch %s cannot be told yet: %s", batch.batch_id, error)
            return FindOutcome(Found.UNKNOWN)
        if not self._open:
            return FindOutcome(Found.UNKNOWN)
        if len(missing) == len(batch):
            return FindOutcome(Found.NOT_QUEUED)
        return FindOutcome(Found.QUEUED, [Refusal(missing, "it was not started")] if missing else ())

    async def cancel_tasks(self, swarm_id: str, task_ids: Sequence[int], attempts: Sequence[int], reason: str) -> None:
        del reason
        swarm = self._swarms.get(swarm_id)
        if swarm is None:
            return
        keys = list(zip(task_ids, attempts, strict=True))
        self._drop(swarm, [swarm.attempts[key] for key in keys if key in swarm.attempts])
        swarm.cancelled_early.update(keys if swarm.sought else ())
        self._start_soon()

    # -- from waiting to running -----------------------------------------------------------------------------------

    def _wait(self, attempt: Attempt) -> None:
        attempt.phase = Phase.WAITING
        attempt.swarm.attempts[attempt.key] = attempt
        self._waiting.add(attempt)
        self._start_soon()

    def _start_soon(self) -> None:
        if self._starting is None and self._postponed is None and self._open:
            self._starting = self._loop.call_soon(self._start_what_fits)

    def _start_what_fits(self) -> None:
        """Start for a few milliseconds, then let others have their turn."""
        self._starting = None
        until = self._loop.time() + START_SLICE_SECONDS
        while self._loop.time() < until:
            attempt = self._waiting.take(self._machine)
            if attempt is None:
                self._report_idleness()
                return
            if not self._start(attempt):
                return
        self._start_soon()

    def _start(self, attempt: Attempt) -> bool:
        """Have it started. False when the machine cannot start anything just now."""
        self._hold(attempt, Phase.STARTING)
        try:
            attempt.launched = self._launchpad.start(attempt)
        except (StartPostponedError, StartFailedError) as error:
            self._not_started(attempt, error)
            return isinstance(error, StartFailedError)
        return True

    def _not_started(self, attempt: Attempt, error: StartFailedError | StartPostponedError) -> None:
        self._free(attempt)
        if isinstance(error, StartPostponedError):
            self._postpone(attempt, error)
        elif attempt.given_back:
            self._over(attempt, TaskStatus.REGISTERED, STOPPED)
        else:
            self._over(attempt, TaskStatus.ERROR_RECOVERABLE, start_failure(error))

    def _taken(self, attempt: Attempt) -> None:
        """A process that an earlier daemon left was quicker, or it was kept from starting."""
        attempt.was_running = True  # should there be no trace of it, it is not tried a second time
        self._look_for(attempt)

    def _launcher_lost(self, attempt: Attempt) -> None:
        self._pause()  # should it be for something that would end the next one, too
        self._look_for(attempt)

    def _look_for(self, attempt: Attempt) -> None:
        self._free(attempt)
        self._set_over(attempt)
        self._search(attempt.swarm, [attempt])
        self._start_soon()

    def _run(self, attempt: Attempt, leader: Leader, seconds_before: float = 0.0) -> None:
        attempt.phase = Phase.RUNNING
        if not attempt.must_not_run:
            self._news.started(attempt)
        limit = attempt.runtime_seconds - seconds_before if attempt.runtime_seconds > 0 else None
        attempt.execution = Execution(leader, self._shared, limit, partial(self._ended, attempt))
        if attempt.must_not_run:
            attempt.execution.end()

    def _hold(self, attempt: Attempt, phase: Phase) -> None:
        attempt.phase = phase
        self._machine.take(attempt.shape)
        self._running.add(attempt)

    def _free(self, attempt: Attempt) -> None:
        self._machine.give_back(attempt.shape)
        self._running.discard(attempt)
        attempt.execution = attempt.launched = None  # they know each other: cycles are left to the garbage collector
        if not self._running:
            self._nothing_runs.set()

    def _over(self, attempt: Attempt, status: TaskStatus, reason: str = "") -> None:
        self._set_over(attempt)
        self._conclude(attempt, status, reason)
        self._start_soon()

    def _postpone(self, attempt: Attempt, error: StartPostponedError) -> None:
        attempt.phase = Phase.WAITING
        self._waiting.put_back(attempt)
        if attempt.must_not_run:
            self._end(attempt.swarm, [attempt])
            return
        if self._loop.time() - self._warned_at > WARNING_INTERVAL_SECONDS:
            self._warned_at = self._loop.time()
            log.warning("starts are put off until the machine has room again: task %d %s", attempt.spec.task_id, error)
        self._pause()

    def _pause(self) -> None:
        if self._postponed is None:
            self._postponed = self._loop.call_later(POSTPONED_SECONDS, self._try_again)

    def _try_again(self) -> None:
        self._postponed = None
        self._start_soon()

    def _report_idleness(self) -> None:
        # Whoever waits for an end to send the next task should hear of it now: nothing here fills the room.
        if self._news.has_ends and self._machine.has_idle_core:
            self._news.flush()

    # -- what an earlier daemon had ---------------------------------------------------------------------------------

    async def _missing(self, swarm: LocalSwarm, batch: Batch) -> Sequence[int]:
        """Those of its tasks that never started, and never will."""
        if swarm.survives:
            return await asyncio.shield(self._search(swarm, self._arrivals.inherited(swarm, [batch]), claiming=True))
        return swarm.not_taken(batch)

    def _search(
        self, swarm: LocalSwarm, attempts: Iterable[Attempt], *, claiming: bool = False
    ) -> "asyncio.Task[list[int]]":
        swarm.sought += 1
        search = self._loop.create_task(self._inheritance.settle(attempts, claiming=claiming))
        self._searches.add(search)
        search.add_done_callback(partial(self._searched, swarm))
        return search

    def _searched(self, swarm: LocalSwarm, search: "asyncio.Task[list[int]]") -> None:
        self._searches.discard(search)
        swarm.sought -= 1
        if not swarm.sought:
            swarm.cancelled_early.clear()

    def _adopt(self, attempt: Attempt, adopted: Adopted) -> None:
        attempt.inherited = False
        attempt.swarm.attempts[attempt.key] = attempt
        self._hold(attempt, Phase.RUNNING)
        self._run(attempt, adopted, adopted.age_seconds)

    # -- from running to over --------------------------------------------------------------------------------------

    def _ended(self, attempt: Attempt, ending: Ending) -> None:
        self._free(attempt)
        if ending.code == 0 and not ending.overran:
            self._over(attempt, TaskStatus.DONE)
        elif attempt.given_back and not ending.overran:
            self._over(attempt, TaskStatus.REGISTERED, STOPPED)
        elif attempt.silent:
            self._over(attempt, TaskStatus.ERROR_RECOVERABLE)
        else:
            self._over(attempt, *verdict(ending, attempt.runtime_seconds, attempt.output.err))

    def _conclude(self, attempt: Attempt, status: TaskStatus, reason: str) -> None:
        if not attempt.silent:
            self._news.ended(attempt, status, reason)

    def _drop(self, swarm: LocalSwarm, attempts: Sequence[Attempt]) -> None:
        """End them, and never speak of them again."""
        for attempt in attempts:
            attempt.silent = True
        self._end(swarm, attempts)

    def _end(self, swarm: LocalSwarm, attempts: Sequence[Attempt]) -> None:
        """End those that run, and see that the others never do."""
        waiting = [attempt for attempt in attempts if attempt.phase is Phase.WAITING]
        for attempt in attempts:
            if attempt.phase is Phase.RUNNING:
                self._news.forget_start(attempt)
                attempt.end()
        for attempt in waiting:
            self._forget_waiting(attempt)
            if not attempt.inherited and attempt.given_back:
                self._conclude(attempt, TaskStatus.REGISTERED, STOPPED)
        if inherited := [attempt for attempt in waiting if attempt.inherited]:
            self._search(swarm, inherited)

    def _forget_waiting(self, attempt: Attempt) -> None:
        self._set_over(attempt)
        self._waiting.note_dropped()

    def _set_over(self, attempt: Attempt) -> None:
        attempt.phase = Phase.OVER
        attempt.swarm.attempts.pop(attempt.key, None)
        if attempt.swarm.is_removed and not attempt.swarm.attempts:
            attempt.swarm.is_empty.set()

    # -- the end of the daemon -------------------------------------------------------------------------------------

    def _stop_swarm(self, swarm: LocalSwarm) -> None:
        attempts = list(swarm.attempts.values())
        if not swarm.survives:
            self._drop(swarm, attempts)
        elif self._leave_on_close:
            for attempt in attempts:
                self._leave(attempt)
        else:
            for attempt in attempts:
                attempt.given_back = not attempt.silent
            self._end(swarm, attempts)

    def _is_left(self, attempt: Attempt) -> bool:
        """Whether it goes on without the daemon. What is being ended does not."""
        return self._leave_on_close and attempt.swarm.survives and not attempt.is_being_ended

    def _leave(self, attempt: Attempt) -> None:
        if attempt.phase is Phase.WAITING:
            self._forget_waiting(attempt)
        elif self._is_left(attempt):
            attempt.let_go()
            self._free(attempt)
            self._set_over(attempt)

    async def _all_over(self) -> None:
        """Wait until nothing is looked for and nothing runs."""
        while self._searches or self._running:
            if self._searches:
                await asyncio.wait(self._searches)
            else:
                self._nothing_runs.clear()
                await self._nothing_runs.wait()

    def _close_at_once(self) -> None:
        self._shared.exits.close()
        for search in self._searches:
            search.cancel()
        until = self._loop.time() + LAST_WAIT_SECONDS
        for attempt in list(self._running):
            attempt.kill_and_wait(until)
        self._news.flush()
        for handle in filter(None, (self._starting, self._postponed)):
            handle.cancel()
