"""Each limit, set low at a real daemon: what is too much is refused, and the error names the setting."""

import contextlib
import gzip
from collections.abc import Iterator
from typing import Any

import grpc
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from swarmd._pb.swarm.v1 import (
    array_pb2,
    scheduler_service_pb2,
    state_pb2,
    swarm_pb2,
    swarm_service_pb2,
    task_pb2,
)
from swarmd._pb.swarm.v1.scheduler_service_pb2_grpc import SchedulerServiceStub
from swarmd._pb.swarm.v1.swarm_service_pb2_grpc import SwarmServiceStub
from swarmd.tokens import TOKEN_NAME, read_token
from tests.daemon import DaemonProcess, running, short_home, until
from tests.security import http2
from tests.security.calls import Outcome, bearer, channel_to, outcome_of

pytestmark = pytest.mark.e2e
SECONDS = 20.0
MIB = 1 << 20
LOW = {
    "SWARMD_MAX_MESSAGE_BYTES": "200000",
    "SWARMD_MAX_SWARMS": "2",
    "SWARMD_MAX_TASKS_PER_SWARM": "3",
    "SWARMD_MAX_WATCHERS_PER_SWARM": "1",
    "SWARMD_MAX_NAME_BYTES": "10",
    "SWARMD_MAX_LABEL_BYTES": "10",
    "SWARMD_MAX_COMMAND_BYTES": "10",
    "SWARMD_MAX_REASON_BYTES": "10",
    "SWARMD_MAX_ENVIRONMENT_BYTES": "10",
}
pb = swarm_service_pb2
LONG = "x" * 11


@pytest.fixture(scope="module")
def daemon() -> Iterator[DaemonProcess]:
    with running(environment=LOW) as found, channel_to(found.address) as channel:
        stub = SwarmServiceStub(channel)
        stub.CreateSwarm(pb.CreateSwarmRequest(swarm=swarm_pb2.Swarm(swarm_id="s", gateway="pull")))
        arrays, resources = [array_pb2.Array(array_id=1)], [task_pb2.TaskResources(task_resources_id=1)]
        tasks = [task_pb2.Task(task_id=1, array_id=1, task_resources_id=1)]
        stub.AddTasks(iter([pb.AddTasksRequest(arrays=arrays, task_resources=resources, tasks=tasks)]))
        yield found


@pytest.fixture
def swarms(daemon: DaemonProcess) -> Iterator[SwarmServiceStub]:
    with channel_to(daemon.address) as channel:
        yield SwarmServiceStub(channel)


def refusal(call: Any) -> Outcome:
    """How a call is refused."""
    with pytest.raises(grpc.RpcError) as refused:
        _answered(call)
    return outcome_of(refused.value)


def _answered(call: Any) -> None:
    answer = call()
    if not hasattr(answer, "DESCRIPTOR"):
        list(answer)


def create(**swarm: Any) -> swarm_service_pb2.CreateSwarmRequest:
    return pb.CreateSwarmRequest(swarm=swarm_pb2.Swarm(**{"gateway": "pull", **swarm}))


def one_task(**task: Any) -> Iterator[swarm_service_pb2.AddTasksRequest]:
    made = task_pb2.Task(**{"task_id": 9, "array_id": 1, "task_resources_id": 1, **task})
    return iter([pb.AddTasksRequest(swarm_id="s", tasks=[made])])


CALLS = {
    "max_label_bytes": lambda stub: stub.CreateSwarm(create(display_name=LONG), timeout=SECONDS),
    "max_environment_bytes": lambda stub: stub.CreateSwarm(create(environment={"A": LONG}), timeout=SECONDS),
    "max_name_bytes": lambda stub: stub.AddTasks(one_task(name=LONG), timeout=SECONDS),
    "max_command_bytes": lambda stub: stub.AddTasks(one_task(command=LONG), timeout=SECONDS),
    "max_reason_bytes": lambda stub: stub.CancelTasks(
        pb.CancelTasksRequest(swarm_id="s", selector=task_pb2.TaskSelector(task_ids=[1]), reason=LONG), timeout=SECONDS
    ),
    "max_message_bytes": lambda stub: stub.GetSwarm(pb.GetSwarmRequest(swarm_id="s" * 200_001), timeout=SECONDS),
    "max_tasks_per_swarm": lambda stub: stub.AddTasks(
        iter([pb.AddTasksRequest(swarm_id="s", tasks=[task_pb2.Task(task_id=n) for n in range(2, 8)])]), timeout=SECONDS
    ),
}


@pytest.mark.parametrize("limit", CALLS)
def test_the_error_names_the_limit(swarms: SwarmServiceStub, limit: str):
    outcome = refusal(lambda: CALLS[limit](swarms))
    assert (outcome.code, outcome.limit) == (grpc.StatusCode.RESOURCE_EXHAUSTED, limit)


def test_a_stream_that_is_begun_with_too_large_a_message(swarms: SwarmServiceStub):
    request = pb.WatchSwarmRequest(swarm_id="s" * 200_001)
    outcome = refusal(lambda: swarms.WatchSwarm(request, timeout=SECONDS))
    assert (outcome.code, outcome.limit) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "max_message_bytes")


def test_one_swarm_too_many(swarms: SwarmServiceStub):
    swarms.CreateSwarm(create(swarm_id="second"), timeout=SECONDS)
    outcome = refusal(lambda: swarms.CreateSwarm(create(swarm_id="third"), timeout=SECONDS))
    assert (outcome.code, outcome.limit) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "max_swarms")
    swarms.DeleteSwarm(pb.DeleteSwarmRequest(swarm_id="second", force=True), timeout=SECONDS)


def test_one_watcher_too_many(swarms: SwarmServiceStub):
    first = swarms.WatchSwarm(pb.WatchSwarmRequest(swarm_id="s"), timeout=SECONDS)
    next(iter(first))
    outcome = refusal(lambda: swarms.WatchSwarm(pb.WatchSwarmRequest(swarm_id="s"), timeout=SECONDS))
    first.cancel()
    assert (outcome.code, outcome.limit) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "max_watchers_per_swarm")


def test_a_reason_in_an_update_is_refused_and_the_stream_goes_on(daemon: DaemonProcess):
    group = state_pb2.TaskStatusGroup(status=task_pb2.TASK_STATUS_DONE, task_ids=[1], reason=LONG)
    bad = scheduler_service_pb2.ApplyUpdateRequest(
        swarm_id="s", sequence=1, update=state_pb2.StateUpdate(task_statuses=[group])
    )
    with channel_to(daemon.address) as channel:
        good = scheduler_service_pb2.ApplyUpdateRequest(swarm_id="s", sequence=2)
        answers = list(SchedulerServiceStub(channel).ApplyUpdate(iter([bad, good]), timeout=SECONDS))
    assert [answer.HasField("error") for answer in answers] == [True, False]
    assert answers[0].error.metadata["limit"] == "max_reason_bytes"


def test_a_call_too_many_and_one_too_soon():
    with running(environment={"SWARMD_MAX_CONCURRENT_STREAMS": "2"}) as daemon, contextlib.ExitStack() as stack:
        stub = SwarmServiceStub(stack.enter_context(channel_to(daemon.address)))
        stub.CreateSwarm(create(swarm_id="s"), timeout=SECONDS)
        for _ in range(2):
            watcher = stub.WatchSwarm(pb.WatchSwarmRequest(swarm_id="s"), timeout=SECONDS)
            stack.callback(watcher.cancel)
            next(iter(watcher))
        outcome = refusal(lambda: stub.GetSwarm(pb.GetSwarmRequest(), timeout=SECONDS))
        assert (outcome.code, outcome.limit) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "max_concurrent_streams")
    with (
        running(environment={"SWARMD_MAX_REQUESTS_PER_SECOND": "0.001"}) as daemon,
        channel_to(daemon.address) as channel,
    ):
        stub = SwarmServiceStub(channel)
        stub.ListSwarms(pb.ListSwarmsRequest(), timeout=SECONDS)
        outcome = refusal(lambda: stub.ListSwarms(pb.ListSwarmsRequest(), timeout=SECONDS))
        assert (outcome.code, outcome.limit) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "max_requests_per_second")


def test_a_connection_too_many():
    limits = {"SWARMD_MAX_CONNECTIONS": "3"}
    with running("--listen", "127.0.0.1:0", environment=limits) as daemon, contextlib.ExitStack() as stack:
        for _ in range(3):
            connection = stack.enter_context(http2.connect(daemon.address))
            connection.sendall(http2.hello())
            connection.recv(100)
        token = read_token(daemon.home / "state" / "swarmd" / TOKEN_NAME)
        stub = SwarmServiceStub(stack.enter_context(channel_to(daemon.address)))
        outcome = refusal(lambda: stub.ListSwarms(pb.ListSwarmsRequest(), metadata=bearer(token), timeout=SECONDS))
        assert (outcome.code, outcome.limit) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "max_connections")


def test_a_message_that_is_small_until_it_is_unpacked(daemon: DaemonProcess):
    process = psutil.Process(daemon.process.pid)
    bomb = gzip.compress(bytes(256 * MIB), 9)
    fields = [*http2.request_fields("/swarm.v1.SwarmService/GetSwarm"), ("grpc-encoding", "gzip")]
    with http2.connect(daemon.address) as connection:
        before = process.memory_info().rss
        headers = http2.frame(http2.Kind.HEADERS, http2.header_block(fields), flags=http2.END_HEADERS, stream=1)
        data = b"\1" + len(bomb).to_bytes(4) + bomb
        parts = [data[start : start + 16_000] for start in range(0, len(data), 16_000)][:4]
        connection.sendall(http2.hello() + headers)
        for part in parts:
            connection.sendall(http2.frame(http2.Kind.DATA, part, stream=1))
    with channel_to(daemon.address) as channel:
        stub = SwarmServiceStub(channel)
        packed = pb.GetSwarmRequest(swarm_id="s" * 50 * MIB)
        outcome = refusal(lambda: stub.GetSwarm(packed, compression=grpc.Compression.Gzip, timeout=SECONDS))
        assert outcome.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        stub.GetSwarm(pb.GetSwarmRequest(swarm_id="s"), timeout=SECONDS)
    until(lambda: process.memory_info().rss - before < 100 * MIB, "the memory is given back")


def test_a_watcher_that_does_not_read():
    count, rounds = 3000, 120
    with (
        running(environment={"SWARMD_MAX_QUEUED_BYTES_PER_WATCHER": "1024"}) as daemon,
        channel_to(daemon.address) as lazy,
        channel_to(daemon.address) as channel,
    ):
        stub = SwarmServiceStub(channel)
        stub.CreateSwarm(create(swarm_id="s"), timeout=SECONDS)
        arrays = [array_pb2.Array(array_id=n) for n in range(1, count + 1)]
        stub.AddTasks(iter([pb.AddTasksRequest(swarm_id="s", arrays=arrays)]), timeout=SECONDS)
        watcher = SwarmServiceStub(lazy).WatchSwarm(pb.WatchSwarmRequest(swarm_id="s"), timeout=4 * SECONDS)
        next(watcher)
        limits = (
            [state_pb2.ArrayLimit(array_id=n, max_concurrently_running=each) for n in range(1, count + 1)]
            for each in range(1, rounds + 1)
        )
        updates = (
            scheduler_service_pb2.ApplyUpdateRequest(swarm_id="s", update=state_pb2.StateUpdate(array_limits=each))
            for each in limits
        )
        assert all(
            answer.revision for answer in SchedulerServiceStub(channel).ApplyUpdate(updates, timeout=4 * SECONDS)
        )
        messages: list[Any] = []
        with pytest.raises(grpc.RpcError) as refused:
            messages.extend(watcher)
    outcome = outcome_of(refused.value)
    assert (outcome.code, outcome.limit) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "max_queued_bytes_per_watcher")


def test_strangers_who_watch_health_for_ever_take_no_place_of_probes():
    with short_home() as home, contextlib.ExitStack() as stack:
        limits = ("--max-concurrent-streams", "20", "--listen", "127.0.0.1:0", "--listen", f"unix:{home}/s.sock")
        daemon = stack.enter_context(running(*limits, home=home))
        tcp, file = (str(address) for address in daemon.ready["addresses"])
        channel = stack.enter_context(channel_to(tcp))
        stub: Any = health_pb2_grpc.HealthStub(channel)
        watches = [stub.Watch(health_pb2.HealthCheckRequest()) for _ in range(2)]
        assert [next(watch).status for watch in watches] == [health_pb2.HealthCheckResponse.SERVING] * 2
        outcome = refusal(lambda: next(stub.Watch(health_pb2.HealthCheckRequest())))
        assert (outcome.code, outcome.limit) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "max_concurrent_streams")
        for address in (tcp, file):
            probe: Any = health_pb2_grpc.HealthStub(stack.enter_context(channel_to(address)))
            assert probe.Check(health_pb2.HealthCheckRequest(), timeout=SECONDS).status == 1
        for watch in watches:
            watch.cancel()
