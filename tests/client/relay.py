"""A relay between a client and a daemon that can swallow answers and cut connections, and a daemon that comes back."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator
from pathlib import Path

from tests.daemon import DaemonProcess, running, short_home


class Relay:
    """Passes bytes both ways until it is told otherwise."""

    def __init__(self, path: Path, daemon: Path) -> None:
        self.address = f"unix:{path}"
        self._path = path
        self._daemon = daemon
        self._writers: set[asyncio.StreamWriter] = set()
        self.swallows_answers = False
        """What the daemon says reaches nobody."""
        self.connections = 0

    async def serve(self) -> asyncio.Server:
        return await asyncio.start_unix_server(self._connected, self._path)

    def cut(self) -> None:
        """End all connections; new ones work again."""
        self.swallows_answers = False
        for writer in self._writers:
            writer.transport.abort()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            inner_reader, inner_writer = await asyncio.open_unix_connection(self._daemon)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, inner_writer}
        try:
            await asyncio.gather(
                self._pass(reader, inner_writer, answers=False), self._pass(inner_reader, writer, answers=True)
            )
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            for each in (writer, inner_writer):
                self._writers.discard(each)
                each.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool) -> None:
        while data := await reader.read(1 << 16):
            if not (answers and self.swallows_answers):
                writer.write(data)
                await writer.drain()
        writer.transport.abort()


class Scene:
    """A daemon that can be killed and started again, and a relay before it."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._stack = contextlib.ExitStack()
        self.daemon: DaemonProcess = self._stack.enter_context(running(home=home))
        self.relay = Relay(home / "relay.sock", self.daemon.socket)

    @property
    def address(self) -> str:
        """The daemon's own, without the relay."""
        return self.daemon.address

    def kill(self) -> None:
        """As an unplugged machine would end it."""
        self.daemon.signal(signal.SIGKILL)
        self.daemon.wait()
        self._stack.close()

    async def start(self) -> None:
        """Start it again, with what it has on disk."""
        self.daemon = await asyncio.to_thread(self._stack.enter_context, running(home=self._home))

    async def lose(self, how: str) -> None:
        """Lose all answers under way: `cut` the connections, or `kill` the daemon and start another one."""
        if how == "kill":
            self.kill()
            await self.start()
        self.relay.cut()

    def close(self) -> None:
        self._stack.close()


@contextlib.asynccontextmanager
async def scene() -> AsyncIterator[Scene]:
    with short_home() as home:
        made = Scene(home)
        try:
            server = await made.relay.serve()
            yield made
            made.relay.cut()
            server.close()
        finally:
            made.close()
