"""The example engines of `clients/` as processes of their own, killed and started again at the same address."""

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from tests.daemon import private_environment, until

ROOT = Path(__file__).resolve().parents[3]
CLIENTS = ROOT / "clients"
READY_SECONDS = 60.0
BUILD_SECONDS = 900.0
NO_GO = "there is no go here, which builds clients/go/engine"


class EngineProcess:
    """One home, and one engine at a time that has it: what an earlier one had the next one takes up."""

    def __init__(
        self, command: Sequence[str], home: Path, *, cores: int = 4, environment: Mapping[str, str] | None = None
    ) -> None:
        self.home = home
        self.command = command
        self.starts = 0
        self._command = [*command, "--state", str(home / "engine"), "--cores", str(cores)]
        self._environment = {**private_environment(home), **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"unix:{self.home}/engine.sock"

    @property
    def log(self) -> str:
        """What all of them wrote."""
        return (self.home / "engine.log").read_text()

    def launch(self, *arguments: str) -> None:
        """Start the next one; it need not be ready."""
        self.kill()
        self.starts += 1
        where = () if "--listen" in arguments else ("--listen", self.address)
        with (self.home / "engine.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*self._command, *where, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment,
                start_new_session=True,
            )

    def start(self, *arguments: str) -> None:
        """Start the next one, and wait until it listens."""
        before = self.log.count("listening at") if self.starts else 0
        self.launch(*arguments)
        until(lambda: self.has_ended or self.log.count("listening at") > before, "the engine", READY_SECONDS)
        assert not self.has_ended, f"the engine did not start: {self.log[-3000:]}"

    @property
    def has_ended(self) -> bool:
        """Whether the latest one has ended by itself."""
        return self._process is not None and self._process.poll() is not None

    def kill(self) -> None:
        """As `kill -9`: the engine alone, not what it started."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def signal(self, number: signal.Signals) -> None:
        """Send it one."""
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self) -> int:
        """As an administrator ends it; gives the exit code."""
        assert self._process is not None
        self.signal(signal.SIGTERM)
        return self._process.wait(READY_SECONDS)

    def close(self) -> None:
        """The engine goes, and all that it started."""
        self.kill()
        for started in (self.home / "engine" / "runs").glob("*/*/started"):
            with contextlib.suppress(OSError, ValueError):
                leader = int(started.read_text())
                if str(started.parent) in Path(f"/proc/{leader}/cmdline").read_text():
                    os.killpg(leader, signal.SIGKILL)


@contextlib.contextmanager
def python_engine(home: Path, **options: "int | Mapping[str, str]") -> Iterator[EngineProcess]:
    """That of `clients/python`, not started yet."""
    engine = EngineProcess(python_command(), home, **options)  # type: ignore[arg-type]
    try:
        yield engine
    finally:
        engine.close()


@contextlib.contextmanager
def go_engine(home: Path, **options: "int | Mapping[str, str]") -> Iterator[EngineProcess]:
    """That of `clients/go`, not started yet. Only where `has_go`."""
    engine = EngineProcess(go_command(), home, **options)  # type: ignore[arg-type]
    try:
        yield engine
    finally:
        engine.close()


def python_command() -> list[str]:
    """Its stubs are made when they are missing or old."""
    folder = CLIENTS / "python"
    _build(folder, folder / "generated" / "swarm" / "v1" / "gateway_service_pb2_grpc.py", [folder / "build.sh"])
    return [sys.executable, str(folder / "engine.py")]


def has_go() -> bool:
    return shutil.which("go") is not None


def go_command() -> list[str]:
    """It is built when that was not done yet (`make conformance` does it, too), or when its source has changed."""
    folder = CLIENTS / "go"
    program = folder / "bin" / "engine"
    _build(folder, program, [folder / "build.sh", folder / "go.mod", *folder.glob("*.go"), *folder.glob("engine/*.go")])
    return [str(program)]


def _build(folder: Path, product: Path, sources: Iterable[Path]) -> None:
    """Run `build.sh` there, one at a time, unless what it makes is newer than what it makes it of."""
    (ROOT / "build").mkdir(exist_ok=True)
    with (ROOT / "build" / f"{folder.name}.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        newest = max(path.stat().st_mtime for path in [*sources, *(ROOT / "protos").rglob("*.proto")])
        if product.exists() and product.stat().st_mtime >= newest:
            return
        done = subprocess.run(
            ["sh", "build.sh"],
            cwd=folder,
            env={**os.environ, "PYTHON": sys.executable},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=BUILD_SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"{folder}/build.sh: {done.stdout}{done.stderr}"
        if product.exists():
            os.utime(product, (time.time(), time.time()))  # go leaves it as it is when nothing has changed
