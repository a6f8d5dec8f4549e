"""How a daemon ends when it is told to: in order, within its grace time, and with everything that it has answered."""

import asyncio
import contextlib
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from swarmd._pb.swarm.v1 import array_pb2, state_pb2, swarm_pb2, swarm_service_pb2, task_pb2
from swarmd._pb.swarm.v1 import scheduler_service_pb2 as scheduler_pb
from swarmd._pb.swarm.v1.scheduler_service_pb2_grpc import SchedulerServiceStub
from swarmd._pb.swarm.v1.swarm_service_pb2_grpc import SwarmServiceStub
from tests.daemon import DaemonProcess, running, short_home, until

pytestmark = pytest.mark.e2e

SECONDS = 60.0
GRACE = 30.0
CLIENTS = 64
TASKS_EACH = 200
ACKNOWLEDGED_BEFORE_THE_SIGNAL = 2000
OWN_FAILURE = 'Failed "execute_batch"'
"""How grpc.aio's client (1.85) puts it, as INTERNAL, when a stream ends while it sends: no word of the daemon's."""
OPTIONS = [("grpc.use_local_subchannel_pool", 1)]


@pytest.fixture
def home() -> Iterator[Path]:
    with short_home() as folder:
        yield folder


def load(first: int, count: int, *, new: bool) -> swarm_service_pb2.AddTasksRequest:
    return swarm_service_pb2.AddTasksRequest(
        swarm_id="s",
        arrays=[array_pb2.Array(array_id=1, command="true")] if new else [],
        task_resources=[task_pb2.TaskResources(task_resources_id=1)] if new else [],
        tasks=[task_pb2.Task(task_id=n, array_id=1, task_resources_id=1) for n in range(first, first + count)],
    )


@contextlib.contextmanager
def connected(daemon: DaemonProcess) -> Iterator[tuple[grpc.Channel, SwarmServiceStub, SchedulerServiceStub]]:
    with grpc.insecure_channel(daemon.address, options=OPTIONS) as channel:
        yield channel, SwarmServiceStub(channel), SchedulerServiceStub(channel)


def make_swarm(swarms: SwarmServiceStub, tasks: int) -> None:
    swarm = swarm_pb2.Swarm(swarm_id="s", gateway="pull", max_concurrently_running=10**6)
    swarms.CreateSwarm(swarm_service_pb2.CreateSwarmRequest(swarm=swarm), timeout=SECONDS)
    swarms.AddTasks(iter([load(1, tasks, new=True)]), timeout=SECONDS)


def refusal(call: Callable[[], Any]) -> tuple[grpc.StatusCode, str, bool]:
    """The code, the reason, and whether it is said when to try again."""
    with pytest.raises(grpc.RpcError) as refused:
        call()
    status = rpc_status.from_call(refused.value)  # type: ignore[arg-type]
    assert status is not None
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    told = {detail.TypeName() for detail in status.details}
    for detail in status.details:
        detail.Unpack(info)
        detail.Unpack(retry)
    return refused.value.code(), info.reason, retry.DESCRIPTOR.full_name in told and retry.retry_delay.seconds > 0


def test_it_ends_in_order(home: Path):
    """A load is under way when the signal comes; everything is to happen before or after it, as it should."""
    with running("--drain-grace", str(GRACE), home=home) as daemon, connected(daemon) as (channel, swarms, scheduler):
        health: Any = health_pb2_grpc.HealthStub(channel)
        make_swarm(swarms, 10)
        watch = swarms.WatchSwarm(swarm_service_pb2.WatchSwarmRequest(), timeout=SECONDS)
        next(watch)
        chunks_sent, stop_loading = [0], threading.Event()

        def chunks() -> Iterator[swarm_service_pb2.AddTasksRequest]:
            """Always another one within the moment that a drain waits for it."""
            while not stop_loading.wait(0.05):
                chunks_sent[0] += 1
                yield load(1000 + chunks_sent[0], 1, new=False)

        loading = swarms.AddTasks.future(chunks(), timeout=SECONDS)
        until(lambda: chunks_sent[0] > 1, "the load is under way")
        daemon.signal()

        def is_unhealthy() -> bool:
            status = health.Check(health_pb2.HealthCheckRequest(), timeout=SECONDS).status
            return bool(status == health_pb2.HealthCheckResponse.NOT_SERVING)

        until(is_unhealthy, "the daemon is unhealthy")
        refused: tuple[Callable[[], Any], ...] = (
            lambda: scheduler.Tick(scheduler_pb.TickRequest(), timeout=SECONDS),
            lambda: swarms.CreateSwarm(swarm_service_pb2.CreateSwarmRequest(), timeout=SECONDS),
            lambda: swarms.AddTasks(iter([load(5000, 1, new=False)]), timeout=SECONDS),
        )
        for call in refused:
            assert refusal(call) == (grpc.StatusCode.UNAVAILABLE, "DRAINING", True)
        assert swarms.GetSwarm(swarm_service_pb2.GetSwarmRequest(), timeout=SECONDS).swarm.task_counts.total == 10
        assert not loading.done(), "the load is still under way"
        assert daemon.process.poll() is None
        sent_before = chunks_sent[0]
        until(lambda: chunks_sent[0] > sent_before, "the load goes on")

        stop_loading.set()
        answer = loading.result()
        assert answer.task_count == chunks_sent[0]
        *changes, last = list(watch)
        assert [message.change.added_task_count for message in changes] == [answer.task_count]
        assert last.end.reason == swarm_service_pb2.WatchEnd.REASON_DRAINING
        assert last.end.resume_revision == answer.revision, "watchers are told after what was under way"
        assert daemon.wait(GRACE) == 0
        assert list(daemon.socket.parent.iterdir()) == []
    with running(home=home) as daemon, connected(daemon) as (_, swarms, _):
        counts = swarms.GetSwarm(swarm_service_pb2.GetSwarmRequest(), timeout=SECONDS).swarm.task_counts
        assert counts.total == 10 + answer.task_count, "what was answered is in the journal"


@dataclass
class Reporter:
    """A client that reports its tasks one by one, without waiting for answers."""

    first: int
    sent: set[int] = field(default_factory=set)
    acknowledged: set[int] = field(default_factory=set)
    ended_with: grpc.StatusCode | None = None

    async def report(self, address: str, over: asyncio.Event) -> None:
        async with grpc.aio.insecure_channel(address, options=OPTIONS) as channel:
            call = SchedulerServiceStub(channel).ApplyUpdate(self._requests(over), timeout=SECONDS)
            try:
                async for answer in call:
                    assert not answer.HasField("error")
                    self.acknowledged.add(answer.sequence)
            except grpc.aio.AioRpcError as error:
                self.ended_with = error.code()
                if OWN_FAILURE in str(error.debug_error_string()):
                    self.ended_with = grpc.StatusCode.UNAVAILABLE

    async def _requests(self, over: asyncio.Event) -> AsyncIterator[scheduler_pb.ApplyUpdateRequest]:
        for task_id in range(self.first, self.first + TASKS_EACH):
            group = state_pb2.TaskStatusGroup(status=task_pb2.TASK_STATUS_DONE, task_ids=[task_id])
            self.sent.add(task_id)
            yield scheduler_pb.ApplyUpdateRequest(sequence=task_id, update=state_pb2.StateUpdate(task_statuses=[group]))
            await asyncio.sleep(0.005)
        await over.wait()  # the stream stays open: it is the daemon that ends it


async def report_until_it_ends(daemon: DaemonProcess, reporters: list[Reporter]) -> float:
    """Send the signal when enough was acknowledged; gives the seconds from it to the daemon's end."""
    over = asyncio.Event()
    running_clients = [asyncio.create_task(reporter.report(daemon.address, over)) for reporter in reporters]
    while sum(len(reporter.acknowledged) for reporter in reporters) < ACKNOWLEDGED_BEFORE_THE_SIGNAL:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    daemon.signal(signal.SIGTERM)
    begun = time.monotonic()
    code = await asyncio.to_thread(daemon.wait, GRACE)
    seconds = time.monotonic() - begun
    assert code == 0
    over.set()
    await asyncio.gather(*running_clients)
    return seconds


def test_64_clients_in_the_middle_of_their_streams_lose_nothing_that_was_acknowledged(home: Path):
    reporters = [Reporter(1 + place * TASKS_EACH) for place in range(CLIENTS)]
    with running("--drain-grace", str(GRACE), home=home) as daemon:
        with connected(daemon) as (_, swarms, scheduler):
            make_swarm(swarms, CLIENTS * TASKS_EACH)
            scheduler.Tick(scheduler_pb.TickRequest(), timeout=SECONDS)
        assert asyncio.run(report_until_it_ends(daemon, reporters)) < GRACE
        assert {reporter.ended_with for reporter in reporters} == {grpc.StatusCode.UNAVAILABLE}
        assert "Traceback" not in daemon.log
        assert list(daemon.socket.parent.iterdir()) == []
    acknowledged = set[int]().union(*(reporter.acknowledged for reporter in reporters))
    sent = set[int]().union(*(reporter.sent for reporter in reporters))
    assert ACKNOWLEDGED_BEFORE_THE_SIGNAL <= len(acknowledged) < CLIENTS * TASKS_EACH, "in the middle"
    with running(home=home) as daemon, connected(daemon) as (_, swarms, _):
        done = set(ids_of_done(swarms))
    assert acknowledged <= done, f"{len(acknowledged - done)} acknowledged changes are missing"
    assert done <= sent, "nothing is there that nobody sent"


def ids_of_done(swarms: SwarmServiceStub) -> Iterator[int]:
    request = swarm_service_pb2.ListTasksRequest(statuses=[task_pb2.TASK_STATUS_DONE], page_size=10_000)
    while True:
        page = swarms.ListTasks(request, timeout=SECONDS)
        yield from (task.task_id for task in page.tasks)
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token
