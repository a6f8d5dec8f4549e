"""What `swarmd run` does: finds or starts a daemon, makes and loads the swarm, and watches it to its end.

Gives a Report; `summary` shows it. Knows nothing of how progress looks.
"""

import asyncio
import os
import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from swarmd._pb.swarm.v1 import state_pb2, swarm_pb2, task_pb2
from swarmd.cli.errors import ExitCode
from swarmd.cli.output import note
from swarmd.cli.run.display import Display, display_for_stderr
from swarmd.cli.run.interrupts import Interrupts, Wish
from swarmd.cli.run.own_daemon import OwnDaemon
from swarmd.cli.run.progress import Progress
from swarmd.cli.run.stillness import Stillness
from swarmd.cli.status import PULL_GATEWAY
from swarmd.client.errors import NoDaemonError, RpcError
from swarmd.client.finding import ConnectionSettings
from swarmd.client.protocol import PATIENCE, ProtocolClient
from swarmd.core.errors import InvalidInputError
from swarmd.wire.names import POLICY_TO_PB
from swarmd.workflow.plan import WorkflowPlan

FASTEST_POLL, SLOWEST_POLL = 0.02, 0.25
POLL_GROWTH = 1.3
BUSY_SHARE = 4
"""The pause between two looks is at least so many times as long as a look takes."""
MOST_FAILED_TASKS = 20
JOBMON_GATEWAY = "jobmon"
NO_DISTRIBUTOR = "NO_DISTRIBUTOR"
"""Why the daemon refuses a swarm whose distributor it cannot start."""
OVER_RUN_STATUSES = frozenset(
    {
        state_pb2.WORKFLOW_RUN_STATUS_DONE,
        state_pb2.WORKFLOW_RUN_STATUS_ABORTED,
        state_pb2.WORKFLOW_RUN_STATUS_STOPPED,
        state_pb2.WORKFLOW_RUN_STATUS_ERROR,
        state_pb2.WORKFLOW_RUN_STATUS_TERMINATED,
    }
)
LAST_RUN_STATUSES = frozenset({state_pb2.WORKFLOW_RUN_STATUS_DONE, state_pb2.WORKFLOW_RUN_STATUS_ERROR})
"""Those that a run gets from here when its tasks have ended."""
LAST_STATUS_SECONDS = 15.0
"""How long a finished run may take to get its last status at Jobmon's server."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What the user chose."""

    daemon: ConnectionSettings = field(default_factory=ConnectionSettings)
    swarm_id: str = ""
    gateway: str = "local"
    gateway_options: Mapping[str, str] = field(default_factory=dict)
    local_cores: int | None = None
    on_stop: str = "kill"
    keep: bool = False


@dataclass(slots=True)
class Report:
    """How it went."""

    swarm: swarm_pb2.Swarm
    """In the FULL view, as it was last seen."""
    seconds: float
    failed: list[task_pb2.Task] = field(default_factory=list)
    """The first of them."""
    cancelled: bool = False
    """By a signal."""
    detached: bool = False
    stays: bool = False
    """The swarm is still in the daemon."""
    ends_daemon: bool = False
    """The daemon was started for this run, and ends by itself when it is idle."""

    @property
    def exit_code(self) -> ExitCode:
        if self.swarm.outcome == swarm_pb2.SWARM_OUTCOME_DONE:
            return ExitCode.OK
        return ExitCode.INTERRUPTED if self.cancelled else ExitCode.NOT_DONE


async def run_workflow(plan: WorkflowPlan, options: RunOptions) -> Report:
    """Run a plan to its end, or until the user has enough of it. Raises RpcError and NoDaemonError."""
    daemon, own = options.daemon, None
    if not await _is_there(daemon):
        own = await _own_daemon(options)
        daemon = daemon if own is None else ConnectionSettings(address=str(own.address))
    # nobody starts a daemon of our own again: when it is gone, that is told at once
    async with ProtocolClient(daemon, patience=PATIENCE if own is None else 0) as client:
        run = _Run(client, plan, options, own)
        try:
            report = await run.to_the_end()
        except NoDaemonError as error:
            if own is not None:
                error.message += f"; its log is {own.log}; `swarmd serve` goes on with the workflow where it was"
            raise
        finally:
            if own is not None and not run.leaves_daemon and not await run.others_are_busy():
                await own.stop()
    return report


async def _is_there(daemon: ConnectionSettings) -> bool:
    """Whether a daemon answers; raises NoDaemonError when none does at an address that somebody chose."""
    try:
        async with ProtocolClient(daemon) as client:
            await client.connect()
    except (NoDaemonError, InvalidInputError):
        if daemon.is_chosen:
            raise
        return False
    return True


async def _own_daemon(options: RunOptions) -> OwnDaemon | None:
    """A daemon of our own, or None when somebody else's was quicker at the same address."""
    own = OwnDaemon(options.local_cores, on_stop=options.on_stop, stays=options.keep)
    try:
        await own.start()
    except NoDaemonError:
        async with ProtocolClient(own.address) as client:
            try:
                await client.connect()
            except NoDaemonError:
                pass
            else:
                return None
        raise
    return own


class _Run:
    """One workflow on its way through one daemon."""

    def __init__(self, client: ProtocolClient, plan: WorkflowPlan, options: RunOptions, own: OwnDaemon | None) -> None:
        self._client = client
        self._plan = plan
        self._options = options
        self._own = own
        self._swarm_id = ""
        self._display: Display = display_for_stderr()
        self._progress = Progress(plan.name, time.monotonic())
        self._stillness = Stillness(client)
        self._started = time.monotonic()
        self._cancelled = self._detached = False
        self._finished_at = 0.0

    @property
    def leaves_daemon(self) -> bool:
        """Our own daemon is to go on when this command ends."""
        return self._detached or (self._options.keep and not self._cancelled)

    async def others_are_busy(self) -> bool:
        """Whether somebody else has come to use our daemon; it then ends by itself when it is idle."""
        try:
            swarms = await self._client.list_swarms()
        except RpcError:
            return False
        unfinished = swarm_pb2.SWARM_OUTCOME_UNFINISHED
        return any(swarm.outcome == unfinished and swarm.swarm_id != self._swarm_id for swarm in swarms)

    async def to_the_end(self) -> Report:
        with Interrupts() as interrupts:
            try:
                if not await self._loaded(interrupts):
                    return Report(swarm_pb2.Swarm(swarm_id=self._swarm_id), self._seconds, cancelled=True)
                self._started = time.monotonic()
                swarm = await self._watched(interrupts)
            finally:
                self._display.hide()
            return await self._report(swarm)

    @property
    def _seconds(self) -> float:
        return time.monotonic() - self._started

    # -- the beginning ---------------------------------------------------------------------------------------------

    async def _loaded(self, interrupts: Interrupts) -> bool:
        """Make the swarm and load the plan; False when a signal came first, and nothing is left of it then."""
        self._swarm_id = await self._created()
        loading = asyncio.ensure_future(self._client.add_tasks(self._swarm_id, self._plan))
        signalled = asyncio.ensure_future(interrupts.asked.wait())
        try:
            await asyncio.wait({loading, signalled}, return_when=asyncio.FIRST_COMPLETED)
            if loading.done():
                await loading
                return True
            self._cancelled = True
        except BaseException:
            await self._client.delete_swarm(self._swarm_id, force=True)
            raise
        finally:
            signalled.cancel()
        loading.cancel()
        await self._client.delete_swarm(self._swarm_id, force=True)
        return False

    async def _created(self) -> str:
        """Make the swarm. Jobmon's distributor that cannot be started is left to the user. Gives the swarm's id."""
        swarm = self._new_swarm()
        try:
            return (await self._client.create_swarm(swarm)).swarm_id
        except RpcError as error:
            if error.reason != NO_DISTRIBUTOR:
                raise
            from swarmd.cli.run.jobmon import waits_for_distributor

            cluster = swarm.gateway_options.pop("distributor_cluster")
            run_id, why = swarm.gateway_options["workflow_run_id"], error.message.partition(": ")[2]
            note(waits_for_distributor(run_id, cluster, why))
        return (await self._client.create_swarm(swarm)).swarm_id

    def _new_swarm(self) -> swarm_pb2.Swarm:
        swarm = swarm_message(self._plan)
        swarm.swarm_id = self._options.swarm_id or _readable_id(self._plan.name)
        swarm.gateway = self._options.gateway
        swarm.gateway_options.update(self._options.gateway_options)
        swarm.autopilot = self._options.gateway != PULL_GATEWAY  # there the caller of Tick runs the batches
        swarm.working_directory = swarm.working_directory or str(Path.cwd())
        if self._own is None:
            for name in ("PATH", "VIRTUAL_ENV"):
                if name in os.environ and name not in swarm.environment:
                    swarm.environment[name] = os.environ[name]
        return swarm

    # -- the long part ---------------------------------------------------------------------------------------------

    async def _watched(self, interrupts: Interrupts) -> swarm_pb2.Swarm:
        """Look at the swarm again and again until it is finished, or the user does not want to wait."""
        pause = FASTEST_POLL
        while True:
            asked = time.monotonic()
            swarm = await self._client.get_swarm(self._swarm_id, full=True)
            took = time.monotonic() - asked
            self._progress.hint = await self._stillness.why(swarm)
            view = self._progress.view(swarm, time.monotonic())
            self._display.show(view)
            if self._is_over(swarm):
                return swarm
            await interrupts.pause(max(pause, BUSY_SHARE * took))
            pause = _pause_after(pause, view.seconds_left)
            if interrupts.asked.is_set() and await self._has_enough(interrupts):
                return swarm

    def _is_over(self, swarm: swarm_pb2.Swarm) -> bool:
        """Whether nothing comes any more. A run at Jobmon's server is over when the server says so."""
        is_finished = swarm.outcome != swarm_pb2.SWARM_OUTCOME_UNFINISHED
        if self._options.gateway != JOBMON_GATEWAY:
            return is_finished
        is_over = swarm.workflow_run_status in OVER_RUN_STATUSES
        if is_finished and not is_over:
            self._finished_at = self._finished_at or time.monotonic()
            if time.monotonic() - self._finished_at <= LAST_STATUS_SECONDS:
                return False
            self._display.hide()
            note("Jobmon's server has not taken the run's last status: look there how the run stands")
            return True
        is_ours = is_finished and swarm.workflow_run_status in LAST_RUN_STATUSES
        if is_over and not is_ours and not self._cancelled:
            self._display.hide()
            note(f"Jobmon's server says that the run is over: {swarm.held_reason or 'nothing is queued any more'}")
        return is_over

    async def _has_enough(self, interrupts: Interrupts) -> bool:
        """Do what a signal asks for; True when nobody is to wait any longer."""
        self._display.hide()
        if self._cancelled:
            note("not waiting for the tasks to end")
            return True
        wish = await interrupts.wish()
        if wish is Wish.DETACH:
            self._detached = True
        elif wish is Wish.CANCEL:
            self._cancelled = True
            self._progress.notice = "cancelling: waiting for the running tasks to end; Ctrl-C does not wait"
            everything = task_pb2.TaskSelector(all=True)
            await self._client.cancel_tasks(self._swarm_id, everything, reason="cancelled in swarmd run")
        return self._detached

    # -- the end ---------------------------------------------------------------------------------------------------

    async def _report(self, swarm: swarm_pb2.Swarm) -> Report:
        stays = self._own is None or self.leaves_daemon
        report = Report(swarm, self._seconds, cancelled=self._cancelled, detached=self._detached, stays=stays)
        report.ends_daemon = self._own is not None and not self._options.keep
        fatal = [task_pb2.TASK_STATUS_ERROR_FATAL]
        if swarm.task_counts.error_fatal:
            failed = self._client.list_tasks(self._swarm_id, statuses=fatal, page_size=MOST_FAILED_TASKS)
            async for task in failed:
                report.failed.append(task)
                if len(report.failed) == MOST_FAILED_TASKS:
                    break
        if not stays:
            await self._client.delete_swarm(self._swarm_id, force=True)
        return report


def _pause_after(pause: float, seconds_left: float | None) -> float:
    """How long to wait before the next look: longer and longer, but not beyond what seems to be the end."""
    longest = SLOWEST_POLL if seconds_left is None else min(SLOWEST_POLL, seconds_left / 2)
    return max(FASTEST_POLL, min(pause * POLL_GROWTH, longest))


def _readable_id(name: str) -> str:
    """An id that tells what it is, and that nobody else has: `epidemic-study-3f2a9c`."""
    words = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40].strip("-")
    return f"{words or 'workflow'}-{secrets.token_hex(3)}"


def swarm_message(plan: WorkflowPlan) -> swarm_pb2.Swarm:
    """The swarm that a plan describes, without an id."""
    return swarm_pb2.Swarm(
        display_name=plan.name,
        max_concurrently_running=plan.max_concurrently_running,
        fail_fast=plan.fail_fast,
        scheduling_policy=POLICY_TO_PB[plan.scheduling_policy],
        environment=dict(plan.environment),
        working_directory=str(plan.working_directory or ""),
    )
