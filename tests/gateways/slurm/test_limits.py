"""The limit of an array at Slurm: the daemon keeps it, and Slurm where it was lowered since a batch was taken."""

import secrets
from pathlib import Path

from swarmd import SwarmState
from swarmd.core.batch import Batch
from swarmd.core.model import Array, Task, TaskResources
from swarmd.core.status import TaskStatus
from swarmd.core.update import StateUpdate
from tests.gateways.recording import SWARM, eventually
from tests.gateways.slurm.cluster import Cluster
from tests.gateways.slurm.engine import calls_of, slurm_engine, wrapped_programs

COUNTS_ITSELF = """\
touch running.$SWARM_TASK_ID; ls running.* | wc -l >>most
until [ -e go ]; do sleep 0.1; done
sleep 0.2; ls running.* | wc -l >>most; rm running.$SWARM_TASK_ID"""


def limited_swarm(limit: int) -> SwarmState:
    state = SwarmState(SWARM, batch_prefix=f"{SWARM}-{secrets.token_hex(4)}")
    tasks = [Task(number, 7, 1) for number in range(1, 7)]
    state.load([Array(7, command=COUNTS_ITSELF, max_concurrently_running=limit)], [TaskResources(1)], tasks)
    return state


def taken(state: SwarmState, size: int) -> Batch:
    batch = state.take_batch()
    assert batch is not None
    assert len(batch) == size
    return batch


def array_options(bin_directory: Path) -> list[str]:
    return [word for call in calls_of(bin_directory, "sbatch") for word in call.split() if "--array" in word]


async def test_slurm_is_given_no_more_tasks_than_may_run(cluster: Cluster, tmp_path: Path):
    bin_directory = wrapped_programs(tmp_path / "bin")
    async with slurm_engine(cluster, tmp_path, bin_directory=bin_directory) as engine:
        state = limited_swarm(2)
        await engine.gateway.queue_batch(taken(state, 2))
        assert not state.has_work()
        assert array_options(bin_directory) == ["--array=0-1"]


async def test_a_limit_that_was_raised_holds_nobody_back(cluster: Cluster, tmp_path: Path):
    bin_directory = wrapped_programs(tmp_path / "bin")
    async with slurm_engine(cluster, tmp_path, bin_directory=bin_directory) as engine:
        state = limited_swarm(2)
        state.apply_update(StateUpdate(array_limits={7: 6}))
        await engine.gateway.queue_batch(taken(state, 6))
        assert array_options(bin_directory) == ["--array=0-5"]
        await engine.record.running(*range(1, 7))


async def test_a_limit_that_was_lowered_since_is_kept_by_slurm(cluster: Cluster, tmp_path: Path):
    bin_directory = wrapped_programs(tmp_path / "bin")
    async with slurm_engine(cluster, tmp_path, bin_directory=bin_directory) as engine:
        state = limited_swarm(6)
        batch = taken(state, 6)
        state.apply_update(StateUpdate(array_limits={7: 2}))
        await engine.gateway.queue_batch(batch)
        assert array_options(bin_directory) == ["--array=0-5%2"]
        await eventually(lambda: len(list(tmp_path.glob("running.*"))) == 2)
        (tmp_path / "go").touch()
        assert await engine.ends(*range(1, 7)) == [(TaskStatus.DONE, "")] * 6
        assert max(map(int, (tmp_path / "most").read_text().split())) == 2
