"""Dask's distributed scheduler with one worker process: how long it takes to run a function that does nothing so often.

    python dask_no_ops.py TASKS CORES

Prints {"seconds"}. The cluster is up before the clock starts.
"""

import json
import sys
import time

from distributed import Client, LocalCluster, wait  # type: ignore[import-not-found]


def no_op(number: int) -> int:
    return number


def main() -> None:
    tasks, cores = int(sys.argv[1]), int(sys.argv[2])
    with (
        LocalCluster(n_workers=1, threads_per_worker=cores, host="127.0.0.1", dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        wait(client.map(no_op, range(10), pure=False))
        begun = time.perf_counter()
        wait(client.map(no_op, range(tasks), pure=False))
        print(json.dumps({"seconds": time.perf_counter() - begun}), flush=True)


if __name__ == "__main__":
    main()
