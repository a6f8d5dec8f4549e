"""The gRPC server: which services, with which options, on which addresses, and how it ends."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from swarmd._pb.swarm.v1 import (
    scheduler_service_pb2,
    scheduler_service_pb2_grpc,
    swarm_service_pb2,
    swarm_service_pb2_grpc,
)
from swarmd.addresses import Address
from swarmd.core.errors import UnavailableError
from swarmd.host.registry import Registry
from swarmd.rpc.guard import Guard
from swarmd.rpc.headers import LARGEST_HEADERS
from swarmd.rpc.interceptor import DoorKeeper
from swarmd.rpc.reflection import add_reflection
from swarmd.rpc.scheduler_service import SchedulerServicer
from swarmd.rpc.streams import OpenStreams
from swarmd.rpc.sturdy import sturdy_server
from swarmd.rpc.swarm_service import READERS, SwarmServicer
from swarmd.rpc.traffic import Connections, RpcLimits, Traffic
from swarmd.rpc.under_way import CallsUnderWay
from swarmd.tls import ServerTls
from swarmd.tokens import Tokens

SERVICES = (
    scheduler_service_pb2.DESCRIPTOR.services_by_name["SchedulerService"].full_name,
    swarm_service_pb2.DESCRIPTOR.services_by_name["SwarmService"].full_name,
)
SHORTEST_PING_MS = 10_000
VANISHED_CLIENT_PING_MS = 60_000
SLOWEST_HANDSHAKE_MS = 10_000
UNUSED_CONNECTION_MS = 60_000
SPARE_STREAMS = 16
FEWEST_WAITING = 200
"""Calls that have arrived and that nobody has looked at: more are refused, but a few come at once to any daemon."""
MUCH_LARGER = 4
LARGEST_INT = (1 << 31) - 1
LAST_WORDS_SECONDS = 1.0
"""How long clients are waited for that do not take what is sent to them."""
_STRANGERS = [("grpc.max_connection_idle_ms", UNUSED_CONNECTION_MS)]
"""Over TCP anybody may connect: a connection without a call is closed after a while, which clients do not notice."""


@dataclass(frozen=True, slots=True)
class Access:
    """How callers get in over TCP. A socket file is guarded by its permissions."""

    tokens: Callable[[], Tokens] | None = None
    """The tokens as they are now; without them nobody is asked for one."""
    tls: ServerTls | None = None
    insecure: bool = False
    """Nobody is asked for a token, and whoever comes may do everything."""

    @property
    def token_required(self) -> bool:
        """Whether TCP callers must show a token: a certificate of their own will do, too."""
        return self.tokens is not None and not self.insecure and not (self.tls is not None and self.tls.mutual)


class Server:
    """Serves a registry until it is stopped, through one gRPC server for socket files and one for TCP."""

    def __init__(
        self,
        registry: Registry,
        *,
        limits: RpcLimits | None = None,
        access: Access | None = None,
        channelz: bool = False,
        interceptors: Sequence[grpc.aio.ServerInterceptor] = (),
    ) -> None:
        """`interceptors` see each call before it is let in or turned away."""
        self._registry = registry
        self._access = access or Access()
        self._channelz = channelz
        self._interceptors = interceptors
        self.traffic = Traffic(limits or RpcLimits())
        self._under_way = CallsUnderWay()
        self._streams = OpenStreams()
        self._background: set[asyncio.Task[None]] = set()
        self._refusing = False
        self._health = health.aio.HealthServicer()
        self._files: grpc.aio.Server | None = None
        self._tcp: grpc.aio.Server | None = None
        self._connections = Connections(self.traffic.limits.max_connections)

    def bind(self, address: Address) -> Address:
        """Listen on an address; the answer has the port that was picked for port 0. Raises UnavailableError."""
        try:
            port = self._add_port(address)
        except RuntimeError:
            port = 0
        if not port:
            message = f"{address}: cannot listen there; the address is in use or not on this machine"
            raise UnavailableError(message, reason="ADDRESS_IN_USE", field="listen")
        if address.path is not None:
            return address
        self._connections.listen_on(port)
        return replace(address, port=port)

    def _add_port(self, address: Address) -> int:
        tokens, limits = self._access.tokens, self.traffic.limits
        if address.path is not None:
            if self._files is None:
                self._files = self._door(Guard(tokens, required=False), _options(limits, limits.max_connections))
            return self._files.add_insecure_port(address.target)
        if self._tcp is None:
            guard = Guard(tokens, required=self._access.token_required)
            options = [*_options(limits, limits.max_connections + Connections.SPARE), *_STRANGERS]
            self._tcp = self._door(guard, options, self._connections)
        if self._access.tls is None:
            return self._tcp.add_insecure_port(address.target)
        return self._tcp.add_secure_port(address.target, self._access.tls.credentials())

    def _door(
        self, guard: Guard, options: Sequence[tuple[str, int]], connections: Connections | None = None
    ) -> grpc.aio.Server:
        keeper = DoorKeeper(
            guard,
            self.traffic,
            connections=connections,
            check=self._registry.refuse_when_starting,
            touch=self._registry.touch,
            under_way=self._under_way,
            readers=READERS,
        )
        server = sturdy_server([*self._interceptors, keeper], options)
        scheduler_service_pb2_grpc.add_SchedulerServiceServicer_to_server(
            SchedulerServicer(self._registry, self._streams), server
        )
        swarm_service_pb2_grpc.add_SwarmServiceServicer_to_server(SwarmServicer(self._registry, self._streams), server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        if self._channelz:
            from grpc_channelz.v1 import channelz as channelz_service

            channelz_service.add_channelz_servicer(server)
        add_reflection(server, (*SERVICES, health.SERVICE_NAME))
        return server

    @property
    def _doors(self) -> list[grpc.aio.Server]:
        return [door for door in (self._files, self._tcp) if door is not None]

    @property
    def needs_token(self) -> bool:
        """Whether it listens where callers must show a token."""
        return self._tcp is not None and self._access.token_required

    @property
    def connections(self) -> int:
        """How many connections over TCP are open."""
        return self._connections.count()

    async def start(self) -> None:
        """Answer; unhealthy until `serve`."""
        await self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)
        for door in self._doors:
            await door.start()

    async def serve(self) -> None:
        """Healthy from now on, as long as every swarm can be written down."""
        self._registry.trouble_changed = self._trouble_changed
        await self._show_health()

    def _trouble_changed(self) -> None:
        task = asyncio.create_task(self._show_health())
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _show_health(self) -> None:
        if self._refusing:
            return
        serving = self._registry.trouble is None
        status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        await self._set_health(status)

    async def refuse(self) -> None:
        """Unhealthy: let nobody new come."""
        self._refusing = True
        await self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)

    async def finish(self, grace: float) -> None:
        """Wait, no longer than the grace time, for the calls under way that answer once.

        A load whose client says nothing for a moment is not waited for: it ends as UNAVAILABLE, and nothing of it is
        there.
        """
        self._streams.hurry()
        await self._under_way.answered(grace)

    async def stop(self, grace: float) -> None:
        """End every stream, let calls under way finish within the grace time, and close the addresses.

        Clients that do not read, or keep a stream of health or reflection open, are cut off after a moment.
        """
        self._streams.close()
        await self._health.enter_graceful_shutdown()
        await asyncio.gather(self._under_way.answered(grace), self._under_way.streams_ended(grace, LAST_WORDS_SECONDS))
        await asyncio.gather(*(door.stop(min(grace, LAST_WORDS_SECONDS)) for door in self._doors))

    async def _set_health(self, status: int) -> None:
        for service in ("", *SERVICES):
            await self._health.set(service, status)


def _options(limits: RpcLimits, connections: int) -> list[tuple[str, int]]:
    waiting = max(FEWEST_WAITING, limits.max_concurrent_streams)
    return [
        # Larger messages than allowed are refused by our own word, much larger ones by gRPC's.
        ("grpc.max_receive_message_length", min(MUCH_LARGER * limits.max_message_bytes, LARGEST_INT)),
        ("grpc.max_send_message_length", -1),
        ("grpc.so_reuseport", 0),  # otherwise a second daemon shares the port silently
        ("grpc.http2.min_recv_ping_interval_without_data_ms", SHORTEST_PING_MS),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.keepalive_time_ms", VANISHED_CLIENT_PING_MS),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.http2.max_pings_without_data", 0),
        # Above our own bound (`headers.py`), which is told by its name; below the second one gRPC refuses at random.
        ("grpc.max_metadata_size", 2 * LARGEST_HEADERS),
        ("grpc.absolute_max_metadata_size", 2 * LARGEST_HEADERS + 1),
        ("grpc.max_allowed_incoming_connections", connections),  # of each address
        # A few more than are allowed in all, so that who exceeds it is told; others wait in their clients.
        ("grpc.max_concurrent_streams", limits.max_concurrent_streams + SPARE_STREAMS),
        ("grpc.server_handshake_timeout_ms", SLOWEST_HANDSHAKE_MS),
        # What has arrived and is not looked at yet takes memory, and nobody has been asked for a token yet.
        ("grpc.server.max_pending_requests", waiting),
        ("grpc.server.max_pending_requests_hard_limit", waiting + SPARE_STREAMS),
    ]
