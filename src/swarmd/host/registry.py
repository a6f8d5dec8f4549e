"""All swarms of the daemon, and the gateways that they name."""

import asyncio
import re
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import structlog

from swarmd.core.errors import (
    AlreadyExistsError,
    FailedPreconditionError,
    InvalidInputError,
    LimitExceededError,
    NotFoundError,
    UnavailableError,
)
from swarmd.core.update import StateUpdate
from swarmd.gateways.contract import ServerGateway
from swarmd.host.requests import RequestLog
from swarmd.host.swarm import HostedSwarm, HostLimits, SwarmSettings

log = structlog.get_logger("swarmd.registry")

SWARM_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


class Registry:
    """Swarms by id, in the order of their creation."""

    def __init__(
        self,
        gateways: Mapping[str, ServerGateway],
        *,
        log_directory: Path | None = None,
        max_swarms: int = 1000,
        limits: HostLimits | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.gateways = dict(gateways)
        self.created: RequestLog[HostedSwarm] = RequestLog()
        self.draining = False
        self.last_call = clock()
        self._swarms: dict[str, HostedSwarm] = {}
        self._log_directory = log_directory
        self._max_swarms = max_swarms
        self._limits = limits or HostLimits()
        self._clock = clock

    async def start(self) -> None:
        """Start every gateway."""
        for gateway in self.gateways.values():
            await gateway.start(self.report)

    def report(self, swarm_id: str, update: StateUpdate) -> None:
        """News from a gateway. Of a swarm that is gone, nobody wants to know."""
        swarm = self._swarms.get(swarm_id)
        if swarm is not None:
            swarm.report(update)

    async def create(self, settings: SwarmSettings) -> HostedSwarm:
        """Make a swarm. Raises AlreadyExistsError, InvalidInputError for an unknown gateway, LimitExceededError."""
        self.refuse_when_draining()
        settings = replace(settings, swarm_id=settings.swarm_id or f"swarm-{secrets.token_hex(4)}")
        if not SWARM_ID.fullmatch(settings.swarm_id):
            message = (
                f"swarm.swarm_id: {settings.swarm_id!r} cannot be used; letters, digits, '.', '_' and '-', at most 63, "
                "beginning with a letter or digit"
            )
            raise InvalidInputError(message, reason="INVALID_SWARM_ID", field="swarm.swarm_id")
        if settings.swarm_id in self._swarms:
            message = f"swarm.swarm_id: {settings.swarm_id!r} is taken; choose another, or delete that swarm first"
            raise AlreadyExistsError(message, reason="SWARM_EXISTS", field="swarm.swarm_id")
        if len(self._swarms) >= self._max_swarms:
            message = f"max_swarms: {self._max_swarms} swarms are there already; delete one that is finished"
            raise LimitExceededError(message, reason="TOO_MANY_SWARMS", metadata={"limit": "max_swarms"})
        gateway = self._gateway(settings)
        logs = self._log_directory / settings.swarm_id if self._log_directory and gateway.name == "local" else None
        swarm = HostedSwarm(
            settings,
            gateway,
            batch_prefix=f"{settings.swarm_id}-{secrets.token_hex(4)}",
            log_directory=logs,
            limits=self._limits,
            clock=self._clock,
        )
        self._swarms[settings.swarm_id] = swarm
        try:
            await gateway.add_swarm(swarm.info)
        except BaseException:
            del self._swarms[settings.swarm_id]
            await swarm.drain(0)
            raise
        log.info("swarm created", swarm=settings.swarm_id, gateway=gateway.name, autopilot=settings.autopilot)
        return swarm

    def _gateway(self, settings: SwarmSettings) -> ServerGateway:
        gateway = self.gateways.get(settings.gateway)
        if gateway is None:
            known = ", ".join(sorted(self.gateways))
            message = f"swarm.gateway: {settings.gateway!r} is not known here; use one of {known}"
            raise InvalidInputError(message, reason="UNKNOWN_GATEWAY", field="swarm.gateway")
        if settings.autopilot and gateway.capabilities.hands_out:
            message = f"swarm.autopilot: the gateway {gateway.name!r} hands batches to whoever ticks; leave it off"
            raise FailedPreconditionError(message, reason="AUTOPILOT_NEEDS_ENGINE", field="swarm.autopilot")
        return gateway

    def get(self, swarm_id: str) -> HostedSwarm:
        """The swarm; with an empty id the only one there is. Raises NotFoundError or InvalidInputError."""
        self.last_call = self._clock()
        if swarm_id:
            swarm = self._swarms.get(swarm_id)
            if swarm is None:
                message = f"swarm_id: no swarm {swarm_id!r} here; ListSwarms shows those there are"
                raise NotFoundError(message, reason="UNKNOWN_SWARM", field="swarm_id")
            return swarm
        if len(self._swarms) == 1:
            return next(iter(self._swarms.values()))
        if not self._swarms:
            message = "swarm_id: there is no swarm yet; make one with CreateSwarm"
            raise NotFoundError(message, reason="UNKNOWN_SWARM", field="swarm_id")
        message = f"swarm_id: there are {len(self._swarms)} swarms; name one (ListSwarms shows them)"
        raise InvalidInputError(message, reason="SWARM_ID_REQUIRED", field="swarm_id")

    def all(self) -> list[HostedSwarm]:
        """Every swarm, in the order of creation."""
        return list(self._swarms.values())

    async def delete(self, swarm_id: str, *, force: bool) -> None:
        """Forget a swarm. Raises what `HostedSwarm.delete` raises."""
        if not swarm_id:
            message = "swarm_id: name the swarm that is to be deleted"
            raise InvalidInputError(message, reason="SWARM_ID_REQUIRED", field="swarm_id")
        swarm = self.get(swarm_id)
        await swarm.delete(force=force)
        self._swarms.pop(swarm_id, None)
        log.info("swarm deleted", swarm=swarm_id)

    def refuse_when_draining(self) -> None:
        """Raise UnavailableError once the daemon stops."""
        if self.draining:
            raise UnavailableError("the daemon stops; try again when it is back", reason="DRAINING")

    async def drain(self, grace: float) -> None:
        """Nothing new; what is under way finishes within the grace time; watchers get their last message."""
        self.draining = True
        swarms = self.all()
        await asyncio.gather(*(swarm.drain(grace) for swarm in swarms))
        for swarm in swarms:
            swarm.close()

    async def close(self) -> None:
        """Close every gateway."""
        await asyncio.gather(*(gateway.close() for gateway in self.gateways.values()))

    @property
    def is_idle(self) -> bool:
        """Whether no swarm has anything left to do."""
        return all(swarm.state.finished or not swarm.state.task_count for swarm in self.all())
