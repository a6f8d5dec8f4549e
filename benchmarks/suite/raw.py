"""Calls whose messages stay bytes: what a client does with them is not measured."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import grpc

HAS_WORK = "/swarm.v1.SchedulerService/HasWork"
APPLY_UPDATE = "/swarm.v1.SchedulerService/ApplyUpdate"
TICK = "/swarm.v1.SchedulerService/Tick"
WATCH = "/swarm.v1.SwarmService/WatchSwarm"
ADD_TASKS = "/swarm.v1.SwarmService/AddTasks"
OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),
]
Sent = AsyncIterator[bytes] | Iterator[bytes]


def channel_to(address: str) -> grpc.aio.Channel:
    """A connection of its own."""
    return grpc.aio.insecure_channel(address, options=OPTIONS)


def unary(channel: grpc.aio.Channel, method: str) -> Callable[[bytes], Awaitable[bytes]]:
    """A call with one message and one answer."""
    call: Any = channel.unary_unary(method)
    return call  # type: ignore[no-any-return]


async def unary_of_stream(channel: grpc.aio.Channel, method: str, sent: Sent) -> bytes:
    """Many messages, one answer."""
    call: Any = channel.stream_unary(method)
    return bytes(await call(sent))


async def answers(channel: grpc.aio.Channel, method: str, sent: Sent) -> AsyncIterator[bytes]:
    """Many messages, and the answers as they come."""
    call: Any = channel.stream_stream(method)
    async for answer in call(sent):
        yield answer


async def messages(channel: grpc.aio.Channel, method: str, request: bytes) -> AsyncGenerator[bytes, None]:
    """One message, and what comes of it; the call ends when this is closed."""
    make: Any = channel.unary_stream(method)
    call = make(request)
    try:
        async for message in call:
            yield message
    finally:
        call.cancel()


class Dialogue:
    """A stream whose messages are sent one at a time, each when the one before is answered."""

    def __init__(self, channel: grpc.aio.Channel, method: str) -> None:
        make: Any = channel.stream_stream(method)
        self._call = make()

    async def ask(self, message: bytes) -> bytes:
        await self._call.write(message)
        return bytes(await self._call.read())

    async def end(self) -> None:
        await self._call.done_writing()
