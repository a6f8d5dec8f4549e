"""RemoteGateway: the contract of a gateway, kept by calling the GatewayServices that the swarms name.

Here is which swarm is at which engine. Swarms that say the same of their engine share it.
"""

import asyncio
import hashlib
import logging
import secrets
import time
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from swarmd.core.batch import Batch
from swarmd.core.errors import InvalidInputError, UnavailableError
from swarmd.gateways.catalogue import LEFT
from swarmd.gateways.contract import (
    BatchRefusedError,
    Capabilities,
    FindOutcome,
    Found,
    QueueOutcome,
    Report,
    ServerGateway,
    SwarmInfo,
)
from swarmd.gateways.remote.options import EngineOptions, RemoteConfig, engine_options

if TYPE_CHECKING:
    from swarmd.gateways.remote.cancelling import Key
    from swarmd.gateways.remote.engine import Engine, RemoteSwarm
    from swarmd.gateways.remote.untold import UntoldFiles

Result = TypeVar("Result")

log = logging.getLogger(__name__)

CANCEL_PATIENCE_SECONDS = 10.0
"""How long a cancel is waited for; after that it goes on by itself."""
CLOSE_SECONDS = 5.0
"""How long `close` waits for engines to hear that swarms in memory are over."""
LINGER_SECONDS = 30.0
"""How long an engine without swarms is kept, at least: one that comes soon finds it connected."""


class RemoteGateway(ServerGateway):
    """Hands batches to an engine of your own: any program that serves GatewayService.

    News is durable here before an engine may forget it; an engine that is away is no trouble, its swarms wait.
    """

    name = "remote"
    capabilities = Capabilities(can_find=True, can_cancel=True)

    def __init__(self, config: RemoteConfig, folder: Path) -> None:
        """What must outlive the daemon is kept in the folder, which is made when it is needed."""
        self._config = config
        self._folder = folder
        self._report: Report | None = None
        self._engines: dict[str, Engine] = {}
        self._swarms: dict[str, RemoteSwarm] = {}
        self._untold: UntoldFiles | None = None
        self._background: set[asyncio.Task[Any]] = set()
        self._adding = asyncio.Lock()

    async def obstacle(self) -> str:
        """Whether the engine of the config file can be reached; engines that only swarms name are not looked for."""
        if not self._config.address:
            return ""
        from swarmd.gateways.remote.calls import EngineCalls

        try:
            options = engine_options({}, self._config)
            calls = EngineCalls(options, self._config, await asyncio.to_thread(options.loaded))
        except InvalidInputError as error:
            return str(error)
        try:
            if await calls.is_connected(self._config.connect_timeout):
                return ""
        finally:
            await calls.close()
        remedy = "look whether it runs there, and whether TLS is the same here and there. Swarms wait until it answers"
        return f"the engine at {options.address} cannot be reached; {remedy}"

    async def start(self, report: Report) -> None:
        """No engine is called before a swarm names it, but those that have to hear of swarms that are gone."""
        self._report = report
        if await asyncio.to_thread(_has_left, self._folder):
            await self._untold_files().start()

    async def close(self) -> None:
        """End. What runs at an engine goes on, but for swarms in memory, of which nobody would know any more."""
        if self._report is None:
            return
        self._report = None
        in_memory = [swarm for swarm in self._swarms.values() if not swarm.is_durable]
        heard = [swarm.engine.cancel(swarm, list(swarm.attempts.items()), "the daemon ended") for swarm in in_memory]
        if heard:
            await asyncio.wait(heard, timeout=CLOSE_SECONDS)
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        if self._untold is not None:
            await self._untold.close()
        engines = list(self._engines.values())
        self._engines.clear()
        await asyncio.gather(*(engine.close() for engine in engines))

    # -- swarms ------------------------------------------------------------------------------------------------------

    async def add_swarm(self, swarm: SwarmInfo) -> None:
        """Raises InvalidInputError for options, and files that they name, that cannot be used."""
        options = engine_options(swarm.options, self._config)
        known = self._swarms.get(swarm.swarm_id)
        if known is not None:
            known.info = swarm
            return
        async with self._adding:
            engine = await self._engine(options)
            self._swarms[swarm.swarm_id] = _remote_swarm(swarm, engine)
            engine.add(self._swarms[swarm.swarm_id])

    async def _engine(self, options: EngineOptions) -> "Engine":
        """The engine that is meant; it is heard of from now on."""
        if options.key in self._engines:
            return self._engines[options.key]
        from swarmd.gateways.remote.bookmark import Bookmark
        from swarmd.gateways.remote.engine import Engine

        if self._report is None:
            raise RuntimeError("the remote gateway was not started")
        credentials = await asyncio.to_thread(options.loaded)
        file = self._folder / f"{hashlib.sha256(options.key.encode()).hexdigest()[:32]}.json"
        bookmark = Bookmark(file, str(options.address))
        await bookmark.load()
        if self._report is None:
            raise RuntimeError("the remote gateway was closed")
        engine = Engine(
            options,
            self._config,
            credentials,
            bookmark=bookmark,
            report=self._report,
            is_elsewhere=self._has_swarm,
        )
        engine.start()
        self._engines[options.key] = engine
        return engine

    def _has_swarm(self, wire_id: str) -> bool:
        return any(wire_id in engine.swarms for engine in self._engines.values())

    async def remove_swarm(self, swarm_id: str) -> None:
        """Its attempts are to be ended. Returns when the engine has heard it, or will hear it though we end."""
        swarm = self._swarms.pop(swarm_id, None)
        if swarm is None:
            return
        engine = swarm.engine
        engine.drop(swarm)
        from swarmd.gateways.remote.engine import REMOVED

        engine.cancel(swarm, list(swarm.attempts.items()), REMOVED)
        untold = engine.untold(swarm)
        heard = self._in_background(engine.cancels.until_heard(swarm.wire_id), f"delete {swarm_id}")
        patience = 0.0 if engine.watcher.trouble else CANCEL_PATIENCE_SECONDS
        was_heard = await _is_heard(heard, patience) and heard.result()
        if not was_heard:
            log.warning("%d tasks of %s run on until it is back: %s", len(untold), swarm_id, engine.unreachable())
        if engine.unsettled(swarm) or not was_heard:
            await self._keep_until_told(swarm, untold)
        self._leave_when_unused(engine)

    async def _keep_until_told(self, swarm: "RemoteSwarm", attempts: list["Key"]) -> None:
        """Nobody else knows of these from now on."""
        from swarmd.gateways.remote.engine import REMOVED
        from swarmd.gateways.remote.untold import Untold, spelt_out

        engine, files = swarm.engine, self._untold_files()
        if swarm.is_durable:
            options, batches = spelt_out(engine.options), engine.unsettled(swarm)
            await files.keep(Untold(swarm.wire_id, options, REMOVED, attempts, time.time(), batches))

        async def until_told() -> None:
            if await engine.until_told(swarm) and swarm.is_durable:
                await files.forget(swarm.wire_id)

        self._in_background(until_told(), f"end what is left of {swarm.wire_id}")

    def _untold_files(self) -> "UntoldFiles":
        from swarmd.gateways.remote.untold import UntoldFiles

        if self._untold is None:
            self._untold = UntoldFiles(self._folder, self._config)
        return self._untold

    def _in_background(self, work: Coroutine[Any, Any, Result], name: str) -> "asyncio.Task[Result]":
        task = asyncio.create_task(work, name=name)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task

    def _leave_when_unused(self, engine: "Engine") -> None:
        self._in_background(self._leave(engine), f"leave {engine.address}")

    async def _leave(self, engine: "Engine") -> None:
        await asyncio.sleep(LINGER_SECONDS)
        await engine.until_quiet()
        async with self._adding:
            key = next((key for key, each in self._engines.items() if each is engine), None)
            if key is not None and not engine.swarms and engine.is_quiet:
                del self._engines[key]
                await engine.close()

    # -- batches -----------------------------------------------------------------------------------------------------

    async def queue_batch(self, batch: Batch) -> QueueOutcome | None:
        swarm = self._swarms.get(batch.swarm_id)
        if self._report is None or swarm is None:
            what = "it is not running" if self._report is None else f"swarm {batch.swarm_id!r} is not known to it"
            raise BatchRefusedError(f"the remote gateway does not take the batch: {what}")
        return await swarm.engine.queue(swarm, batch)

    async def find_batch(self, batch: Batch) -> FindOutcome:
        swarm = self._swarms.get(batch.swarm_id)
        if self._report is None or swarm is None:
            return FindOutcome(Found.UNKNOWN)
        return await swarm.engine.find(swarm, batch)

    async def resume(self, batches: Sequence[Batch], cancelled: Sequence[Batch] = ()) -> None:
        """The engine tells by itself what became of what it has; of what was cancelled it is told once more."""
        for batch in batches:
            self._known(batch.swarm_id).note(batch)
        for batch in cancelled:
            swarm = self._known(batch.swarm_id)
            keys = list(zip(batch.task_ids.tolist(), batch.attempts.tolist(), strict=True))
            swarm.engine.cancel(swarm, keys, "cancelled before the daemon was started again")

    def _known(self, swarm_id: str) -> "RemoteSwarm":
        swarm = self._swarms.get(swarm_id)
        if swarm is None:
            raise UnavailableError(f"swarm {swarm_id!r} is not known to the remote gateway yet")
        return swarm

    async def cancel_tasks(self, swarm_id: str, task_ids: Sequence[int], attempts: Sequence[int], reason: str) -> None:
        """Waits a moment for the engine to hear it; if it is away, it is told as soon as it is back."""
        swarm = self._swarms.get(swarm_id)
        if self._report is None or swarm is None:
            return
        heard = swarm.engine.cancel(swarm, list(zip(task_ids, attempts, strict=True)), reason)
        await _is_heard(heard, CANCEL_PATIENCE_SECONDS)

    # -- for people --------------------------------------------------------------------------------------------------

    def swarm_trouble(self, swarm_id: str) -> str:
        swarm = self._swarms.get(swarm_id)
        return "" if swarm is None else swarm.engine.trouble()

    def standing(self, swarm_id: str, task_id: int, attempt: int) -> str:
        swarm = self._swarms.get(swarm_id)
        return "" if swarm is None else swarm.engine.standing(swarm, task_id, attempt)


def _remote_swarm(info: SwarmInfo, engine: "Engine") -> "RemoteSwarm":
    """The engine is to take no swarm for another, be it of another daemon, or one that had the same id before."""
    from swarmd.gateways.remote.engine import RemoteSwarm

    return RemoteSwarm(info, f"{info.swarm_id}~{info.token or secrets.token_hex(6)}", engine)


def _has_left(folder: Path) -> bool:
    return any(folder.glob(f"*{LEFT}"))


async def _is_heard(heard: "asyncio.Future[Any]", seconds: float) -> bool:
    await asyncio.wait([heard], timeout=seconds)
    return heard.done() and not heard.cancelled()
