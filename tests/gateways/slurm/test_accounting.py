"""Elements that have left the queue of a site that keeps accounts: sacct tells."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from swarmd.core.status import TaskStatus
from tests.gateways.slurm import accounting
from tests.gateways.slurm.cluster import Cluster
from tests.gateways.slurm.conftest import need, need_slurm
from tests.gateways.slurm.engine import slurm_engine
from tests.gateways.slurm.test_splitting import forgotten, look


@pytest.fixture
def cluster_with_accounts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    need_slurm()
    need(accounting.missing_programs(), "--with-accounting", optional=True)
    with accounting.keeping_accounts(tmp_path_factory.mktemp("accounts"), MinJobAge="2") as cluster:
        yield cluster


async def test_elements_that_left_the_queue_are_told_by_sacct(cluster_with_accounts: Cluster, tmp_path: Path):
    """The status file knows nothing of a job that was cancelled; sacct does, and by whom."""
    cluster = cluster_with_accounts
    async with slurm_engine(cluster, tmp_path, poll_min=600, poll_max=600) as engine:
        await engine.gateway._site.refresh(now=True)
        assert engine.gateway._site.facts.keeps_accounts
        await engine.queue("sleep 100", "exit 3", "true")
        await engine.gateway._tracker._look()
        cluster.until(["squeue", "-h", "-r", "-o", "%T"], ["RUNNING"])
        cluster.call("scancel", engine.job_of(1))
        await forgotten(cluster, 0)
        engine.status_file(2).write_text(engine.status_file(2).read_text().split("\n")[0] + "\n")
        await look(engine)
        [cancelled, failed, done] = await engine.ends(1, 2, 3)
        assert cancelled[0] is TaskStatus.ERROR_RECOVERABLE
        assert "was cancelled by somebody else" in cancelled[1]
        assert failed == (TaskStatus.ERROR_RECOVERABLE, "exit code 3")
        assert done == (TaskStatus.DONE, "")
