"""A real daemon called in few words, and what it refuses: for the tests that take its disk away or damage it."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import grpc
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from swarmd._pb.swarm.v1 import array_pb2, state_pb2, swarm_pb2, swarm_service_pb2, task_pb2
from swarmd._pb.swarm.v1 import scheduler_service_pb2 as scheduler_pb
from swarmd._pb.swarm.v1.scheduler_service_pb2_grpc import SchedulerServiceStub
from swarmd._pb.swarm.v1.swarm_service_pb2_grpc import SwarmServiceStub

SECONDS = 60.0


@dataclass(frozen=True)
class Refusal:
    """How a call ended."""

    code: str
    reason: str
    message: str


class Calls:
    """One connection, a method for each call."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._swarms = SwarmServiceStub(channel)
        self._scheduler = SchedulerServiceStub(channel)
        self._health: Any = health_pb2_grpc.HealthStub(channel)

    @property
    def is_healthy(self) -> bool:
        answer = self._health.Check(health_pb2.HealthCheckRequest(), timeout=SECONDS)
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    def create(self, swarm_id: str, **more: Any) -> swarm_pb2.Swarm:
        swarm = swarm_pb2.Swarm(swarm_id=swarm_id, **more)
        request = swarm_service_pb2.CreateSwarmRequest(swarm=swarm)
        return self._swarms.CreateSwarm(request, timeout=SECONDS).swarm

    def add(self, swarm_id: str, first: int, count: int, command: str = "true") -> swarm_service_pb2.AddTasksResponse:
        """So many tasks of an array of their own, numbered from `first`."""
        chunk = swarm_service_pb2.AddTasksRequest(
            swarm_id=swarm_id,
            arrays=[array_pb2.Array(array_id=first, command=command)],
            task_resources=[task_pb2.TaskResources(task_resources_id=first)],
            tasks=[
                task_pb2.Task(task_id=first + place, array_id=first, task_resources_id=first) for place in range(count)
            ],
        )
        return self._swarms.AddTasks(iter([chunk]), timeout=SECONDS)

    def tick(self, swarm_id: str, request_id: str = "") -> scheduler_pb.TickResponse:
        request = scheduler_pb.TickRequest(swarm_id=swarm_id, request_id=request_id)
        return self._scheduler.Tick(request, timeout=SECONDS)

    def tell(self, swarm_id: str, status: str, *task_ids: int) -> scheduler_pb.ApplyUpdateResponse:
        """News of these tasks, in a stream of one."""
        group = state_pb2.TaskStatusGroup(status=f"TASK_STATUS_{status}", task_ids=task_ids)
        update = state_pb2.StateUpdate(task_statuses=[group])
        request = scheduler_pb.ApplyUpdateRequest(swarm_id=swarm_id, sequence=1, update=update)
        (response,) = self._scheduler.ApplyUpdate(iter([request]), timeout=SECONDS)
        return response

    def update(self, swarm: swarm_pb2.Swarm, *paths: str) -> swarm_pb2.Swarm:
        request = swarm_service_pb2.UpdateSwarmRequest(swarm=swarm)
        request.update_mask.paths.extend(paths)
        return self._swarms.UpdateSwarm(request, timeout=SECONDS).swarm

    def get(self, swarm_id: str) -> swarm_pb2.Swarm:
        request = swarm_service_pb2.GetSwarmRequest(swarm_id=swarm_id)
        return self._swarms.GetSwarm(request, timeout=SECONDS).swarm

    def listed(self) -> swarm_service_pb2.ListSwarmsResponse:
        return self._swarms.ListSwarms(swarm_service_pb2.ListSwarmsRequest(), timeout=SECONDS)

    def delete(self, swarm_id: str, *, force: bool = False) -> None:
        self._swarms.DeleteSwarm(swarm_service_pb2.DeleteSwarmRequest(swarm_id=swarm_id, force=force), timeout=SECONDS)

    def tasks(self, swarm_id: str) -> list[tuple[int, str, int]]:
        """Id, status and attempt of every task."""
        request = swarm_service_pb2.ListTasksRequest(swarm_id=swarm_id, page_size=10_000)
        found = self._swarms.ListTasks(request, timeout=SECONDS).tasks
        prefix = "TASK_STATUS_"
        return [(each.task_id, task_pb2.TaskStatus.Name(each.status)[len(prefix) :], each.attempt) for each in found]

    def statuses(self, swarm_id: str) -> dict[str, int]:
        """How many tasks there are in each status."""
        found = [status for _, status, _ in self.tasks(swarm_id)]
        return {status: found.count(status) for status in sorted(set(found))}

    def watched(self, swarm_id: str) -> swarm_service_pb2.WatchSwarmResponse:
        """The first message of a watch."""
        call = self._swarms.WatchSwarm(swarm_service_pb2.WatchSwarmRequest(swarm_id=swarm_id), timeout=SECONDS)
        first: swarm_service_pb2.WatchSwarmResponse = next(iter(call))
        call.cancel()
        return first


@contextlib.contextmanager
def connected(address: str) -> Iterator[Calls]:
    with grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        yield Calls(channel)


def refusal_of(call: Any, *arguments: Any, **more: Any) -> Refusal:
    """The status that a call must end with: one that succeeds fails the test."""
    try:
        call(*arguments, **more)
    except grpc.RpcError as error:
        status = rpc_status.from_call(error)  # type: ignore[arg-type]
        info = error_details_pb2.ErrorInfo()
        for detail in status.details if status is not None else ():
            if detail.Is(info.DESCRIPTOR):
                detail.Unpack(info)
        return Refusal(error.code().name, info.reason, error.details() or "")
    raise AssertionError("it was not refused")
