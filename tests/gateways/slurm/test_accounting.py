"""A site that keeps accounts: sacct tells of elements that have left the queue, and a user has limits."""

import getpass
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from swarmd.core.status import TaskStatus
from swarmd.gateways.contract import BatchRefusedError
from tests.gateways.recording import batch_of
from tests.gateways.slurm import accounting
from tests.gateways.slurm.cluster import Cluster
from tests.gateways.slurm.conftest import need, need_slurm
from tests.gateways.slurm.engine import slurm_engine
from tests.gateways.slurm.test_splitting import forgotten, look

STRICT = {"MinJobAge": "2", "AccountingStorageEnforce": "associations,limits,qos"}


@pytest.fixture(scope="module")
def cluster_with_accounts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    need_slurm()
    need(accounting.missing_programs(), "--with-accounting")
    with accounting.keeping_accounts(tmp_path_factory.mktemp("accounts"), **STRICT) as cluster:
        cluster.call("sacctmgr", "-i", "add", "account", "physics")
        cluster.call("sacctmgr", "-i", "add", "user", getpass.getuser(), "account=physics", "MaxSubmitJobs=20")
        yield cluster


async def test_elements_that_left_the_queue_are_told_by_sacct(cluster_with_accounts: Cluster, tmp_path: Path):
    """The status file knows nothing of a job that was cancelled; sacct does, and by whom."""
    cluster = cluster_with_accounts
    async with slurm_engine(cluster, tmp_path, account="physics", poll_min=600, poll_max=600) as engine:
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


async def test_arrays_that_were_cancelled_and_forgotten_are_not_queued_again(
    cluster_with_accounts: Cluster, tmp_path: Path
):
    cluster = cluster_with_accounts
    async with slurm_engine(cluster, tmp_path, account="physics", poll_min=600, poll_max=600) as engine:
        await engine.gateway._site.refresh(now=True)
        cluster.call("scontrol", "update", "nodename=n1", "state=drain", "reason=test")
        by_name = await engine.queue("true", "true")
        await engine.queue("true", first_id=3)
        cluster.call("scancel", f"--name={by_name.batch_id}")
        cluster.call("scancel", engine.job_of(3).split("_")[0])
        cluster.call("scontrol", "update", "nodename=n1", "state=resume")
        await forgotten(cluster, 0)
        await look(engine)
        for status, reason in await engine.ends(1, 2, 3):
            assert (status, reason.partition(" was ")[2]) == (
                TaskStatus.ERROR_RECOVERABLE,
                "cancelled before it started",
            )


async def test_what_a_users_limit_leaves_no_room_for_comes_back_and_the_rest_runs(
    cluster_with_accounts: Cluster, tmp_path: Path
):
    """Slurm takes an array wholly or not at all: smaller ones are tried until it takes one."""
    async with slurm_engine(cluster_with_accounts, tmp_path, account="physics") as engine:
        outcome = await engine.offer(*["until [ -e go ]; do sleep 0.1; done; echo ran >>ran.$SWARM_TASK_ID"] * 50)
        [refusal] = outcome.refusals
        assert not refusal.permanent
        assert "Job violates accounting/QOS policy" in refusal.reason
        refused = set(refusal.task_ids)
        assert len(refused) == 30, "not a place is left empty"
        accepted = set(range(1, 51)) - refused
        await engine.record.running(*accepted)
        with pytest.raises(BatchRefusedError, match="Job violates accounting/QOS policy"):
            await engine.gateway.queue_batch(batch_of("true", first_id=100))
        (tmp_path / "go").touch()
        assert await engine.ends(*accepted) == [(TaskStatus.DONE, "")] * 20
        await engine.queue(*["true"] * 20, first_id=200)
        assert await engine.ends(*range(200, 220)) == [(TaskStatus.DONE, "")] * 20
        assert {task_id for task_id in range(1, 51) if (tmp_path / f"ran.{task_id}").exists()} == accepted


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"account": "chemistry"}, "Invalid account or account/partition combination specified"),
        ({"account": "physics", "qos": "gold"}, "Invalid qos specification"),
    ],
)
async def test_a_wrong_account_fails_for_good_with_slurms_words(
    cluster_with_accounts: Cluster, tmp_path: Path, options: dict[str, Any], words: str
):
    async with slurm_engine(cluster_with_accounts, tmp_path, **options) as engine:
        [refusal] = (await engine.offer("true", "true")).refusals
        assert (list(refusal.task_ids), refusal.permanent) == ([1, 2], True)
        assert words in refusal.reason
