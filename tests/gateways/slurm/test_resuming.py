"""A gateway that takes up what an earlier one had submitted: the jobs went on, and what ended meanwhile is told."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from swarmd.core.batch import Batch
from swarmd.core.status import Code, TaskStatus
from swarmd.gateways.contract import BatchRefusedError, FindOutcome, Found, SwarmInfo
from swarmd.gateways.slurm import patrol
from swarmd.gateways.slurm.submitting import batch_record
from tests.gateways.recording import SWARM, batch_of, eventually
from tests.gateways.slurm.cluster import Cluster
from tests.gateways.slurm.engine import TOKEN, Engine, slurm_engine, wrapped_programs

D, E, G = TaskStatus.DONE, TaskStatus.ERROR_RECOVERABLE, TaskStatus.REGISTERED


@asynccontextmanager
async def next_daemon(
    cluster: Cluster, folder: Path, *batches: Batch, cancelled: tuple[Batch, ...] = (), **options
) -> AsyncIterator[Engine]:
    """Another gateway with the same folders, told what the engine has as the core tells it: without batch ids."""
    async with slurm_engine(cluster, folder, **options) as engine:
        await engine.gateway.resume([unnamed(batch) for batch in batches], [unnamed(batch) for batch in cancelled])
        yield engine


def unnamed(batch: Batch) -> Batch:
    return Batch(
        *(batch.swarm_id, "", batch.array, batch.task_resources, batch.priority),
        *(batch.task_ids, batch.attempts, batch.rows, batch.seqs, batch.table),
    )


def part(batch: Batch, *places: int) -> Batch:
    """Some of its tasks."""
    some = np.array(places)
    return Batch(
        *(batch.swarm_id, batch.batch_id, batch.array, batch.task_resources, batch.priority),
        *(batch.task_ids[some], batch.attempts[some], batch.rows[some], batch.seqs[some], batch.table),
    )


async def test_what_ended_meanwhile_is_told_and_what_runs_goes_on(cluster: Cluster, tmp_path: Path):
    async with slurm_engine(cluster, tmp_path) as engine:
        batch = await engine.queue("true", "exit 3", "until [ -e go ]; do sleep 0.1; done; echo ran >>ran")
        await engine.record.running(3)
    async with next_daemon(cluster, tmp_path, batch) as engine:
        assert await engine.ends(1, 2) == [(D, ""), (E, "exit code 3")]
        assert 3 not in engine.record.ended_ids()
        assert engine.gateway.standing(SWARM, 3, 1).endswith("is RUNNING")
        (tmp_path / "go").touch()
        assert await engine.ends(3) == [(D, "")]
        assert (tmp_path / "ran").read_text() == "ran\n"


async def test_only_what_it_is_told_of_is_spoken_of(cluster: Cluster, tmp_path: Path):
    async with slurm_engine(cluster, tmp_path) as engine:
        batch = await engine.queue("true", "true", "true")
        await engine.ends(1, 2, 3)
    async with next_daemon(cluster, tmp_path, part(batch, 1)) as engine:
        await engine.ends(2)
        await engine.gateway._tracker.next_look()
        assert engine.record.ended_ids() == {2}


async def test_what_was_cancelled_before_the_restart_is_ended_in_silence(cluster: Cluster, tmp_path: Path):
    async with slurm_engine(cluster, tmp_path) as engine:
        batch = await engine.queue("sleep 100", "sleep 1")
        await engine.record.running(1)
    async with next_daemon(cluster, tmp_path, part(batch, 1), cancelled=(part(batch, 0),)) as engine:
        assert await engine.ends(2) == [(D, "")]
        await eventually(lambda: not cluster.call("squeue", "-h"))
        assert engine.record.ended_ids() == {2}


async def test_a_batch_whose_job_was_not_noted_is_found_by_its_name(cluster: Cluster, tmp_path: Path):
    async with slurm_engine(cluster, tmp_path) as engine:
        batch = await engine.queue("sleep 0.5; echo ran >>ran", "exit 3")
    next((tmp_path / "batches").rglob("jobs")).unlink()
    async with next_daemon(cluster, tmp_path, batch) as engine:
        assert await engine.ends(1, 2) == [(D, ""), (E, "exit code 3")]
        assert (tmp_path / "ran").read_text() == "ran\n"


async def test_a_batch_that_slurm_never_had_is_given_back(cluster: Cluster, tmp_path: Path):
    async with slurm_engine(cluster, tmp_path) as engine:
        batch = await engine.queue("true", "true")
        await engine.ends(1, 2)
    for name in ("batches", "logs"):
        for path in (tmp_path / name).rglob("*"):
            if path.name == "jobs" or path.suffix == ".status":
                path.unlink()
    cluster_forgets = batch_of("true", "true")
    rename(tmp_path, batch.batch_id, cluster_forgets.batch_id)
    async with next_daemon(cluster, tmp_path, cluster_forgets) as engine:
        assert await engine.ends(1, 2) == [(G, "it was not submitted")] * 2
        assert engine.status_file(1).read_text() == "never\n"


def rename(folder: Path, old: str, new: str) -> None:
    """The files of a batch that never got a job."""
    path = folder / "batches" / SWARM
    (path / old).rename(path / new)
    manifest = path / new / "manifest"
    manifest.write_text(manifest.read_text().replace(old, new))


async def test_without_batch_files_the_status_files_tell(cluster: Cluster, tmp_path: Path):
    async with slurm_engine(cluster, tmp_path) as engine:
        batch = await engine.queue("true", "exit 3", "true")
        await engine.ends(1, 2, 3)
        engine.status_file(3).unlink()
    shutil.rmtree(tmp_path / "batches")
    async with next_daemon(cluster, tmp_path, batch) as engine:
        ends = await engine.ends(1, 2, 3)
        assert ends[:2] == [(D, ""), (E, "exit code 3")]
        assert ends[2][0] is G


@pytest.mark.parametrize("what_is_there", ["nothing", "something else"])
async def test_nothing_is_said_of_jobs_while_the_shared_file_system_is_away(
    cluster: Cluster, tmp_path: Path, what_is_there: str
):
    """A login node can start its daemon before it has mounted everything."""
    shared = tmp_path / "shared"
    shared.mkdir()
    swarm = SwarmInfo(SWARM, token=TOKEN, working_directory=tmp_path)
    async with slurm_engine(cluster, shared, swarm=swarm) as engine:
        batch = await engine.queue("echo ran >>ran; until [ -e go ]; do sleep 0.1; done")
        await eventually((tmp_path / "ran").exists)
    shared.rename(tmp_path / "elsewhere")
    if what_is_there == "something else":
        shared.mkdir()
        (shared / "batches").write_text("no folder")
    async with slurm_engine(cluster, shared, swarm=swarm) as engine:
        with pytest.raises(OSError, match=r"is not there; mount its file system|Not a directory"):
            await engine.gateway.resume([unnamed(batch)])
        assert not engine.record.news
        shutil.rmtree(shared, ignore_errors=True)
        (tmp_path / "elsewhere").rename(shared)
        await engine.gateway.resume([unnamed(batch)])
        (tmp_path / "go").touch()
        assert await engine.ends(1) == [(D, "")]
        assert (tmp_path / "ran").read_text() == "ran\n"


async def test_what_is_queued_while_the_shared_file_system_is_away_does_not_stand_in_for_it(
    cluster: Cluster, tmp_path: Path
):
    """A folder that is made where it was to be mounted would say that no job ever started."""
    shared = tmp_path / "shared"
    shared.mkdir()
    swarm = SwarmInfo(SWARM, token=TOKEN, working_directory=tmp_path)
    async with slurm_engine(cluster, shared, swarm=swarm) as engine:
        batch = await engine.queue("echo ran >>ran; until [ -e go ]; do sleep 0.1; done")
        await eventually((tmp_path / "ran").exists)
    shared.rename(tmp_path / "elsewhere")
    async with slurm_engine(cluster, shared, swarm=swarm, find_patience=0.0) as engine:
        with pytest.raises(BatchRefusedError, match="shared is not there; mount its file system, or make the folder"):
            await engine.gateway.queue_batch(batch_of("true", first_id=2))
        for _ in range(2):
            with pytest.raises(OSError, match="shared is not there"):
                await engine.gateway.find_batch(batch)
        assert not shared.exists()
        (tmp_path / "elsewhere").rename(shared)
        (tmp_path / "go").touch()
        assert await engine.find(batch) == FindOutcome(Found.QUEUED)
        assert await engine.ends(1) == [(D, "")]
        assert (tmp_path / "ran").read_text() == "ran\n"


async def test_what_slurm_forgets_while_the_shared_file_system_is_away_is_not_said_never_to_have_started(
    cluster: Cluster, tmp_path: Path
):
    shared = tmp_path / "shared"
    shared.mkdir()
    swarm = SwarmInfo(SWARM, token=TOKEN, working_directory=tmp_path)
    async with slurm_engine(cluster, shared, swarm=swarm, lost_after=60.0) as engine:
        await engine.queue("echo ran >>ran; sleep 1")
        await eventually((tmp_path / "ran").exists)
        engine.gateway._tracker._elements["77_0"] = engine.gateway._tracker._elements.pop(engine.job_of(1))
        engine.gateway._swarms[SWARM].elements[1, 1].job_id = 77
        shared.rename(tmp_path / "elsewhere")
        await engine.gateway._tracker.next_look()
        await engine.gateway._tracker.next_look()
        assert not engine.record.ended_ids()
        assert not shared.exists()
        (tmp_path / "elsewhere").rename(shared)
        assert await engine.ends(1) == [(D, "")]


@pytest.mark.parametrize(
    ("command", "is_forgotten", "end"), [("true", True, (D, "")), ("exit 3", False, (E, "exit code 3"))]
)
async def test_what_ended_before_the_shared_file_system_went_away_is_told_when_it_is_back(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, is_forgotten: bool, end: object
):
    """However long that takes. Its status file knows more than Slurm: a task that is done must not run again."""
    shared = tmp_path / "shared"
    shared.mkdir()
    swarm = SwarmInfo(SWARM, token=TOKEN, working_directory=tmp_path)
    async with slurm_engine(cluster, shared, swarm=swarm, lost_after=0.0) as engine:
        tracker, may_look = engine.gateway._tracker, asyncio.Event()
        look = tracker._look

        async def look_when_it_may() -> bool:
            await may_look.wait()
            return await look()

        monkeypatch.setattr(tracker, "_look", look_when_it_may)
        await engine.queue(command)
        job = engine.job_of(1)
        await eventually(lambda: state_of(cluster, job) in ("COMPLETED", "FAILED"))
        if is_forgotten:
            tracker._elements["77_0"] = tracker._elements.pop(job)
            engine.gateway._swarms[SWARM].elements[1, 1].job_id = 77
        shared.rename(tmp_path / "elsewhere")
        may_look.set()
        for _ in range(3):
            await tracker.next_look()
        assert not engine.record.ended_ids()
        (tmp_path / "elsewhere").rename(shared)
        assert await engine.ends(1) == [end]


def state_of(cluster: Cluster, job: str) -> str:
    return cluster.call("squeue", "--noheader", "--states=all", f"--jobs={job}", "--format=%T").strip()


async def test_a_second_submission_of_a_batch_waits_for_the_first(cluster: Cluster, tmp_path: Path):
    """Of a ghost that was found too late, one element runs the command, and what became of it is what counts."""
    async with slurm_engine(cluster, tmp_path, lost_after=0.3) as engine:
        batch = await engine.queue("echo ran >>ran; sleep 3; exit 7")
        await eventually((tmp_path / "ran").exists)
        first = engine.gateway._swarms[SWARM].elements[1, 1]
        engine.gateway._tracker._forget(first)
        second = batch_record(engine.gateway._swarms[SWARM], batch)
        await engine.gateway._submitting._submit(second, batch, batch.tasks(), [])
        assert await engine.ends(1) == [(E, "exit code 7")]
        assert (tmp_path / "ran").read_text() == "ran\n"


async def test_a_job_without_batch_files_is_waited_for(cluster: Cluster, tmp_path: Path):
    async with slurm_engine(cluster, tmp_path) as engine:
        batch = await engine.queue("echo ran >>ran; sleep 3")
        await eventually((tmp_path / "ran").exists)
    shutil.rmtree(tmp_path / "batches")
    async with next_daemon(cluster, tmp_path, batch, lost_after=0.3) as engine:
        assert await engine.ends(1) == [(D, "")]


async def test_a_batch_in_doubt_is_found_with_its_files(cluster: Cluster, tmp_path: Path):
    """The daemon was killed between sbatch's answer and the end of the call."""
    async with slurm_engine(cluster, tmp_path) as engine:
        batch = await engine.queue("sleep 0.5; echo ran >>ran", "true")
    async with next_daemon(cluster, tmp_path) as engine:
        assert (await engine.gateway.find_batch(batch)).found is Found.QUEUED
        assert await engine.ends(1, 2) == [(D, "")] * 2
        assert (tmp_path / "ran").read_text() == "ran\n"


async def test_of_a_batch_that_was_submitted_in_part_the_rest_comes_back(cluster: Cluster, tmp_path: Path):
    """The daemon was killed between the first array and the second."""
    async with slurm_engine(cluster, tmp_path) as engine:
        batch = batch_of("echo 1 >>ran", "echo 2 >>ran", "echo 3 >>ran")
        engine.gateway._site._cap = 2
        await engine.gateway.queue_batch(part(batch, 0, 1))
        manifest = next((tmp_path / "batches").rglob("manifest"))
        manifest.write_text(manifest.read_text().replace("[1, 2]", "[1, 2, 3]").replace("[1, 1]", "[1, 1, 1]"))
    async with next_daemon(cluster, tmp_path) as engine:
        outcome = await engine.find(batch)
        assert outcome.found is Found.QUEUED
        assert [list(refusal.task_ids) for refusal in outcome.refusals] == [[3]]
        assert await engine.ends(1, 2) == [(D, "")] * 2


async def test_a_requeue_while_no_daemon_was_there_is_a_new_attempt(cluster: Cluster, tmp_path: Path):
    async with slurm_engine(cluster, tmp_path) as engine:
        batch = await engine.queue("echo ran >>ran; sleep 100")
        await eventually((tmp_path / "ran").exists)
        job = engine.job_of(1)
    cluster.call("scontrol", "update", f"jobid={job}", "requeue=1")
    cluster.call("scontrol", "requeue", job)
    batch.table.status[batch.rows] = Code.RUNNING
    async with next_daemon(cluster, tmp_path, batch) as engine:
        [(status, _)] = await engine.ends(1)
        assert status is G
    assert (tmp_path / "ran").read_text() == "ran\n"


async def test_a_second_start_that_ran_nothing_is_told_once_the_first_is_gone(cluster: Cluster, tmp_path: Path):
    async with slurm_engine(cluster, tmp_path) as engine:
        batch = await engine.queue("echo ran >>ran; sleep 100")
        await eventually((tmp_path / "ran").exists)
        job = engine.job_of(1)
    cluster.call("scontrol", "update", f"jobid={job}", "requeue=1")
    cluster.call("scontrol", "requeue", job)
    await eventually(lambda: "BeginTime" in cluster.call("squeue", "-h", "-o", "%r"))
    cluster.call("scontrol", "update", f"jobid={job}", "StartTime=now+2")  # nodes refuse it within a second
    await eventually(lambda: not cluster.call("squeue", "-h"))
    async with next_daemon(cluster, tmp_path, batch) as engine:
        [(status, reason)] = await engine.ends(1)
        assert status is E
        # Slurm ended the first run: its shell may have been quick enough to note what the signal did.
        assert reason.startswith(("it vanished: ", "exit code 143"))
        assert (tmp_path / "ran").read_text() == "ran\n"


async def test_the_rest_of_a_batch_in_doubt_is_not_forgotten_for_what_is_known_of_it(cluster: Cluster, tmp_path: Path):
    """The daemon was killed during the second array; that the first one runs was written down before."""
    async with slurm_engine(cluster, tmp_path) as engine:
        batch = batch_of(*[f"until [ -e go ]; do sleep 0.1; done; echo {number} >>ran" for number in (1, 2, 3, 4)])
        engine.gateway._site._cap = 2
        await engine.gateway.queue_batch(batch)
        await engine.record.running(1, 2, 3, 4)
    jobs = next((tmp_path / "batches").rglob("jobs"))
    second = jobs.read_text().splitlines()[1].split()[0]
    jobs.write_text(jobs.read_text().splitlines()[0] + "\n")
    async with next_daemon(cluster, tmp_path, part(batch, 0)) as engine:
        assert await engine.find(batch) == FindOutcome(Found.QUEUED)
        assert engine.job_of(3) == f"{second}_0"
        (tmp_path / "go").touch()
        assert await engine.ends(1, 2, 3, 4) == [(D, "")] * 4
        assert sorted((tmp_path / "ran").read_text().split()) == ["1", "2", "3", "4"]


async def test_the_rest_of_a_batch_in_doubt_that_was_not_submitted_comes_back(cluster: Cluster, tmp_path: Path):
    async with slurm_engine(cluster, tmp_path) as engine:
        batch = batch_of("sleep 1", "true", "true")
        engine.gateway._site._cap = 2
        await engine.gateway.queue_batch(part(batch, 0, 1))
        manifest = next((tmp_path / "batches").rglob("manifest"))
        manifest.write_text(manifest.read_text().replace("[1, 2]", "[1, 2, 3]").replace("[1, 1]", "[1, 1, 1]"))
    async with next_daemon(cluster, tmp_path, part(batch, 0)) as engine:
        outcome = await engine.find(batch)
        assert [list(refusal.task_ids) for refusal in outcome.refusals] == [[3]]
        assert await engine.ends(1, 2) == [(D, "")] * 2


@pytest.mark.parametrize("lost", [0, 1])
async def test_two_batches_with_one_job_number_are_told_apart(cluster: Cluster, tmp_path: Path, lost: int):
    """The controller lost a job in a crash and gave its number anew; both submissions were noted."""
    async with slurm_engine(cluster, tmp_path) as engine:
        command = "until [ -e go ]; do sleep 0.1; done; echo ran >>ran"
        batches = [await engine.queue(command, first_id=1 + number) for number in range(2)]
        for task_id in (1, 2):
            await eventually(engine.status_file(task_id).exists)
        jobs = [engine.job_of(task_id).split("_")[0] for task_id in (1, 2)]
    cluster.call("scancel", jobs[lost])
    await eventually(lambda: len(cluster.call("squeue", "-h").splitlines()) == 1)
    engine.status_file(1 + lost).unlink()
    noted = tmp_path / "batches" / SWARM / batches[lost].batch_id / "jobs"
    noted.write_text(noted.read_text().replace(jobs[lost], jobs[1 - lost], 1))
    async with next_daemon(cluster, tmp_path, *batches) as engine:
        [(status, reason)] = await engine.ends(1 + lost)
        assert status is G
        assert "never started" in reason
        (tmp_path / "go").touch()
        assert await engine.ends(2 - lost) == [(D, "")]
        assert (tmp_path / "ran").read_text() == "ran\n"


@pytest.mark.parametrize("was_running", [True, False])
async def test_an_end_that_slurm_has_forgotten_is_known_also_of_what_an_earlier_daemon_saw_running(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, was_running: bool
):
    monkeypatch.setattr(patrol, "INTERVAL_SECONDS", 0.3)
    told = tmp_path / "told"
    forgetful = f'[ -e {told} ] && exec "$real" "$@"; "$real" "$@" | sed "s/COMPLETED|/RUNNING|/"'
    bin_directory = wrapped_programs(tmp_path / "bin", squeue=forgetful, scancel=f'touch {told}; exec "$real" "$@"')
    async with slurm_engine(cluster, tmp_path) as engine:
        batch = await engine.queue("until [ -e go ]; do sleep 0.1; done")
        await engine.record.running(1)
    if was_running:
        batch.table.status[batch.rows] = Code.RUNNING
    async with next_daemon(cluster, tmp_path, batch, bin_directory=bin_directory) as engine:
        (tmp_path / "go").touch()
        assert await engine.ends(1) == [(D, "")]
        assert told.exists()
