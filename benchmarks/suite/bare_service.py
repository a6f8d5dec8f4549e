"""A bare grpc.aio service: it answers whatever comes with as many empty bytes as the name of the method says.

    python -m benchmarks.suite.bare_service ADDRESS

What nothing that is written in Python on grpc.aio can beat. `/bare.Bare/Unary100` answers once with 100 bytes,
`/bare.Bare/Stream12` every message of a stream with 12. Nothing is read or made of messages. Ends with its parent.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any

import grpc

PREFIX = "/bare.Bare/"


class Sized(grpc.GenericRpcHandler):
    """Methods of all sizes."""

    def __init__(self) -> None:
        self._known: dict[str, Any] = {}

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        method = handler_call_details.method
        if method not in self._known:
            self._known[method] = _made(method.removeprefix(PREFIX))
        return self._known[method]


def _made(name: str) -> Any:
    kind = name.rstrip("0123456789")
    answer = bytes(int(name.removeprefix(kind)))

    async def unary(request: bytes, context: object) -> bytes:
        del request, context
        return answer

    async def stream(requests: AsyncIterator[bytes], context: object) -> AsyncIterator[bytes]:
        del context
        async for _ in requests:
            yield answer

    if kind == "Unary":
        return grpc.unary_unary_rpc_method_handler(unary)
    return grpc.stream_stream_rpc_method_handler(stream)


async def serve(address: str) -> None:
    """Until standard input ends, which it does with the parent."""
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1), ("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((Sized(),))
    server.add_insecure_port(address)
    await server.start()
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.buffer.read)
    await server.stop(0)


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
