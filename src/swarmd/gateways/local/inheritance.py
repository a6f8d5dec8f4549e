"""What became of attempts that an earlier daemon had: looked up in their status files, and settled one by one.

Used by the local gateway after a restart, for batches in doubt, and when a start found that another one was first. It
never holds the loop for long, however many there are.
"""

import asyncio
import logging
import signal
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from swarmd.core.status import TaskStatus
from swarmd.gateways.local.adoption import Adopted, adopt, is_group_of, is_launcher
from swarmd.gateways.local.attempt import Attempt
from swarmd.gateways.local.execution import Ending
from swarmd.gateways.local.groups import all_followers, groups_of
from swarmd.gateways.local.leader import signal_group
from swarmd.gateways.local.machine import Machine
from swarmd.gateways.local.procfs import boot_id, stat_of
from swarmd.gateways.local.reasons import FORESTALLED, LAUNCHER_LOST, STATUS_GONE, STOPPED, VANISHED, verdict, with_tail
from swarmd.gateways.local.status_file import Absent, Claimed, Started, Status, Unbegun, Unclear, claim, read_status

log = logging.getLogger(__name__)

SLICE_SECONDS = 0.003
"""How long the loop may be held before others have their turn."""
UNCLEAR_SECONDS = 0.5
"""How long a file may say nothing before it counts as broken: somebody may be between creating and writing it."""
STARTING_SECONDS = 10.0
"""The same while its launcher is there: a program on a slow disk takes long to start."""


@dataclass(frozen=True, slots=True)
class Reception:
    """What the gateway does with attempts when it is known what became of them."""

    waits: Callable[[Attempt], None]
    """It never started."""
    runs: Callable[[Attempt, Adopted], None]
    """It runs."""
    is_over: Callable[[Attempt, TaskStatus, str], None]
    """It ended, with this status for this reason."""


class Inheritance:
    """Finds attempts that other daemons may have started."""

    def __init__(self, reception: Reception, machine: Machine) -> None:
        self._reception = reception
        self._machine = machine
        self._followers: dict[int, list[int]] = {}
        self._is_closing = False
        self._leave = False

    def close(self, *, leave: bool) -> None:
        """From now on nothing comes to wait or run. `leave`: what is found is left for the next daemon."""
        self._is_closing, self._leave = True, leave

    async def settle(self, attempts: Iterable[Attempt], *, claiming: bool = False) -> list[int]:
        """Find out what became of each, and tell the reception.

        `claiming`: those that never started never will; their task ids are returned. Raises OSError when one of them
        cannot be prevented from starting.
        """
        try:
            self._followers = await asyncio.to_thread(all_followers)
        except RuntimeError:  # there is no thread left: better to hold up others than to know nothing
            self._followers = all_followers()
        search = _Search(self, claiming)
        await search.go_through(attempts)
        while search.unclear:
            await asyncio.sleep(UNCLEAR_SECONDS)
            search.waited += UNCLEAR_SECONDS
            unclear, search.unclear = search.unclear, []
            await search.go_through(unclear)
        return search.unstarted

    def note_orders(self, attempt: Attempt) -> None:
        """Note in an attempt that it must not run, if it was cancelled or the daemon stops."""
        swarm = attempt.swarm
        attempt.silent |= swarm.is_removed or attempt.key in swarm.cancelled_early
        attempt.given_back |= self._is_closing and not self._leave and not attempt.silent

    def is_left_alone(self, attempt: Attempt) -> bool:
        """Whether it is the next daemon's, or was found already."""
        if self._is_closing and self._leave and not attempt.silent:
            return True
        return attempt.swarm.attempts.get(attempt.key, attempt) is not attempt

    def objection(self, attempt: Attempt) -> str:
        """Why it can not wait for its start; empty when it can."""
        return self._machine.objection(attempt.shape)

    def never_started(self, attempt: Attempt, status: Path, *, had_no_file: bool) -> None:
        """It is kept from starting, if it has not before. `had_no_file`: not by an earlier daemon."""
        if attempt.was_running and self._found(attempt, status):
            return
        if attempt.given_back:
            self._reception.is_over(attempt, TaskStatus.REGISTERED, STOPPED)
        elif attempt.was_running and had_no_file:
            self.vanished(attempt, STATUS_GONE)
        elif objection := self.objection(attempt):
            self._reception.is_over(attempt, TaskStatus.REGISTERED, objection)
        else:
            self._reception.is_over(attempt, TaskStatus.ERROR_RECOVERABLE, FORESTALLED)

    def waits(self, attempt: Attempt) -> None:
        self._reception.waits(attempt)

    def started(self, attempt: Attempt, started: Started, status: Path) -> None:
        """It was started: as what it runs or how it ended."""
        adopted = adopt(started, status) if started.exit_code is None else None
        if adopted:
            self._reception.runs(attempt, adopted)
            return
        self._end_followers(attempt, started)
        # Once more: it may have ended since the file was read.
        now = read_status(status)
        if isinstance(now, Started) and now.exit_code is not None:
            ending = Ending(now.exit_code)
            self._reception.is_over(attempt, *verdict(ending, attempt.runtime_seconds, attempt.output.err))
        else:
            self.vanished(attempt, VANISHED)

    def unclear(self, attempt: Attempt, why: str, status: Path) -> None:
        """Its file will not say more: a launcher may have been killed that had just started it."""
        if not self._found(attempt, status):
            self.vanished(attempt, why)

    def unrecorded(self, attempt: Attempt) -> None:
        """It has no file, and whoever was told to start it is gone: maybe it did."""
        for group in groups_of(attempt.fingerprint(), attempt.output):
            signal_group(group, signal.SIGKILL)
        self.vanished(attempt, VANISHED if attempt.inherited else LAUNCHER_LOST)

    def vanished(self, attempt: Attempt, reason: str) -> None:
        """Nobody knows how it ended."""
        self._reception.is_over(attempt, TaskStatus.ERROR_RECOVERABLE, with_tail(reason, attempt.output.err))

    def _found(self, attempt: Attempt, status: Path) -> bool:
        """Whether it runs, by what its processes have in their environment; what is left without a leader is ended."""
        groups = groups_of(attempt.fingerprint(), attempt.output)
        for group in groups:
            stat = stat_of(group)
            adopted = adopt(Started(group, stat.start_ticks, boot_id(), None), status) if stat else None
            if adopted:
                self._reception.runs(attempt, adopted)
                return True
        for group in groups:
            signal_group(group, signal.SIGKILL)
        return False

    def _end_followers(self, attempt: Attempt, started: Started) -> None:
        followers = self._followers.get(started.pid)
        if followers and is_group_of(started, followers, attempt.fingerprint()):
            signal_group(started.pid, signal.SIGKILL)


class _Search:
    """One way through some attempts."""

    def __init__(self, inheritance: Inheritance, claiming: bool) -> None:
        self._inheritance = inheritance
        self._claiming = claiming
        self.unclear: list[Attempt] = []
        """Their files say nothing yet."""
        self.waited = 0.0
        """For those files, in seconds."""
        self.unstarted: list[int] = []
        """The tasks that were kept from starting."""

    async def go_through(self, attempts: Iterable[Attempt]) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + SLICE_SECONDS
        for attempt in attempts:
            self._inheritance.note_orders(attempt)
            if not self._inheritance.is_left_alone(attempt):
                self._look_at(attempt)
            if loop.time() > until:
                await asyncio.sleep(0)
                until = loop.time() + SLICE_SECONDS

    def _look_at(self, attempt: Attempt) -> None:
        path = attempt.status
        if path is None:
            self._inheritance.unrecorded(attempt)
            return
        status = read_status(path)
        had_no_file = isinstance(status, Absent)
        if had_no_file and self._is_to_be_claimed(attempt):
            status = self._claim(path)
        match status:
            case Absent():
                self._inheritance.waits(attempt)
            case Claimed() if self._claiming:
                self.unstarted.append(attempt.spec.task_id)
            case Claimed():
                self._inheritance.never_started(attempt, path, had_no_file=had_no_file)
            case Unbegun():
                self._unbegun(attempt, path)
            case Started():
                self._inheritance.started(attempt, status, path)
            case Unclear() if self._may_say_more(status):
                self.unclear.append(attempt)
            case Unclear():
                self._inheritance.unclear(attempt, status.why, path)

    def _unbegun(self, attempt: Attempt, path: Path) -> None:
        """It may start anew, unless it must not: then the file keeps it from that as if it were claimed."""
        attempt.was_running = False
        if self._claiming:
            self.unstarted.append(attempt.spec.task_id)
        elif self._is_to_be_claimed(attempt):
            self._inheritance.never_started(attempt, path, had_no_file=False)
        else:
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                self._inheritance.vanished(attempt, f"its status file {path} cannot be removed: {error.strerror}")
            else:
                self._inheritance.waits(attempt)

    def _may_say_more(self, status: Unclear) -> bool:
        return (
            status.is_passing
            or self.waited < UNCLEAR_SECONDS
            or (self.waited < STARTING_SECONDS and is_launcher(status.launcher))
        )

    def _is_to_be_claimed(self, attempt: Attempt) -> bool:
        """Whether it must not start any more, not even by a process that an earlier daemon has left."""
        doomed = attempt.must_not_run or attempt.was_running
        return self._claiming or doomed or bool(self._inheritance.objection(attempt))

    def _claim(self, path: Path) -> Status:
        """Keep it from starting, or see who was quicker."""
        try:
            if claim(path):
                return Claimed()
        except OSError as error:
            if self._claiming:
                raise
            log.warning("it cannot be made sure that nobody starts the attempt of %s: %s", path, error)
            return Claimed()
        status = read_status(path)
        return Unclear(f"its status file {path} came and went") if isinstance(status, Absent) else status


def silenced(attempts: Iterable[Attempt]) -> Iterator[Attempt]:
    """The same, which are to end without a word."""
    for attempt in attempts:
        attempt.silent = True
        yield attempt
