"""Options of the installed sbatch, one by one, and the variables that would set them: nothing breaks the contract."""

import asyncio
import re
from pathlib import Path

import pytest

from swarmd.core.model import TaskResources
from swarmd.core.status import TaskStatus
from swarmd.gateways.contract import OutcomeUnknownError, QueueOutcome
from swarmd.gateways.slurm.requests import FORBIDDEN, OWN_FIELDS
from tests.gateways.recording import batch_of
from tests.gateways.slurm.cluster import Cluster
from tests.gateways.slurm.engine import Engine, slurm_engine

VALUES = ("", "help", "zzz", "-1")
HARMLESS = {
    *("account", "acctg-freq", "batch", "bb", "bbf", "begin", "constraint", "contiguous", "core-spec", "cpu-freq"),
    *("cores-per-socket", "deadline", "delay-boot", "distribution", "exclude", "exclusive", "extra-node-info"),
    *("gpu-bind", "gpu-freq", "gpus", "gpus-per-node", "gpus-per-socket", "gpus-per-task", "gres", "gres-flags"),
    *("hint", "ignore-pbs", "kill-on-invalid-dep", "licenses", "mail-type", "mail-user", "mcs-label", "mem-bind"),
    *("mem-per-cpu", "mem-per-gpu", "mincpus", "network", "nice", "nodefile", "nodelist", "nodes", "ntasks"),
    *("ntasks-per-core", "ntasks-per-gpu", "ntasks-per-node", "ntasks-per-socket", "overcommit", "oversubscribe"),
    *("power", "prefer", "priority", "profile", "propagate", "qos", "reboot", "reservation", "signal"),
    *("sockets-per-node", "spread-job", "switches", "thread-spec", "threads-per-core", "time-min", "tmp"),
    *("use-min-nodes", "wait-all-nodes", "wckey"),
}
"""Those that say where, when and with what a job runs: none of what the daemon relies on."""


def options_of(cluster: Cluster) -> list[str]:
    """All that the installed sbatch names in its help."""
    found = set(re.findall(r"^ .{2,4} ?--([a-z][a-z0-9-]+)", cluster.call("sbatch", "--help"), re.MULTILINE))
    assert len(found) > 80
    return sorted(found)


def test_every_option_was_thought_of(cluster: Cluster):
    thought_of = HARMLESS | FORBIDDEN.keys() | OWN_FIELDS.keys()
    assert [name for name in options_of(cluster) if name not in thought_of] == []


@pytest.fixture
def waiting_cluster(own_cluster: Cluster) -> Cluster:
    """It takes jobs, and runs none."""
    own_cluster.call("scontrol", "update", "nodename=n1", "state=drain", "reason=test")
    return own_cluster


async def test_every_option_is_taken_or_refused_for_good(waiting_cluster: Cluster, tmp_path: Path):
    """A refusal that nobody understands would be tried again for ever."""
    async with slurm_engine(waiting_cluster, tmp_path) as engine:
        for name in options_of(waiting_cluster):
            answers = await asyncio.gather(*(offered(engine, name, value) for value in VALUES))
            for value, outcome in zip(VALUES, answers, strict=True):
                assert outcome is not None, f"--{name}={value} is in doubt"
                assert all(refusal.permanent for refusal in outcome.refusals), (name, value, outcome)
                if name in FORBIDDEN or name in OWN_FIELDS:
                    assert outcome.refusals, f"--{name}={value} was taken"


async def offered(engine: Engine, name: str, value: str) -> QueueOutcome | None:
    """What becomes of a batch with this option; None when nobody knows."""
    resources = TaskResources(1, memory_mib=10, extra={name: value})
    try:
        return await engine.gateway.queue_batch(batch_of("true", resources=resources)) or QueueOutcome()
    except OutcomeUnknownError:
        return None


VARIABLES = """
SBATCH_ARRAY_INX=5-9 SBATCH_REQUEUE=1 SBATCH_OUTPUT=/nowhere/x SBATCH_ERROR=/nowhere/x
SBATCH_JOB_NAME=other SBATCH_WAIT=1 SBATCH_EXPORT=NONE SBATCH_TIMELIMIT=1
SBATCH_MEM_PER_CPU=7 SBATCH_MEM_PER_NODE=7 SBATCH_CLUSTERS=nowhere SBATCH_NO_KILL=1
SBATCH_PARTITION=short SBATCH_INPUT=/nowhere/x SBATCH_GET_USER_ENV=1 SBATCH_DEBUG=5
SBATCH_CONTAINER=/nowhere SBATCH_CLUSTER_CONSTRAINT=x SBATCH_SIGNAL=B:KILL@60
SBATCH_OPEN_MODE=a SBATCH_EXCLUSIVE=user SBATCH_CPUS_PER_GPU=3 SBATCH_CONSTRAINT=x
SBATCH_ACCOUNT=nobody SBATCH_QOS=none SBATCH_RESERVATION=none SBATCH_GRES=gpu:9
SLURM_CLUSTERS=nowhere SLURM_EXIT_ERROR=0 SLURM_NTASKS=999 SLURM_CPUS_PER_TASK=999
SLURM_JOB_NAME=other SLURM_UMASK=0777 SLURM_HINT=x SLURM_TIME_FORMAT=relative
SQUEUE_FORMAT=%A SQUEUE_FORMAT2=JobID SQUEUE_STATES=PENDING SQUEUE_USERS=nobody
SQUEUE_PARTITION=short SQUEUE_NAMES=other SQUEUE_ACCOUNT=x SQUEUE_LICENSES=x
SCANCEL_INTERACTIVE=1 SCANCEL_NAME=other SCANCEL_STATE=SUSPENDED SCANCEL_PARTITION=x
SCANCEL_ACCOUNT=x SCANCEL_QOS=x SCANCEL_USER=nobody SCANCEL_WCKEY=x
SINFO_FORMAT=%a SINFO_PARTITION=short SCONTROL_ALL=1 SACCT_FORMAT=User
"""
HOSTILE = dict(pair.split("=", 1) for pair in VARIABLES.split())
"""What the daemon's own environment may have, each of which a program of Slurm takes for an option."""


async def test_variables_of_the_daemon_change_nothing(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for name, value in HOSTILE.items():
        monkeypatch.setenv(name, value)
    async with slurm_engine(cluster, tmp_path) as engine:
        await engine.record.until(lambda: any(update.queue_limits for _, update in engine.record.updates))
        command = "env >seen.$SWARM_TASK_ID; until [ -e go ]; do sleep 0.1; done"
        batch = await engine.queue(command, command, "sleep 100")
        await engine.record.running(1, 2, 3)
        shown = cluster_of_the_test(cluster, monkeypatch, engine.job_of(1))
        for wanted in (
            *(f"JobName={batch.batch_id}", f"Comment={batch.batch_id} 0 3", "Partition=main", "Requeue=0"),
            *("ArrayTaskId=0", "NumCPUs=1", "StdOut=/dev/null"),
        ):
            assert wanted in shown, shown
        no_limit = ("TimeLimit=365-00:00:00", "TimeLimit=UNLIMITED")  # which of them depends on who started the job
        assert any(wanted in shown for wanted in no_limit), shown
        await engine.cancel(3)
        (tmp_path / "go").touch()
        assert await engine.ends(1, 2) == [(TaskStatus.DONE, "")] * 2
    seen = dict(line.split("=", 1) for line in (tmp_path / "seen.1").read_text().splitlines() if "=" in line)
    kept = {name for name, value in HOSTILE.items() if seen.get(name) == value}
    assert not kept, "a task would hand them on to what it calls itself"


def cluster_of_the_test(cluster: Cluster, monkeypatch: pytest.MonkeyPatch, job: str) -> str:
    with monkeypatch.context() as without:
        for name in HOSTILE:
            without.delenv(name, raising=False)
        return cluster.call("scontrol", "show", "job", job)
