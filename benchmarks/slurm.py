"""How long tasks take through `swarmd run` on a real Slurm, beside the same tasks given to it with `sbatch --array`.

    python benchmarks/slurm.py [--tasks 2000] [--arrays 4] [--rounds 2] [--json FILE]

Both use the same private cluster, started for it, and take turns; the best of each counts. By hand means: one script,
one `sbatch --array` for each array, and a look at the queue every second until nothing is left. Slurm must be installed
(scripts/install_slurm.sh).
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.daemon import private_environment, running, short_home  # noqa: E402
from tests.gateways.slurm.cluster import Cluster, missing_programs, running_cluster  # noqa: E402

GOAL = 1.3
LOOK_SECONDS = 1.0


def by_hand(cluster: Cluster, folder: Path, arrays: int, size: int) -> float:
    """The same tasks as a user would give them to Slurm."""
    script = folder / "true.sh"
    script.write_text("#!/bin/sh\ntrue\n")
    begin = time.perf_counter()
    for _ in range(arrays):
        quiet = ("-o", "/dev/null", "-e", "/dev/null")
        cluster.call("sbatch", "--parsable", *quiet, f"--array=0-{size - 1}", "--job-name=by-hand", str(script))
    while cluster.call("squeue", "-h", "--name=by-hand"):
        time.sleep(LOOK_SECONDS)
    took = time.perf_counter() - begin
    states = cluster.call("squeue", "-h", "-r", "-t", "all", "--name=by-hand", "-o", "%T").splitlines()
    if set(states) != {"COMPLETED"}:
        raise SystemExit(f"by hand: not all tasks ended well: {sorted(set(states))}")
    return took


def through_swarmd(cluster: Cluster, arrays: int, size: int, poll_min: float) -> tuple[float, float]:
    """Seconds that `swarmd run` takes with a daemon that is there, and the seconds of processor time of the daemon."""
    with short_home() as home:
        config = home / "config" / "swarmd" / "config.toml"
        config.parent.mkdir(parents=True, mode=0o700)
        config.write_text(f'[gateways.slurm]\nconf = "{cluster.conf}"\npoll_min = {poll_min}\n')
        lines = [f"  array-{number}: {{command: 'true', count: {size}}}\n" for number in range(arrays)]
        (home / "flow.yaml").write_text("name: bench\narrays:\n" + "".join(lines))
        with running(home=home) as daemon:
            command = [sys.executable, "-m", "swarmd", "run", str(home / "flow.yaml"), "--gateway", "slurm"]
            environment = {**private_environment(home), **daemon.environment}
            begin = time.perf_counter()
            done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=home, check=False)
            took = time.perf_counter() - begin
            if done.returncode:
                raise SystemExit(f"swarmd run failed: {done.stderr}{done.stdout}")
            used = processor_seconds(daemon.process.pid)
            daemon.stop()
    return took, used


def processor_seconds(pid: int) -> float:
    """What a process and the children that it waited for have used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--tasks", type=int, default=2000)
    parser.add_argument("--arrays", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--poll-min", type=float, default=1.0)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    missing = missing_programs()
    if missing:
        raise SystemExit(f"{', '.join(missing)} not installed: run scripts/install_slurm.sh as root")
    size = options.tasks // options.arrays
    hand: list[float] = []
    ours: list[float] = []
    print(f"{options.arrays} arrays of {size} x true, one node of 256 cores, {os.cpu_count()} real ones")
    for number in range(1, options.rounds + 1):
        # A cluster each: jobs of the round before would be in its memory, and in every look at its queue.
        with running_cluster() as cluster:
            hand.append(by_hand(cluster, cluster.folder, options.arrays, size))
        with running_cluster() as cluster:
            took, used = through_swarmd(cluster, options.arrays, size, options.poll_min)
            ours.append(took)
        print(f"round {number}: sbatch by hand {hand[-1]:6.1f} s   swarmd run {took:6.1f} s", flush=True)
        print(f"         processor time of the daemon and the programs that it called: {used:.1f} s", flush=True)
    ratio = min(ours) / min(hand)
    print(f"swarmd run / sbatch by hand: {ratio:.2f} (goal: at most {GOAL})")
    if options.json:
        result = {"tasks": options.tasks, "arrays": options.arrays, "by_hand": hand, "swarmd": ours, "ratio": ratio}
        options.json.write_text(json.dumps(result, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
