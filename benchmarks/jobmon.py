"""How long `swarmd run --jobmon` takes for 9 `echo` tasks in 2 layers, beside what Jobmon's distributor needs for them.

    python benchmarks/jobmon.py [--rounds 3] [--json FILE]

Both take turns with the real server 3.2.2 over SQLite and a distributor of its own for each run, alive before the clock
begins, with a pass a second. The distributor's share is measured with plain HTTP: each layer is queued the moment that
the one before is done, which is asked for every 20 ms. `swarmd run` counts from its start to its end, a daemon of its
own included; how much of that it says the workflow took, once it was loaded, is shown beside it.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.daemon import private_environment, short_home  # noqa: E402
from tests.gateways.jobmon.real import Jobmon, Workflow, server  # noqa: E402

LAYERS = [["echo first"] * 6, ["echo second"] * 3]
GOAL_SECONDS = 3.0
POLL_SECONDS = 0.02
CLUSTERS = ("sequential", "multiprocess")


OURS, LOADED, SHARE = "swarmd run --jobmon", "  of it after loading", "the distributor's share"
Seconds = dict[str, float]


def plain(jobmon: Jobmon, workflow: Workflow, cluster: str) -> Seconds:
    """Queue layer after layer by hand, from the first call to the last DONE."""
    cluster_id = jobmon.call("GET", f"/cluster/{cluster}")["cluster"][0]
    jobmon.set_run_status(workflow.run_id, "R")
    begin, ids = time.perf_counter(), iter(workflow.task_ids)
    for layer, array in zip(LAYERS, workflow.array_ids, strict=True):
        task_ids = [next(ids) for _ in layer]
        jobmon.post(
            f"/array/{array}/queue_task_batch",
            task_ids=task_ids,
            task_resources_id=workflow.resources_id,
            workflow_run_id=workflow.run_id,
            cluster_id=cluster_id,
        )
        while not set(task_ids) <= set(done(jobmon, workflow)):
            time.sleep(POLL_SECONDS)
    took = time.perf_counter() - begin
    jobmon.set_run_status(workflow.run_id, "D")
    return {SHARE: took}


def done(jobmon: Jobmon, workflow: Workflow) -> list[int]:
    """The tasks that are DONE."""
    answer = jobmon.post(f"/workflow/{workflow.workflow_id}/task_status_updates")
    ids: list[int] = answer["tasks_by_status"].get("D", [])
    return ids


def ours(jobmon: Jobmon, workflow: Workflow, cluster: str) -> Seconds:
    """`swarmd run --jobmon`, with default settings, from its start to its end."""
    del cluster
    command = [sys.executable, "-m", "swarmd", "run", "--jobmon", str(workflow.run_id), "--server", jobmon.url]
    command += ["--workflow", str(workflow.workflow_id), "--json"]
    with short_home() as home:
        begin = time.perf_counter()
        ended = subprocess.run(command, env=private_environment(home), check=True, capture_output=True)
        took = time.perf_counter() - begin
    assert jobmon.run_status(workflow.run_id) == "D"
    assert set(jobmon.instances(workflow).values()) == {1}
    return {OURS: took, LOADED: float(json.loads(ended.stdout)["seconds"])}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    results: dict[str, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory(prefix="jobmon-") as folder, server(Path(folder)) as jobmon:
        for cluster in CLUSTERS:
            times: dict[str, list[float]] = {name: [] for name in (OURS, LOADED, SHARE)}
            for _ in range(arguments.rounds):
                for contender in (ours, plain):
                    workflow = jobmon.workflow(LAYERS, cluster=cluster)
                    with jobmon.distributor(workflow, cluster):
                        for name, seconds in contender(jobmon, workflow, cluster).items():
                            times[name].append(seconds)
            results[cluster] = times
    met = True
    for cluster, times in results.items():
        for name, measured in times.items():
            shown = " ".join(f"{each:.2f}" for each in measured)
            print(f"{cluster:12}  {name:24}  median {statistics.median(measured):6.2f} s   ({shown})")
        more = statistics.median(times[OURS]) - statistics.median(times[SHARE])
        met &= more <= GOAL_SECONDS
        print(f"{cluster:12}  {'more than that':24}  {more:+13.2f} s   goal: at most {GOAL_SECONDS:.0f} s")
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(results, indent=1) + os.linesep)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
