"""Swarms to measure with: made, loaded over gRPC from bytes that were encoded before, and removed."""

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import grpc
import numpy as np
from benchmarks.suite.raw import ADD_TASKS, unary_of_stream

from swarmd._pb.swarm.v1 import scheduler_service_pb2 as pb
from swarmd._pb.swarm.v1 import state_pb2, swarm_pb2, swarm_service_pb2, task_pb2
from swarmd._pb.swarm.v1.swarm_service_pb2_grpc import SwarmServiceStub
from swarmd.client.columns import TaskBlock
from swarmd.client.encoding import add_tasks_chunks
from swarmd.core.columns import TaskColumns
from swarmd.core.model import Array, TaskResources
from swarmd.core.state import SwarmState

NO_LIMIT = 2**31 - 1
EDGES_A_LATE_TASK = 2


def ready_state(tasks: int, arrays: int, *, limit: int = NO_LIMIT) -> SwarmState:
    """A swarm in this process whose tasks are all ready; task t is of array 1 + t % arrays."""
    ids = np.arange(1, tasks + 1)
    state = SwarmState("bench", max_concurrently_running=limit)
    state.load(
        [Array(number) for number in range(1, arrays + 1)], [TaskResources(1)], TaskColumns.of(ids, 1 + ids % arrays, 1)
    )
    return state


@dataclass(frozen=True, slots=True)
class Plan:
    """A workflow without names: arrays of equal size, and edges from the later half of the tasks to the earlier one."""

    tasks: int
    arrays: int
    edges: int

    @property
    def task_resources(self) -> list[TaskResources]:
        return [TaskResources(1, memory_mib=1000)]

    def array_list(self) -> list[Array]:
        return [Array(number, command="run {task_id}") for number in range(1, self.arrays + 1)]

    def encoded(self, swarm_id: str) -> Iterator[bytes]:
        """The chunks of its load as AddTasks takes them."""
        return add_tasks_chunks(swarm_id, _Load(self))

    def blocks(self) -> Iterator[TaskBlock]:
        """An array at a time. The last `edges / 2` tasks have two upstreams each among the first ones."""
        first_late = self.tasks - self.edges // EDGES_A_LATE_TASK + 1
        bounds = np.linspace(1, self.tasks + 1, self.arrays + 1).astype(np.int64)
        for number, (start, end) in enumerate(pairwise(bounds.tolist()), 1):
            cut = min(max(start, first_late), end)
            if cut > start:
                yield TaskBlock(number, 1, np.arange(start, cut))
            if end > cut:
                late = np.arange(cut, end)
                upstreams = (late - first_late) % (first_late - 1) + 1
                yield TaskBlock(number, 1, late, paired_upstreams=[upstreams, upstreams % (first_late - 1) + 1])


class _Load:
    """The plan as `add_tasks_chunks` wants it."""

    def __init__(self, plan: Plan) -> None:
        self.arrays: Sequence[Array] = plan.array_list()
        self.task_resources: Sequence[TaskResources] = plan.task_resources
        self._plan = plan

    @property
    def blocks(self) -> Sequence[TaskBlock]:
        return list(self._plan.blocks())


def flat(tasks: int, arrays: int) -> Plan:
    """Tasks that wait for nothing."""
    return Plan(tasks, arrays, 0)


def write_chunks(plan: Plan, swarm_id: str, path: Path) -> None:
    """Encode a load into a file, so that only the daemon has work when it is sent."""
    with path.open("wb") as file:
        for chunk in plan.encoded(swarm_id):
            file.write(len(chunk).to_bytes(8, "little"))
            file.write(chunk)


async def read_chunks(path: Path) -> AsyncIterator[bytes]:
    """The chunks of such a file."""
    with path.open("rb") as file:
        while head := file.read(8):
            yield file.read(int.from_bytes(head, "little"))


async def create(channel: grpc.aio.Channel, swarm_id: str, *, gateway: str = "pull") -> None:
    """A swarm without limits."""
    swarm = swarm_pb2.Swarm(swarm_id=swarm_id, gateway=gateway, max_concurrently_running=NO_LIMIT)
    await SwarmServiceStub(channel).CreateSwarm(swarm_service_pb2.CreateSwarmRequest(swarm=swarm))


async def load(channel: grpc.aio.Channel, chunks: AsyncIterator[bytes]) -> int:
    """Send chunks; returns how many tasks were added."""
    answer = await unary_of_stream(channel, ADD_TASKS, chunks)
    return int(swarm_service_pb2.AddTasksResponse.FromString(answer).task_count)


async def loaded(channel: grpc.aio.Channel, swarm_id: str, plan: Plan) -> None:
    """Create a swarm and load it."""
    await create(channel, swarm_id)

    async def chunks() -> AsyncIterator[bytes]:
        for chunk in plan.encoded(swarm_id):
            yield chunk

    await load(channel, chunks())


async def remove(channel: grpc.aio.Channel, swarm_id: str) -> None:
    """Delete a swarm, whatever it has."""
    request = swarm_service_pb2.DeleteSwarmRequest(swarm_id=swarm_id, force=True)
    await SwarmServiceStub(channel).DeleteSwarm(request)


async def get(channel: grpc.aio.Channel, swarm_id: str) -> swarm_pb2.Swarm:
    """How a swarm stands."""
    return (await SwarmServiceStub(channel).GetSwarm(swarm_service_pb2.GetSwarmRequest(swarm_id=swarm_id))).swarm


def update(
    swarm_id: str, status: "task_pb2.TaskStatus", ids: Sequence[int], attempts: Sequence[int] = (), sequence: int = 0
) -> bytes:
    """One message of an update stream."""
    group = state_pb2.TaskStatusGroup(status=status, task_ids=ids, attempts=attempts)
    news = state_pb2.StateUpdate(task_statuses=[group])
    return pb.ApplyUpdateRequest(swarm_id=swarm_id, sequence=sequence, update=news).SerializeToString()
