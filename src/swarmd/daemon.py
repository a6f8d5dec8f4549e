"""The daemon: wires everything; startup, main loop, shutdown. The only place that knows everybody."""

import os

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")  # before grpc is imported: children are spawned, not forked
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import asyncio
import gc
import json
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import structlog

from swarmd._version import __version__
from swarmd.addresses import Address, default_address, make_private, parse_address
from swarmd.config import DaemonConfig
from swarmd.core.errors import SwarmdError
from swarmd.gateways.contract import ServerGateway
from swarmd.gateways.local import LocalGateway
from swarmd.gateways.pull import PullGateway
from swarmd.host.registry import Registry
from swarmd.host.swarm import HostLimits
from swarmd.journal.directory import StateDirectory
from swarmd.logs import configure_logging
from swarmd.rpc.server import Server
from swarmd.sockets import SocketClaim

log = structlog.get_logger("swarmd.daemon")

LOOPBACK = ("127.0.0.1", "::1", "localhost")
IDLE_CHECKS_PER_TIMEOUT = 10
GC_FIRST_THRESHOLD = 50_000


class Daemon:
    """One daemon, from `run` to its end."""

    def __init__(
        self,
        config: DaemonConfig,
        *,
        announce: Callable[[str], None] | None = None,
        gateways: Mapping[str, ServerGateway] | None = None,
    ) -> None:
        """`gateways` by name; without them those that every daemon has."""
        self._config = config
        self._announce = announce or _print_line
        self._stopping = asyncio.Event()
        self._claims: list[SocketClaim] = []
        self.addresses: list[Address] = []
        self._directory = StateDirectory(config.state_dir)
        logs = config.state_dir / "logs"
        self.registry = Registry(
            gateways or _gateways(config, logs),
            directory=None if config.in_memory else self._directory,
            log_directory=logs,
            max_swarms=config.max_swarms,
            limits=HostLimits(config.max_tasks_per_swarm, config.max_watchers_per_swarm, config.max_in_flight),
        )

    async def run(self) -> int:
        """Serve until a signal, `stop`, or idleness. Raises SwarmdError when it cannot start."""
        self._on_signals(self._signalled)
        server = await self.startup()
        try:
            await self._until_stopped()
        finally:
            await self.shutdown(server)
        return 0

    def stop(self) -> None:
        """Drain and end."""
        self._stopping.set()

    # -- startup ---------------------------------------------------------------------------------------------------

    async def startup(self) -> Server:
        """Claim directory and addresses, answer, take up what was there before, and say that it is ready."""
        config = self._config
        make_private(config.state_dir)
        server = Server(self.registry, max_message_bytes=config.max_message_bytes, channelz=config.channelz)
        try:
            for text in config.listen or [str(default_address())]:
                self.addresses.append(self._bind(server, parse_address(text)))
            if not config.in_memory:
                self._directory.claim()
            self.registry.starting = True
            await server.start()
            await self.registry.start()
            await self.registry.recover()
            self.registry.starting = False
            await server.serve()
        except BaseException:
            await server.stop(0)
            self._release()
            raise
        gc.collect()
        gc.freeze()
        gc.set_threshold(GC_FIRST_THRESHOLD, 20, 20)
        self._say_ready()
        return server

    def _bind(self, server: Server, address: Address) -> Address:
        if address.path is None:
            if address.host not in LOOPBACK:
                log.warning("anybody who can reach this address can run commands as you", address=str(address))
            return server.bind(address)
        claim = SocketClaim(address.path)
        claim.claim()
        self._claims.append(claim)
        with claim.binding():
            return server.bind(address)

    def _say_ready(self) -> None:
        addresses = [str(address) for address in self.addresses]
        if self._config.ready_json:
            ready = {"address": addresses[0], "addresses": addresses, "pid": os.getpid(), "version": __version__}
            self._announce(json.dumps({**ready, "state_dir": str(self._config.state_dir)}))
        else:
            self._announce(f"swarmd {__version__} is ready at {', '.join(addresses)}")
        log.info("ready", addresses=addresses, pid=os.getpid(), in_memory=self._config.in_memory)
        if self._config.in_memory:
            log.warning("swarms are kept in memory: they are gone when the daemon ends")

    # -- main loop -------------------------------------------------------------------------------------------------

    async def _until_stopped(self) -> None:
        try:
            idle = self._config.idle_timeout
            while not self._stopping.is_set():
                try:
                    async with asyncio.timeout(None if idle is None else max(0.05, idle / IDLE_CHECKS_PER_TIMEOUT)):
                        await self._stopping.wait()
                except TimeoutError:
                    if idle is not None and self._is_idle_for(idle):
                        log.info("idle: nobody has called and nothing is left to do", seconds=idle)
                        return
        finally:
            self._on_signals(self._end_at_once)

    def _on_signals(self, react: Callable[[signal.Signals], None]) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, react, number)

    def _is_idle_for(self, seconds: float) -> bool:
        watched = any(swarm.feed.watchers for swarm in self.registry.all())
        return not watched and self.registry.is_idle and time.time() - self.registry.last_call > seconds

    def _signalled(self, number: signal.Signals) -> None:
        log.info("draining; a second signal ends it at once", signal=number.name)
        self._on_signals(self._end_at_once)
        self.stop()

    def _end_at_once(self, number: signal.Signals) -> None:
        """No waiting: children are killed, files removed, the process is gone."""
        for gateway in self.registry.gateways.values():
            if isinstance(gateway, LocalGateway):
                gateway.kill_all()
        self._release()
        sys.stderr.flush()
        os._exit(128 + number)

    # -- shutdown --------------------------------------------------------------------------------------------------

    async def shutdown(self, server: Server) -> None:
        """Unhealthy first; then no new ticks, calls under way finish, watchers hear of it, and everything closes."""
        grace = self._config.drain_grace
        await server.refuse()
        await self.registry.drain(grace)
        await server.stop(grace)
        await self.registry.close()
        self._release()
        log.info("stopped")

    def _release(self) -> None:
        for claim in self._claims:
            claim.release()
        self._claims.clear()
        self._directory.release()


def serve(config: DaemonConfig) -> int:
    """Run a daemon until it is stopped. Returns the exit code; what cannot start is said in one line."""
    configure_logging(config.log_format, config.log_level)
    try:
        return asyncio.run(_serve(config))
    except SwarmdError as error:
        print(f"swarmd: {error.message}", file=sys.stderr)
        return 2


async def _serve(config: DaemonConfig) -> int:
    return await Daemon(config).run()


def _gateways(config: DaemonConfig, logs: Path) -> dict[str, ServerGateway]:
    local = LocalGateway(
        logs,
        cores=config.local_cores,
        memory_mib=config.local_memory_mib,
        kill_grace=config.kill_grace,
        leave_on_close=config.leaves_tasks,
    )
    return {gateway.name: gateway for gateway in (local, PullGateway())}


def _print_line(line: str) -> None:
    print(line, flush=True)
