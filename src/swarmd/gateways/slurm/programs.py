"""Slurm's programs, each call in a thread and never for longer than a bound: nothing here holds the event loop.

Used by everything in the package that asks Slurm. It knows how to run them, not what they say.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from swarmd.gateways.local.attempt import DAEMONS_OWN

T = TypeVar("T")

NEEDED = ("sbatch", "squeue", "scancel", "scontrol", "sinfo")
SUBMISSIONS_AT_ONCE = 4
"""More would only wait in line at the controller."""
THREADS = SUBMISSIONS_AT_ONCE + 4
NO_JOBS_OWN = (b"SLURM_", b"SBATCH_", b"SQUEUE_", b"SCANCEL_", b"SCONTROL_", b"SINFO_", b"SACCT_")
"""Variables that would change what the programs do, or that belong to a job that the daemon runs in."""
_PATH = "/usr/local/bin:/usr/bin:/bin"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a program said."""

    code: int | None
    """Its exit code; None: it was killed because it did not end."""
    out: str = ""
    err: str = ""
    is_started: bool = True
    """Otherwise the program could not be started: these are the system's words, not its own."""

    @property
    def is_good(self) -> bool:
        return self.code == 0

    @property
    def why(self) -> str:
        """What went wrong, in one line."""
        if self.code is None:
            return "it did not answer in time"
        lines = [line.strip() for line in self.err.splitlines() if line.strip()]
        return "; ".join(lines) or f"exit code {self.code}"


class Programs:
    """Runs Slurm's programs."""

    def __init__(self, bin_directory: Path | None = None, conf: Path | None = None, seconds: float = 60.0) -> None:
        """`seconds`: when a program that does not end is killed."""
        self._bin_directory = bin_directory
        self._conf = conf
        self._seconds = seconds
        self._threads = ThreadPoolExecutor(max_workers=THREADS, thread_name_prefix="slurm")
        self._files = ThreadPoolExecutor(max_workers=2, thread_name_prefix="slurm-files")
        self._submitting = asyncio.Semaphore(SUBMISSIONS_AT_ONCE)
        self._running: set[subprocess.Popen[bytes]] = set()
        self._is_closed = False

    def trouble(self) -> str:
        """What is missing here and how to get it; empty when the programs are there."""
        missing = [name for name in NEEDED if self._found(name) is None]
        if missing:
            place = self._bin_directory or "PATH"
            return (
                f"{', '.join(missing)} cannot be found in {place}: install Slurm's client programs (slurm-client on "
                "Debian and Ubuntu, slurm on Fedora), or set bin_directory in [gateways.slurm]"
            )
        if self._conf is not None and not self._conf.is_file():
            return f"conf in [gateways.slurm] is {self._conf}, which is no file; give the path of slurm.conf"
        return ""

    async def submit(self, arguments: Sequence[str], script: str) -> Answer:
        """`sbatch` with a script; a few at a time."""
        async with self._submitting:
            return await self.call("sbatch", *arguments, text=script)

    async def call(self, name: str, *arguments: str, text: str = "", seconds: float | None = None) -> Answer:
        """What a program says; one that cannot be started is said to have failed.

        When the caller is cancelled, the program goes on until it ends or its time is up.
        """
        return await self._in(self._threads, self._run, name, arguments, text, seconds or self._seconds)

    async def with_files(self, work: Callable[..., T], *arguments: object) -> T:
        """Work with files in a thread, where a file system that hangs holds up nobody else."""
        return await self._in(self._files, work, *arguments)

    async def _in(self, pool: ThreadPoolExecutor, work: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(pool, work, *arguments)

    def close(self) -> None:
        """End every program that still runs, and wait for no thread."""
        self._is_closed = True
        for process in list(self._running):
            _kill(process)
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._files.shutdown(wait=False)

    def _found(self, name: str) -> str | None:
        path = str(self._bin_directory) if self._bin_directory else os.environ.get("PATH", _PATH)
        return shutil.which(name, path=path)

    def has(self, name: str) -> bool:
        """Whether this program is there."""
        return self._found(name) is not None

    def _run(self, name: str, arguments: Sequence[str], text: str, seconds: float) -> Answer:
        program = self._found(name)
        if program is None:
            return Answer(127, err=f"{name} cannot be found", is_started=False)
        try:
            process = subprocess.Popen(  # noqa: S603 - the program is Slurm's
                [program, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=self._environment(),
                start_new_session=True,  # Ctrl-C in the daemon's terminal must not cut a submission short
            )
        except (OSError, ValueError) as error:
            return Answer(126, err=f"{program} cannot be started: {error}", is_started=False)
        self._running.add(process)
        if self._is_closed:
            _kill(process)
        try:
            return self._heard(process, text.encode("utf-8", "surrogateescape"), seconds)
        finally:
            self._running.discard(process)

    def _heard(self, process: "subprocess.Popen[bytes]", text: bytes, seconds: float) -> Answer:
        with process:
            try:
                out, err = process.communicate(text, timeout=seconds)
            except subprocess.TimeoutExpired:
                _kill(process)
                out, err = process.communicate()
                return Answer(None, out.decode(errors="replace"), err.decode(errors="replace"))
        code = None if self._is_closed and process.returncode < 0 else process.returncode
        return Answer(code, out.decode(errors="replace"), err.decode(errors="replace"))

    def _environment(self) -> Mapping[bytes, bytes]:
        """The daemon's, without its secrets: sbatch hands it on to the jobs."""
        conf = os.environb.get(b"SLURM_CONF") if self._conf is None else os.fsencode(self._conf)
        kept = {name: value for name, value in os.environb.items() if not name.startswith((*DAEMONS_OWN, *NO_JOBS_OWN))}
        return kept if conf is None else {**kept, b"SLURM_CONF": conf}


def _kill(process: "subprocess.Popen[bytes]") -> None:
    """With all that it started: a site's sbatch may be a script."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
