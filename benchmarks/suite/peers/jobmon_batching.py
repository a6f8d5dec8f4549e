"""Jobmon's client: how long its swarm takes to batch and queue tasks that are all ready, with an instant server.

    python jobmon_batching.py TASKS ARRAYS

The classes are its own (`WorkflowRun.process_commands`, as `run` calls it); only its requester is replaced, by one that
answers each batch at once with all its tasks QUEUED, as the server does. Prints {"seconds", "queued"}.
"""

import json
import logging
import sys
import time
from typing import Any

from jobmon.client.swarm.swarm_array import SwarmArray  # type: ignore[import-not-found]
from jobmon.client.swarm.swarm_task import SwarmTask  # type: ignore[import-not-found]
from jobmon.client.swarm.workflow_run import WorkflowRun  # type: ignore[import-not-found]
from jobmon.client.task_resources import TaskResources  # type: ignore[import-not-found]

NO_LIMIT = 2**31 - 1


class InstantServer:
    """In the place of Jobmon's requester and server."""

    def send_request(self, app_route: str, message: dict[str, Any], request_type: str) -> tuple[int, Any]:
        del request_type
        if app_route.endswith("/queue_task_batch"):
            return 200, {"tasks_by_status": {"Q": message["task_ids"]}}
        if app_route == "/task/bind_resources":
            return 200, 1
        raise RuntimeError(f"{app_route} is not called while batches are queued")


class Queue:
    """A queue that takes what is asked for."""

    queue_id = 1
    queue_name = "all.q"

    def coerce_resources(self, **asked: Any) -> dict[str, Any]:
        return asked


class Cluster:
    id = 1


def made(tasks: int, arrays: int) -> Any:
    """A run whose tasks are all ready; task t is of array 1 + t % arrays, and all want the same."""
    server = InstantServer()
    run = WorkflowRun(
        1, workflow_run_heartbeat_interval=30, heartbeat_report_by_buffer=3.1, status="R", requester=server
    )
    run._workflow_run_heartbeat_interval = 30  # noqa: SLF001 - its constructor forgets it when it is given one
    run.max_concurrently_running = NO_LIMIT
    resources = TaskResources({"cores": 1, "memory": 1, "runtime": 60}, Queue(), requester=server)
    run.arrays = {number: SwarmArray(number, NO_LIMIT) for number in range(1, arrays + 1)}
    for task_id in range(1, tasks + 1):
        task = SwarmTask(task_id, 1 + task_id % arrays, "G", 3, resources, Cluster())
        run.tasks[task_id] = task
        run.arrays[task.array_id].add_task(task)
        run._task_status_map["G"].add(task)  # noqa: SLF001 - as from_workflow does
        run.ready_to_run.append(task)
    return run


def main() -> None:
    logging.disable(logging.CRITICAL)
    tasks, arrays = int(sys.argv[1]), int(sys.argv[2])
    run = made(tasks, arrays)
    begun = time.perf_counter()
    run.process_commands()
    seconds = time.perf_counter() - begun
    queued = sum(task.status == "Q" for task in run.tasks.values())
    print(json.dumps({"seconds": seconds, "queued": queued}))


if __name__ == "__main__":
    main()
