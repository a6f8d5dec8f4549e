"""All swarms of the daemon, and the gateways that they name."""

import asyncio
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from swarmd.core.change import Change
from swarmd.core.errors import (
    AlreadyExistsError,
    DamagedError,
    FailedPreconditionError,
    InvalidInputError,
    LimitExceededError,
    NotFoundError,
    StorageError,
    SwarmdError,
    UnavailableError,
)
from swarmd.core.events import Created, SwarmSettings
from swarmd.core.swarm import REMEMBERED_REQUESTS, Swarm
from swarmd.core.update import StateUpdate
from swarmd.gateways.catalogue import BrokenGateway, Gateways
from swarmd.gateways.contract import ServerGateway
from swarmd.host.feed import Feed
from swarmd.host.requests import RequestLog
from swarmd.host.swarm import HostedSwarm, HostLimits
from swarmd.journal.contract import Journal
from swarmd.journal.directory import StateDirectory
from swarmd.journal.journal import SwarmJournal
from swarmd.journal.store import SwarmStore
from swarmd.loggers import get_logger
from swarmd.observing.gateway import ObservedGateway
from swarmd.observing.observer import UNOBSERVED, Observer
from swarmd.observing.subject import SWARM

log = get_logger("swarmd.registry")

T = TypeVar("T")

JOURNAL_THREADS = 4
"""So many swarms commit at the same time; the others wait their turn."""
SWARM_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


@dataclass(frozen=True, slots=True)
class SetAside:
    """A swarm that cannot be taken up."""

    swarm_id: str
    problem: str
    folder: Path

    @property
    def remedy(self) -> str:
        """What can be done."""
        state_dir = self.folder.parent.parent
        return (
            f"`swarmd journal check --state-dir {state_dir} {self.swarm_id}` says more, `swarmd journal export` saves "
            f"what can be read, and without {self.folder} the others start"
        )


class Registry:
    """Swarms by id, in the order of their creation."""

    def __init__(
        self,
        gateways: Mapping[str, ServerGateway],
        *,
        directory: StateDirectory | None = None,
        max_swarms: int = 1000,
        limits: HostLimits | None = None,
        observer: Observer = UNOBSERVED,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Without a directory all swarms live in memory."""
        self.gateways = gateways if isinstance(gateways, Gateways) else Gateways(gateways)
        self._unmade = set(self.gateways) - self.gateways.made.keys()
        self._making_gateway = asyncio.Lock()
        self.created: RequestLog[HostedSwarm] = RequestLog(self._created_before)
        self.set_aside: dict[str, SetAside] = {}
        self.trouble_changed: Callable[[], None] = lambda: None
        """Called when the first swarm cannot be written down any more, or the last one can again."""
        self.draining = False
        self.starting = False
        self._directory = directory
        self._pool = ThreadPoolExecutor(max_workers=JOURNAL_THREADS, thread_name_prefix="journal")
        self._requests: OrderedDict[str, tuple[str, HostedSwarm]] = OrderedDict()
        self._in_trouble = False
        self.last_call = clock()
        self._swarms: dict[str, HostedSwarm] = {}
        self._making: set[str] = set()
        self._deleting: dict[str, asyncio.Task[None]] = {}
        self._max_swarms = max_swarms
        self._observer = observer
        self.limits = limits or HostLimits()
        self._clock = clock

    async def start(self) -> None:
        """Start every gateway that there is. Raises SwarmdError or OSError when one says that the daemon cannot go on.

        Whatever else one raises is a fault of its own: nobody can use it, and the others go on.
        """
        for name in self.gateways.made:
            await self._start_gateway(name)

    async def _start_gateway(self, name: str) -> None:
        try:
            await self.gateways[name].start(self.report)
        except (SwarmdError, OSError):
            raise
        except Exception as error:
            log.exception("a gateway cannot be started", gateway=name)
            self.gateways[name] = BrokenGateway(name, f"it could not be started: {type(error).__name__}: {error}")

    async def _gateway_named(self, name: str) -> ServerGateway | None:
        """The gateway, made and started when nobody needed it before; None when there is none of the name."""
        if name in self._unmade:
            async with self._making_gateway:
                if name in self._unmade:
                    await asyncio.to_thread(self.gateways.__getitem__, name)
                    await self._start_gateway(name)
                    self._unmade.discard(name)
        return self.gateways.get(name)

    def report(self, swarm_id: str, update: StateUpdate) -> "asyncio.Future[Change] | None":
        """News from a gateway; gives back what is done when it is durable. Of a swarm that is gone, nobody asks."""
        swarm = self._swarms.get(swarm_id)
        return None if swarm is None else swarm.report(update)

    # -- what was there before -------------------------------------------------------------------------------------

    async def recover(self) -> None:
        """Take up every swarm that an earlier daemon left. Raises DamagedError when there are some and none is whole.

        A damaged one is set aside: it is listed with what is wrong, and the others go on without it.
        """
        if self._directory is None:
            return
        taken_up: list[tuple[HostedSwarm, int]] = []
        for store in self._directory.stores():
            swarm_id = store.folder.name
            feed = Feed(max_watchers=self.limits.max_watchers, max_behind_bytes=self.limits.max_queued_bytes)
            begun = time.monotonic()
            try:
                recovered = await asyncio.to_thread(store.recover, feed.publish)
                gateway = await self._known_gateway(recovered.swarm.created.settings.gateway)
            except SwarmdError as error:
                self._put_aside(swarm_id, store, error)
                continue
            for warning in recovered.warnings:
                log.warning("the journal was mended", swarm=swarm_id, what=warning)
            feed.start_from(recovered.swarm.state.revision)
            hosted = self._host(recovered.swarm, gateway, store=store, seq=recovered.seq, feed=feed)
            hosted.journal.count(recovered.size, time.monotonic() - begun)
            taken_up.append((hosted, recovered.lost))
        if self.set_aside and not self._swarms:
            first = next(iter(self.set_aside.values()))
            more = f" (and so are {len(self.set_aside) - 1} more)" if len(self.set_aside) > 1 else ""
            raise DamagedError(f"no swarm can be taken up: {first.problem}{more}; {first.remedy}")
        by_age = sorted(self._swarms.items(), key=lambda item: item[1].swarm.created_at)
        self._swarms = dict(by_age)
        await asyncio.gather(*(self._resume(swarm, lost) for swarm, lost in taken_up))

    async def _resume(self, swarm: HostedSwarm, lost: int) -> None:
        await swarm.resume(paused=lost > 0)
        log.info("swarm taken up again", swarm=swarm.swarm_id, tasks=swarm.state.task_count)

    def _put_aside(self, swarm_id: str, store: SwarmStore, error: SwarmdError) -> None:
        store.rest()
        self.set_aside[swarm_id] = SetAside(swarm_id, error.message, store.folder)
        log.error("a swarm is damaged and was set aside", swarm=swarm_id, problem=error.message)

    async def _known_gateway(self, name: str) -> ServerGateway:
        gateway = await self._gateway_named(name)
        if gateway is None:
            known = ", ".join(sorted(self.gateways))
            raise DamagedError(f"its gateway {name!r} is not known here; there are {known}")
        return gateway

    # -- making and finding ----------------------------------------------------------------------------------------

    async def create(self, settings: SwarmSettings, request_id: str = "", asked: str = "") -> HostedSwarm:
        """Make a swarm; it is durable on return.

        Raises AlreadyExistsError, InvalidInputError for an unknown gateway, LimitExceededError, StorageError.
        """
        self.refuse_when_draining()
        settings = replace(settings, swarm_id=settings.swarm_id or f"swarm-{secrets.token_hex(4)}")
        self._check_new(settings.swarm_id)
        gateway = await self._gateway(settings)
        await _refuse_useless(gateway)
        self.refuse_when_draining()  # others came by while the gateway was asked
        self._check_new(settings.swarm_id)
        created, at = Created(settings, secrets.token_hex(6), request_id, asked), self._clock()
        self._making.add(settings.swarm_id)
        try:
            store = None
            if self._directory is not None:
                store = await self._in_thread(self._directory.create, created, at)
            swarm = self._host(Swarm(created, at), gateway, store=store, seq=1)
            try:
                await swarm.engine.add()
            except BaseException:
                await self._forget(swarm)
                raise
        finally:
            self._making.discard(settings.swarm_id)
        swarm.start()
        log.info("swarm created", swarm=settings.swarm_id, gateway=gateway.name, autopilot=settings.autopilot)
        return swarm

    def _check_new(self, swarm_id: str) -> None:
        if not SWARM_ID.fullmatch(swarm_id):
            message = (
                f"swarm.swarm_id: {swarm_id!r} cannot be used; letters, digits, '.', '_' and '-', at most 63, "
                "beginning with a letter or digit"
            )
            raise InvalidInputError(message, reason="INVALID_SWARM_ID", field="swarm.swarm_id")
        if any(swarm_id in known for known in (self._swarms, self._making, self._deleting, self.set_aside)):
            message = f"swarm.swarm_id: {swarm_id!r} is taken; choose another, or delete that swarm first"
            raise AlreadyExistsError(message, reason="SWARM_EXISTS", field="swarm.swarm_id")
        if len(self._swarms) + len(self._making) >= self._max_swarms:
            message = f"max_swarms: {self._max_swarms} swarms are there already; delete one that is finished"
            raise LimitExceededError(message, reason="TOO_MANY_SWARMS", metadata={"limit": "max_swarms"})

    def _host(
        self,
        swarm: Swarm,
        gateway: ServerGateway,
        *,
        store: SwarmStore | None,
        seq: int,
        feed: Feed | None = None,
    ) -> HostedSwarm:
        """Put everything around a swarm, and know it from now on."""
        journal: Journal | None = None
        if store is not None:
            journal = SwarmJournal(store, self._pool, seq, swarm, self._look_at_trouble, self._observer)
            journal.start()
        swarm_id = swarm.state.swarm_id
        hosted = HostedSwarm(
            swarm,
            gateway if self._observer is UNOBSERVED else ObservedGateway(gateway, self._observer),
            journal=journal,
            feed=feed,
            limits=self.limits,
            observer=self._observer,
            clock=self._clock,
        )
        self._swarms[swarm_id] = hosted
        if swarm.created.request_id:
            self._requests[swarm.created.request_id] = swarm.created.asked, hosted
            if len(self._requests) > REMEMBERED_REQUESTS:
                self._requests.popitem(last=False)
        return hosted

    def _created_before(self, request_id: str) -> tuple[str, HostedSwarm] | None:
        return self._requests.get(request_id)

    async def _forget(self, swarm: HostedSwarm) -> None:
        """Remove a swarm from here and from disk."""
        self._swarms.pop(swarm.swarm_id, None)
        self._requests.pop(swarm.swarm.created.request_id, None)
        await swarm.drain(0)
        await swarm.journal.close()
        if self._directory is not None:
            await self._in_thread(self._directory.delete, self._directory.store(swarm.swarm_id))

    async def _in_thread(self, work: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work, *arguments)

    async def _gateway(self, settings: SwarmSettings) -> ServerGateway:
        gateway = await self._gateway_named(settings.gateway)
        if gateway is None:
            known = ", ".join(sorted(self.gateways))
            message = f"swarm.gateway: {settings.gateway!r} is not known here; use one of {known}"
            raise InvalidInputError(message, reason="UNKNOWN_GATEWAY", field="swarm.gateway")
        if settings.autopilot and gateway.capabilities.hands_out:
            message = f"swarm.autopilot: the gateway {gateway.name!r} hands batches to whoever ticks; leave it off"
            raise FailedPreconditionError(message, reason="AUTOPILOT_NEEDS_ENGINE", field="swarm.autopilot")
        return gateway

    def get(self, swarm_id: str) -> HostedSwarm:
        """The swarm that a call is about; with an empty id the only one there is.

        Raises NotFoundError or InvalidInputError.
        """
        swarm = self._find(swarm_id)
        if swarm_id in self._deleting and swarm.is_draining:  # only its files are still there
            raise _unknown(swarm_id)
        return swarm

    def _find(self, swarm_id: str) -> HostedSwarm:
        if swarm_id:
            swarm = self._swarms.get(swarm_id)
            if swarm is None and swarm_id in self.set_aside:
                aside = self.set_aside[swarm_id]
                message = f"swarm {swarm_id} is damaged and was set aside: {aside.problem}; {aside.remedy}"
                raise FailedPreconditionError(message, reason="SWARM_SET_ASIDE", field="swarm_id")
            if swarm is None:
                raise _unknown(swarm_id)
            SWARM.set(swarm_id)
            return swarm
        if len(self._swarms) == 1:
            swarm = next(iter(self._swarms.values()))
            SWARM.set(swarm.swarm_id)
            return swarm
        if not self._swarms:
            message = "swarm_id: there is no swarm yet; make one with CreateSwarm"
            raise NotFoundError(message, reason="UNKNOWN_SWARM", field="swarm_id")
        message = f"swarm_id: there are {len(self._swarms)} swarms; name one (ListSwarms shows them)"
        raise InvalidInputError(message, reason="SWARM_ID_REQUIRED", field="swarm_id")

    def touch(self) -> None:
        """Somebody calls, or has just got an answer: the daemon is in use."""
        self.last_call = self._clock()

    def all(self) -> list[HostedSwarm]:
        """Every swarm, in the order of creation."""
        return list(self._swarms.values())

    async def delete(self, swarm_id: str, *, force: bool) -> None:
        """Forget a swarm, to the end also when the caller gives up. Raises what `HostedSwarm.delete` raises."""
        if not swarm_id:
            message = "swarm_id: name the swarm that is to be deleted"
            raise InvalidInputError(message, reason="SWARM_ID_REQUIRED", field="swarm_id")
        work = self._deleting.get(swarm_id)
        if work is None:
            work = asyncio.create_task(self._delete(swarm_id, force=force), name=f"delete {swarm_id}")
            self._deleting[swarm_id] = work
            work.add_done_callback(partial(self._is_deleted, swarm_id))
        await asyncio.shield(work)

    def _is_deleted(self, swarm_id: str, work: asyncio.Task[None]) -> None:
        del self._deleting[swarm_id]
        if not work.cancelled():
            work.exception()  # its caller may be gone

    async def _delete(self, swarm_id: str, *, force: bool) -> None:
        if swarm_id in self.set_aside and force and self._directory is not None:
            await self._in_thread(self._directory.delete, self._directory.store(swarm_id))
            del self.set_aside[swarm_id]
            log.info("damaged swarm deleted", swarm=swarm_id)
            return
        swarm = self._find(swarm_id)
        await swarm.delete(force=force)
        try:
            await self._forget(swarm)
        except StorageError as error:  # it is over, and its files are still there: it can be deleted again
            if self._directory is not None:
                self.set_aside[swarm_id] = SetAside(swarm_id, error.message, self._directory.folder(swarm_id))
            raise
        finally:
            self._look_at_trouble()
        log.info("swarm deleted", swarm=swarm_id)

    # -- trouble and the end ---------------------------------------------------------------------------------------

    @property
    def trouble(self) -> SwarmdError | None:
        """Why changes of some swarm cannot be written down now."""
        return next((swarm.journal.trouble for swarm in self._swarms.values() if swarm.journal.trouble), None)

    def _look_at_trouble(self) -> None:
        if (self.trouble is not None) != self._in_trouble:
            self._in_trouble = not self._in_trouble
            self.trouble_changed()

    def refuse_when_starting(self) -> None:
        """Raise UnavailableError while what an earlier daemon left is being read."""
        if self.starting:
            raise UnavailableError("the daemon reads its journal; try again in a moment", reason="STARTING")

    def refuse_when_draining(self) -> None:
        """Raise UnavailableError once the daemon stops."""
        if self.draining:
            raise UnavailableError("the daemon stops; try again when it is back", reason="DRAINING")

    async def drain(self, grace: float) -> None:
        """Nothing new; what is under way finishes within the grace time."""
        self.draining = True
        until = time.monotonic() + grace
        if self._deleting:
            await asyncio.wait(self._deleting.values(), timeout=grace)
        await asyncio.gather(*(swarm.drain(until - time.monotonic()) for swarm in self.all()))

    def dismiss_watchers(self) -> None:
        """Let every watcher have its last message."""
        for swarm in self.all():
            swarm.close()

    async def close(self) -> None:
        """Close every gateway, and after its last news every journal."""
        await asyncio.gather(*(self._close_gateway(gateway) for gateway in self.gateways.made.values()))
        await asyncio.gather(*(swarm.journal.close() for swarm in self.all()))
        self._pool.shutdown()

    async def _close_gateway(self, gateway: ServerGateway) -> None:
        try:
            await gateway.close()
        except Exception:  # what is not written yet must not be lost over it
            log.exception("a gateway did not close", gateway=gateway.name)

    @property
    def is_idle(self) -> bool:
        """Whether no swarm has anything left to do."""
        return all(swarm.state.finished or not swarm.state.task_count for swarm in self.all())


async def _refuse_useless(gateway: ServerGateway) -> None:
    """Raise FailedPreconditionError when the gateway cannot be used here."""
    trouble = await gateway.trouble()
    if trouble:
        message = f"swarm.gateway: {gateway.name!r} cannot be used here: {trouble}"
        raise FailedPreconditionError(message, reason="GATEWAY_UNUSABLE", field="swarm.gateway")


def _unknown(swarm_id: str) -> NotFoundError:
    message = f"swarm_id: no swarm {swarm_id!r} here; ListSwarms shows those there are"
    return NotFoundError(message, reason="UNKNOWN_SWARM", field="swarm_id")
