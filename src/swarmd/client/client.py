"""SwarmClient: a daemon, as an asyncio program sees it.

Everything it gives is a plain value (`values.py`); what goes over the wire is behind `protocol`. The same without
`await` is `swarmd.client.blocking`, which is generated from this file, `live.py` and `updating.py`.
"""

import asyncio
import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from swarmd._pb.swarm.v1 import swarm_pb2
from swarmd.addresses import Address
from swarmd.client import decoding
from swarmd.client.building import Swarm
from swarmd.client.errors import RpcError, UnavailableError
from swarmd.client.finding import ConnectionSettings
from swarmd.client.live import LiveSwarm, load_plan
from swarmd.client.messages import message_of
from swarmd.client.news import News
from swarmd.client.protocol import PATIENCE, ProtocolClient
from swarmd.client.updating import UpdateStream
from swarmd.client.values import SwarmStatus
from swarmd.core.policy import SchedulingPolicy

PULL_GATEWAY = "pull"
UNDO_SECONDS = 5.0
"""How long a submission that was broken off tries to take back what it has made."""


class SwarmClient:
    """A connection to a daemon; an async context manager that closes it.

        async with SwarmClient() as client:
            study = await client.create_swarm("study", max_concurrently_running=100)

    Without an address it is that of SWARMD_ADDRESS, or the default socket. Over TCP a token is shown: `token`,
    `token_file`, SWARMD_TOKEN, SWARMD_TOKEN_FILE, or that of the user's own daemon. `tls_ca`, `tls_cert` and `tls_key`
    are PEM files; `tls=True` trusts the system's CAs. A token goes in the clear to another machine only with
    `insecure=True`. `patience`: for how many seconds a call that was lost is made again, where that is safe.

    Calls raise RpcError: NotFoundError, InvalidArgumentError, NoDaemonError and so on.
    """

    def __init__(
        self,
        address: Address | str | None = None,
        *,
        token: str | None = None,
        token_file: str | os.PathLike[str] | None = None,
        tls: bool | None = None,
        tls_ca: str | os.PathLike[str] | None = None,
        tls_cert: str | os.PathLike[str] | None = None,
        tls_key: str | os.PathLike[str] | None = None,
        tls_server_name: str | None = None,
        insecure: bool | None = None,
        patience: float = PATIENCE,
    ) -> None:
        """Connects at the first call. Raises InvalidInputError for what cannot be used."""
        settings = ConnectionSettings(
            address=None if address is None else str(address),
            token=token,
            token_file=token_file,
            tls=tls,
            tls_ca=tls_ca,
            tls_cert=tls_cert,
            tls_key=tls_key,
            tls_server_name=tls_server_name,
            insecure=insecure,
        )
        self.protocol = ProtocolClient(settings, patience=patience)
        """The same daemon with the messages of the protocol, for what is not here."""
        self._news = News(self.protocol)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End all calls and the connection. Calls under way, and later ones, raise RpcError: CLIENT_CLOSED.

        await client.close()
        """
        await self.protocol.close()
        await self._news.close()

    @property
    def address(self) -> Address:
        """Where the daemon is."""
        return self.protocol.address

    async def connect(self, *, within: float = 5.0) -> None:
        """Make sure that a daemon answers; raises NoDaemonError. Calls connect by themselves: this is a check.

        await client.connect(within=1.0)
        """
        await self.protocol.connect(within=within)

    async def create_swarm(
        self,
        swarm_id: str = "",
        *,
        display_name: str = "",
        max_concurrently_running: int | None = None,
        gateway: str = "local",
        autopilot: bool | None = None,
        paused: bool = False,
        fail_fast: bool = False,
        working_directory: str | Path | None = None,
        environment: Mapping[str, str] | None = None,
        gateway_options: Mapping[str, str] | None = None,
        scheduling_policy: SchedulingPolicy | str = SchedulingPolicy.FIRST_COME_FIRST_SERVED,
    ) -> LiveSwarm:
        """Make a swarm without tasks. Raises AlreadyExistsError when the id is taken.

        `swarm_id`: its name in every call; the daemon chooses one when it is empty. `gateway`: what runs the tasks;
        with "pull" it is the caller of `tick`. `autopilot`: the daemon queues whatever is ready by itself; None: but
        for "pull". `fail_fast`: queue nothing more after a task failed for good. `working_directory`: where commands
        start; None: here, when the daemon is on this machine (on a unix socket), else where the daemon is.
        `gateway_options`: what the gateway is to know of this swarm in particular (docs/gateways.md).
        `scheduling_policy`: in which order ready tasks of the same priority go, for good: "first_come_first_served",
        "longest_path_first" or "fair_share" (docs/scheduling.md).

            swarm = await client.create_swarm("fits", max_concurrently_running=100, environment={"SEED": "1"})
        """
        plan = Swarm(
            swarm_id,
            display_name=display_name,
            max_concurrently_running=max_concurrently_running,
            gateway=gateway,
            autopilot=autopilot,
            paused=paused,
            fail_fast=fail_fast,
            working_directory=working_directory,
            environment=environment,
            gateway_options=gateway_options,
            scheduling_policy=scheduling_policy,
        )
        return self.swarm((await self._create(plan)).swarm_id)

    async def submit(self, swarm: Swarm) -> LiveSwarm:
        """Make the swarm and load all that was put into it, or nothing of it; also when that was submitted before.

        When the daemon is lost for longer than `patience`, nobody can take the swarm back: the error says that it may
        be there.

            plan = Swarm("trial")
            first = plan.array("first", command="echo {name}", tasks=["a", "b"])
            first >> plan.task("last", command="echo done")
            trial = await client.submit(plan)
        """
        made = await self._made_for(swarm)
        try:
            await load_plan(self.protocol, swarm, made)
        except UnavailableError as error:
            _tell_of(made.swarm_id, error)
            raise
        except BaseException:
            await self._take_back(made.swarm_id)
            raise
        return self.swarm(made.swarm_id)

    def swarm(self, swarm_id: str = "") -> LiveSwarm:
        """A swarm that is in the daemon; empty: the only one there is. Asks nobody.

        study = client.swarm("study")
        """
        return LiveSwarm(self.protocol, swarm_id, self._news)

    async def swarms(self) -> list[SwarmStatus]:
        """All swarms, in the order of their creation.

        names = [swarm.swarm_id for swarm in await client.swarms()]
        """
        return [decoding.swarm_status(each) for each in await self.protocol.list_swarms()]

    def updates(self, swarm_id: str = "") -> UpdateStream:
        """A stream for news into a swarm, which does not wait for each answer.

        async with client.updates("study") as updates:
            await updates.running([1, 2, 3], attempts=1)
        """
        return UpdateStream(self.protocol, swarm_id)

    async def _made_for(self, plan: Swarm) -> swarm_pb2.Swarm:
        """The swarm for a submission, which is taken back when that is broken off meanwhile."""
        making = asyncio.ensure_future(self._create(plan))
        try:
            return await asyncio.shield(making)
        except asyncio.CancelledError:
            with contextlib.suppress(RpcError, TimeoutError):
                await self._take_back((await asyncio.wait_for(making, UNDO_SECONDS)).swarm_id)
            raise
        except UnavailableError as error:
            if self.protocol.had_answers:
                _tell_of(plan.swarm_id, error)
            raise

    async def _take_back(self, swarm_id: str) -> None:
        with contextlib.suppress(RpcError, TimeoutError):
            async with asyncio.timeout(UNDO_SECONDS):
                await self.protocol.delete_swarm(swarm_id, force=True)

    async def _create(self, plan: Swarm) -> swarm_pb2.Swarm:
        message = message_of(
            swarm_pb2.Swarm,
            swarm_id=plan.swarm_id,
            display_name=plan.display_name,
            max_concurrently_running=plan.max_concurrently_running,
            gateway=plan.gateway,
            autopilot=plan.gateway != PULL_GATEWAY if plan.autopilot is None else plan.autopilot,
            paused=plan.paused,
            fail_fast=plan.fail_fast,
            working_directory=str(self._working_directory(plan)),
            environment=plan.environment,
            gateway_options=plan.gateway_options,
            scheduling_policy=swarm_pb2.SchedulingPolicy.Value(f"SCHEDULING_POLICY_{plan.scheduling_policy.name}"),
        )
        return await self.protocol.create_swarm(message)

    def _working_directory(self, plan: Swarm) -> str | Path:
        if plan.working_directory is not None:
            return Path(plan.working_directory).absolute()
        return Path.cwd() if self.address.path is not None and plan.gateway != PULL_GATEWAY else ""


def _tell_of(swarm_id: str, error: RpcError) -> None:
    """Add to an error that a swarm may have been left behind."""
    which = f"the swarm {swarm_id!r}" if swarm_id else "a swarm"
    error.message += f"; {which} may be there, with all of its tasks or none: look before you submit it again"
    error.args = (error.message,)
