"""Tasks that need more memory than they asked for, where the kernel lets Slurm notice it."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from swarmd.core.model import TaskResources
from swarmd.core.status import TaskStatus
from tests.gateways.slurm.cluster import Cluster, running_cluster
from tests.gateways.slurm.conftest import need_slurm
from tests.gateways.slurm.engine import slurm_engine

LIMITING = "ConstrainRAMSpace=yes\nConstrainSwapSpace=yes\nAllowedSwapSpace=0\n"
WATCHING = {"TaskPlugin": "task/cgroup", "ProctrackType": "proctrack/cgroup"}
GREEDY = "exec tail /dev/zero"
"""It keeps the last line, which never ends."""


@pytest.fixture
def limiting_cluster() -> Iterator[Cluster]:
    """One that ends tasks which need too much memory."""
    need_slurm()
    controllers = [Path("/sys/fs/cgroup") / name for name in ("memory", "freezer", "cpuset")]
    if os.geteuid() != 0 or not all(os.access(path, os.W_OK) for path in controllers):
        pytest.skip("OUT_OF_MEMORY needs root and writable cgroups of version 1: memory, freezer, cpuset")
    try:
        with running_cluster(WATCHING, cgroup=LIMITING) as cluster:
            yield cluster
    except AssertionError as error:
        pytest.skip(f"slurmd cannot use the cgroups of this machine: {error}")
    finally:
        remove_cgroups(controllers)


def remove_cgroups(controllers: list[Path]) -> None:
    """slurmd leaves its own behind."""
    for controller in controllers:
        for folder, _, _ in os.walk(controller / "slurm_n1", topdown=False):
            with contextlib.suppress(OSError):
                Path(folder).rmdir()


async def test_a_task_that_runs_out_of_memory_needs_more_of_it(limiting_cluster: Cluster, tmp_path: Path):
    async with slurm_engine(limiting_cluster, tmp_path) as engine:
        await engine.queue(GREEDY, "true", resources=TaskResources(1, memory_mib=40))
        [(greedy, reason), (modest, _)] = await engine.ends(1, 2)
        assert modest is TaskStatus.DONE
        assert greedy is TaskStatus.ADJUSTING_RESOURCES
        assert reason.startswith("needed more memory than its 40 MiB (Slurm: OUT_OF_MEMORY")
