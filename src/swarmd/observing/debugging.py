"""The daemon's insides as a file, for `swarmd debug dump`: written when SIGUSR1 comes, for the daemon's user only.

Of any process it tells versions, threads and asyncio's tasks; no values of variables, which may be secret.
"""

import asyncio
import contextlib
import json
import os
import platform
import sqlite3
import sys
import threading
import time
import traceback
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import FrameType
from typing import Any

import psutil

from swarmd._version import __version__

FILE_NAME = "debug.json"
PACKAGES = ("grpcio", "protobuf", "numpy", "pydantic", "structlog", "psutil", "prometheus-client", "opentelemetry-sdk")
SHOWN_TASKS = 500
SHOWN_FRAMES = 40
SHORTEST_PRIVATE = 4
"""Shorter texts are not taken out: they would be found everywhere."""


def versions() -> dict[str, str]:
    """Of everything that a bug may depend on."""
    found = {"swarmd": __version__, "python": sys.version, "sqlite": sqlite3.sqlite_version}
    for name in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return {**found, "kernel": platform.platform(), "machine": platform.machine()}


def process_facts() -> dict[str, Any]:
    """What the system says of this process."""
    process = psutil.Process()
    with process.oneshot():
        times, memory = process.cpu_times(), process.memory_info()
        return {
            "pid": process.pid,
            "uptime_seconds": time.time() - process.create_time(),
            "resident_bytes": memory.rss,
            "cpu_seconds": times.user + times.system,
            "open_files": process.num_fds(),
            "threads": process.num_threads(),
        }


def thread_stacks() -> dict[str, list[str]]:
    """Where every thread is just now, by name."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    frames = sys._current_frames()  # noqa: SLF001 - there is no public way
    return {f"{names.get(ident, '?')} ({ident})": _stack(frame) for ident, frame in frames.items()}


def task_stacks() -> list[dict[str, Any]]:
    """What asyncio's tasks wait for, the first of them."""
    return [
        {
            "name": task.get_name(),
            "coroutine": getattr(task.get_coro(), "__qualname__", "?"),
            "at": [_place(frame) for frame in task.get_stack(limit=SHOWN_FRAMES)],
        }
        for task in list(asyncio.all_tasks())[:SHOWN_TASKS]
    ]


def without(private: Iterable[str], lines: Iterable[str]) -> list[str]:
    """The lines, with these texts taken out wherever they stand, also as JSON writes them."""
    texts = {text for text in private if len(text) >= SHORTEST_PRIVATE}
    forms = sorted(texts | {json.dumps(text)[1:-1] for text in texts}, key=len, reverse=True)
    return [_without(forms, line) for line in lines]


def write_private(path: Path, data: dict[str, Any]) -> None:
    """Write JSON that only this user can read, at once. Raises OSError."""
    new = path.with_name(f".{path.name}.tmp{os.getpid()}")
    new.unlink(missing_ok=True)
    with open(new, "x", encoding="utf-8", opener=_for_its_owner) as file:
        json.dump(data, file, indent=1, default=str)
        file.write("\n")
    new.replace(path)


def _for_its_owner(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _without(forms: list[str], line: str) -> str:
    for form in forms:
        line = line.replace(form, "[left out]")
    return line


def _stack(frame: FrameType) -> list[str]:
    return [line.rstrip() for line in traceback.format_stack(frame, limit=SHOWN_FRAMES)]


def _place(frame: FrameType) -> str:
    return f"{frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_qualname}"
