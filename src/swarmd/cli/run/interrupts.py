"""What Ctrl-C and SIGTERM mean while a workflow runs: a question on a terminal, cancelling otherwise."""

import asyncio
import os
import signal
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum, auto
from types import TracebackType
from typing import Self

from swarmd.cli.output import is_terminal

QUESTION = "\nCancel the workflow, detach and let it go on, or go on watching? [c/d/g] "
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Wish(Enum):
    """What the user wants."""

    CANCEL = auto()
    DETACH = auto()
    GO_ON = auto()


KEYS = {"c": Wish.CANCEL, "d": Wish.DETACH, "g": Wish.GO_ON}


class Interrupts:
    """Turns signals into events, for as long as the context is open."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        """A signal came that has not been answered yet."""
        self.terminated = False
        """One of them was SIGTERM: nobody is to be asked."""

    def __enter__(self) -> Self:
        for number in SIGNALS:
            asyncio.get_running_loop().add_signal_handler(number, self._came, number)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number in SIGNALS:
            asyncio.get_running_loop().remove_signal_handler(number)

    def _came(self, number: signal.Signals) -> None:
        self.terminated = self.terminated or number is signal.SIGTERM
        self.asked.set()

    async def pause(self, seconds: float) -> None:
        """Sleep, but not longer than until a signal comes."""
        try:
            async with asyncio.timeout(seconds):
                await self.asked.wait()
        except TimeoutError:
            pass

    async def wish(self) -> Wish:
        """What the signal that came means; asks on a terminal, where a second signal means cancel."""
        self.asked.clear()
        if self.terminated or not (sys.stdin.isatty() and is_terminal(sys.stderr)):
            return Wish.CANCEL
        with _single_keys(sys.stdin.fileno()):  # before the question: a quick answer must not be lost
            sys.stderr.write(QUESTION)
            sys.stderr.flush()
            wish = await self._key()
        sys.stderr.write(f"{wish.name.lower().replace('_', ' ')}\n")
        return wish

    async def _key(self) -> Wish:
        keys: asyncio.Queue[str] = asyncio.Queue()
        loop, stdin = asyncio.get_running_loop(), sys.stdin.fileno()
        loop.add_reader(stdin, lambda: keys.put_nowait(os.read(stdin, 1).decode(errors="replace").lower()))
        again = asyncio.ensure_future(self.asked.wait())
        try:
            while True:
                key = asyncio.ensure_future(keys.get())
                await asyncio.wait({key, again}, return_when=asyncio.FIRST_COMPLETED)
                if again.done() or (key.done() and not key.result()):  # a second signal, or the terminal is gone
                    key.cancel()
                    self.asked.clear()
                    return Wish.CANCEL
                if key.result() in KEYS:
                    return KEYS[key.result()]
        finally:
            loop.remove_reader(stdin)
            again.cancel()


@contextmanager
def _single_keys(terminal: int) -> Iterator[None]:
    """Every key at once, without Enter and without being shown."""
    before = termios.tcgetattr(terminal)
    tty.setcbreak(terminal, termios.TCSADRAIN)
    try:
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)
