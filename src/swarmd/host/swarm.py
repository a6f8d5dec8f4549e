"""HostedSwarm: one swarm in the daemon. Every change goes through it, is published, and wakes who waits for it."""

import asyncio
import contextlib
import gc
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from swarmd.core.change import Change
from swarmd.core.errors import FailedPreconditionError, LimitExceededError, SwarmdError
from swarmd.core.loading import KnownIds, Load, plan_load
from swarmd.core.model import DEFAULT_SWARM_LIMIT
from swarmd.core.selecting import Selector
from swarmd.core.state import SwarmState
from swarmd.core.status import RunStatus
from swarmd.core.update import StateUpdate
from swarmd.gateways.contract import ServerGateway, SwarmInfo
from swarmd.host.autopilot import Autopilot
from swarmd.host.feed import DELETED, DRAINING, Closing, Feed
from swarmd.host.requests import RequestLog
from swarmd.scheduler import DEFAULT_IN_FLIGHT, Scheduler, TickUpdate

log = structlog.get_logger("swarmd.swarm")

OTHERS_TURN_SECONDS = 0.005
"""Between the steps of a load: time for calls that came meanwhile to be answered."""
TICK_TASKS = 100_000
"""About how many tasks one tick of a client queues at most, so that its answer fits into a message."""


@dataclass(frozen=True, slots=True)
class SwarmSettings:
    """What a swarm is created with."""

    swarm_id: str
    display_name: str = ""
    max_concurrently_running: int = DEFAULT_SWARM_LIMIT
    paused: bool = False
    autopilot: bool = False
    fail_fast: bool = False
    gateway: str = "local"
    run_status: RunStatus = RunStatus.RUNNING
    working_directory: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class HostLimits:
    """Bounds of the daemon that concern a swarm."""

    max_tasks: int = 20_000_000
    max_watchers: int = 1000
    max_in_flight: int = DEFAULT_IN_FLIGHT


@dataclass(frozen=True, slots=True)
class TickAnswer:
    """What a tick answers, also to a repeat: how the swarm stood when it was over."""

    update: TickUpdate
    ready_count: int
    revision: int


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


class HostedSwarm:
    """One swarm with everything around it."""

    def __init__(
        self,
        settings: SwarmSettings,
        gateway: ServerGateway,
        *,
        batch_prefix: str,
        log_directory: Path | None = None,
        limits: HostLimits | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.settings = settings
        self.display_name = settings.display_name
        self.gateway = gateway
        self.log_directory = log_directory
        self.created_at = clock()
        self.limits = limits or HostLimits()
        self.state = SwarmState(
            settings.swarm_id,
            max_concurrently_running=settings.max_concurrently_running,
            fail_fast=settings.fail_fast,
            paused=settings.paused,
            run_status=settings.run_status,
            batch_prefix=batch_prefix,
        )
        self.scheduler = Scheduler(
            gateway,
            self.state,
            max_in_flight=self.limits.max_in_flight,
            apply=self.apply,
            came_back=self.wake,
            clock=clock,
        )
        self.feed = Feed(max_watchers=self.limits.max_watchers)
        self.ticks: RequestLog[TickAnswer] = RequestLog()
        self.loads: RequestLog[Change] = RequestLog()
        self._clock = clock
        self._loading = asyncio.Lock()
        self._waiting: set[asyncio.Future[None]] = set()
        self._background: set[asyncio.Task[None]] = set()
        self._draining = False
        self._autopilot = Autopilot(self)
        if settings.autopilot:
            self._autopilot.start()

    @property
    def swarm_id(self) -> str:
        return self.settings.swarm_id

    @property
    def autopilot(self) -> bool:
        """Whether the daemon ticks by itself."""
        return self._autopilot.is_on

    @property
    def info(self) -> SwarmInfo:
        """What its gateway is told."""
        return SwarmInfo(self.swarm_id, self.settings.working_directory, self.settings.environment)

    def now(self) -> float:
        """The clock by which its changes are stamped: seconds since the epoch."""
        return self._clock()

    # -- changes ---------------------------------------------------------------------------------------------------

    def apply(self, update: StateUpdate) -> Change:
        """Fold news into the state. Raises InvalidInputError or NotFoundError, with nothing changed."""
        return self._publish(self.state.apply_update(update, at=self._clock()))

    def report(self, update: StateUpdate) -> None:
        """News from the gateway: like `apply`, but there is nobody to tell when it is wrong."""
        try:
            change = self.apply(update)
        except SwarmdError as error:
            log.warning("news from the gateway was refused", swarm=self.swarm_id, error=error.message)
            return
        for ignored in change.ignored:
            log.debug("stale news", swarm=self.swarm_id, status=ignored.status.name, tasks=len(ignored.task_ids))

    async def load(self, load: Load) -> Change:
        """Add arrays, resources and tasks as one unit. Checked in another thread; other swarms go on meanwhile."""
        async with self._loading:
            total = self.state.task_count + len(load.tasks)
            if total > self.limits.max_tasks:
                message = f"tasks: {total} would be more than max_tasks_per_swarm {self.limits.max_tasks} allows"
                metadata = {"limit": "max_tasks_per_swarm"}
                raise LimitExceededError(message, reason="TOO_MANY_TASKS", metadata=metadata)
            plan = await asyncio.to_thread(plan_load, KnownIds.of(self.state.table), load)
            await asyncio.sleep(OTHERS_TURN_SECONDS)
            self.state.stage_load(plan)
            await asyncio.sleep(OTHERS_TURN_SECONDS)
            with _no_garbage_collection():  # so many new lanes would set one off in the middle
                return self._publish(self.state.commit_load(plan, at=self._clock()))

    def cancel(self, selector: Selector, reason: str) -> Change:
        """Cancel tasks, here at once and at the engine as soon as it can be reached."""
        change = self._publish(self.state.cancel(selector, reason=reason, at=self._clock()))
        if change.stopped_ids is not None and len(change.stopped_ids) and self.gateway.capabilities.can_cancel:
            self._in_background(self._cancel_at_engine(change, reason))
        return change

    def reset(self, selector: Selector, *, include_downstreams: bool, reason: str) -> Change:
        """Take final tasks back to REGISTERED."""
        now = self._clock()
        return self._publish(self.state.reset(selector, include_downstreams=include_downstreams, reason=reason, at=now))

    def configure(
        self,
        *,
        paused: bool | None = None,
        fail_fast: bool | None = None,
        autopilot: bool | None = None,
        display_name: str | None = None,
    ) -> Change:
        """Set switches; None: stays."""
        if autopilot and self.gateway.capabilities.hands_out:
            message = f"autopilot: the gateway {self.gateway.name!r} hands batches to whoever ticks; call Tick instead"
            raise FailedPreconditionError(message, reason="AUTOPILOT_NEEDS_ENGINE", field="autopilot")
        touched = (autopilot is not None and autopilot != self.autopilot) or (
            display_name is not None and display_name != self.display_name
        )
        if autopilot is not None:
            self._autopilot.turn(on=autopilot)
        if display_name is not None:
            self.display_name = display_name
        change = self.state.configure(paused=paused, fail_fast=fail_fast, touched=touched, at=self._clock())
        return self._publish(change)

    def _publish(self, change: Change) -> Change:
        if not change.is_empty:
            self.feed.publish(change)
        self.wake()
        return change

    async def _cancel_at_engine(self, change: Change, reason: str) -> None:
        if change.stopped_ids is None or change.stopped_attempts is None:
            return
        ids, attempts = change.stopped_ids.tolist(), change.stopped_attempts.tolist()
        try:
            await self.gateway.cancel_tasks(self.swarm_id, ids, attempts, reason)
        except Exception:
            log.exception("the engine could not be told of a cancellation", swarm=self.swarm_id, tasks=len(ids))

    # -- scheduling ------------------------------------------------------------------------------------------------

    async def tick(self, timeout: float | None, max_batches: int | None) -> TickAnswer:  # noqa: ASYNC109
        """One scheduling iteration for a client, bounded so that its answer fits into a message."""
        most = TICK_TASKS // max(1, min(self.scheduler.MAX_BATCH_SIZE, self.gateway.capabilities.largest_batch))
        bounded = min(max_batches or most, most)
        update = await self.scheduler.tick(-1 if timeout is None else timeout, max_batches=bounded)
        self.wake()
        return TickAnswer(update, self.state.ready_count, self.state.revision)

    async def wait_for_work(self, seconds: float | None) -> bool:
        """Wait until a tick would queue something or the swarm is finished; False when the time is up first."""
        deadline = None if seconds is None else asyncio.get_running_loop().time() + seconds
        while not (self.state.has_work() or self.state.finished or self._draining):
            left = None if deadline is None else deadline - asyncio.get_running_loop().time()
            if left is not None and left <= 0:
                return False
            await self.wait_for_change(left)
        return True

    async def wait_for_change(self, seconds: float | None) -> None:
        """Return at the next change, or when the time is up."""
        bell: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(bell)
        try:
            async with asyncio.timeout(seconds):
                await bell
        except TimeoutError:
            pass
        finally:
            self._waiting.discard(bell)

    def wake(self) -> None:
        """Something may have changed: let those who wait look again."""
        for bell in self._waiting:
            if not bell.done():
                bell.set_result(None)
        self._waiting.clear()

    # -- the end ---------------------------------------------------------------------------------------------------

    async def drain(self, grace: float) -> None:
        """No new ticks; calls under way finish within the grace time; those who wait are let go."""
        self._draining = True
        self._autopilot.turn(on=False)
        self.wake()
        await self.scheduler.drain(grace)
        if self._background:
            await asyncio.wait(self._background, timeout=grace)

    @property
    def is_draining(self) -> bool:
        return self._draining

    def close(self, why: Closing = DRAINING) -> None:
        """End all watches."""
        self.feed.close(why)

    async def delete(self, *, force: bool) -> None:
        """End it for good. Raises FailedPreconditionError while tasks are active, unless forced."""
        active = self.state.active_count
        if active and not force:
            message = f"swarm {self.swarm_id}: {active} tasks are active; cancel them first, or set force"
            raise FailedPreconditionError(message, reason="SWARM_IS_ACTIVE", field="force")
        if self.state.task_count:
            self.cancel(Selector(everything=True), "the swarm was deleted")
        await self.drain(0)
        await self.gateway.remove_swarm(self.swarm_id)
        self.close(DELETED)

    def _in_background(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
