"""Make the environment with the peers that `make bench` measures beside us: build/bench/venv, apart from our own.

    python scripts/bench_environment.py [--folder build/bench/venv]

The versions are pinned. A peer that cannot be installed is said, with the reason; the rest is installed all the same,
and the suite prints the rows of that peer without it. Does nothing when everything is there.
"""

import argparse
import subprocess
import sys
import venv
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "build" / "bench" / "venv"
PEERS = (
    ("HyperQueue", ("hyperqueue==0.27.0",)),
    ("Dask", ("dask==2026.8.0", "distributed==2026.8.0")),
    ("Jobmon's client", ("jobmon-client==3.3.0", "jobmon-core==3.4.8")),
)
SHOWN_LINES = 4
STAMP = "installed"


def main() -> int:
    """Always 0: what is missing is said, and measured without."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    folder: Path = parser.parse_args().folder
    stamp = folder / STAMP
    wanted = "\n".join(package for _, packages in PEERS for package in packages)
    if stamp.exists() and stamp.read_text() == wanted:
        return 0
    problem = _made(folder)
    if problem:
        print(f"the environment for the peers of the benchmark cannot be made: {problem}")
        return 0
    print(f"installing the peers of the benchmark into {folder} (once; about a minute) ...", flush=True)
    missing = [name for name, packages in PEERS if not _installed(folder, name, packages)]
    if missing:
        print(f"missing: {', '.join(missing)}; their rows are printed without them. Run this again to try once more.")
    else:
        stamp.write_text(wanted)
    return 0


def _made(folder: Path) -> str:
    """Why there is no environment; empty when there is one."""
    if (folder / "bin" / "python").exists():
        return ""
    try:
        venv.create(folder, with_pip=True)
    except (OSError, subprocess.CalledProcessError) as error:
        return f"{error}; Python's venv module must be complete (on Debian: apt-get install python3-venv)"
    return ""


def _installed(folder: Path, name: str, packages: tuple[str, ...]) -> bool:
    """Install one peer; says why when it cannot be."""
    command = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run([*command, *packages], check=False, capture_output=True, text=True)
    if done.returncode:
        why = "\n  ".join(done.stderr.strip().splitlines()[-SHOWN_LINES:])
        print(f"{name} ({' '.join(packages)}) is not installed:\n  {why}")
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
