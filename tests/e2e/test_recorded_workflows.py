"""`swarmd run --wfformat` over recorded workflows: what the stream of events says of order and limits.

The recordings are not part of the project; a checkout without `shared/workflows` beside it skips these tests.
"""

import asyncio
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from swarmd._pb.swarm.v1 import swarm_pb2, swarm_service_pb2
from swarmd.client.protocol import ProtocolClient
from swarmd.wire.names import TASK_STATUS_FROM_PB
from swarmd.workflow import WorkflowPlan, read_wfformat
from tests.daemon import DaemonProcess, running

RECORDINGS = Path(__file__).resolve().parents[2].parent / "shared" / "workflows"
SCALES = {
    "1000genome-chameleon-22ch-250k-001": 0.001,
    "blast-chameleon-medium-001": 0.0005,
    "helloworld-forkjoin-10-chameleon": 0.005,
    "seismology-chameleon-1000p-001": 0.01,
    "viralrecon-dirt02-001": 0.01,
}
LIMIT = 13
ARRAY_LIMIT = 2
ACTIVE = {"Q", "I", "O", "R"}


def recording(name: str) -> Path:
    path = RECORDINGS / f"{name}.json"
    if not path.is_file():
        pytest.skip(f"no recorded workflow {name}: shared/workflows is not beside this checkout")
    return path


@pytest.fixture(scope="module")
def daemon() -> Iterator[DaemonProcess]:
    with running("--local-cores", "64", "--local-memory-mib", "1000000") as process:
        yield process
        assert process.stop() == 0


@dataclass
class Referee:
    """Follows the events of a swarm and blows the whistle."""

    plan: WorkflowPlan
    limit: int
    array_limits: dict[int, int] = field(default_factory=dict)
    status: dict[int, str] = field(default_factory=dict)
    most_active: int = 0
    most_active_of: Counter[int] = field(default_factory=Counter)
    queued: Counter[int] = field(default_factory=Counter)
    fouls: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._upstreams = {task.task_id: task.upstream_task_ids for task in self.plan.tasks}
        self._array = {task.task_id: task.array_id for task in self.plan.tasks}
        self._active: Counter[int] = Counter()

    def see(self, change: swarm_service_pb2.WatchChange) -> None:
        for group in change.task_statuses:
            for task_id in group.task_ids:
                self._move(task_id, str(TASK_STATUS_FROM_PB[group.status]))
        active = self._active.total()
        self.most_active = max(self.most_active, active)
        if active > self.limit:
            self.fouls.append(f"{active} tasks active, {self.limit} allowed")
        for array_id, limit in self.array_limits.items():
            self.most_active_of[array_id] = max(self.most_active_of[array_id], self._active[array_id])
            if self._active[array_id] > limit:
                self.fouls.append(f"{self._active[array_id]} tasks of array {array_id} active, {limit} allowed")

    def _move(self, task_id: int, status: str) -> None:
        if status == "Q":
            self.queued[task_id] += 1
            early = [each for each in self._upstreams[task_id] if self.status.get(each) != "D"]
            if early:
                self.fouls.append(f"task {task_id} was queued before its upstreams {early} were done")
        was_active = self.status.get(task_id, "G") in ACTIVE
        self._active[self._array[task_id]] += (status in ACTIVE) - was_active
        self.status[task_id] = status


async def events(client: ProtocolClient, swarm_id: str) -> AsyncIterator[swarm_service_pb2.WatchChange]:
    """Every change from the first on, in order and without gaps."""
    revision = 0
    request = swarm_service_pb2.WatchSwarmRequest(swarm_id=swarm_id, after_revision=0, until_finished=True)
    async for message in client.watch_swarm(request):
        if message.HasField("change"):
            assert message.revision == revision + 1
            revision = message.revision
            yield message.change


async def judged(referee: Referee, address: str, swarm_id: str) -> Referee:
    async with ProtocolClient(address) as client:
        async for change in events(client, swarm_id):
            referee.see(change)
    assert referee.fouls == []
    assert set(referee.status.values()) == {"D"}
    assert set(referee.queued.values()) == {1}
    assert len(referee.queued) == len(referee.plan.tasks)
    return referee


@pytest.mark.e2e
@pytest.mark.parametrize("name", SCALES)
async def test_a_recorded_workflow_runs_in_order_and_within_the_swarms_limit(daemon, name):
    path, scale = recording(name), SCALES[name]
    command = [sys.executable, "-m", "swarmd", "run", "--wfformat", str(path), "--time-scale", str(scale)]
    command += ["--swarm-id", name, "--max-concurrently-running", str(LIMIT), "--keep"]
    done = await asyncio.to_thread(
        subprocess.run, command, env=daemon.environment, capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    plan = read_wfformat(path, scale)
    referee = await judged(Referee(plan, LIMIT), daemon.address, name)
    assert referee.most_active == min(LIMIT, len(plan.tasks)) or len(plan.tasks) < LIMIT


@pytest.mark.e2e
async def test_a_recorded_workflow_runs_within_the_limits_of_its_arrays(daemon):
    path = recording("viralrecon-dirt02-001")
    plan = read_wfformat(path, 0.002)
    limited = [replace(array, max_concurrently_running=ARRAY_LIMIT) for array in plan.arrays]
    plan = replace(plan, arrays=limited)
    async with ProtocolClient(daemon.address) as client:
        await client.create_swarm(swarm_pb2.Swarm(swarm_id="arrays", autopilot=True, max_concurrently_running=40))
        await client.add_tasks("arrays", plan)
    limits = dict.fromkeys((array.array_id for array in plan.arrays), ARRAY_LIMIT)
    referee = await judged(Referee(plan, 40, limits), daemon.address, "arrays")
    assert max(referee.most_active_of.values()) == ARRAY_LIMIT
