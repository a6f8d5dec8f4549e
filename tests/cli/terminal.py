"""A command on a terminal of its own, as a person would have it."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from types import TracebackType
from typing import Self

SECONDS = 30.0
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


class Terminal:
    """Runs `swarmd ARGUMENTS` behind a pty; ended when the context is left."""

    def __init__(self, *arguments: object, width: int = 100) -> None:
        self._arguments = [sys.executable, "-m", "swarmd", *map(str, arguments)]
        self._width = width
        self.raw = ""

    def __enter__(self) -> Self:
        self._side, other = pty.openpty()
        fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", 40, self._width, 0, 0))
        self.process = subprocess.Popen(
            self._arguments,
            stdin=other,
            stdout=other,
            stderr=other,
            start_new_session=True,
            env={**os.environ, "TERM": "xterm-256color"},
        )
        os.close(other)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._side)

    @property
    def text(self) -> str:
        """All that was shown so far, without colours and movements."""
        return ESCAPES.sub("", self.raw)

    def until(self, wanted: str) -> None:
        """Wait until this is shown (since the last key or signal)."""
        end = time.monotonic() + SECONDS
        while wanted not in self.text:
            assert time.monotonic() < end, f"waited for {wanted!r}, saw {self.text!r}"
            if not self._read(0.1) and self.process.poll() is not None:
                assert wanted in self.text, f"it ended without {wanted!r}: {self.text!r}"

    def press(self, keys: str) -> None:
        self.raw = ""
        os.write(self._side, keys.encode())

    def interrupt(self, number: signal.Signals = signal.SIGINT) -> None:
        """As Ctrl-C does; the pty is no controlling terminal, so the signal is sent by hand."""
        self.raw = ""
        self.process.send_signal(number)

    def end(self) -> int:
        """Wait for the end; gives the exit code."""
        end = time.monotonic() + SECONDS
        while self.process.poll() is None:
            assert time.monotonic() < end, f"it does not end: {self.text!r}"
            self._read(0.05)
        while self._read(0.05):
            pass
        return self.process.wait()

    def _read(self, seconds: float) -> bool:
        if not select.select([self._side], [], [], seconds)[0]:
            return False
        try:
            data = os.read(self._side, 65_536)
        except OSError:  # the other side is closed
            return False
        self.raw += data.decode(errors="replace")
        return bool(data)
