"""What a daemon costs before it does anything: from start to ready, and the memory that it has when it is idle.

Beside it, in the same run: Python with nothing, and Python with grpcio and numpy, which no change here can save.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

IDLE_SECONDS = 2.0
MIB = 1024 * 1024


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10, help="of each; default: 10")
    runs: int = parser.parse_args().runs
    rows: dict[str, Callable[[], float]] = {
        "python, nothing imported": lambda: _seconds("-c", "pass"),
        "python, grpc.aio and numpy imported": lambda: _seconds("-c", "import grpc.aio, numpy"),
        "swarmd --help": lambda: _seconds("-m", "swarmd", "--help"),
        "swarmd serve, until it is ready": _until_ready,
    }
    taken: dict[str, list[float]] = {name: [] for name in rows}
    for _ in range(runs + 1):
        for name, measure in rows.items():
            taken[name].append(measure())
    for name, values in taken.items():
        counted = sorted(values[1:])  # the first one warms up
        print(f"{name:40} {statistics.median(counted):6.2f} s  ({counted[0]:.2f} to {counted[-1]:.2f})")
    print(f"{'swarmd serve, memory when idle':40} {_idle_memory():6.0f} MiB")


def _seconds(*arguments: str) -> float:
    begun = time.perf_counter()
    subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - begun


def _until_ready() -> float:
    begun = time.perf_counter()
    with _daemon():
        return time.perf_counter() - begun


def _idle_memory() -> float:
    with _daemon() as pid:
        time.sleep(IDLE_SECONDS)
        return float(psutil.Process(pid).memory_info().rss / MIB)


@contextmanager
def _daemon() -> Iterator[int]:
    """A daemon with an empty state, durable as by default."""
    with tempfile.TemporaryDirectory(prefix="sw-") as home:
        Path(home).chmod(0o700)
        command = [sys.executable, "-m", "swarmd", "serve", "--ready-json", "--exit-with-parent"]
        command += ["--listen", f"unix:{home}/s.sock", "--state-dir", f"{home}/state"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            assert process.stdout is not None
            ready = json.loads(process.stdout.readline())
            try:
                yield int(ready["pid"])
            finally:
                process.terminate()


if __name__ == "__main__":
    main()
