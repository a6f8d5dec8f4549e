"""The gRPC server: which services, with which options, on which addresses, and how it ends."""

import asyncio
from collections.abc import Sequence

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
from swarmd.rpc.interceptor import ErrorInterceptor
from swarmd.rpc.reflection import add_reflection
from swarmd.rpc.scheduler_service import SchedulerServicer
from swarmd.rpc.streams import OpenStreams
from swarmd.rpc.swarm_service import SwarmServicer

SERVICES = (
    scheduler_service_pb2.DESCRIPTOR.services_by_name["SchedulerService"].full_name,
    swarm_service_pb2.DESCRIPTOR.services_by_name["SwarmService"].full_name,
)
SHORTEST_PING_MS = 10_000
VANISHED_CLIENT_PING_MS = 60_000
LAST_WORDS_SECONDS = 1.0
"""How long the end of a stream may take to reach its client."""


class Server:
    """Serves a registry until it is stopped."""

    def __init__(self, registry: Registry, *, max_message_bytes: int, channelz: bool = False) -> None:
        self._registry = registry
        self._calls = ErrorInterceptor(registry.refuse_when_starting)
        self._server = grpc.aio.server(interceptors=[self._calls], options=_options(max_message_bytes))
        self._streams = OpenStreams()
        self._background: set[asyncio.Task[None]] = set()
        self._refusing = False
        self._health = health.aio.HealthServicer()
        scheduler_service_pb2_grpc.add_SchedulerServiceServicer_to_server(
            SchedulerServicer(registry, self._streams), self._server
        )
        swarm_service_pb2_grpc.add_SwarmServiceServicer_to_server(SwarmServicer(registry, self._streams), self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        if channelz:
            from grpc_channelz.v1 import channelz as channelz_service

            channelz_service.add_channelz_servicer(self._server)
        add_reflection(self._server, (*SERVICES, health.SERVICE_NAME))

    def bind(self, address: Address) -> Address:
        """Listen on an address; the answer has the port that was picked for port 0. Raises UnavailableError."""
        try:
            port = self._server.add_insecure_port(address.target)
        except RuntimeError:
            port = 0
        if not port:
            message = f"{address}: cannot listen there; the address is in use or not on this machine"
            raise UnavailableError(message, reason="ADDRESS_IN_USE", field="listen")
        return address if address.path is not None else Address(host=address.host, port=port)

    async def start(self) -> None:
        """Answer; unhealthy until `serve`."""
        await self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)
        await self._server.start()

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

    async def stop(self, grace: float) -> None:
        """End every stream, let calls under way finish within the grace time, and close the addresses.

        Clients that do not read, or keep a stream of health or reflection open, are cut off after a moment.
        """
        self._streams.close()
        await self._health.enter_graceful_shutdown()
        await self._calls.answered(grace)
        await self._server.stop(min(grace, LAST_WORDS_SECONDS))

    async def _set_health(self, status: int) -> None:
        for service in ("", *SERVICES):
            await self._health.set(service, status)


def _options(max_message_bytes: int) -> Sequence[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.so_reuseport", 0),  # otherwise a second daemon shares the port silently
        ("grpc.http2.min_recv_ping_interval_without_data_ms", SHORTEST_PING_MS),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.keepalive_time_ms", VANISHED_CLIENT_PING_MS),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.http2.max_pings_without_data", 0),
    ]
