"""What a task finds around it: none of the daemon's secrets, and none of its files."""

from pathlib import Path

import pytest

from swarmd._pb.swarm.v1 import array_pb2, swarm_pb2, swarm_service_pb2, task_pb2
from swarmd._pb.swarm.v1.swarm_service_pb2_grpc import SwarmServiceStub
from tests.daemon import running, until
from tests.security.calls import bearer, channel_to

pytestmark = pytest.mark.e2e
SECRETS = {
    "SWARMD_TOKEN": "a-secret-of-the-caller",
    "SWARMD_TOKEN_FILE": "/nowhere/a-secret-file",
    "NOTIFY_SOCKET": "@nowhere-to-notify",
    "WATCHDOG_USEC": "30000000",
    "LISTEN_FDS": "3",
}


@pytest.mark.parametrize("storage", ["--in-memory", ""])
def test_a_task_has_neither_the_secrets_nor_the_files_of_the_daemon(tmp_path: Path, storage: str):
    told, files = tmp_path / "environment", tmp_path / "files"
    command = f"env > {told}; ls -l /proc/self/fd > {files}"
    environment = {**SECRETS, "OF_THE_USER": "kept"}
    arguments = [storage] if storage else []
    with running("--listen", "127.0.0.1:0", *arguments, environment=environment) as daemon:
        token = (Path(daemon.ready["state_dir"]) / "token").read_text().strip()
        with channel_to(daemon.address) as channel:
            headers = bearer(token)
            stub = SwarmServiceStub(channel)
            swarm = swarm_pb2.Swarm(swarm_id="s", autopilot=True, environment={"OF_THE_SWARM": "kept"})
            stub.CreateSwarm(swarm_service_pb2.CreateSwarmRequest(swarm=swarm), metadata=headers)
            load = swarm_service_pb2.AddTasksRequest(
                arrays=[array_pb2.Array(array_id=1)],
                task_resources=[task_pb2.TaskResources(task_resources_id=1)],
                tasks=[task_pb2.Task(task_id=1, array_id=1, task_resources_id=1, command=command)],
            )
            stub.AddTasks(iter([load]), metadata=headers)
            get = swarm_service_pb2.GetSwarmRequest(swarm_id="s")
            until(lambda: stub.GetSwarm(get, metadata=headers).swarm.task_counts.done == 1, "the task is done")
    seen = told.read_text()
    assert "OF_THE_USER=kept" in seen
    assert "OF_THE_SWARM=kept" in seen
    assert not [word for pair in SECRETS.items() for word in pair if word in seen and word not in ("3", "30000000")]
    assert token not in seen
    targets = [line.partition(" -> ")[2] for line in files.read_text().splitlines() if " -> " in line]
    allowed = ("/dev/null", str(files), ".out", ".err", "/fd")
    assert not [target for target in targets if not target.endswith(allowed)]
