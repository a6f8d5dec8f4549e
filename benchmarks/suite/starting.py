"""What a daemon costs before it does anything, and what the command line costs."""

import subprocess
import sys
import time
from collections.abc import Callable

from benchmarks.suite.results import Results, Row, Spread, at_most
from benchmarks.suite.sampling import take_turns
from benchmarks.suite.servers import daemon
from benchmarks.suite.setting import ROOT, Setting

IDLE_SECONDS = 2.0
MB_80 = 80e6 / 2**20


def starts(results: Results, setting: Setting) -> None:
    """From start to ready, `swarmd --help`, and memory when idle; beside it what importing gRPC and numpy takes."""
    contenders: dict[str, Callable[[], float]] = {
        "ready": lambda: _until_ready(setting),
        "help": lambda: _seconds("-m", "swarmd", "--help"),
        "imports": lambda: _seconds("-c", "import grpc.aio, numpy"),
        "nothing": lambda: _seconds("-c", "pass"),
    }
    for measure in contenders.values():
        measure()  # warm
    found = take_turns(setting.sizes.starts, contenders)
    imports, nothing = "python, importing grpc.aio and numpy", "python, nothing imported"
    results.rows.append(
        Row("swarmd serve, start to ready", "s", found["ready"], found["imports"], imports, at_most(0.7))
    )
    results.rows.append(Row("swarmd --help", "s", found["help"], found["nothing"], nothing, at_most(0.3)))
    results.rows.append(Row("resident memory when idle", "MiB", Spread.of(_idle_memory(setting)), goal=at_most(MB_80)))


def _seconds(*arguments: str) -> float:
    begun = time.perf_counter()
    subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True, cwd=ROOT)
    return time.perf_counter() - begun


def _until_ready(setting: Setting) -> float:
    with daemon(setting.place("s")) as served:
        return served.seconds


def _idle_memory(setting: Setting) -> float:
    with daemon(setting.place("s")) as served:
        time.sleep(IDLE_SECONDS)
        return served.memory_mib()
