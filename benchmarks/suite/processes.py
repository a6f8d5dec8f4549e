"""/bin/true, again and again: through `swarmd run`, through others, and in a loop that does nothing else."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.suite.results import Results, Row, times_as_good
from benchmarks.suite.sampling import take_turns
from benchmarks.suite.servers import Daemon, daemon
from benchmarks.suite.setting import PEER_SECONDS, PEERS_FOLDER, ROOT, Setting, cores

PROGRAM = "/bin/true"
COUNTED = "ours with the start of the command and the load; clusters and pools of others are up before the clock starts"
HYPERQUEUE, DASK = "hyperqueue", "distributed"


def programs(results: Results, setting: Setting) -> None:
    """End to end with `swarmd run` in a daemon that writes down, beside everything else that can run programs."""
    tasks = setting.sizes.programs
    with daemon(setting.place("p")) as served:
        file = setting.place("f") / "true.yaml"
        file.write_text(_workflow(tasks))
        contenders: dict[str, Callable[[], float]] = {
            "ours": partial(_run, served, file, tasks),
            "loop": partial(spawn_loop, tasks),
            "pool": partial(_pool, tasks),
        }
        if setting.peers.has(HYPERQUEUE):
            contenders["hyperqueue"] = partial(_hyperqueue, setting, tasks)
        if setting.peers.has(DASK):
            contenders["dask"] = partial(_dask, setting, tasks)
        found = take_turns(setting.sizes.program_rounds, contenders)
    name = f"{tasks:,} times {PROGRAM} with `swarmd run`, durable"
    peers = (
        ("hyperqueue", _name(setting, HYPERQUEUE, "HyperQueue"), times_as_good(1.5)),
        ("loop", "bare posix_spawn loop", times_as_good(0.7, "70% of the loop")),
        ("pool", "ProcessPoolExecutor", None),
        ("dask", f"{_name(setting, DASK, 'dask.distributed')}, no-op", None),
    )
    for key, peer, goal in peers:
        row = Row(name, "tasks/s", found["ours"], found.get(key), peer, goal, more_is_better=True, note=COUNTED)
        results.rows.append(row)


def _name(setting: Setting, package: str, shown: str) -> str:
    return setting.peers.name(package, shown) if setting.peers.has(package) else shown


def _workflow(tasks: int) -> str:
    arrays = {"programs": {"parameters": {"n": {"from": 1, "to": tasks}}, "command": PROGRAM}}
    return json.dumps({"name": "programs", "arrays": arrays})


def _run(served: Daemon, file: Path, tasks: int) -> float:
    """Tasks a second, from the start of the command to its end."""
    command = [sys.executable, "-m", "swarmd", "run", str(file), "--address", served.address, "--json"]
    begun = time.perf_counter()
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=PEER_SECONDS, cwd=ROOT)
    seconds = time.perf_counter() - begun
    if done.returncode:
        raise RuntimeError(f"`swarmd run` failed: {done.stderr[-2000:]}")
    return tasks / seconds


def spawn_loop(tasks: int) -> float:
    """Tasks a second of the plainest loop there is: as many children at a time as there are cores."""
    running = 0
    begun = time.perf_counter()
    for _ in range(tasks):
        if running == cores():
            os.wait()
            running -= 1
        os.posix_spawn(PROGRAM, [PROGRAM], os.environ)
        running += 1
    for _ in range(running):
        os.wait()
    return tasks / (time.perf_counter() - begun)


def _pool(tasks: int) -> float:
    command = [sys.executable, str(PEERS_FOLDER / "pool_of_processes.py"), str(tasks), str(cores()), PROGRAM]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=PEER_SECONDS)
    return tasks / float(json.loads(done.stdout)["seconds"])


def _hyperqueue(setting: Setting, tasks: int) -> float:
    found = setting.peers.run("hyperqueue_programs.py", tasks, cores(), PROGRAM, folder=setting.place("h"))
    return tasks / found["seconds"]


def _dask(setting: Setting, tasks: int) -> float:
    return tasks / setting.peers.run("dask_no_ops.py", tasks, cores(), folder=setting.place("k"))["seconds"]
