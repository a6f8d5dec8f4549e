"""The cores and memory of this machine: how much there is, how much running tasks hold, and what fits beside them.

Used by the local gateway. Knows nothing of tasks: it deals in shapes.
"""

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from swarmd.core.model import TaskResources

MIB = 1 << 20
CGROUP_ROOT = Path("/sys/fs/cgroup")
MEMORY = Path("/proc/meminfo")
OWN_CGROUPS = Path("/proc/self/cgroup")


class Shape(NamedTuple):
    """What a task takes of the machine while it runs."""

    cores: int
    memory_mib: int

    @classmethod
    def of(cls, resources: TaskResources) -> "Shape":
        return cls(resources.cores, resources.memory_mib)


class Machine:
    """What the machine has, and how much of it is in use."""

    def __init__(self, cores: int | None = None, memory_mib: int | None = None) -> None:
        """None: what this process may use of the machine, by its CPU affinity, its memory and its control group."""
        self.cores = len(os.sched_getaffinity(0)) if cores is None else cores
        self.memory_mib = detected_memory_mib() if memory_mib is None else memory_mib
        if self.cores < 1 or self.memory_mib < 0:
            raise ValueError(f"a machine of {self.cores} cores and {self.memory_mib} MiB cannot run anything")
        self.used_cores = 0
        self.used_memory_mib = 0

    def fits(self, shape: Shape) -> bool:
        """Whether there is room for it now."""
        return (
            self.used_cores + shape.cores <= self.cores and self.used_memory_mib + shape.memory_mib <= self.memory_mib
        )

    @property
    def has_idle_core(self) -> bool:
        return self.used_cores < self.cores

    def take(self, shape: Shape) -> None:
        self.used_cores += shape.cores
        self.used_memory_mib += shape.memory_mib

    def give_back(self, shape: Shape) -> None:
        self.used_cores -= shape.cores
        self.used_memory_mib -= shape.memory_mib

    def wait_of(self, shape: Shape) -> str:
        """What a shape that did not start yet waits for, in words."""
        cores = "1 core" if shape.cores == 1 else f"{shape.cores} cores"
        needs = f"{cores} and {shape.memory_mib} MiB" if shape.memory_mib else cores
        memory = f", {self.used_memory_mib} of {self.memory_mib} MiB are asked for" if shape.memory_mib else ""
        turn = "its turn" if self.fits(shape) else "room"
        used = f"{self.used_cores} of {self.cores} cores are in use{memory}"
        return f"it waits for {turn} on this machine: it asks for {needs}; {used}"

    def objection(self, shape: Shape) -> str:
        """Why a shape can never fit, even when nothing else runs; empty when it can."""
        problems = []
        if shape.cores > self.cores:
            problems.append(f"asks for {shape.cores} cores, and this machine has {self.cores}")
        if shape.memory_mib > self.memory_mib:
            problems.append(f"asks for {shape.memory_mib} MiB of memory, and this machine has {self.memory_mib} MiB")
        return "; ".join(problems)


def detected_memory_mib(own_cgroups: Path = OWN_CGROUPS, root: Path = CGROUP_ROOT) -> int:
    """The machine's memory, or the limit of this process's control group where that is lower."""
    return min([_physical_bytes(), *_cgroup_limits(own_cgroups, root)]) // MIB


def _physical_bytes() -> int:
    """MemTotal: proc(5)."""
    found = re.search(r"^MemTotal:\s+(\d+) kB$", MEMORY.read_text(), re.MULTILINE)
    if found is None:
        raise OSError(f"{MEMORY} does not say how much memory there is")
    return int(found[1]) * 1024


def _cgroup_limits(own_cgroups: Path, root: Path) -> Iterator[int]:
    """The limits of the control group and of all above it, in bytes: each of them holds."""
    for folder, file_name in _cgroup_folders(own_cgroups, root):
        for above in (folder, *folder.parents):
            # A file is missing in a container that sees only its own part of the tree, and "max" is no limit.
            with suppress(OSError, ValueError):
                yield int((above / file_name).read_text())
            if above == root:
                break


def _cgroup_folders(own_cgroups: Path, root: Path) -> Iterator[tuple[Path, str]]:
    """Where version 2 and version 1 of the control groups keep this process's memory limit."""
    try:
        lines = own_cgroups.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        below = PurePosixPath(path).relative_to("/")
        if not controllers:
            yield root / below, "memory.max"
        elif "memory" in controllers.split(","):
            yield root / "memory" / below, "memory.limit_in_bytes"
