"""Real clusters, as many as differ in their configuration; one of each for all tests of a process."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gateways.slurm.cluster import Cluster, fast_clock_library, missing_programs, running_cluster

PARTITIONS = (
    "PartitionName=main Nodes=n1 Default=YES MaxTime=INFINITE State=UP",
    "PartitionName=short Nodes=n1 MaxTime=2 State=UP",
    "PartitionName=frail Nodes=n2 State=UP",
    "PartitionName=low Nodes=n3 PriorityTier=1 PreemptMode=REQUEUE State=UP",
    "PartitionName=high Nodes=n3 PriorityTier=10 PreemptMode=OFF State=UP",
)
LIMITING = "ConstrainRAMSpace=yes\nConstrainSwapSpace=yes\nAllowedSwapSpace=0\n"
WATCHING = {"TaskPlugin": "task/cgroup", "ProctrackType": "proctrack/cgroup"}
PREEMPTING = {"PreemptType": "preempt/partition_prio", "PreemptMode": "REQUEUE"}


def need(missing: list[str], how: str = "") -> None:
    """Skip where something is not installed; where it must be, as on CI, fail."""
    if not missing:
        return
    script = f"sh scripts/install_slurm.sh {how}".strip()
    why = f"{', '.join(missing)} not installed; as root: {script}"
    if os.environ.get("CI") == "true":
        pytest.fail(why)
    pytest.skip(why)


def need_slurm() -> None:
    """Skip, or fail, where Slurm is not installed."""
    need(missing_programs())


@pytest.fixture(scope="session")
def usual_cluster() -> Iterator[Cluster]:
    """Three nodes, and partitions that differ."""
    need_slurm()
    with running_cluster(PREEMPTING, nodes=3, partitions=PARTITIONS) as cluster:
        yield cluster


@pytest.fixture
def cluster(usual_cluster: Cluster) -> Iterator[Cluster]:
    """The usual one, with nothing in its queue before and after."""
    yield usual_cluster
    usual_cluster.clear()


@pytest.fixture(scope="session")
def forgetful_cluster() -> Iterator[Cluster]:
    """It forgets jobs soon, and takes neither large arrays nor many jobs."""
    need_slurm()
    with running_cluster({"MinJobAge": "2", "MaxArraySize": "8", "MaxJobCount": "60"}) as cluster:
        yield cluster


@pytest.fixture
def own_cluster() -> Iterator[Cluster]:
    """One to break."""
    need_slurm()
    with running_cluster({"MessageTimeout": "2"}) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def fast_cluster() -> Iterator[Cluster]:
    """Its clock runs ten times as fast."""
    need_slurm()
    need([] if fast_clock_library() else ["libfaketime"])
    with running_cluster(speed=10) as cluster:
        yield cluster


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
