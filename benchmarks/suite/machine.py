"""The machine and the versions that figures belong to: figures without them say nothing."""

import os
import platform
import sqlite3
from importlib.metadata import version
from pathlib import Path

import psutil
from benchmarks.suite.setting import Peers, cores

GIB = 1024**3
PACKAGES = ("swarmd", "grpcio", "numpy", "protobuf")


def describe(peers: Peers) -> list[str]:
    """A few lines about where it was measured."""
    memory = psutil.virtual_memory().total / GIB
    load = os.getloadavg()[0]
    others = ", ".join(f"{name} {number}" for name, number in peers.versions.items()) or "none installed"
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return [
        f"{_processor()}, {cores()} cores, {memory:.0f} GiB of memory, load {load:.1f} at the start",
        f"{platform.system()} {platform.release().partition('-')[0]}",
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {packages}",
        f"peers: {others}",
    ]


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
