"""`swarmd health`: for probes."""

import threading
from collections.abc import Iterator

import grpc
import pytest

from swarmd._pb.swarm.v1 import swarm_pb2, swarm_service_pb2
from swarmd._pb.swarm.v1.swarm_service_pb2_grpc import SwarmServiceStub
from tests.cli.conftest import Answer, swarmd_process
from tests.daemon import DaemonProcess, running, short_home, until

pytestmark = pytest.mark.e2e
SECONDS = 60.0


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
    over = threading.Event()

    def chunks() -> Iterator[swarm_service_pb2.AddTasksRequest]:
        """A load that goes on, which a drain waits for."""
        while not over.wait(0.05):
            yield swarm_service_pb2.AddTasksRequest()

    with running() as daemon, grpc.insecure_channel(daemon.address) as channel:
        swarms = SwarmServiceStub(channel)
        swarms.CreateSwarm(swarm_service_pb2.CreateSwarmRequest(swarm=swarm_pb2.Swarm(swarm_id="s")), timeout=SECONDS)
        loading = swarms.AddTasks.future(chunks(), timeout=SECONDS)
        daemon.signal()
        until(lambda: "draining" in daemon.log, "the drain")
        said = health(daemon)
        assert (said.code, said.out) == (1, "not serving\n")
        over.set()
        loading.result()
        assert daemon.wait() == 0
