"""Tasks that need more memory than they asked for, where the kernel lets Slurm notice it."""

import json
from pathlib import Path

import pytest

from swarmd.core.model import TaskResources
from swarmd.core.status import TaskStatus
from tests.daemon import running
from tests.gateways.slurm.cluster import Cluster
from tests.gateways.slurm.engine import slurm_engine
from tests.gateways.slurm.test_end_to_end import home, swarmd

__all__ = ["home"]

GREEDY = "exec tail /dev/zero"
"""It keeps the last line, which never ends."""
WORKFLOW = """
name: study
arrays:
  greedy:
    count: 1
    resources: {cores: 1, memory: 40M}
    resource_scales: {memory: 1.0}
    command: 'test "$SWARM_ATTEMPT" -gt 1 || exec tail /dev/zero; squeue -h -j "$SLURM_JOB_ID" -o %m'
"""


@pytest.fixture
def cluster(limiting_cluster: Cluster) -> Cluster:
    """That of `home`."""
    return limiting_cluster


async def test_a_task_that_runs_out_of_memory_needs_more_of_it(limiting_cluster: Cluster, tmp_path: Path):
    async with slurm_engine(limiting_cluster, tmp_path) as engine:
        await engine.queue(GREEDY, "true", resources=TaskResources(1, memory_mib=40))
        [(greedy, reason), (modest, _)] = await engine.ends(1, 2)
        assert modest is TaskStatus.DONE
        assert greedy is TaskStatus.ADJUSTING_RESOURCES
        assert reason.startswith("needed more memory than its 40 MiB (Slurm: OUT_OF_MEMORY")


@pytest.mark.e2e
def test_the_next_attempt_has_more_of_it(home: Path):
    (home / "flow.yaml").write_text(WORKFLOW)
    with running(home=home) as daemon:
        answer = swarmd(home, daemon.environment, "run", "flow.yaml", "--gateway", "slurm", "--swarm-id", "grows")
        assert answer.code == 0, answer.err + answer.out
        assert swarmd(home, daemon.environment, "logs", "grows", "1").out == "80M\n"
        told = json.loads(swarmd(home, daemon.environment, "explain", "grows", "1", "--json").out)
        assert [each["taskResources"]["memoryMib"] for each in told["attempts"]] == [40, 80]
        reason = told["attempts"][0]["reason"]
        assert reason.startswith("needed more memory than its 40 MiB (Slurm: OUT_OF_MEMORY")
        assert daemon.stop() == 0
