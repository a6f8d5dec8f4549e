"""A proxy that is in the way: late, cut off, half, or twice, as a seed has it. For calls of one connection each."""

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator

NEVER_TWICE = b"queue_task_batch"
"""A request that arrives twice is carried out twice by 3.2.2: whoever sent it once can do nothing about that."""
HELD_SECONDS = 0.8


class FaultyProxy:
    """Between a client and a server on this machine."""

    def __init__(self, port: int, *, seed: int, share: float = 0.5) -> None:
        """`share` of the calls go wrong, until it is set to 0."""
        self.share = share
        self.url = ""
        self.is_away = False
        """Nobody gets through."""
        self.done: Counter[str] = Counter()
        """What was done, how often; with "queue" before it to calls that queue."""
        self.queue_faults: list[str] = []
        """What is done to the next calls that queue, whatever the seed says: `reset`, `half`, `refuse`, ..."""
        self.is_stuck, self.go_on = asyncio.Event(), asyncio.Event()
        """For `stuck`: a call has come, and may go on."""
        self._port = port
        self._random = random.Random(seed)
        self._connections: set[asyncio.Task[None]] = set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            if self.is_away:
                writer.transport.abort()
            else:
                await self._pass_on(await _message(reader), writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        except asyncio.CancelledError:
            writer.transport.abort()  # the proxy ends; what it has not sent is not waited for
        finally:
            writer.close()
            self._connections.discard(task)

    async def _pass_on(self, request: bytes, writer: asyncio.StreamWriter) -> None:
        faults = [self._refuse, self._reset, self._half, self._late, self._held, self._double_answer, self._double]
        fault = self._random.choice(faults) if self._random.random() < self.share else self._plain
        kind = "queue " if NEVER_TWICE in request.partition(b"\r\n")[0] else ""
        if kind and fault == self._double:
            fault = self._late
        if kind and self.queue_faults:
            fault = getattr(self, f"_{self.queue_faults.pop(0)}")
        self.done[f"{kind}{fault.__name__.strip('_')}"] += 1
        await fault(request, writer)

    async def _plain(self, request: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(await self._asked(request))
        await writer.drain()

    async def _refuse(self, request: bytes, writer: asyncio.StreamWriter) -> None:
        """It never arrives."""

    async def _reset(self, request: bytes, writer: asyncio.StreamWriter) -> None:
        """It is carried out, and nobody hears of it."""
        await self._asked(request)
        writer.transport.abort()

    async def _half(self, request: bytes, writer: asyncio.StreamWriter) -> None:
        answer = await self._asked(request)
        writer.write(answer[: self._random.randrange(1, len(answer))])
        await writer.drain()

    async def _late(self, request: bytes, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(self._random.uniform(0.1, HELD_SECONDS))
        await self._plain(request, writer)

    async def _stuck(self, request: bytes, writer: asyncio.StreamWriter) -> None:
        self.is_stuck.set()
        await self.go_on.wait()
        await self._plain(request, writer)

    async def _held(self, request: bytes, writer: asyncio.StreamWriter) -> None:
        """The client has lost it, and it arrives all the same."""
        writer.transport.abort()
        await asyncio.sleep(HELD_SECONDS)
        await self._asked(request)

    async def _double_answer(self, request: bytes, writer: asyncio.StreamWriter) -> None:
        answer = await self._asked(request)
        writer.write(answer + answer)
        await writer.drain()

    async def _double(self, request: bytes, writer: asyncio.StreamWriter) -> None:
        await self._asked(request)
        await self._plain(request, writer)

    async def _asked(self, request: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            writer.write(request)
            await writer.drain()
            return await reader.read(-1)
        finally:
            writer.close()

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator["FaultyProxy"]:
        listening = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            listening.close()
            await _some_turns()  # a connection that was just accepted takes several to reach _serve
            for task in list(self._connections):
                task.cancel()
            await asyncio.gather(*self._connections, return_exceptions=True)
            await _some_turns()  # sockets are closed in the next one


async def _some_turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def _message(reader: asyncio.StreamReader) -> bytes:
    """One request, whole."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = 0
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            length = int(line.partition(b":")[2])
    return head + await reader.readexactly(length)
