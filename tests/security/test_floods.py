"""While somebody attacks the port, whoever may call is served, on the socket and over TCP; nothing is left after it."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import psutil
import pytest

from swarmd._pb.swarm.v1 import swarm_pb2, swarm_service_pb2
from swarmd._pb.swarm.v1.swarm_service_pb2_grpc import SwarmServiceStub
from swarmd.tokens import TOKEN_NAME, read_token
from tests.daemon import DaemonProcess, running, short_home, until
from tests.security.attacks import ATTACKS, Attack
from tests.security.calls import bearer, channel_to

pytestmark = pytest.mark.e2e
ATTACK_SECONDS = 1.5
PATIENCE = 30.0
MIB = 1 << 20
MOST_MIB = 700
"""While it goes on: what has arrived and is not looked at yet."""
GROWTH_MIB = 100
"""When it is over."""
SPARE_FILES = 10


@pytest.fixture(scope="module")
def daemon() -> Iterator[DaemonProcess]:
    with short_home() as home:
        listen = ("--listen", "127.0.0.1:0", "--listen", f"unix:{home}/s.sock")
        with running(*listen, home=home) as found:
            with channel_to(str(found.ready["addresses"][1])) as channel:
                swarm = swarm_pb2.Swarm(swarm_id="s", gateway="pull")
                SwarmServiceStub(channel).CreateSwarm(swarm_service_pb2.CreateSwarmRequest(swarm=swarm))
            yield found
            assert found.stop() == 0


def honest_calls(daemon: DaemonProcess, end: threading.Event) -> int:
    """Calls on the socket and over TCP until the end; every one must succeed. Gives how many there were."""
    token = read_token(Path(daemon.ready["state_dir"]) / TOKEN_NAME)
    request, count = swarm_service_pb2.GetSwarmRequest(swarm_id="s"), 0
    tcp, file = (str(address) for address in daemon.ready["addresses"])
    with channel_to(tcp) as by_tcp, channel_to(file) as by_file:
        while not end.is_set() or not count:
            SwarmServiceStub(by_file).GetSwarm(request, timeout=PATIENCE)
            SwarmServiceStub(by_tcp).GetSwarm(request, timeout=PATIENCE, metadata=bearer(token))
            count += 2
    with channel_to(tcp) as anew:
        SwarmServiceStub(anew).GetSwarm(request, timeout=PATIENCE, metadata=bearer(token), wait_for_ready=True)
    return count


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_an_honest_client_is_served_while(daemon: DaemonProcess, attack: Attack):
    process = psutil.Process(daemon.process.pid)
    token = read_token(Path(daemon.ready["state_dir"]) / TOKEN_NAME)
    files, memory = process.num_fds(), process.memory_info().rss
    end = threading.Event()

    def run() -> None:
        try:
            attack(str(daemon.ready["addresses"][0]), token, time.monotonic() + ATTACK_SECONDS)
        finally:
            end.set()

    attacker = threading.Thread(target=run)
    attacker.start()
    try:
        assert honest_calls(daemon, end) > 0
    except grpc.RpcError as error:
        pytest.fail(f"an honest call failed: {error.code().name} {error.details()}")
    finally:
        attacker.join()
    assert process.memory_info().rss - memory < MOST_MIB * MIB
    until(lambda: process.memory_info().rss - memory < GROWTH_MIB * MIB, "the memory is given back", PATIENCE)
    until(lambda: process.num_fds() <= files + SPARE_FILES, "the connections are closed", PATIENCE)
    assert daemon.process.poll() is None
