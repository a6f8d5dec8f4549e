"""The processes of attempts. They outlive the engine, and the next engine finds out what became of them.

Each attempt has a folder. Its process holds a lock on the file `lock` there from the moment that it exists, and the
kernel takes the lock away when it is gone, however it went: that, and not a number that may be somebody else's by now,
says whether it runs. Before its command begins it makes `started`, and when that has ended it writes the exit code, as
soon as there is room for it:

    lock held                     it runs, or is about to
    `exit` is there               it has ended with that code
    `started`, nothing else       it was killed together with the shell around it
    none of these                 it was never started, so it may be, unless the machine was started anew meanwhile:
                                  then these files may be older than what happened
"""

import contextlib
import fcntl
import hashlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

TAIL_BYTES = 2048

WRAPPER = """
echo $$ >"$1/started" || exit 1
sh -c "$2"
code=$?
until echo $code >"$1/exit.new" && mv "$1/exit.new" "$1/exit"; do [ -d "$1" ] || exit 1; sleep 1; done
"""

RUNS, NEVER_RAN, LOST = "runs", "never ran", "lost"
Fate = int | str
"""An exit code, or one of the words above."""


def boot() -> str:
    """Tells this boot of the machine from others; empty where the system does not say."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""


class Run:
    """The process of one attempt, whoever started it."""

    def __init__(self, root: Path, swarm_id: str, task_id: int, attempt: int) -> None:
        swarm = hashlib.sha256(swarm_id.encode()).hexdigest()[:16]  # a swarm's id may be anything
        self.folder = root / swarm / f"{task_id}.{attempt}"
        self._child: subprocess.Popen[bytes] | None = None

    def start(self, command: str, environment: Mapping[str, str], directory: str) -> None:
        """Raises OSError when it cannot be."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (
            (self.folder / "lock").open("wb") as lock,
            (self.folder / "out").open("wb") as out,
            (self.folder / "err").open("wb") as err,
        ):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._child = subprocess.Popen(
                ["/bin/sh", "-c", WRAPPER, "sh", str(self.folder), command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env={**os.environ, **environment},
                cwd=directory or None,
                pass_fds=[lock.fileno()],  # the lock is the child's as well, and stays when we let go of it
                start_new_session=True,
            )

    def fate(self) -> Fate:
        """What has become of it."""
        if self._child is not None:
            self._child.poll()  # or it would stay a zombie
        if self._holds_lock():
            return RUNS if self._code() is None else self._code()
        code = self._code()  # after the lock: it was written before that was let go
        if code is not None:
            return code
        return LOST if (self.folder / "started").exists() else NEVER_RAN

    def _holds_lock(self) -> bool:
        try:
            with (self.folder / "lock").open("rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    def _code(self) -> int | None:
        try:
            return int((self.folder / "exit").read_text())
        except (FileNotFoundError, ValueError):  # a loss of power may leave an empty file
            return None

    def seconds(self) -> float:
        """How long it has run."""
        try:
            return time.time() - (self.folder / "started").stat().st_mtime
        except FileNotFoundError:
            return 0.0

    def kill(self, number: signal.Signals) -> None:
        """Send a signal to it and all that it started. To be called only while it runs."""
        try:
            leader = int((self.folder / "started").read_text())
        except (FileNotFoundError, ValueError):
            return  # it is about to start: next time
        with contextlib.suppress(ProcessLookupError):
            os.killpg(leader, number)

    def tail(self) -> str:
        """The last of what it said on standard error."""
        with contextlib.suppress(OSError), (self.folder / "err").open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
            return file.read().decode(errors="replace").strip()
        return ""
