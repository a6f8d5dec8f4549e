"""LocalGateway: the contract of a gateway, kept by processes of this machine.

Here attempts go from waiting to running to over. It must not know the scheduler; what it says goes to `report`.
"""

import asyncio
import itertools
import logging
import os
import signal
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from swarmd.core.batch import Batch, TaskSpec
from swarmd.core.status import TaskStatus
from swarmd.gateways.contract import (
    BatchRefusedError,
    Capabilities,
    QueueOutcome,
    Refusal,
    Report,
    ServerGateway,
    SwarmInfo,
)
from swarmd.gateways.local.attempt import Attempt, LocalSwarm, Phase
from swarmd.gateways.local.execution import Ending, Execution, Supervision
from swarmd.gateways.local.machine import Machine, Shape
from swarmd.gateways.local.news import News
from swarmd.gateways.local.output import OutputPaths, make_folder, output_paths
from swarmd.gateways.local.process import Launch, StartFailedError, StartPostponedError, start_child
from swarmd.gateways.local.reasons import start_failure, verdict
from swarmd.gateways.local.waiting import WaitingLines

log = logging.getLogger(__name__)

START_SLICE_SECONDS = 0.003
"""How long the loop may be held with starts before others have their turn; a start takes about a millisecond."""
POSTPONED_SECONDS = 0.2
WARNING_INTERVAL_SECONDS = 60.0
GIVE_UP_SECONDS = 5.0
"""How long after KILL `close` waits for processes that the kernel does not let go of."""
LAST_WAIT_SECONDS = 0.5
"""The same when `close` itself is cancelled."""


class LocalGateway(ServerGateway):
    """Runs tasks as processes of this machine, never more at once than fit its cores and memory."""

    name = "local"
    capabilities = Capabilities(can_cancel=True)

    def __init__(
        self, log_directory: Path, *, cores: int | None = None, memory_mib: int | None = None, kill_grace: float = 5.0
    ) -> None:
        """Output goes below `log_directory`. `cores` and `memory_mib`: how much of the machine to use, None for all.

        `kill_grace`: seconds between TERM and KILL.
        """
        self.log_directory = log_directory
        self._machine = Machine(cores, memory_mib)
        self._kill_grace = kill_grace
        self._swarms: dict[str, LocalSwarm] = {}
        self._waiting = WaitingLines()
        self._running: set[Attempt] = set()
        self._arrivals = itertools.count()
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
        self._open = True

    async def close(self) -> None:
        """End: what waits is dropped, what runs gets TERM and then KILL. On return no child is left."""
        if not self._open:
            return
        self._open = False
        self._news.flush()
        for swarm in self._swarms.values():
            self._drop_all(swarm)
        self._nothing_runs.clear()
        try:
            if self._running:
                async with asyncio.timeout(self._kill_grace + GIVE_UP_SECONDS):
                    await self._nothing_runs.wait()
        except TimeoutError:
            log.warning("%d processes did not end even when killed", len(self._running))
        finally:
            self._shared.exits.close()
            until = self._loop.time() + LAST_WAIT_SECONDS
            for attempt in list(self._running):
                _execution_of(attempt).kill_and_wait(until)
            self._stop_timers()

    def kill_all(self) -> None:
        """KILL everything that runs, without waiting: for a daemon that must end at once."""
        self._open = False
        for attempt in list(self._running):
            attempt.silent = True
            _execution_of(attempt).kill()

    async def add_swarm(self, swarm: SwarmInfo) -> None:
        environment = dict(os.environb)
        for name, value in {**swarm.environment, "SWARM_ID": swarm.swarm_id}.items():
            environment[_encoded(name)] = _encoded(value)
        if swarm.working_directory:
            # Programs that are started without a shell would otherwise be told where the daemon is.
            environment[b"PWD"] = os.fsencode(swarm.working_directory.absolute())
        known = self._swarms.setdefault(swarm.swarm_id, LocalSwarm(swarm, environment))
        known.info, known.environment = swarm, environment

    async def remove_swarm(self, swarm_id: str) -> None:
        swarm = self._swarms.pop(swarm_id, None)
        if swarm:
            self._drop_all(swarm)
            self._news.forget_swarm(swarm_id)

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
        for spec in batch.tasks():
            if "\0" in spec.command:
                refused.append(spec.task_id)
            else:
                self._queue(swarm, batch, spec, shape)
        self._start_soon()
        refusal = Refusal(refused, "its command contains a NUL character", permanent=True)
        return QueueOutcome([refusal]) if refused else None

    async def cancel_tasks(self, swarm_id: str, task_ids: Sequence[int], attempts: Sequence[int], reason: str) -> None:
        del reason
        swarm = self._swarms.get(swarm_id)
        if swarm is None:
            return
        for key in zip(task_ids, attempts, strict=True):
            attempt = swarm.attempts.get(key)
            if attempt:
                self._drop(attempt)
        self._start_soon()

    # -- from waiting to running -----------------------------------------------------------------------------------

    def _queue(self, swarm: LocalSwarm, batch: Batch, spec: TaskSpec, shape: Shape) -> None:
        runtime = batch.task_resources.runtime_seconds
        attempt = Attempt(swarm, batch.array_id, spec, shape, runtime, next(self._arrivals))
        if attempt.key not in swarm.attempts:
            swarm.attempts[attempt.key] = attempt
            self._waiting.add(attempt)

    def _start_soon(self) -> None:
        if self._starting is None and self._open:
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
        """Start it. False when the machine cannot start anything just now."""
        try:
            child = start_child(self._launch(attempt))
        except StartPostponedError as error:
            self._postpone(attempt, error)
            return False
        except StartFailedError as error:
            self._set_over(attempt)
            self._news.ended(attempt, TaskStatus.ERROR_RECOVERABLE, start_failure(error))
            return True
        attempt.phase = Phase.RUNNING
        self._machine.take(attempt.shape)
        self._running.add(attempt)
        self._news.started(attempt)
        attempt.execution = Execution(child, self._shared, attempt.runtime_seconds, partial(self._ended, attempt))
        return True

    def _launch(self, attempt: Attempt) -> Launch:
        spec, swarm = attempt.spec, attempt.swarm
        environment = {
            **swarm.environment,
            b"SWARM_ARRAY_ID": b"%d" % attempt.array_id,
            b"SWARM_TASK_ID": b"%d" % spec.task_id,
            b"SWARM_TASK_NAME": _encoded(spec.name),
            b"SWARM_ATTEMPT": b"%d" % spec.attempt,
        }
        return Launch(spec.command, environment, swarm.info.working_directory, self._paths(attempt))

    def _paths(self, attempt: Attempt) -> OutputPaths:
        swarm_id, (task_id, number) = attempt.swarm.info.swarm_id, attempt.key
        return output_paths(self.log_directory, swarm_id, attempt.array_id, task_id, number)

    def _postpone(self, attempt: Attempt, error: StartPostponedError) -> None:
        self._waiting.put_back(attempt)
        if self._loop.time() - self._warned_at > WARNING_INTERVAL_SECONDS:
            log.warning("starts are put off until the machine has room again: task %d %s", attempt.spec.task_id, error)
            self._warned_at = self._loop.time()
        if self._postponed is None:
            self._postponed = self._loop.call_later(POSTPONED_SECONDS, self._try_again)

    def _try_again(self) -> None:
        self._postponed = None
        self._start_soon()

    def _report_idleness(self) -> None:
        # Whoever waits for an end to send the next task should hear of it now: nothing here fills the room.
        if self._news.has_ends and self._machine.has_idle_core:
            self._news.flush()

    # -- from running to over --------------------------------------------------------------------------------------

    def _ended(self, attempt: Attempt, ending: Ending) -> None:
        self._machine.give_back(attempt.shape)
        self._running.discard(attempt)
        attempt.execution = None  # they know each other: a cycle would be left to the garbage collector
        self._set_over(attempt)
        if not attempt.silent:
            status, reason = verdict(ending, attempt.runtime_seconds, self._paths(attempt).err)
            self._news.ended(attempt, status, reason)
        if not self._running:
            self._nothing_runs.set()
        self._start_soon()

    def _drop_all(self, swarm: LocalSwarm) -> None:
        for attempt in list(swarm.attempts.values()):
            self._drop(attempt)

    def _drop(self, attempt: Attempt) -> None:
        """End it, and never speak of it again."""
        attempt.silent = True
        if attempt.phase is Phase.WAITING:
            self._set_over(attempt)
            self._waiting.note_dropped()
        else:
            self._news.forget_start(attempt)
            _execution_of(attempt).end()

    def _set_over(self, attempt: Attempt) -> None:
        attempt.phase = Phase.OVER
        attempt.swarm.attempts.pop(attempt.key, None)

    def _stop_timers(self) -> None:
        for handle in (self._starting, self._postponed):
            if handle is not None:
                handle.cancel()


def _execution_of(attempt: Attempt) -> Execution:
    if attempt.execution is None:
        raise RuntimeError(f"task {attempt.spec.task_id} does not run")
    return attempt.execution


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
