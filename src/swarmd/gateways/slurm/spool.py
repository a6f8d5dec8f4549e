"""The files of batches on the shared file system: what its elements read, and what the next daemon needs to know.

A folder a batch, below one for its swarm: `tasks` (an index, then a block of shell words a task), `manifest` (which
attempt is at which place), `jobs` (which arrays Slurm has of it). All of it blocks, so it is called in threads.
"""

import contextlib
import hashlib
import json
import os
import secrets
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from swarmd.core.batch import TaskSpec
from swarmd.gateways.output import FILE_MODE, folder_name, make_folder
from swarmd.gateways.slurm.script import BLOCK_BYTES, RECORD_BYTES, quoted, quoted_bytes

_ENVIRONMENT, _TASKS, _MANIFEST, _JOBS = "environment", "tasks", "manifest", "jobs"
_TASKS_OF_THE_GONE = "tasks.deleted"
"""The name of a batch's tasks, where they are kept, when its swarm was deleted."""
NOT_THE_SWARMS = ("SLURM_", "SBATCH_")
"""Variables of these beginnings are the job's own: those of a job that the client runs in would mislead its tasks."""
THE_SHELLS = frozenset(
    {"PWD", "OLDPWD", "IFS", "OPTIND", "LINENO", "PPID", "UID", "EUID", "SHELLOPTS", "BASHOPTS", "BASH_VERSINFO", "_"}
)
"""Variables that are the shell's own: some cannot be set, the others would change what commands mean."""


@dataclass(frozen=True, slots=True)
class ArrayJob:
    """One job array of a batch."""

    job_id: int
    first: int
    """The place in the batch of its element 0."""
    count: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """What is remembered of a batch."""

    batch_id: str
    array_id: int
    runtime_seconds: float
    task_ids: Sequence[int]
    attempts: Sequence[int]
    jobs: list[ArrayJob] = field(default_factory=list)


class Spool:
    """The batch files of all swarms, below one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._tidying = threading.Lock()
        """Files that a new batch needs are not removed while it is written."""

    def check(self) -> None:
        """Raises FileNotFoundError when the folder that all of this is in is not there.

        Nobody makes it here: it would hide that a file system is not mounted, and that says nothing of jobs.
        """
        if not self.folder.parent.is_dir():
            raise FileNotFoundError(f"{self.folder.parent} is not there; mount its file system, or make the folder")

    def trouble(self) -> str:
        """Why nothing can be put there, with what to do about it; empty when it can."""
        place = self.folder.parent
        try:
            self.check()
        except FileNotFoundError as error:
            return f"directory in [gateways.slurm]: {error}, where the compute nodes see it, too"
        if not os.access(place, os.W_OK | os.X_OK):
            return f"directory in [gateways.slurm]: nothing may be written in {place}; give a folder of your own"
        return ""

    def batch_folder(self, swarm_id: str, batch_id: str) -> Path:
        return self.folder / folder_name(swarm_id) / folder_name(batch_id)

    def tasks_file(self, swarm_id: str, batch_id: str) -> Path:
        return self.batch_folder(swarm_id, batch_id) / _TASKS

    def write(
        self, swarm_id: str, environment: Mapping[str, str], manifest: Manifest, specs: Sequence[TaskSpec]
    ) -> Path:
        """Everything of a batch but its jobs, durable on return. Gives the file of its environment. Raises OSError."""
        self.check()
        with self._tidying:
            path = self._write_environment(swarm_id, environment)
            self._write_batch(swarm_id, manifest, specs)
        return path

    def _write_environment(self, swarm_id: str, environment: Mapping[str, str]) -> Path:
        """The file that exports a swarm's variables; it is there on return."""
        text = "".join(
            f"export {name}={quoted(value)}\n"
            for name, value in {**environment, "SWARM_ID": swarm_id}.items()
            if not name.startswith(NOT_THE_SWARMS) and name not in THE_SHELLS
        ).encode("utf-8", "surrogateescape")
        digest = hashlib.sha256(text).hexdigest()[:16]
        path = self.folder / folder_name(swarm_id) / f"{_ENVIRONMENT}-{digest}"
        if not path.exists():
            make_folder(path.parent)
            _write(path, text)
        return path

    def _write_batch(self, swarm_id: str, manifest: Manifest, specs: Sequence[TaskSpec]) -> None:
        folder = self.batch_folder(swarm_id, manifest.batch_id)
        make_folder(folder)
        _write(folder / _TASKS, b"".join(_tasks(specs)))
        known = {
            "batch_id": manifest.batch_id,
            "array_id": manifest.array_id,
            "runtime_seconds": manifest.runtime_seconds,
            "task_ids": list(manifest.task_ids),
            "attempts": list(manifest.attempts),
        }
        _write(folder / _MANIFEST, json.dumps(known).encode())

    def note_job(self, swarm_id: str, batch_id: str, job: ArrayJob) -> None:
        """Slurm has an array of the batch. Raises OSError."""
        path = self.batch_folder(swarm_id, batch_id) / _JOBS
        with open(path, "a", opener=_private) as file:
            file.write(f"{job.job_id} {job.first} {job.count}\n")
            file.flush()
            os.fsync(file.fileno())

    def batches(self, swarm_id: str) -> Iterator[Manifest]:
        """What there is of a swarm. Folders that cannot be understood are left out.

        Raises OSError when its folder cannot be read, or when the shared one is not there at all: that says nothing.
        """
        self.check()
        with contextlib.suppress(FileNotFoundError):
            for folder in sorted((self.folder / folder_name(swarm_id)).iterdir()):
                manifest = _read(folder)
                if manifest is not None:
                    yield manifest

    def batch(self, swarm_id: str, batch_id: str) -> Manifest | None:
        """What there is of a batch; None when there is nothing. Raises OSError when the shared folder is not there."""
        self.check()
        return _read(self.batch_folder(swarm_id, batch_id))

    def remove_batch(self, swarm_id: str, batch_id: str) -> None:
        shutil.rmtree(self.batch_folder(swarm_id, batch_id), ignore_errors=True)

    def tidy(self, swarm_id: str, is_in_use: Callable[[], bool]) -> None:
        """Remove everything of a swarm, unless it has batches again."""
        with self._tidying:
            if not is_in_use():
                self.remove_swarm(swarm_id)

    def remove_swarm(self, swarm_id: str) -> None:
        shutil.rmtree(self.folder / folder_name(swarm_id), ignore_errors=True)

    def abandon(self, swarm_id: str, going_on: Iterable[str], *, keep_files: bool) -> None:
        """The swarm is gone: a job of the batches that go on runs nothing from now on, also where files are kept."""
        with self._tidying:
            if not keep_files:
                self.remove_swarm(swarm_id)
                return
            for batch_id in going_on:
                path = self.tasks_file(swarm_id, batch_id)
                with contextlib.suppress(OSError):
                    path.replace(path.with_name(_TASKS_OF_THE_GONE))


def _tasks(specs: Sequence[TaskSpec]) -> Iterator[bytes]:
    """The index, and then the tasks, each in whole blocks."""
    blocks = [_block(spec) for spec in specs]
    head = _padded(b"".join(b"\n" * RECORD_BYTES for _ in blocks))
    place, records = len(head) // BLOCK_BYTES, []
    for block in blocks:
        count = len(block) // BLOCK_BYTES
        records.append(b"%-*b\n" % (RECORD_BYTES - 1, b"%d %d" % (place, count)))
        place += count
    yield b"".join(records).ljust(len(head), b"\n")
    yield from blocks


def _block(spec: TaskSpec) -> bytes:
    words = b"swarmd_task=%d swarmd_attempt=%d swarmd_name=%b swarmd_command=%b\n"
    return _padded(words % (spec.task_id, spec.attempt, quoted_bytes(spec.name), quoted_bytes(spec.command)))


def _padded(data: bytes) -> bytes:
    return data + b"\n" * (-len(data) % BLOCK_BYTES)


def _read(folder: Path) -> Manifest | None:
    try:
        known = json.loads((folder / _MANIFEST).read_bytes())
        manifest = Manifest(
            str(known["batch_id"]),
            int(known["array_id"]),
            float(known["runtime_seconds"]),
            [int(each) for each in known["task_ids"]],
            [int(each) for each in known["attempts"]],
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
    manifest.jobs.extend(_read_jobs(folder / _JOBS))
    return manifest


def _read_jobs(path: Path) -> Iterator[ArrayJob]:
    try:
        text = path.read_text()
    except OSError:
        return
    for line in text.split("\n")[:-1]:  # the last line counts only when it is whole
        words = line.split()
        if len(words) == 3 and all(word.isdecimal() for word in words):
            yield ArrayJob(*map(int, words))


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE)


def _write(path: Path, data: bytes) -> None:
    """Put a file in its place, whole, and on the disk."""
    making = path.with_name(f"{path.name}.{secrets.token_hex(4)}.new")
    try:
        with open(making, "wb", opener=_private) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        making.replace(path)
    except OSError:
        making.unlink(missing_ok=True)
        raise
