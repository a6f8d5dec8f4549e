"""EngineSide: what a swarm in the daemon tells its gateway besides its batches, again and again until it is heard."""

import asyncio
import contextlib
import time
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path

from swarmd.core.change import Change
from swarmd.core.explain import Explanation, ObstacleKind
from swarmd.core.reservations import at_engine, cancelled_at_engine
from swarmd.core.status import Outcome
from swarmd.core.swarm import Swarm
from swarmd.gateways.contract import ServerGateway, SwarmInfo
from swarmd.journal.faults import reach
from swarmd.loggers import get_logger
from swarmd.outcomes import shortened
from swarmd.refusals import Refusals, StandingRefusal

log = get_logger("swarmd.engine")

FIRST_RETRY_SECONDS, LONGEST_RETRY_SECONDS = 1.0, 60.0
CANCEL_PATIENCE_SECONDS = 10.0
ASKED_ABOUT = (
    ObstacleKind.ACTIVE,
    ObstacleKind.BEING_QUEUED,
    ObstacleKind.IN_DOUBT,
    ObstacleKind.WORKFLOW_RUN_STATUS,
)
"""What stands in the way of a task of which the engine may know more."""


class EngineSide:
    """One swarm as its gateway knows it."""

    def __init__(self, swarm: Swarm, gateway: ServerGateway, *, in_memory: bool) -> None:
        self._swarm = swarm
        self._gateway = gateway
        self._in_memory = in_memory
        self._is_added = False
        self._over = asyncio.Event()
        self._told_finished = False
        self._background: set[asyncio.Task[None]] = set()
        self._cancelling: set[asyncio.Task[None]] = set()

    @property
    def info(self) -> SwarmInfo:
        """What the gateway is told of the swarm."""
        settings = self._swarm.created.settings
        directory = Path(settings.working_directory) if settings.working_directory else None
        token = "" if self._in_memory else self._swarm.created.token
        return SwarmInfo(settings.swarm_id, directory, settings.environment, token, settings.gateway_options)

    @property
    def _swarm_id(self) -> str:
        return self._swarm.state.swarm_id

    # -- the beginning ---------------------------------------------------------------------------------------------

    async def add(self) -> None:
        """A new swarm. Raises what the gateway raises."""
        await self._gateway.add_swarm(self.info)
        self._is_added = True

    async def take_up(self) -> None:
        """A swarm of an earlier daemon: tell the gateway what it has. When it cannot hear that now, again later."""
        if not await self._taken_up():
            self._in_background(self._take_up_later())

    async def _taken_up(self) -> bool:
        table = self._swarm.state.table
        try:
            if not self._is_added:
                await self.add()
            await self._gateway.resume(at_engine(table, self._swarm_id), cancelled_at_engine(table, self._swarm_id))
        except Exception:
            log.exception(
                "the gateway cannot take the swarm up; it will be tried again",
                swarm=self._swarm_id,
                gateway=self._gateway.name,
            )
            return False
        self.look_at_end()
        return True

    async def _take_up_later(self) -> None:
        pause = FIRST_RETRY_SECONDS
        while await self._may_try_again(pause):
            if await self._taken_up():
                return
            pause = min(2 * pause, LONGEST_RETRY_SECONDS)

    async def _may_try_again(self, seconds: float) -> bool:
        """Wait so long, or until all is over: by then another swarm may have the id."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._over.wait()
        return not self._over.is_set()

    # -- looking ---------------------------------------------------------------------------------------------------

    def explained(self, found: Explanation, refusals: Refusals) -> Explanation:
        """The same with what the engine says of the task, or said when it refused to take it."""
        refusal = refusals.of(found.task.array_id, found.task.task_resources_id)
        if refusal is not None and found.is_ready:
            found = found.refused(_refused_in_words(refusal, autopilot=self._swarm.autopilot))
        standing = self._standing(found)
        if not standing:
            return found
        first, *others = found.obstacles
        obstacle = replace(first, message=f"{first.message} {standing}")
        return replace(found, summary=obstacle.message, obstacles=[obstacle, *others])

    def trouble(self) -> str:
        """What is the matter with the engine just now; empty when nothing is, as far as the gateway knows."""
        try:
            return shortened(self._gateway.swarm_trouble(self._swarm_id).strip()) if self._is_added else ""
        except Exception:
            log.exception("the gateway cannot say how its engine is", swarm=self._swarm_id)
            return ""

    def _standing(self, found: Explanation) -> str:
        """What the engine says of a task that it has, or whose run it has not begun, as a sentence; often empty."""
        obstacle = found.obstacles[0].kind if found.obstacles else None
        if obstacle not in ASKED_ABOUT:
            return ""
        task = found.task
        try:
            said = shortened(self._gateway.standing(self._swarm_id, task.task_id, task.attempt).strip())
        except Exception:
            log.exception("the gateway cannot say how a task stands", swarm=self._swarm_id, task=task.task_id)
            return ""
        words = said.rstrip(".")
        return f"The engine says: {words}." if words else ""

    # -- cancelling ------------------------------------------------------------------------------------------------

    def cancel(self, change: Change, reason: str) -> None:
        """Tell the gateway what a cancellation ended, if it can end anything."""
        if change.stopped_ids is None or not len(change.stopped_ids) or not self._gateway.capabilities.can_cancel:
            return
        telling = self._in_background(self._cancel(change, reason))
        self._cancelling.add(telling)
        telling.add_done_callback(self._cancelling.discard)

    async def _cancel(self, change: Change, reason: str) -> None:
        if change.stopped_ids is None or change.stopped_attempts is None:
            return
        ids, attempts = change.stopped_ids.tolist(), change.stopped_attempts.tolist()
        while not self._is_added:  # it would not know what this is about, and after a reset nobody would
            if not await self._may_try_again(FIRST_RETRY_SECONDS):
                return
        reach("cancel.telling")
        try:
            await self._gateway.cancel_tasks(self._swarm_id, ids, attempts, reason)
        except Exception:
            log.exception("the engine could not be told of a cancellation", swarm=self._swarm_id, tasks=len(ids))

    async def until_cancelled(self) -> None:
        """Return when the gateway has heard of what was cancelled; one that does not answer is not waited for long."""
        if self._cancelling:
            await asyncio.wait(self._cancelling, timeout=CANCEL_PATIENCE_SECONDS)

    # -- the end ---------------------------------------------------------------------------------------------------

    def look_at_end(self) -> None:
        """Tell the gateway when the swarm is finished: once, and again when it went on meanwhile."""
        if not self._is_added:
            return  # a gateway is told nothing of a swarm that it does not know yet; `take_up` looks again
        state = self._swarm.state
        is_finished = bool(state.task_count) and state.finished
        if is_finished and not self._told_finished and not self._over.is_set():
            self._in_background(self._tell_finished())
        self._told_finished = is_finished

    async def _tell_finished(self) -> None:
        pause = FIRST_RETRY_SECONDS
        while self._swarm.state.finished:
            succeeded = self._swarm.state.outcome is Outcome.DONE
            try:
                await self._gateway.swarm_finished(self._swarm_id, succeeded=succeeded)
            except Exception:
                log.exception("the engine could not be told that the swarm is finished", swarm=self._swarm_id)
            else:
                return
            if not await self._may_try_again(pause):
                return
            pause = min(2 * pause, LONGEST_RETRY_SECONDS)

    async def drain(self, seconds: float) -> None:
        """Try nothing again, and wait for what is under way, at most so long."""
        self._over.set()
        if self._background:
            await asyncio.wait(self._background, timeout=max(0.0, seconds))

    async def remove(self) -> None:
        """The swarm is gone."""
        await self._gateway.remove_swarm(self._swarm_id)

    def _in_background(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task


def _refused_in_words(refusal: StandingRefusal, *, autopilot: bool) -> str:
    words = refusal.reason.strip().rstrip(".")
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(refusal.since))
    often = "" if refusal.times == 1 else f", {refusal.times} times in a row since {since}"
    again = "by itself" if autopilot else "with the next Tick"
    return f"It is ready, but the engine refuses it{often}: {words}. It is offered again {again}."
