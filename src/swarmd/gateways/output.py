"""Where the output of a task and its status file go, and the last lines of the output.

Used by the local gateway to start tasks and to say why they failed, and by whoever shows logs. Knows files and text,
nothing of tasks.
"""

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

FILE_MODE = 0o600
FOLDER_MODE = 0o700
OPEN_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
LONGEST_FOLDER_NAME = 200

TAIL_BYTES = 2048
TAIL_LINES = 20
TAIL_TEXT_BYTES = 3072
"""The tail as it is shown: what is not printable got longer on the way."""


@dataclass(frozen=True, slots=True)
class OutputPaths:
    """The files with what an attempt wrote."""

    out: Path
    err: Path


def output_beginning(log_directory: Path, swarm_id: str) -> str:
    """How the names of all output and status files of a swarm begin."""
    return f"{log_directory}/{folder_name(swarm_id)}"


def output_paths(log_directory: Path, swarm_id: str, array_id: int, task_id: int, attempt: int) -> OutputPaths:
    """The files of one attempt, whether they are there or not. Distinct attempts never share a file."""
    start = _beginning(log_directory, swarm_id, array_id, task_id, attempt)
    return OutputPaths(Path(f"{start}.out"), Path(f"{start}.err"))


def status_path(log_directory: Path, swarm_id: str, array_id: int, task_id: int, attempt: int, token: str) -> Path:
    """The status file of an attempt: beside its output, and another one when the swarm's id is used again."""
    start = _beginning(log_directory, swarm_id, array_id, task_id, attempt)
    return Path(start + status_ending(token))


def status_ending(token: str) -> str:
    """How the names of the status files of a swarm with this token end."""
    return f".{folder_name(token)}.status"


def _beginning(log_directory: Path, swarm_id: str, array_id: int, task_id: int, attempt: int) -> str:
    return f"{output_beginning(log_directory, swarm_id)}/{array_id}/{task_id}.{attempt}"


def folder_name(swarm_id: str) -> str:
    """A name for the folder of a swarm that leads nowhere else, whatever the swarm is called."""
    name = quote(swarm_id, safe="", errors="surrogatepass")
    if name in ("", ".", ".."):
        return "%" + name
    if len(name) > LONGEST_FOLDER_NAME:
        digest = hashlib.sha256(swarm_id.encode(errors="surrogatepass")).hexdigest()[:32]
        return f"{name[: LONGEST_FOLDER_NAME - 33]}%{digest}"
    return name


def open_output(paths: OutputPaths, *, emptied: bool = True) -> tuple[int, int]:
    """Both files for writing: the descriptors are the caller's to close. Raises OSError.

    `emptied`: whatever was in them is gone.
    """
    flags = OPEN_FLAGS | os.O_TRUNC if emptied else OPEN_FLAGS
    out = _open(paths.out, flags)
    try:
        return out, _open(paths.err, flags)
    except OSError:
        os.close(out)
        raise


def _open(path: Path, flags: int) -> int:
    try:
        return os.open(path, flags, FILE_MODE)
    except FileNotFoundError:
        make_folder(path.parent)
        return os.open(path, flags, FILE_MODE)


def make_folder(folder: Path) -> None:
    """A folder of the user's own, with those above it where they are missing."""
    try:
        folder.mkdir(mode=FOLDER_MODE)
    except FileNotFoundError:
        make_folder(folder.parent)
        folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
    except FileExistsError:
        if not folder.is_dir():
            raise


def tail(path: Path) -> str:
    """The last lines of a file, fit to be shown anywhere; empty when there is nothing to read."""
    try:
        data, cut = _last_bytes(path)
    except OSError:
        return ""
    text = data.decode(errors="replace").replace("\r\n", "\n")
    # Of a line that was written over, as progress bars do, the last version is what a terminal would show.
    lines = [line.rstrip("\r").rpartition("\r")[2] for line in text.rstrip().split("\n")]
    if cut and len(lines) > 1:
        del lines[0]
    shown = "\n".join(harmless(line) for line in lines[-TAIL_LINES:])
    return shown.encode()[-TAIL_TEXT_BYTES:].decode(errors="ignore")


def _last_bytes(path: Path) -> tuple[bytes, bool]:
    """The last bytes of a regular file, and whether there are more before them."""
    # The task may have put anything in its place: a pipe would block the daemon, a link lead elsewhere.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return b"", False
        start = max(0, status.st_size - TAIL_BYTES)
        return os.pread(descriptor, TAIL_BYTES, start), start > 0
    finally:
        os.close(descriptor)


def harmless(line: str) -> str:
    """The line with everything spelt out that is not printable: it will be shown on terminals."""
    if line.isprintable():
        return line
    return "".join(c if c == "\t" or c.isprintable() else c.encode("unicode_escape").decode() for c in line)
