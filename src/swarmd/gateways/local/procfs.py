"""What /proc says of processes and of this boot of the machine: proc(5)."""

import functools
import os
import time
from pathlib import Path
from typing import NamedTuple

PROC = Path("/proc")
_BOOT_ID = PROC / "sys/kernel/random/boot_id"


class ProcessStat(NamedTuple):
    """A process as its `stat` file shows it."""

    is_dead: bool
    """It has ended, and is there only until its parent has taken its exit status."""
    parent: int
    group: int
    start_ticks: int
    """When it started, in clock ticks since the boot: with its number, its name for as long as the machine is up."""


def stat_of(pid: int) -> ProcessStat | None:
    """The process with this number; None when there is none, or when it cannot be seen: `is_there` knows."""
    try:
        text = (PROC / str(pid) / "stat").read_bytes()
    except OSError:
        return None
    # After the program's name, which may hold anything, the third field is the first.
    fields = text[text.rindex(b")") + 1 :].split(None, 20)
    return ProcessStat(fields[0] in (b"Z", b"X"), int(fields[1]), int(fields[2]), int(fields[19]))


def is_there(pid: int) -> bool:
    """Whether there is a process with this number, also where /proc hides it (`hidepid`), or no descriptor is left."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def process_ids() -> list[int]:
    """The numbers of all processes."""
    return [int(name) for name in os.listdir(PROC) if name.isdigit()]  # noqa: PTH208 - names are enough


def environment_of(pid: int) -> list[bytes]:
    """What a process was started with, as NAME=value; empty when it is gone or somebody else's."""
    try:
        return (PROC / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:
        return []


def command_of(pid: int) -> list[bytes]:
    """The program and the arguments of a process; empty when it is gone."""
    try:
        return (PROC / str(pid) / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return []


def file_of(pid: int, descriptor: int) -> str:
    """What a process has open there, or had before it was removed; empty when that cannot be told."""
    try:
        return os.readlink(f"{PROC}/{pid}/fd/{descriptor}").removesuffix(" (deleted)")  # noqa: PTH115 - no path, maybe
    except OSError:
        return ""


def seconds_since(start_ticks: int) -> float:
    """How long ago a process started, the time that the machine slept included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - start_ticks / os.sysconf("SC_CLK_TCK")


@functools.cache
def boot_id() -> str:
    """Another one after every boot."""
    return _BOOT_ID.read_text().strip()
