"""A daemon of this program's own, for the time of a `with` block: started as a child process, ended with it.

`embedded` is for programs that use swarmd as a library; `ChildProcess` is the part that the command line shares, for
`swarmd run` without a daemon. A daemon inside of the caller's own event loop is `swarmd.Daemon`.
"""

import asyncio
import contextlib
import difflib
import json
import os
import re
import select
import shutil
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from swarmd.addresses import LONGEST_SOCKET_PATH, SOCKET_NAME, Address, parse_address
from swarmd.client.errors import NoDaemonError
from swarmd.core.errors import InvalidInputError
from swarmd.tokens import TOKEN_NAME

if TYPE_CHECKING:
    from swarmd.client import blocking
    from swarmd.client.client import SwarmClient

START_SECONDS = 30.0
STOP_SECONDS = 45.0
PATIENCE = 2.0
LOG_LINES = 3
PREFIX = "SWARMD_"

Setting = str | int | float | bool | Path | Sequence[str] | None


class ChildProcess:
    """`swarmd serve` as a child, in a session of its own, so that Ctrl-C does not reach it."""

    def __init__(
        self, arguments: Sequence[str], log: Path, *, tied: bool, environment: Mapping[str, str] | None = None
    ) -> None:
        """`tied`: it ends when this process does, however that comes about."""
        self.command = [sys.executable, "-m", "swarmd", "serve", "--ready-json", *arguments]
        self.command += ["--exit-with-parent"] if tied else []
        self._stdin = subprocess.PIPE if tied else subprocess.DEVNULL
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None
        self.log = log
        """What it says."""

    @property
    def pid(self) -> int | None:
        """Its process id, once it has started."""
        return None if self._process is None else self._process.pid

    @property
    def returncode(self) -> int | None:
        """How it ended; None while it runs."""
        return None if self._process is None else self._process.poll()

    def start(self) -> dict[str, Any]:
        """Start it and wait until it is ready; gives what it says about itself.

        Raises NoDaemonError with the end of its log.
        """
        with self.log.open("wb") as sink:
            self._process = subprocess.Popen(  # noqa: S603
                self.command,
                stdin=self._stdin,
                stdout=subprocess.PIPE,
                stderr=sink,
                env=self._environment,
                start_new_session=True,
            )
        try:
            return self._ready(self._process)
        except BaseException:
            self.stop()
            raise

    def _ready(self, process: "subprocess.Popen[bytes]") -> dict[str, Any]:
        assert process.stdout is not None  # noqa: S101 (it was started with a pipe)
        poll = select.poll()  # select itself takes no descriptor above 1,023
        poll.register(process.stdout, select.POLLIN)
        if not poll.poll(START_SECONDS * 1000):
            raise self._not_ready(f"was not ready within {START_SECONDS:.0f} s")
        line = process.stdout.readline()
        if not line:
            raise self._not_ready("could not start")
        ready: dict[str, Any] = json.loads(line)
        return ready

    def _not_ready(self, what: str) -> NoDaemonError:
        lines = self.log.read_text(errors="replace").splitlines()[-LOG_LINES:]
        told = "".join(f"\n  {line}" for line in lines)
        return NoDaemonError(f"the daemon {what}; its log is {self.log}{told}", address="")

    def stop(self) -> None:
        """Ask it to end and wait; it is killed when that takes too long or is interrupted. Safe to call twice."""
        process = self._process
        if process is None:
            return
        try:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_SECONDS)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()


class EmbeddedDaemon:
    """A daemon that lives as long as a `with` or `async with` block, of which it has one; `embedded` makes it."""

    def __init__(self, settings: Mapping[str, Setting]) -> None:
        """Raises InvalidInputError for settings that a daemon does not have, or cannot have."""
        self._scratch = _short_folder()
        self._end: weakref.finalize[Any, Any]
        self._end = weakref.finalize(self, _ended, None, self._scratch, os.getpid())
        self._is_used = False
        given = {name: value for name, value in settings.items() if value is not None}
        given.setdefault("listen", [f"unix:{self._scratch / SOCKET_NAME}"])
        given.setdefault("state_dir", self._scratch / "state")
        given.setdefault("on_stop", "kill")
        self.state_dir = Path(str(given["state_dir"])).absolute()
        """Where its swarms and the output of their tasks are. Its own, and gone at the end, unless it was given."""
        self._process = ChildProcess(
            [], self._scratch / "daemon.log", tied=True, environment=self._checked_environment(given)
        )
        self._address: Address | None = None

    def _checked_environment(self, given: Mapping[str, Setting]) -> dict[str, str]:
        """The settings for the child, and none of those that this process has around it."""
        nothing = self._scratch / "config.toml"
        nothing.touch(mode=0o600)
        _check(given, nothing)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        said = {f"{PREFIX}{name.upper()}": _as_text(value) for name, value in given.items()}
        return {**kept, **said, f"{PREFIX}CONFIG": str(nothing)}

    @property
    def address(self) -> Address:
        """Where it listens, for `SWARMD_ADDRESS` and other programs. Raises NoDaemonError before it was started."""
        if self._address is None:
            raise NoDaemonError("the daemon was not started; use `with embedded() as daemon:`", address="")
        return self._address

    @property
    def pid(self) -> int | None:
        """Its process id."""
        return self._process.pid

    @property
    def log(self) -> Path:
        """The file with its log, there while it runs."""
        return self._process.log

    @property
    def token_file(self) -> Path | None:
        """What callers show, if it listens on a port; None on a unix socket."""
        return None if self.address.path is not None else self.state_dir / TOKEN_NAME

    def client(self, *, patience: float = PATIENCE) -> "SwarmClient":
        """A client for asyncio; use it in an `async with`. `patience`: see SwarmClient; this daemon never comes back.

        async with daemon.client() as client:
            await client.create_swarm("study")
        """
        from swarmd.client.client import SwarmClient

        return SwarmClient(self.address, token_file=self.token_file, patience=patience)

    def blocking_client(self, *, patience: float = PATIENCE) -> "blocking.SwarmClient":
        """A client without asyncio; use it in a `with`.

        with daemon.blocking_client() as client:
            client.create_swarm("study")
        """
        from swarmd.client import blocking

        return blocking.SwarmClient(self.address, token_file=self.token_file, patience=patience)

    def start(self) -> Self:
        """Start it; returns when it is ready. Raises NoDaemonError with the end of its log.

        It is started once: raises InvalidInputError when it was started or stopped before.
        """
        if self._is_used:
            message = "this daemon was started or stopped before; make a new one with embedded()"
            raise InvalidInputError(message, reason="DAEMON_USED")
        self._is_used = True
        self._end.detach()
        self._end = weakref.finalize(self, _ended, self._process, self._scratch, os.getpid())
        try:
            self._address = parse_address(self._process.start()["address"])
        except BaseException as error:
            if isinstance(error, NoDaemonError):
                error.message = error.args[0].replace(f"; its log is {self.log}", "")
                error.args = (error.message,)
            self._end()
            raise
        return self

    def stop(self) -> None:
        """End it, with the tasks that run (unless `on_stop="leave"`). Safe to call twice.

        In a process that was forked from the one with the daemon it does nothing.
        """
        self._is_used = True
        self._end()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        return await asyncio.to_thread(self.start)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.stop)


def embedded(**settings: Setting) -> EmbeddedDaemon:
    """A daemon for the time of a `with` block, on a socket of its own: a child that ends with this process.

    `settings` are those of `swarmd serve`, and nothing is taken from the environment or a file: `local_cores=4`,
    `state_dir=...` to keep its swarms, `in_memory=True`, `listen=["127.0.0.1:0"]`. Raises InvalidInputError for
    settings that it cannot have, NoDaemonError when it does not start.

        with embedded(local_cores=2) as daemon, daemon.blocking_client() as client:
            print(client.swarms())
    """
    return EmbeddedDaemon(settings)


def _check(given: Mapping[str, Setting], nothing: Path) -> None:
    from swarmd.config import DaemonConfig
    from swarmd.settings import resolve

    for name in given:
        if name not in DaemonConfig.model_fields:
            close = difflib.get_close_matches(name, DaemonConfig.model_fields, 1)
            hint = f"; did you mean {close[0]}?" if close else ""
            message = f"{name}: a daemon has no such setting{hint}"
            raise InvalidInputError(message, reason="INVALID_SETTINGS", field=name)
    try:
        resolve(given, config=nothing, environment={})
    except InvalidInputError as error:  # which speaks of options
        message = re.sub(r"--[a-z-]+", lambda option: option[0][2:].replace("-", "_"), error.message)
        raise InvalidInputError(message, reason=error.reason, field=error.field) from None


def _ended(process: ChildProcess | None, scratch: Path, owner: int) -> None:
    """Both are of the process `owner`: a child that was forked from it ends without them."""
    if os.getpid() != owner:
        return
    try:
        if process is not None:
            process.stop()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _short_folder() -> Path:
    """A new folder in which a socket's path is not too long."""
    usual = tempfile.gettempdir()
    room = LONGEST_SOCKET_PATH - len(f"/swarmd-12345678/{SOCKET_NAME}.lock")
    return Path(tempfile.mkdtemp(prefix="swarmd-", dir=usual if len(os.fsencode(usual)) <= room else "/tmp"))  # noqa: S108


def _as_text(value: Setting) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | int | float | Path) or value is None:
        return str(value)
    return json.dumps(list(value))
