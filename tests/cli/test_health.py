"""`swarmd health`: for probes."""

import itertools
import threading
from collections.abc import Iterator

import grpc
import pytest

from swarmd._pb.swarm.v1 import array_pb2, swarm_pb2, swarm_service_pb2, task_pb2
from swarmd._pb.swarm.v1.swarm_service_pb2_grpc import SwarmServiceStub
from tests.cli.conftest import Answer, swarmd_process
from tests.daemon import DaemonProcess, running, short_home, until

pytestmark = pytest.mark.e2e
SECONDS = 60.0
COMMAND_BYTES, MORE_THAN_FITS = 60_000, 200
"""So many such tasks are sent only when somebody reads them."""


def health(daemon: DaemonProcess, *arguments: str) -> Answer:
    return swarmd_process("health", "--address", daemon.address, *arguments)


def test_a_daemon_that_serves_and_one_that_is_gone():
    with short_home() as home, running("--listen", "127.0.0.1:0", home=home) as daemon:
        said = health(daemon)
        assert (said.code, said.out, said.err) == (0, "serving\n", ""), "it needs no token"
        assert health(daemon, "--json").json == {"serving": True}
        daemon.stop()
        assert health(daemon).code == 3


def test_a_daemon_that_drains_says_no():
    over, numbers = threading.Event(), itertools.count(1)
    sent: list[int] = []

    def chunks() -> Iterator[swarm_service_pb2.AddTasksRequest]:
        """A load that goes on, which a drain waits for."""
        resources = task_pb2.TaskResources(task_resources_id=1)
        yield swarm_service_pb2.AddTasksRequest(arrays=[array_pb2.Array(array_id=1)], task_resources=[resources])
        while not over.wait(0.05 if len(sent) >= MORE_THAN_FITS else 0):
            number, command = next(numbers), "x" * COMMAND_BYTES
            task = task_pb2.Task(task_id=number, array_id=1, task_resources_id=1, command=command)
            yield swarm_service_pb2.AddTasksRequest(tasks=[task])
            sent.append(number)

    with running() as daemon, grpc.insecure_channel(daemon.address) as channel:
        swarms = SwarmServiceStub(channel)
        swarms.CreateSwarm(swarm_service_pb2.CreateSwarmRequest(swarm=swarm_pb2.Swarm(swarm_id="s")), timeout=SECONDS)
        loading = swarms.AddTasks.future(chunks(), timeout=SECONDS)
        until(lambda: len(sent) >= MORE_THAN_FITS, "the daemon to read the load")
        daemon.signal()
        until(lambda: "draining" in daemon.log, "the drain")
        said = health(daemon)
        assert (said.code, said.out) == (1, "not serving\n")
        over.set()
        loading.result()
        assert daemon.wait() == 0
