"""HyperQueue's local cluster: how long it takes to run a program so often. The cluster is up before the clock starts.

    python hyperqueue_programs.py TASKS CORES PROGRAM

Prints {"seconds"}.
"""

import json
import sys
import time

from hyperqueue import Job, LocalCluster  # type: ignore[import-not-found]
from hyperqueue.cluster import WorkerConfig  # type: ignore[import-not-found]


def main() -> None:
    tasks, cores, program = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    with LocalCluster() as cluster:
        cluster.start_worker(WorkerConfig(cores=cores))
        client = cluster.client()
        job = Job()
        for _ in range(tasks):
            job.program([program])
        begun = time.perf_counter()
        client.wait_for_jobs([client.submit(job)])
        print(json.dumps({"seconds": time.perf_counter() - begun}))


if __name__ == "__main__":
    main()
