"""What one would write without a scheduler: a loop over a ProcessPoolExecutor whose workers call `subprocess.run`.

    python pool_of_processes.py TASKS CORES PROGRAM

Prints {"seconds"}. The workers are up before the clock starts.
"""

import json
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor


def run(program: str) -> int:
    return subprocess.run([program], check=False).returncode


def main() -> None:
    tasks, cores, program = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    with ProcessPoolExecutor(cores) as pool:
        list(pool.map(run, [program] * cores))
        begun = time.perf_counter()
        results = [pool.submit(run, program) for _ in range(tasks)]
        for result in results:
            if result.result():
                raise SystemExit(f"{program} failed")
        print(json.dumps({"seconds": time.perf_counter() - begun}))


if __name__ == "__main__":
    main()
