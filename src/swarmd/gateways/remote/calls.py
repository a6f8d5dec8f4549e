"""Calls to one engine: its channel, what goes with every call, and what an error says of a batch.

gRPC tells little about what it has sent of a call that fails. So no batch is sent before the connection stands;
whatever goes wrong then, and is not the engine's own refusal, leaves the batch in doubt.
"""

import asyncio
import logging
import time

import swarmd.grpc_environment  # noqa: F401 - before gRPC

# isort: split

import grpc
import grpc.aio

from swarmd._pb.swarm.v1 import gateway_service_pb2 as pb
from swarmd._pb.swarm.v1.gateway_service_pb2_grpc import GatewayServiceStub
from swarmd.core.errors import InvalidInputError
from swarmd.gateways.contract import BatchRefusedError, OutcomeUnknownError
from swarmd.gateways.remote.options import Credentials, EngineOptions, RemoteConfig
from swarmd.gateways.trace import TRACEPARENT
from swarmd.tls_client import channel_credentials, tls_trouble
from swarmd.tokens import read_token
from swarmd.wire import to_proto

log = logging.getLogger(__name__)

MAX_RECEIVED_BYTES = 64 << 20

OPTIONS: list[tuple[str, int | str]] = [
    ("grpc.max_receive_message_length", MAX_RECEIVED_BYTES),
    ("grpc.max_send_message_length", -1),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),  # what may be repeated is decided here
    ("grpc.service_config_disable_resolution", 1),
]

Code = grpc.StatusCode

NOTHING_QUEUED = frozenset({Code.INVALID_ARGUMENT, Code.FAILED_PRECONDITION, Code.RESOURCE_EXHAUSTED})
"""With these an engine says that it took nothing of a batch."""
NEVER_LET_IN = frozenset({Code.UNIMPLEMENTED, Code.UNAUTHENTICATED, Code.PERMISSION_DENIED})
"""With these the call has not come to where batches are taken."""
TOO_LARGE_FOR_US = "CLIENT: Received message larger"
"""How gRPC calls an answer that this end does not take, by a code that else is the engine's."""

SETTLED = frozenset({pb.FindBatchResponse.OUTCOME_QUEUED, pb.FindBatchResponse.OUTCOME_NOT_QUEUED})
"""With these an engine says whether it has a batch."""
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.2, 15.0

Metadata = list[tuple[str, str]]
NewsCall = grpc.aio.UnaryStreamCall[pb.WatchUpdatesRequest, pb.WatchUpdatesResponse]


class EngineCalls:
    """The unary calls, and the opening of the stream. To be made and used in the event loop."""

    def __init__(self, options: EngineOptions, config: RemoteConfig, credentials: Credentials) -> None:
        self._options = options
        self._config = config
        self._token = credentials.token
        self._channel = _channel(options, credentials)
        self._stub = GatewayServiceStub(self._channel)

    async def close(self) -> None:
        """Calls under way are cut off."""
        await self._channel.close(None)

    async def is_connected(self, seconds: float) -> bool:
        """Whether the connection stands, or does so within that time."""
        state = self._channel.get_state(try_to_connect=True)
        try:
            async with asyncio.timeout(seconds):
                while state is not grpc.ChannelConnectivity.READY:
                    await self._channel.wait_for_state_change(state)
                    state = self._channel.get_state(try_to_connect=True)
        except TimeoutError:
            return False
        return True

    async def refresh_token(self) -> None:
        """Read the token's file again: it may have been renewed."""
        file = self._options.token_file
        if file is None:
            return
        try:
            self._token = await asyncio.to_thread(read_token, file, "token_file")
        except (InvalidInputError, OSError) as error:
            log.warning("the token for the engine at %s cannot be read again: %s", self._options.address, error)

    # -- calls -------------------------------------------------------------------------------------------------------

    async def queue_batch(self, request: pb.QueueBatchRequest) -> pb.QueueBatchResponse:
        """Raises BatchRefusedError when nothing was queued for certain, else OutcomeUnknownError."""
        metadata = self._metadata()
        if TRACEPARENT.get():
            metadata.append(("traceparent", TRACEPARENT.get()))
        try:
            return await self._stub.QueueBatch(request, timeout=self._config.queue_timeout, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            why = described(error)
            if error.code() is Code.UNAUTHENTICATED:
                await self.refresh_token()
            if error.code() in NEVER_LET_IN or (error.code() in NOTHING_QUEUED and TOO_LARGE_FOR_US not in why):
                raise BatchRefusedError(f"the engine at {self._options.address} refused the batch: {why}") from error
            raise OutcomeUnknownError(f"the engine at {self._options.address}: {why}") from error

    async def find_batch(self, wire_id: str, batch_id: str) -> pb.FindBatchResponse:
        """Raises AioRpcError."""
        request = pb.FindBatchRequest(swarm_id=wire_id, batch_id=batch_id)
        return await self._stub.FindBatch(request, timeout=self._config.call_timeout, metadata=self._metadata())

    async def settled(self, wire_id: str, batch_id: str, *, until: float) -> None:
        """Ask after a batch until the engine says whether it has it, or that time has come (since the epoch).

        An engine that has said that it has it not will not take it any more.
        """
        pause = FIRST_PAUSE_SECONDS
        while time.time() < until:
            try:
                if (await self.find_batch(wire_id, batch_id)).outcome in SETTLED:
                    return
            except grpc.aio.AioRpcError as error:
                if error.code() is Code.UNAUTHENTICATED:
                    await self.refresh_token()
                if error.code() is Code.UNIMPLEMENTED:
                    return
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    async def cancel_tasks(self, request: pb.GatewayServiceCancelTasksRequest) -> None:
        """Raises AioRpcError."""
        await self._stub.CancelTasks(request, timeout=self._config.call_timeout, metadata=self._metadata())

    def watch_updates(self, resume_token: str) -> NewsCall:
        """The stream of news from a place on."""
        interval = to_proto.duration(self._config.progress_interval)
        request = pb.WatchUpdatesRequest(resume_token=resume_token, progress_interval=interval)
        return self._stub.WatchUpdates(request, metadata=self._metadata())

    def _metadata(self) -> Metadata:
        return [("authorization", f"Bearer {self._token}")] if self._token else []


def _channel(options: EngineOptions, credentials: Credentials) -> grpc.aio.Channel:
    target = options.address.target
    if credentials.tls is None:
        return grpc.aio.insecure_channel(target, options=OPTIONS)
    with_name = list(OPTIONS)
    if credentials.tls.server_name:
        with_name.append(("grpc.ssl_target_name_override", credentials.tls.server_name))
    return grpc.aio.secure_channel(target, channel_credentials(credentials.tls), options=with_name)


def described(error: grpc.aio.AioRpcError) -> str:
    """What a failed call says, for people."""
    details = error.details() or ""
    trouble = tls_trouble(details)
    if trouble is not None:
        return f"the connection cannot be secured: {trouble}"
    if error.code() is Code.UNIMPLEMENTED and "ethod not found" in details:
        details += " Is it a GatewayService that listens there?"
    return f"{error.code().name}: {details}" if details else str(error.code().name)
