"""Batches that are too large for the site, and elements that it forgets soon."""

import asyncio
from pathlib import Path

import pytest

from swarmd.core.status import TaskStatus
from swarmd.gateways.contract import BatchRefusedError, QueueOutcome
from tests.gateways.recording import batch_of, eventually
from tests.gateways.slurm.cluster import Cluster
from tests.gateways.slurm.engine import calls_of, slurm_engine, wrapped_programs

D, E = TaskStatus.DONE, TaskStatus.ERROR_RECOVERABLE


@pytest.fixture
def forgetful(forgetful_cluster: Cluster):
    yield forgetful_cluster
    forgetful_cluster.clear()


async def test_a_batch_is_split_where_the_sites_arrays_are_small(forgetful: Cluster, tmp_path: Path):
    bin_directory = wrapped_programs(tmp_path / "bin")
    async with slurm_engine(forgetful, tmp_path, bin_directory=bin_directory) as engine:
        await engine.gateway._site.refresh(now=True)
        commands = [f"echo {number} >>ran.{number}" for number in range(1, 20)]
        assert await engine.run(*commands) == [(D, "")] * 19
        for number in range(1, 20):
            assert (tmp_path / f"ran.{number}").read_text() == f"{number}\n"
        arrays = [word for call in calls_of(bin_directory, "sbatch") for word in call.split() if "--array" in word]
        assert arrays == ["--array=0-7", "--array=0-7", "--array=0-2"]


async def test_a_site_that_says_nothing_of_its_arrays_is_found_out(forgetful: Cluster, tmp_path: Path):
    bin_directory = wrapped_programs(tmp_path / "bin", scontrol="exit 1")
    async with slurm_engine(forgetful, tmp_path, bin_directory=bin_directory) as engine:
        assert await engine.run(*["true"] * 19) == [(D, "")] * 19


async def test_what_slurm_has_no_room_for_comes_back_and_the_rest_runs(forgetful: Cluster, tmp_path: Path):
    forgetful.call("scontrol", "update", "nodename=n1", "state=drain", "reason=test")
    await forgotten(forgetful, 0)
    async with slurm_engine(forgetful, tmp_path, bin_directory=impatient(tmp_path / "bin")) as engine:
        outcomes = [await offered(engine, 1 + 20 * number) for number in range(5)]
        refused = {task_id for outcome in outcomes for each in outcome.refusals for task_id in each.task_ids}
        assert refused
        assert not [each for outcome in outcomes for each in outcome.refusals if each.permanent]
        accepted = set(range(1, 101)) - refused
        assert len(accepted) >= 30
        forgetful.call("scontrol", "update", "nodename=n1", "state=resume")
        assert await engine.ends(*accepted) == [(D, "")] * len(accepted)
        assert not engine.record.ended_ids() & refused


def impatient(folder: Path) -> Path:
    """An sbatch that gives up at once where the real one would try for minutes."""
    script = """\
cat >"$0.$$"
"$real" "$@" <"$0.$$" 2>"$0.$$.err" & job=$!
while kill -0 $job 2>/dev/null; do
grep -q "sleeping and retrying" "$0.$$.err" && { kill $job; echo "sbatch: error: MaxSubmitJobs reached" >&2; exit 1; }
sleep 0.05
done
wait $job; code=$?
cat "$0.$$.err" >&2
exit $code"""
    return wrapped_programs(folder, sbatch=script)


async def offered(engine, first_id: int) -> QueueOutcome:
    batch = batch_of(*["true"] * 20, first_id=first_id)
    try:
        return await engine.gateway.queue_batch(batch) or QueueOutcome()
    except BatchRefusedError as error:
        from swarmd.gateways.contract import Refusal

        return QueueOutcome([Refusal(batch.task_ids.tolist(), str(error))])


async def test_elements_that_left_the_queue_are_told_by_their_status_files(forgetful: Cluster, tmp_path: Path):
    async with slurm_engine(forgetful, tmp_path, poll_min=600, poll_max=600, lost_after=0) as engine:
        await engine.queue("true", "echo why >&2; exit 4", "true", "sleep 100")
        await eventually(engine.status_file(4).exists)
        await forgotten(forgetful, 1)
        without_code = engine.status_file(3).read_text().split("\n")[0] + "\n"
        engine.status_file(3).write_text(without_code)
        await look(engine)
        assert await engine.ends(1, 2) == [(D, ""), (E, "exit code 4\nwhy")]
        [(status, reason)] = await engine.ends(3)
        assert (status, reason.split(":")[0]) == (E, "it vanished")
        assert 4 not in engine.record.ended_ids()


async def test_elements_that_left_the_queue_are_told_by_slurms_own_records(forgetful: Cluster, tmp_path: Path):
    """A status file knows an exit code; that the time was up, or the memory, only Slurm knows."""
    records = tmp_path / "jobcomp.txt"
    async with slurm_engine(forgetful, tmp_path, poll_min=600, poll_max=600, jobcomp_file=records) as engine:
        batch = await engine.queue("exit 9", "exit 3")
        await forgotten(forgetful, 0)
        real = [line for line in forgetful.job_completions.read_text().splitlines() if batch.batch_id in line]
        assert len(real) == 2
        timed_out = [line.replace("JobState=FAILED", "JobState=TIMEOUT") for line in real if "ExitCode=9:0" in line]
        records.write_text("\n".join([*real, *timed_out, ""]))
        await look(engine)
        ends = await engine.ends(1, 2)
        assert [status for status, _ in ends] == [TaskStatus.ADJUSTING_RESOURCES, E]


async def test_arrays_that_were_cancelled_and_forgotten_are_not_queued_again(forgetful: Cluster, tmp_path: Path):
    """What Slurm never started is given back, unless its records tell that somebody wanted it so."""
    records = forgetful.job_completions
    async with slurm_engine(forgetful, tmp_path, poll_min=600, poll_max=600, jobcomp_file=records) as engine:
        forgetful.call("scontrol", "update", "nodename=n1", "state=drain", "reason=test")
        batch = await engine.queue("true", "true")
        forgetful.call("scancel", f"--name={batch.batch_id}")
        forgetful.call("scontrol", "update", "nodename=n1", "state=resume")
        await forgotten(forgetful, 0)
        await look(engine)
        for status, reason in await engine.ends(1, 2):
            assert (status, reason.partition(" was ")[2]) == (E, "cancelled before it started")


async def forgotten(cluster: Cluster, left: int) -> None:
    """Wait until Slurm does not know more elements than these."""
    async with asyncio.timeout(100):
        while len((await asyncio.to_thread(cluster.call, "squeue", "-h", "-r", "-t", "all")).splitlines()) > left:  # noqa: ASYNC110
            await asyncio.sleep(0.2)


async def look(engine) -> None:
    """Let the gateway look at the queue now."""
    await engine.gateway._tracker._look()
