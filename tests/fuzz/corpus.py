"""The messages that fuzzing begins with: one file each in `corpus/`, named METHOD-WHAT.bin.

`python -m tests.fuzz.corpus` writes the real ones anew; what a crash was found with stays beside them for good.
"""

import hashlib
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.timestamp_pb2 import Timestamp

from swarmd._pb.swarm.v1 import (
    array_pb2,
    batch_pb2,
    scheduler_service_pb2,
    state_pb2,
    swarm_pb2,
    swarm_service_pb2,
    task_pb2,
)

FOLDER = Path(__file__).parent / "corpus"
METHODS: Mapping[str, MethodDescriptor] = {
    method.name: method
    for file in (scheduler_service_pb2, swarm_service_pb2)
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}


def path_of(method: str) -> str:
    """As gRPC calls it: /SERVICE/METHOD."""
    return f"/{METHODS[method].containing_service.full_name}/{method}"


def request_class(method: str) -> type[Message]:
    return GetMessageClass(METHODS[method].input_type)


def read_corpus(*folders: Path) -> dict[str, list[bytes]]:
    """The messages by method, in a fixed order."""
    found: dict[str, list[bytes]] = defaultdict(list)
    for folder in folders or (FOLDER,):
        for path in sorted(folder.glob("*.bin")):
            method = path.name.partition("-")[0]
            if method in METHODS:
                found[method].append(path.read_bytes())
    return dict(found)


def save(folder: Path, method: str, data: bytes) -> Path:
    """Keep a message in a file that is named by what is in it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{method}-{hashlib.sha256(data).hexdigest()[:12]}.bin"
    path.write_bytes(data)
    return path


def _updates() -> dict[str, Message]:
    group, status = state_pb2.TaskStatusGroup, task_pb2.TaskStatus
    statuses = {
        name.removeprefix("TASK_STATUS_").lower(): state_pb2.StateUpdate(
            task_statuses=[group(status=name, task_ids=[1, 2, 3])]
        )
        for name, number in status.items()
        if number
    }
    others = {
        "attempts": state_pb2.StateUpdate(
            task_statuses=[
                group(status=task_pb2.TASK_STATUS_RUNNING, task_ids=[1, 2], attempts=[1, 1]),
                group(status=task_pb2.TASK_STATUS_DONE, task_ids=[1], attempts=[1], reason="exit code 0"),
            ]
        ),
        "limits": state_pb2.StateUpdate(
            max_concurrently_running=5,
            array_limits=[
                state_pb2.ArrayLimit(array_id=1, max_concurrently_running=2),
                state_pb2.ArrayLimit(array_id=2),
            ],
        ),
        "queues": state_pb2.StateUpdate(
            queue_limits=[
                task_pb2.QueueLimits(cluster="c", queue="q", cores=4, memory_mib=100, runtime=Duration(seconds=60)),
                task_pb2.QueueLimits(),
            ]
        ),
        "run": state_pb2.StateUpdate(
            workflow_run_status=state_pb2.WORKFLOW_RUN_STATUS_RUNNING, sync_time=Timestamp(seconds=1_700_000_000)
        ),
    }
    return {
        f"ApplyUpdate-{name}": scheduler_service_pb2.ApplyUpdateRequest(swarm_id="s", sequence=7, update=update)
        for name, update in {**statuses, **others}.items()
    }


def _loads() -> dict[str, Message]:
    scaled = task_pb2.Task(
        task_id=9, array_id=2, task_resources_id=2, max_attempts=2, resource_scales={"memory": 0.5}, priority=3
    )
    resumed = task_pb2.Task(
        task_id=10, array_id=1, task_resources_id=1, status=task_pb2.TASK_STATUS_RUNNING, attempt=1, command="true"
    )
    request = swarm_service_pb2.AddTasksRequest
    return {
        "AddTasks-arrays": request(
            swarm_id="s", arrays=[array_pb2.Array(array_id=3, name="late", command="run {task_id}")]
        ),
        "AddTasks-resources": request(
            swarm_id="s",
            task_resources=[
                task_pb2.TaskResources(
                    task_resources_id=3,
                    cluster="c",
                    queue="q",
                    cores=2,
                    memory_mib=64,
                    runtime=Duration(seconds=60),
                    extra={"account": "a"},
                    fallback_queues=["long", ""],
                )
            ],
        ),
        "AddTasks-chain": request(
            swarm_id="s",
            tasks=[
                task_pb2.Task(
                    task_id=20 + n, array_id=1, task_resources_id=1, name=f"t{n}", upstream_task_ids=[19 + n][:n]
                )
                for n in range(4)
            ],
        ),
        "AddTasks-kinds": request(swarm_id="s", tasks=[scaled, resumed], request_id="load-1"),
        "AddTasks-whole": whole_load(),
    }


def whole_load() -> swarm_service_pb2.AddTasksRequest:
    """What the swarm begins with that is fuzzed: 8 tasks in two arrays, with dependencies."""
    return swarm_service_pb2.AddTasksRequest(
        swarm_id="s",
        arrays=[array_pb2.Array(array_id=1, name="a"), array_pb2.Array(array_id=2, max_concurrently_running=2)],
        task_resources=[
            task_pb2.TaskResources(task_resources_id=1, cores=1),
            task_pb2.TaskResources(task_resources_id=2, memory_mib=100),
        ],
        tasks=[
            task_pb2.Task(
                task_id=n,
                array_id=1 + n % 2,
                task_resources_id=1 + n % 2,
                command="true",
                upstream_task_ids=[n - 4][: n > 4],
            )
            for n in range(1, 9)
        ],
    )


def _swarms() -> dict[str, Message]:
    pb, swarm = swarm_service_pb2, swarm_pb2.Swarm
    full = swarm(
        swarm_id="t", display_name="a swarm", max_concurrently_running=7, paused=True, fail_fast=True, gateway="pull",
        workflow_run_status=state_pb2.WORKFLOW_RUN_STATUS_BOUND, working_directory="/tmp", environment={"A": "b"},
        gateway_options={"partition": "short"},
    )  # fmt: skip
    selector = task_pb2.TaskSelector
    return {
        "CreateSwarm-full": pb.CreateSwarmRequest(swarm=full, request_id="create-1"),
        "CreateSwarm-empty": pb.CreateSwarmRequest(),
        "UpdateSwarm-mask": pb.UpdateSwarmRequest(
            swarm=swarm(swarm_id="s", paused=True, max_concurrently_running=3),
            update_mask=FieldMask(paths=["paused", "max_concurrently_running"]),
        ),
        "UpdateSwarm-set": pb.UpdateSwarmRequest(swarm=swarm(swarm_id="s", display_name="new", fail_fast=True)),
        "DeleteSwarm-force": pb.DeleteSwarmRequest(swarm_id="t", force=True),
        "GetSwarm-full": pb.GetSwarmRequest(swarm_id="s", view=swarm_pb2.SWARM_VIEW_FULL),
        "ListSwarms-page": pb.ListSwarmsRequest(page_size=1),
        "GetTask-one": pb.GetTaskRequest(swarm_id="s", task_id=1),
        "ListTasks-page": pb.ListTasksRequest(
            swarm_id="s", statuses=[task_pb2.TASK_STATUS_DONE], array_ids=[1], page_size=3, page_token="x"
        ),
        "ExplainTask-one": pb.ExplainTaskRequest(swarm_id="s", task_id=5),
        "CancelTasks-ids": pb.CancelTasksRequest(swarm_id="s", selector=selector(task_ids=[1, 2]), reason="why not"),
        "CancelTasks-array": pb.CancelTasksRequest(swarm_id="s", selector=selector(array_ids=[2])),
        "ResetTasks-all": pb.ResetTasksRequest(swarm_id="s", selector=selector(all=True), include_downstreams=True),
        "ResetTasks-status": pb.ResetTasksRequest(
            swarm_id="s", selector=selector(statuses=[task_pb2.TASK_STATUS_ERROR_FATAL]), reason="again"
        ),
        "WatchSwarm-resume": pb.WatchSwarmRequest(
            swarm_id="s", after_revision=1, progress_interval=Duration(seconds=1), until_finished=True
        ),
        "Tick-full": scheduler_service_pb2.TickRequest(
            swarm_id="s",
            timeout=Duration(nanos=1_000_000),
            max_batches=2,
            request_id="t",
            view=batch_pb2.BATCH_VIEW_FULL,
        ),
        "HasWork-wait": scheduler_service_pb2.HasWorkRequest(swarm_id="s", wait=Duration(nanos=1_000_000)),
    }  # fmt: skip


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, message in {**_updates(), **_loads(), **_swarms()}.items():
        (FOLDER / f"{name}.bin").write_bytes(message.SerializeToString(deterministic=True))


if __name__ == "__main__":
    main()
