"""How large the measurements are, and what they may use."""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PEERS_FOLDER = Path(__file__).resolve().parent / "peers"
RECORDINGS = ROOT.parent / "shared" / "workflows"
"""Recorded workflows lie beside a checkout, or they do not."""
PEER_SECONDS = 600.0
"""No peer may take longer."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much of everything."""

    rounds: int = 5
    tick_tasks: int = 100_000
    tick_arrays: int = 1000
    jobmon_rounds: int = 2
    growth: tuple[int, ...] = (100_000, 200_000, 400_000, 800_000, 1_500_000)
    jobmon_growth: tuple[int, ...] = (6_250, 12_500, 25_000, 50_000)
    swarm_tasks: int = 1_500_000
    swarm_arrays: int = 10_000
    large_tasks: int = 10_000_000
    steady_ticks: int = 10_000
    calls: int = 2000
    """Unary calls of one client in a round."""
    messages: int = 2000
    """Messages of an update stream in a round."""
    full_messages: int = 600
    """The same when each has 500 changes."""
    watchers: int = 100
    watched_changes: int = 200
    programs: int = 2000
    """How often /bin/true is run in a round."""
    program_rounds: int = 3
    starts: int = 7
    commits: int = 2000
    cores: tuple[int, ...] = (2, 3, 4, 8, 16, 32, 64, 100, 150, 200, 300, 500, 1000)


FULL = Sizes()
QUICK = Sizes(
    rounds=3,
    tick_tasks=20_000,
    tick_arrays=200,
    jobmon_rounds=1,
    growth=(20_000, 50_000, 100_000, 250_000),
    jobmon_growth=(5_000, 10_000, 20_000),
    swarm_tasks=100_000,
    swarm_arrays=700,
    steady_ticks=1500,
    calls=500,
    messages=500,
    full_messages=150,
    watched_changes=40,
    programs=600,
    program_rounds=1,
    starts=3,
    commits=300,
    cores=(2, 3, 100, 200, 1000),
)


@dataclass(slots=True)
class Setting:
    """One run of the suite."""

    sizes: Sizes
    folder: Path
    """For everything that is written; short, since sockets are there, and removed at the end."""
    peers: "Peers"
    large: bool = False
    """Whether the swarm of ten million tasks is measured."""

    def place(self, name: str) -> Path:
        """A new folder that only we can use."""
        place = self.folder / f"{name}{len(list(self.folder.iterdir()))}"
        place.mkdir(mode=0o700)
        return place


class Peers:
    """The programs of others, in an environment of their own (`scripts/bench_environment.py`)."""

    def __init__(self, python: Path | None) -> None:
        """`python` is that environment's; None when there is none."""
        self.python = python
        self.versions: dict[str, str] = {} if python is None else _versions(python)

    def has(self, package: str) -> bool:
        return package in self.versions

    def name(self, package: str, shown: str) -> str:
        """What a peer is called, with its version."""
        return f"{shown} {self.versions[package]}"

    def run(self, program: str, *arguments: object, folder: Path | None = None) -> dict[str, float]:
        """Run a program of the folder `peers`; it prints one JSON object as its last line."""
        if self.python is None:
            raise RuntimeError("there is no environment with peers")
        command = [str(self.python), str(PEERS_FOLDER / program), *map(str, arguments)]
        done = subprocess.run(
            command,
            cwd=folder,
            check=False,
            capture_output=True,
            text=True,
            timeout=PEER_SECONDS,
            stdin=subprocess.DEVNULL,
        )
        if done.returncode:
            raise RuntimeError(f"{program} failed: {done.stderr[-2000:]}")
        found: dict[str, float] = json.loads(done.stdout.strip().rpartition("\n")[2])
        return found


_VERSIONS = """
import importlib.metadata, json, sys
found = {}
for name in sys.argv[1:]:
    try:
        found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        pass
print(json.dumps(found))
"""
PACKAGES = ("hyperqueue", "dask", "distributed", "jobmon-client")


def _versions(python: Path) -> dict[str, str]:
    done = subprocess.run([str(python), "-c", _VERSIONS, *PACKAGES], check=True, capture_output=True, text=True)
    found: dict[str, str] = json.loads(done.stdout)
    return found


def cores() -> int:
    """How many cores there are for us."""
    return len(os.sched_getaffinity(0))
