"""DistributorKeeper: starts Jobmon's own distributor for a run when nobody else has, and keeps it going.

There must never be two for a run: each takes every task of it, and every task would run twice. One that another daemon
started here is found by its mark; one of the user's shows by the run's status, which it takes from BOUND onwards.

One that died is started again when what it has left is cleared away (`leftovers.py`).
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from swarmd.core.errors import InvalidInputError
from swarmd.gateways.contract import SwarmInfo
from swarmd.gateways.jobmon import life
from swarmd.gateways.jobmon.distributor import (
    MARK,
    Distributor,
    Mark,
    end_all,
    end_forks,
    last_line,
    says_that_it_lives,
    shorten,
)
from swarmd.gateways.jobmon.failures import CallError
from swarmd.gateways.jobmon.leftovers import Leftovers
from swarmd.gateways.jobmon.programs import NoProgramError, Program, find_program
from swarmd.gateways.jobmon.settings import FIELD, JobmonSettings, RunOptions
from swarmd.gateways.local.attempt import environment_of_programs
from swarmd.loggers import get_logger
from swarmd.ownership import make_private

log = get_logger("swarmd.jobmon")

LOOK_SECONDS = 1.0
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 60.0
KILL_SECONDS = 10.0
"""How long a distributor is given to end the tasks that were cancelled, before it is told to end itself."""
TASKS_GO_ON = "HTE"
"""Tasks that run are left in peace: the workflow is resumed elsewhere, or was given up by the server and will be."""
END_SECONDS = 5.0
"""How long it may take to end, before it is made to."""


class DistributorKeeper:
    """The distributor of one run. `prepare` first, `run` in a task, `end` or `leave` last."""

    def __init__(
        self,
        swarm: SwarmInfo,
        options: RunOptions,
        settings: JobmonSettings,
        folder: Path,
        *,
        status: Callable[[], str],
        leftovers: Leftovers,
    ) -> None:
        """`status` is the run's."""
        self.trouble = ""
        """Why the run has no distributor though it should; empty when it has one, or is not in need of ours."""
        self._swarm = swarm
        self._options = options
        self._settings = settings
        self._status = status
        self._leftovers = leftovers
        self._mark = Mark(options.url, options.workflow_run_id)
        self._log = folder / f"distributor-{options.workflow_run_id}-{self._mark.digest}.log"
        self._distributor: Distributor | None = None
        self._starting: asyncio.Future[Distributor] | None = None
        self._leaders: set[int] = set()
        self._started_at = 0.0
        self._pause = FIRST_PAUSE_SECONDS
        self._is_ours = False
        """It was started here, now or by an earlier daemon."""
        self._has_lost_one = False
        self._waits = 0.0
        self._changed = asyncio.Event()
        self._ending = asyncio.Lock()

    # -- the beginning ---------------------------------------------------------------------------------------------

    async def prepare(self, *, was_bound: bool) -> None:
        """See what there is. `was_bound`: the run was BOUND before it was taken up here, so somebody may come.

        Raises InvalidInputError, with the reason NO_DISTRIBUTOR, when one has to be started and there is none.
        """
        self._distributor = await asyncio.to_thread(Distributor.found, self._mark)
        self._is_ours = self._distributor is not None or await asyncio.to_thread(_is_there, self._log)
        self._has_lost_one = self._is_ours
        self._waits = self._settings.distributor_wait_seconds if was_bound and not self._is_ours else 0.0
        if self._distributor is None and not self._is_ours and self._status() in life.BEFORE_DISTRIBUTOR:
            try:
                await self._program()
            except NoProgramError as error:
                message = f"{FIELD}[distributor_cluster]: Jobmon's distributor cannot be started here: {error}"
                raise InvalidInputError(message, reason="NO_DISTRIBUTOR", field=FIELD) from None

    async def _program(self) -> Program:
        return await find_program(self._settings.distributor_python, self._path)

    @property
    def _path(self) -> str:
        given = self._swarm.environment.get("PATH")
        return given if given is not None else environment_of_programs().get(b"PATH", b"").decode(errors="replace")

    # -- while the run goes on -------------------------------------------------------------------------------------

    @property
    def has_begun(self) -> bool:
        """Whether the run was, or may have been, taken up by a distributor that ends with its swarm."""
        return self._is_ours

    def look(self) -> None:
        """The run has another status."""
        self._changed.set()

    async def run(self) -> None:
        """Keep one going until the run is over, and end it then."""
        await self._sleep(self._waits, while_in="B")
        if self._is_ours and self._distributor is None:
            await asyncio.to_thread(end_forks, self._mark)
            await self._clear_the_way("Jobmon's distributor ended while no daemon was there")
        while not self._is_over():
            if not self._is_ours and self._status() not in life.BEFORE_DISTRIBUTOR:
                self.trouble = ""
                return  # somebody else's
            if self._status() in "GL":
                await self._sleep(LOOK_SECONDS)
            elif self._distributor is None:
                await self._start()
            elif await asyncio.to_thread(self._distributor.is_alive):
                await self._look_after()
                await self._sleep(LOOK_SECONDS)
            else:
                await self._lose(self._distributor)
        await self.end()

    def _is_over(self) -> bool:
        return self._status() in life.OVER

    async def _start(self) -> None:
        was_ours, self._is_ours = self._is_ours, True
        try:
            program = await self._program()
            self._starting = asyncio.ensure_future(asyncio.to_thread(self._started, program))
            self._distributor = await asyncio.shield(self._starting)
        except (OSError, ValueError, NoProgramError, InvalidInputError) as error:
            if not was_ours:  # somebody else may start one meanwhile
                await self._forget_log()
                self._is_ours = False
            await self._again_later(f"Jobmon's distributor cannot be started: {error}")
            return
        self._leaders.add(self._distributor.pid)
        self._started_at = asyncio.get_running_loop().time()
        log.info(
            "Jobmon's distributor started",
            swarm=self._swarm.swarm_id,
            process=self._distributor.pid,
            log=str(self._log),
        )

    def _started(self, program: Program) -> Distributor:
        make_private(self._log.parent)
        options, directory = self._options, self._swarm.working_directory or self._log.parent
        arguments = [*program.arguments, "start", "--cluster_name", options.distributor_cluster]
        arguments += ["--workflow_run_id", str(options.workflow_run_id)]
        return Distributor.started(arguments, self._environment(program), directory, self._log)

    def _environment(self, program: Program) -> dict[bytes, bytes]:
        own = {
            **self._swarm.environment,
            "PATH": f"{program.folder}:{self._path}",
            "JOBMON__HTTP__SERVICE_URL": self._options.server,
            "JOBMON__HTTP__ROUTE_PREFIX": self._options.route_prefix,
            "JOBMON__HEARTBEAT__WORKFLOW_RUN_INTERVAL": str(self._settings.distributor_pass_seconds),
            MARK: self._mark.value,
        }
        return environment_of_programs() | {name.encode(): value.encode() for name, value in own.items()}

    async def _look_after(self) -> None:
        await asyncio.to_thread(shorten, self._log)
        if self._has_lost_one and self._status() == "R":
            with suppress(CallError):
                await self._leftovers.look(asyncio.get_running_loop().time())
        if not self.trouble:
            return
        lives = await asyncio.to_thread(says_that_it_lives, self._log)
        if lives:
            log.info("Jobmon's distributor goes on", swarm=self._swarm.swarm_id)
            self.trouble = ""

    async def _lose(self, lost: Distributor) -> None:
        """It is dead: tell, wait, and clear the way for another. Tasks that run go on."""
        said = await asyncio.to_thread(last_line, self._log)
        await asyncio.to_thread(end_forks, self._mark)
        self._distributor, self._has_lost_one = None, True
        if asyncio.get_running_loop().time() - self._started_at >= LONGEST_PAUSE_SECONDS:
            self._pause = FIRST_PAUSE_SECONDS
        what = f"Jobmon's distributor {lost.in_words()}{f': {said}' if said else ''}"
        await self._again_later(what)
        await self._clear_the_way(what)

    async def _again_later(self, what: str) -> None:
        self.trouble = f"{what}; it is started again"
        log.warning("the run has no distributor", swarm=self._swarm.swarm_id, why=what, again_in=self._pause)
        await self._sleep(self._pause)
        self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS)

    async def _clear_the_way(self, what: str) -> None:
        """Return when the next distributor can work: no task is left between the last one and its cluster."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        while self._status() == "R":
            with suppress(CallError):
                left = await self._leftovers.clear(loop.time() - begun)
                if not left:
                    return
                self.trouble = f"{what}; it is started again when {left} tasks that it has left have begun"
            await self._sleep(LOOK_SECONDS)

    async def _sleep(self, seconds: float, *, while_in: str = "") -> None:
        """Wait so long, and not on when the run is over, or is in none of these statuses."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while not self._is_over() and (not while_in or self._status() in while_in):
            self._changed.clear()
            try:
                async with asyncio.timeout_at(until):
                    await self._changed.wait()
            except TimeoutError:
                return

    # -- the end ---------------------------------------------------------------------------------------------------

    async def end(self) -> None:
        """End it, as gently as it lets us, with what is left of its tasks where these are not to go on."""
        async with self._ending:
            if not await self._has_one():
                return
            goes_on = self._status() in TASKS_GO_ON
            if self._distributor is not None:
                if not goes_on:
                    await self._let_it_end_tasks()
                await _told_to_end(self._distributor, END_SECONDS)
            if goes_on:
                await asyncio.to_thread(end_forks, self._mark)
            else:
                await asyncio.to_thread(end_all, self._mark, self._leaders)
            if self._distributor is not None:
                self._distributor.leave()
            self._distributor, self._is_ours = None, False
            await self._forget_log()

    async def _forget_log(self) -> None:
        try:
            await asyncio.to_thread(self._log.unlink, missing_ok=True)
        except OSError as error:
            log.warning("the log of Jobmon's distributor cannot be removed", log=str(self._log), error=str(error))

    async def _has_one(self) -> bool:
        if self._starting is not None:
            with suppress(OSError, ValueError, InvalidInputError):
                self._distributor = self._distributor or await self._starting
        if self._distributor is not None:
            self._leaders.add(self._distributor.pid)
        return self._is_ours

    async def _let_it_end_tasks(self) -> None:
        """Cancelled tasks are ended by the distributor in its next pass."""
        with suppress(CallError, TimeoutError):
            async with asyncio.timeout(KILL_SECONDS):
                while (last := self._distributor) and last.is_alive() and await self._leftovers.count_killed():  # noqa: ASYNC110
                    await asyncio.sleep(LOOK_SECONDS / 4)

    async def close(self) -> None:
        """The daemon ends. The distributor goes on, unless its run is over, or nobody will come back for it."""
        if self._is_over() or not self._swarm.token:
            await self.end()
        elif await self._has_one() and self._distributor is not None:
            self._distributor.leave()


def _is_there(path: Path) -> bool:
    return path.exists()


async def end_abandoned(options: RunOptions) -> bool:
    """End what an earlier daemon has started for a run that this one has not taken up; whether there was anything."""
    mark = Mark(options.url, options.workflow_run_id)
    distributor = await asyncio.to_thread(Distributor.found, mark)
    if distributor is not None:
        await _told_to_end(distributor, END_SECONDS)
        await asyncio.to_thread(end_all, mark, [distributor.pid])
    return distributor is not None


async def _told_to_end(distributor: Distributor, seconds: float) -> None:
    await asyncio.to_thread(distributor.ask_to_end)
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while distributor.is_alive():  # noqa: ASYNC110 - it may be nobody's child
                await asyncio.sleep(0.05)
