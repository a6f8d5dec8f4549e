"""The daemon: wires everything; startup, main loop, shutdown. The only place that knows everybody."""

import swarmd.grpc_environment  # noqa: F401 - before gRPC

# isort: split

import asyncio
import contextlib
import faulthandler
import gc
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from swarmd._version import __version__
from swarmd.addresses import Address, default_address, parse_address
from swarmd.config import DaemonConfig
from swarmd.core.errors import StorageError, SwarmdError
from swarmd.core.model import TextLimits
from swarmd.gateways.catalogue import made_gateways
from swarmd.gateways.contract import ServerGateway
from swarmd.gateways.local import LocalGateway
from swarmd.host.registry import Registry
from swarmd.host.swarm import HostLimits
from swarmd.journal.directory import StateDirectory
from swarmd.loggers import get_logger
from swarmd.logs import configure_logging
from swarmd.observing.observation import Observation
from swarmd.observing.observer import UNOBSERVED
from swarmd.observing.standing import Sources
from swarmd.ownership import make_private
from swarmd.rpc.observed import ObservingInterceptor
from swarmd.rpc.server import Access, Server
from swarmd.rpc.traffic import RpcLimits
from swarmd.sidecar import Notifier, ParentWatch, ReadyPipe
from swarmd.sockets import SocketClaim
from swarmd.tls import ServerTls, TlsFiles
from swarmd.tokens import TOKEN_NAME, Tokens

log = get_logger("swarmd.daemon")

LOOPBACK = ("127.0.0.1", "::1", "localhost")
IDLE_CHECKS_PER_TIMEOUT = 10
GC_FIRST_THRESHOLD = 50_000
SHORTEST_GRACE = 0.5
"""Seconds that the ends of streams get to reach their clients, even when the grace time is over."""


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
        self._notifier = Notifier(os.environ)
        self._background: set[asyncio.Task[None]] = set()
        self._claims: list[SocketClaim] = []
        self._server: Server | None = None
        self._tokens = Tokens.unknown()
        self._tls: ServerTls | None = None
        self.addresses: list[Address] = []
        """Where it listens, once it has started."""
        self._directory = StateDirectory(config.state_dir)
        self._observation = Observation(
            metrics=config.metrics, otlp_endpoint=config.otlp_endpoint, log_calls=config.log_level == "debug"
        )
        self.registry = Registry(
            gateways or made_gateways(config),
            directory=None if config.in_memory else self._directory,
            max_swarms=config.max_swarms,
            limits=_host_limits(config),
            observer=self._observation.observer,
        )

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    async def run(self, *, parent: int | None = None) -> int:
        """Be the process's main business: serve until a signal, `end_soon`, idleness, or the end of the parent.

        `parent`: the process that had started this one, as far back as somebody looked. Raises SwarmdError when it
        cannot start.
        """
        pipe = None if self._config.ready_fd is None else ReadyPipe(self._config.ready_fd)
        watch = ParentWatch(self._orphaned, parent=parent)
        self._on_signals(self._signalled)
        self._on_other_signals()
        _open_many_files()
        try:
            if self._config.exit_with_parent:
                watch.start()
            await self.start()
            _settle_down()
            self._say_ready(pipe)
            await self._until_stopped()
        finally:
            watch.close()
            self._notifier.stopping()
            await self.stop()
            await self._notifier.close()
        return 0

    def _on_other_signals(self) -> None:
        """From the beginning: one that comes while journals are read would be the end otherwise."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, self.reload)
        loop.add_signal_handler(signal.SIGUSR1, self.write_debug_file)
        faulthandler.register(signal.SIGUSR2, all_threads=True)  # to standard error, also when the loop is stuck

    def end_soon(self) -> None:
        """Let `run` drain and return."""
        self._stopping.set()

    # -- startup ---------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Claim directory and addresses, answer, take up what was there before; it serves on return.

        For programs that have it in an event loop of their own, too: nothing of the process is changed, no signal is
        caught and nothing is printed. Raises SwarmdError when it cannot start, and then nothing is left of it.
        """
        config = self._config
        try:
            make_private(config.state_dir)
            make_private(config.state_dir / "logs")
            addresses = [parse_address(text) for text in config.listen or [str(default_address())]]
            server = self._server = self._made_server(over_tcp=any(address.path is None for address in addresses))
            for address in addresses:
                self.addresses.append(self._bind(server, address))
            if not config.in_memory:
                self._directory.claim()
            self.registry.starting = True
            await self._observation.start(self._sources(server))
            await server.start()
            await self.registry.start()
            await self.registry.recover()
            self.registry.starting = False
            await server.serve()
        except BaseException:
            await self._undo_start()
            raise

    async def _undo_start(self) -> None:
        """Nothing goes on: before the directory is free for others, nobody of ours writes into it any more."""
        server, self._server = self._server, None
        if server is not None:
            await server.stop(0)
        await self.registry.drain(0)
        await self.registry.close()
        await self._observation.close()
        self._release()

    def _made_server(self, *, over_tcp: bool) -> Server:
        config = self._config
        if config.tls_cert is not None and config.tls_key is not None:
            self._tls = ServerTls(TlsFiles(config.tls_cert, config.tls_key, config.tls_client_ca))
        access = Access(lambda: self._tokens, self._tls, insecure=config.insecure)
        self._load_tokens(needed=over_tcp and access.token_required)
        observer = self._observation.observer
        return Server(
            self.registry,
            limits=_rpc_limits(config),
            access=access,
            channelz=config.channelz,
            interceptors=[] if observer is UNOBSERVED else [ObservingInterceptor(observer)],
        )

    def _sources(self, server: Server) -> Sources:
        registry = self.registry
        return Sources(
            swarms=registry.all,
            set_aside=lambda: len(registry.set_aside),
            healthy=lambda: not registry.starting and not registry.draining and registry.trouble is None,
            connections=lambda: server.connections,
        )

    def _load_tokens(self, *, needed: bool) -> None:
        try:
            self._tokens = Tokens.load_or_make(self._config.state_dir)
        except OSError as error:
            message = f"state_dir: no token can be kept in {self._config.state_dir}: {error.strerror}"
            if needed:
                raise StorageError(f"{message}; make room there, or give another --state-dir") from error
            log.warning(message)

    def reload(self) -> None:
        """Take up the tokens and the certificate as their files are now; of what cannot be read the old one counts.

        Each by itself: a certificate that is broken keeps no token that was renewed from counting.
        """
        self._notifier.reloading()
        self._reload("tokens", self._reload_tokens)
        if self._tls is not None:
            self._reload("certificate", self._tls.reload)
        self._notifier.ready(self._ready_words())

    def _reload_tokens(self) -> None:
        self._tokens = Tokens.load_or_make(self._config.state_dir)

    def _reload(self, what: str, load: Callable[[], None]) -> None:
        try:
            load()
        except (SwarmdError, OSError) as error:
            log.error("not reloaded: the old one counts", what=what, error=str(error))  # noqa: TRY400 - no news in a trace
        else:
            log.info("reloaded", what=what)

    def _bind(self, server: Server, address: Address) -> Address:
        if address.path is None:
            self._warn(address)
            return server.bind(address)
        claim = SocketClaim(address.path)
        claim.claim()
        self._claims.append(claim)
        with claim.binding():
            return server.bind(address)

    def _warn(self, address: Address) -> None:
        if self._config.insecure and not (self._tls is not None and self._tls.mutual):
            log.warning("--insecure: WHOEVER CAN REACH THIS ADDRESS CAN RUN COMMANDS AS YOU", address=str(address))
        elif self._tls is None and address.host not in LOOPBACK:
            what = "the token and all else travels in the clear: give --tls-cert and --tls-key"
            log.warning(what, address=str(address))

    @property
    def token_file(self) -> Path | None:
        """Where callers find the token that they need; None when they need none."""
        if self._server is None or not self._server.needs_token:
            return None
        return self._config.state_dir / TOKEN_NAME

    def _say_ready(self, pipe: ReadyPipe | None) -> None:
        line = json.dumps(self.ready_facts())
        self._announce(line if self._config.ready_json else self._ready_words())
        if pipe is not None:
            pipe.tell(line)
        self._notifier.ready(self._ready_words())
        addresses = [str(address) for address in self.addresses]
        log.info("ready", addresses=addresses, pid=os.getpid(), in_memory=self._config.in_memory)
        if self._config.in_memory:
            log.warning("swarms are kept in memory: they are gone when the daemon ends")

    def ready_facts(self) -> dict[str, object]:
        """What `--ready-json` says: all that a program needs to call this daemon."""
        addresses = [str(address) for address in self.addresses]
        token_file = self.token_file
        return {
            "address": addresses[0],
            "addresses": addresses,
            "pid": os.getpid(),
            "version": __version__,
            "token_file": None if token_file is None else str(token_file),
            "state_dir": str(self._config.state_dir),
        }

    def _ready_words(self) -> str:
        return f"swarmd {__version__} is ready at {', '.join(str(address) for address in self.addresses)}"

    # -- main loop -------------------------------------------------------------------------------------------------

    async def _until_stopped(self) -> None:
        idle = self._config.idle_timeout
        while not self._stopping.is_set():
            try:
                async with asyncio.timeout(None if idle is None else max(0.05, idle / IDLE_CHECKS_PER_TIMEOUT)):
                    await self._stopping.wait()
            except TimeoutError:
                if idle is not None and self._is_idle_for(idle):
                    log.info("idle: nobody has called and nothing is left to do", seconds=idle)
                    return

    def _on_signals(self, react: Callable[[signal.Signals], None]) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, react, number)

    def write_debug_file(self) -> None:
        """Write what may help to find a fault into the state directory, for `swarmd debug dump`."""
        from swarmd.debug_file import begin_writing

        own: dict[str, object] = {
            "settings": self._config.model_dump(mode="json"),
            "addresses": [str(address) for address in self.addresses],
            "metrics": self._observation.metrics_text(),
        }
        writing = begin_writing(self._config.state_dir, self.registry, own)
        self._background.add(writing)
        writing.add_done_callback(self._background.discard)

    def _is_idle_for(self, seconds: float) -> bool:
        if self._server is None or self._server.traffic.under_way:  # a watch is a call, too
            return False
        return self.registry.is_idle and time.time() - self.registry.last_call > seconds

    def _orphaned(self, why: str) -> None:
        log.info("draining", because=why)
        self.end_soon()

    def _signalled(self, number: signal.Signals) -> None:
        log.info("draining; a second signal ends it at once", signal=number.name)
        self._on_signals(self._end_at_once)
        self.end_soon()

    def _end_at_once(self, number: signal.Signals) -> None:
        """No waiting: children are killed, files removed, the process is gone."""
        for gateway in self.registry.gateways.made.values():
            if isinstance(gateway, LocalGateway):
                gateway.kill_all()
        self._release()
        sys.stderr.flush()
        os._exit(128 + number)

    # -- shutdown --------------------------------------------------------------------------------------------------

    async def stop(self) -> None:
        """Drain, within the grace time, and end: in this order.

        It is unhealthy; new ticks, loads and swarms are refused; calls under way finish; watchers hear of it; streams
        are closed; what is left is written to the journals; sockets and files are gone. Safe to call twice.
        """
        server, self._server = self._server, None
        if server is None:
            return
        until = time.monotonic() + self._config.drain_grace
        await server.refuse()
        await self.registry.drain(until - time.monotonic())
        await server.finish(max(0.0, until - time.monotonic()))
        self.registry.dismiss_watchers()
        await server.stop(max(SHORTEST_GRACE, until - time.monotonic()))
        await self.registry.close()
        await self._observation.close()
        self._release()
        log.info("stopped")

    def _release(self) -> None:
        for claim in self._claims:
            claim.release()
        self._claims.clear()
        self._directory.release()


def _settle_down() -> None:
    """What is there now stays: the collector need not look at it again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_FIRST_THRESHOLD, 20, 20)


def serve(config: DaemonConfig, *, parent: int | None = None, source: str = "") -> int:
    """Run a daemon until it is stopped. Returns the exit code; what cannot start is said in one line.

    `source`: where the options of gateways are from.
    """
    configure_logging(config.log_format, config.log_level)
    try:
        return asyncio.run(_serve(config, made_gateways(config, source), parent))
    except SwarmdError as error:
        print(f"swarmd: {error.message}", file=sys.stderr)
        return 2


async def _serve(config: DaemonConfig, gateways: Mapping[str, ServerGateway], parent: int | None) -> int:
    return await Daemon(config, gateways=gateways).run(parent=parent)


def _host_limits(config: DaemonConfig) -> HostLimits:
    texts = TextLimits(
        config.max_name_bytes,
        config.max_label_bytes,
        config.max_command_bytes,
        config.max_reason_bytes,
        config.max_environment_bytes,
    )
    return HostLimits(
        config.max_tasks_per_swarm,
        config.max_watchers_per_swarm,
        config.max_in_flight,
        config.max_queued_bytes_per_watcher,
        texts,
    )


def _rpc_limits(config: DaemonConfig) -> RpcLimits:
    return RpcLimits(
        config.max_message_bytes,
        config.max_concurrent_streams,
        config.max_connections,
        config.max_requests_per_second,
    )


def _open_many_files() -> None:
    """As many as this process may: each connection and each task is one or more."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _print_line(line: str) -> None:
    print(line, flush=True)
