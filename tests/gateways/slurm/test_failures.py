"""What happens to clusters, each against a real one: nothing is lost, runs twice, or waits for ever."""

import asyncio
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from swarmd.core.model import TaskResources
from swarmd.core.status import TaskStatus
from swarmd.gateways.contract import BatchRefusedError, FindOutcome, Found, OutcomeUnknownError
from swarmd.gateways.slurm import patrol
from tests.gateways.recording import SWARM, batch_of, eventually, file_with_text
from tests.gateways.slurm.cluster import Cluster, running_cluster
from tests.gateways.slurm.conftest import need_slurm
from tests.gateways.slurm.engine import Engine, calls_of, slurm_engine, wrapped_programs

D, E, A, F, G = (
    TaskStatus.DONE,
    TaskStatus.ERROR_RECOVERABLE,
    TaskStatus.ADJUSTING_RESOURCES,
    TaskStatus.ERROR_FATAL,
    TaskStatus.REGISTERED,
)


async def until(condition: Callable[[], object], what: str, seconds: float = 60.0) -> None:
    """Like `eventually`, for what asks a program each time."""
    end = time.monotonic() + seconds
    while not await asyncio.to_thread(condition):
        assert time.monotonic() < end, f"waited {seconds} s for: {what}"
        await asyncio.sleep(0.1)


# -- submissions of which nobody knows ---------------------------------------------------------------------------------


async def test_a_ghost_submission_is_found_adopted_and_not_submitted_again(own_cluster: Cluster, tmp_path: Path):
    async with slurm_engine(own_cluster, tmp_path, find_patience=1.0) as engine:
        batch = batch_of(*["echo ran >>ran"] * 3)
        with own_cluster.frozen(), pytest.raises(OutcomeUnknownError):
            await engine.gateway.queue_batch(batch)
        outcome = await engine.find(batch)
        assert outcome == FindOutcome(Found.QUEUED)
        assert await engine.ends(1, 2, 3) == [(D, "")] * 3
        assert own_cluster.job_names() == [batch.batch_id]
        assert (tmp_path / "ran").read_text() == "ran\n" * 3


async def test_a_ghost_that_comes_after_it_was_given_up_runs_nothing(own_cluster: Cluster, tmp_path: Path):
    """An sbatch that a killed daemon left behind can be late by any time."""
    async with slurm_engine(own_cluster, tmp_path, find_patience=0.0) as engine:
        known = engine.gateway._submitting
        batch = batch_of("echo ran >>ran")
        own_cluster.kill_controller()
        with pytest.raises(BatchRefusedError):
            await engine.gateway.queue_batch(batch)
        own_cluster.start_controller()
        assert (await engine.find(batch)).found is Found.NOT_QUEUED
        assert engine.status_file(1).read_text() == "never\n"
        # The very same submission, late.
        from swarmd.gateways.slurm.submitting import batch_record

        swarm = engine.gateway._swarms["swarm-1"]
        record = batch_record(swarm, batch)
        await known._submit(record, batch, batch.tasks(), [])
        [(status, reason)] = await engine.ends(1)
        assert (status, reason) == (E, "it was not started: it had been given up")
        assert not (tmp_path / "ran").exists()


async def test_a_batch_that_slurm_does_not_know_was_not_queued(cluster: Cluster, tmp_path: Path):
    async with slurm_engine(cluster, tmp_path) as engine:
        assert (await engine.find(batch_of("true"))).found is Found.NOT_QUEUED


async def test_what_a_refused_submission_leaves_behind_is_not_taken_for_a_batch(cluster: Cluster, tmp_path: Path):
    async with slurm_engine(cluster, tmp_path) as engine:
        batch = batch_of("true", "true", resources=TaskResources(1, memory_mib=9_000_000))
        outcome = await engine.gateway.queue_batch(batch)
        assert outcome is not None
        [refusal] = outcome.refusals
        assert refusal.permanent
        assert "Memory specification can not be satisfied" in refusal.reason
        assert batch.batch_id in cluster.job_names()
        assert (await engine.find(batch)).found is Found.NOT_QUEUED


async def test_nobody_says_that_a_batch_was_not_queued_while_the_controller_is_away(
    own_cluster: Cluster, tmp_path: Path
):
    async with slurm_engine(own_cluster, tmp_path) as engine:
        own_cluster.kill_controller()
        batch = batch_of("true")
        assert (await engine.gateway.find_batch(batch)).found is Found.UNKNOWN
        await asyncio.sleep(1)
        assert (await engine.gateway.find_batch(batch)).found is Found.UNKNOWN
        own_cluster.start_controller()
        assert (await engine.find(batch)).found is Found.NOT_QUEUED


# -- controllers that crash --------------------------------------------------------------------------------------------


async def test_a_job_that_was_lost_is_given_back_though_its_number_is_anothers(own_cluster: Cluster, tmp_path: Path):
    own_cluster.call("scontrol", "update", "nodename=n1", "state=drain", "reason=test")
    async with slurm_engine(own_cluster, tmp_path, poll_min=5.0, poll_max=5.0) as engine:
        await engine.queue("echo first >>ran", "echo first >>ran")
        lost = engine.job_of(1)
        own_cluster.kill_controller()
        own_cluster.start_controller()
        await until(lambda: own_cluster.call("sinfo", "-h", "-o", "%T", check=False), "the controller")
        await engine.queue("echo second >>ran", first_id=11)
        assert engine.job_of(11) == lost, "Slurm was to give the number anew"
        own_cluster.call("scontrol", "update", "nodename=n1", "state=resume", check=False)  # it may be forgotten, too
        for status, reason in await engine.ends(1, 2):
            assert status is G
            assert "never started" in reason
        assert await engine.ends(11) == [(D, "")]
        assert (tmp_path / "ran").read_text() == "second\n"
        assert engine.status_file(1).read_text() == "never\n"


async def test_a_controller_that_forgot_what_runs_makes_nothing_run_twice(own_cluster: Cluster, tmp_path: Path):
    """Its node is drained, and elements are "launch failed requeued held" for ever; some it starts a second time."""
    async with slurm_engine(own_cluster, tmp_path) as engine:
        commands = [f"echo {number} >>ran.{number}; sleep 3" for number in range(1, 9)]
        await engine.queue(*commands)
        await eventually(lambda: len(list(tmp_path.glob("ran.*"))) >= 4)
        own_cluster.kill_controller()
        own_cluster.start_controller()
        ends = await engine.ends(*range(1, 9))
        for number, (status, _) in enumerate(ends, 1):
            ran = tmp_path / f"ran.{number}"
            lines = ran.read_text().count("\n") if ran.exists() else 0
            assert lines <= 1
            if status is D:
                assert lines == 1


@pytest.mark.timeout(200)
async def test_a_controller_that_is_away_for_a_minute_changes_nothing(own_cluster: Cluster, tmp_path: Path):
    """By the limits of this gateway it is hours: each is passed several times, hanging and gone."""
    limits: dict[str, Any] = {"command_timeout": 1.5, "lost_after": 1.0, "hopeless_after": 1.0, "find_patience": 0.5}
    async with slurm_engine(own_cluster, tmp_path, **limits) as engine:
        goes_on = "echo ran >>ran.$SWARM_TASK_ID; until [ -e go ]; do sleep 0.1; done"
        ends = "echo ran >>ran.$SWARM_TASK_ID; until [ -e away ]; do sleep 0.1; done"
        await engine.queue(goes_on, ends, f"{ends}; exit 3", "sleep 1000")
        await engine.record.running(1, 2, 3, 4)
        waits = "echo ran >>ran.$SWARM_TASK_ID"
        await engine.queue(waits, resources=TaskResources(1, cores=256), first_id=5)
        await engine.record.until(lambda: engine.record.statuses(5))
        in_doubt, refused = batch_of(waits, first_id=6), batch_of(waits, first_id=7)
        with own_cluster.frozen():
            with pytest.raises(OutcomeUnknownError):
                await engine.gateway.queue_batch(in_doubt)
            (tmp_path / "away").touch()
            assert (await engine.gateway.find_batch(in_doubt)).found is Found.UNKNOWN
            await asyncio.sleep(4)
        own_cluster.stop_controller()
        cancelling = asyncio.create_task(engine.cancel(4))
        with pytest.raises(BatchRefusedError):
            await engine.gateway.queue_batch(refused)
        await asyncio.sleep(6)
        assert (await engine.gateway.find_batch(in_doubt)).found is Found.UNKNOWN
        assert not engine.record.ended_ids(), "nobody knows anything"
        assert not cancelling.done()
        own_cluster.start_controller()
        assert await engine.ends(2, 3) == [(D, ""), (E, "exit code 3")]
        await cancelling
        found = await engine.find(in_doubt)
        (tmp_path / "go").touch()
        assert await engine.ends(1, 5) == [(D, "")] * 2
        if found.found is Found.QUEUED:  # it was heard before the controller went; asked again, its end is told again
            await engine.record.ended(6)
            assert engine.record.statuses(6)[-1] is D
        await until(lambda: not own_cluster.call("squeue", "-h"), "an empty queue")
        ran = {task_id: tmp_path / f"ran.{task_id}" for task_id in range(1, 8)}
        times = {task_id: path.read_text().count("ran") for task_id, path in ran.items() if path.exists()}
        once = (1, 2, 3, 5, *((6,) if found.found is Found.QUEUED else ()))
        assert times == dict.fromkeys(once, 1)
        assert not engine.record.ended_ids() & {4, 7}


# -- nodes -------------------------------------------------------------------------------------------------------------


async def test_a_lost_node_spends_no_failed_attempt(cluster: Cluster, tmp_path: Path):
    async with slurm_engine(cluster, tmp_path) as engine:
        await engine.queue("sleep 100", resources=TaskResources(1, queue="frail"))
        await engine.record.running(1)
        cluster.kill_node("n2")
        try:
            cluster.call("scontrol", "update", "nodename=n2", "state=down", "reason=test")
            [(status, reason)] = await engine.ends(1)
            assert status is G
            assert "NODE_FAIL" in reason
        finally:
            cluster.start_node("n2")
            cluster.until_idle_again()


@pytest.fixture
def cluster_with_prolog(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Cluster, Path]]:
    """Its nodes can start nothing while a file is there."""
    need_slurm()
    folder = tmp_path_factory.mktemp("prolog")
    broken, prolog = folder / "broken", folder / "prolog"
    prolog.write_text(f"#!/bin/sh\n[ ! -e {broken} ]\n")
    prolog.chmod(0o700)
    with running_cluster({"Prolog": str(prolog)}, nodes=2) as cluster:
        yield cluster, broken


async def test_a_node_that_drains_itself_gives_its_tasks_back(
    cluster_with_prolog: tuple[Cluster, Path], tmp_path: Path
):
    """Slurm drains it, and holds what it could not start until an administrator comes."""
    cluster, broken = cluster_with_prolog
    async with slurm_engine(cluster, tmp_path) as engine:
        broken.touch()
        await engine.queue("echo ran >>ran", "echo ran >>ran")
        for status, reason in await engine.ends(1, 2):
            assert status is G
            assert reason.startswith("Slurm could not start its job ")
            assert reason.endswith(" on n1")
        await until(lambda: "drain" in cluster.call("sinfo", "-h", "-o", "%T"), "a node that is drained")
        broken.unlink()
        cluster.until_idle_again()
        await engine.queue("echo ran >>ran", "echo ran >>ran", attempt=2)
        await engine.record.until(lambda: all(engine.record.statuses(task_id)[-1] is D for task_id in (1, 2)))
        assert (tmp_path / "ran").read_text() == "ran\n" * 2


async def test_what_somebody_ends_while_its_node_prepares_it_has_failed(
    cluster_with_prolog: tuple[Cluster, Path], tmp_path: Path
):
    """It never started either, but nothing is wrong with its node: it is not queued again behind anybody's back."""
    cluster, broken = cluster_with_prolog
    go = broken.with_name("go")
    broken.with_name("prolog").write_text(f"#!/bin/sh\nuntil [ -e {go} ]; do sleep 0.1; done\n")
    async with slurm_engine(cluster, tmp_path) as engine:
        await engine.queue("echo ran >>ran")
        await engine.record.running(1)
        job = engine.job_of(1)
        cluster.call("scancel", job)
        go.touch()
        [(status, reason)] = await engine.ends(1)
        assert (status, reason) == (E, f"Slurm's job {job} was cancelled by somebody else")
        assert not (tmp_path / "ran").exists()


async def test_what_had_ended_well_on_a_node_that_hangs_is_done(cluster: Cluster, tmp_path: Path):
    """A node that cannot end what is left of a job leaves it COMPLETING until somebody starts the node anew."""
    bin_directory = wrapped_programs(tmp_path / "bin", squeue='"$real" "$@" | sed s/COMPLETED/COMPLETING/')
    async with slurm_engine(cluster, tmp_path, bin_directory=bin_directory, lost_after=1.0) as engine:
        await engine.queue("true", "sleep 100")
        assert await engine.ends(1) == [(D, "")]
        assert 2 not in engine.record.ended_ids()


async def test_an_end_that_slurm_has_forgotten_is_known_from_the_status_file(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A controller that is killed forgets the last seconds, and calls what ended then running until its time is up."""
    monkeypatch.setattr(patrol, "INTERVAL_SECONDS", 0.3)
    told = tmp_path / "told"
    forgetful = f'[ -e {told} ] && exec "$real" "$@"; "$real" "$@" | sed "s/COMPLETED|/RUNNING|/;s/FAILED|/RUNNING|/"'
    scancel = f'touch {told}; exec "$real" "$@"'
    bin_directory = wrapped_programs(tmp_path / "bin", squeue=forgetful, scancel=scancel)
    async with slurm_engine(cluster, tmp_path, bin_directory=bin_directory) as engine:
        await engine.queue("exit 3")
        await eventually(lambda: engine.gateway._swarms[SWARM].elements[1, 1].ended_at)
        await asyncio.sleep(1.0)
        assert not told.exists()  # Slurm may know more of a failure: that it took too long, for example
        await engine.queue("true", first_id=2)
        assert await engine.ends(2, 1) == [(D, ""), (E, "exit code 3")]
        assert len(calls_of(bin_directory, "scancel")) == 1


async def test_a_failure_that_slurm_never_tells_of_is_told_in_the_end(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(patrol, "INTERVAL_SECONDS", 0.3)
    told = tmp_path / "told"
    forgetful = f'[ -e {told} ] && exec "$real" "$@"; "$real" "$@" | sed "s/FAILED|/RUNNING|/"'
    bin_directory = wrapped_programs(tmp_path / "bin", squeue=forgetful, scancel=f'touch {told}; exec "$real" "$@"')
    async with slurm_engine(cluster, tmp_path, bin_directory=bin_directory, lost_after=1.0) as engine:
        await engine.queue("exit 3")
        assert await engine.ends(1) == [(E, "exit code 3")]
        assert told.exists()


async def test_what_had_ended_well_on_a_lost_node_is_done(cluster: Cluster, tmp_path: Path):
    """The exit code beside the output is the truth, whatever Slurm thinks."""
    async with slurm_engine(cluster, tmp_path) as engine:
        await engine.queue("sleep 100", resources=TaskResources(1, queue="frail"))
        await file_with_text(engine.status_file(1))
        with engine.status_file(1).open("a") as file:
            file.write("0\n")
        cluster.kill_node("n2")
        try:
            cluster.call("scontrol", "update", "nodename=n2", "state=down", "reason=test")
            assert await engine.ends(1) == [(D, "")]
        finally:
            cluster.start_node("n2")
            cluster.until_idle_again()


async def test_a_task_is_not_given_back_for_ever(cluster: Cluster, tmp_path: Path):
    async with slurm_engine(cluster, tmp_path, max_give_backs=1) as engine:
        statuses = []
        for attempt in (1, 2):
            await engine.queue("sleep 100", resources=TaskResources(1, queue="low"), attempt=attempt)
            await engine.record.until(partial(has_run, engine, attempt))
            await asyncio.to_thread(cluster.call, *submission_with_precedence(engine))
            await engine.record.until(lambda: engine.record.statuses(1)[-1] is not TaskStatus.RUNNING)
            statuses.append(engine.record.statuses(1)[-1])
        assert statuses == [G, E]


async def test_a_preempted_task_spends_no_failed_attempt(cluster: Cluster, tmp_path: Path):
    async with slurm_engine(cluster, tmp_path) as engine:
        await engine.queue("sleep 100", resources=TaskResources(1, queue="low"))
        await engine.record.running(1)
        await asyncio.to_thread(cluster.call, *submission_with_precedence(engine))
        [(status, reason)] = await engine.ends(1)
        assert status is G
        assert "PREEMPTED" in reason


def has_run(engine: Engine, times: int) -> bool:
    return engine.record.statuses(1).count(TaskStatus.RUNNING) == times


def submission_with_precedence(engine: Engine) -> list[str]:
    script = engine.folder / "high.sh"
    script.write_text("#!/bin/sh\nsleep 1\n")
    return ["sbatch", "-p", "high", "-w", "n3", "--exclusive", "-o", "/dev/null", str(script)]


async def test_a_requeue_is_a_new_attempt_and_never_a_second_run(cluster: Cluster, tmp_path: Path):
    async with slurm_engine(cluster, tmp_path) as engine:
        await engine.queue("echo ran >>ran; sleep 100")
        await eventually((tmp_path / "ran").exists)
        await engine.record.running(1)
        job = engine.job_of(1)
        cluster.call("scontrol", "update", f"jobid={job}", "requeue=1")
        cluster.call("scontrol", "requeue", job)
        [(status, reason)] = await engine.ends(1)
        assert status is G
        assert "once more" in reason
        await until(lambda: not cluster.call("squeue", "-h"), "an empty queue")
        assert (tmp_path / "ran").read_text() == "ran\n"


async def test_a_held_requeue_does_not_wait_for_ever(cluster: Cluster, tmp_path: Path):
    async with slurm_engine(cluster, tmp_path) as engine:
        await engine.queue("sleep 100")
        await engine.record.running(1)
        job = engine.job_of(1)
        cluster.call("scontrol", "update", f"jobid={job}", "requeue=1")
        cluster.call("scontrol", "requeuehold", job)
        [(status, _)] = await engine.ends(1)
        assert status is G
        await until(lambda: not cluster.call("squeue", "-h"), "an empty queue")


async def test_a_second_start_by_slurm_itself_runs_nothing(cluster: Cluster, tmp_path: Path):
    """No look sees the requeue in between: the element that Slurm starts again finds the status file."""
    async with slurm_engine(cluster, tmp_path, poll_min=600, poll_max=600) as engine:
        await engine.queue("echo ran >>ran; sleep 100")
        await eventually((tmp_path / "ran").exists)
        job = engine.job_of(1)
        cluster.call("scontrol", "update", f"jobid={job}", "requeue=1")
        cluster.call("scontrol", "requeue", job)
        await until(lambda: "BeginTime" in cluster.call("squeue", "-h", "-o", "%r"), "the requeue")
        cluster.call("scontrol", "update", f"jobid={job}", "StartTime=now+2")  # nodes refuse it within a second
        await until(lambda: not cluster.call("squeue", "-h"), "the end of the second start")
        assert (tmp_path / "ran").read_text() == "ran\n"


# -- resources ---------------------------------------------------------------------------------------------------------


async def test_more_cores_than_any_node_has_fail_with_slurms_reason(cluster: Cluster, tmp_path: Path):
    async with slurm_engine(cluster, tmp_path) as engine:
        await engine.queue("true", "true", resources=TaskResources(1, cores=999))
        await engine.record.until(
            lambda: engine.record.statuses(1)[-1:] == [F] and engine.record.statuses(2)[-1:] == [F]
        )
        reason = engine.record.news[-1][-1]
        assert "PartitionConfig" in reason
        assert "999 cores" in reason
        assert "256" in reason


async def test_a_longer_runtime_than_the_partition_allows_fails_with_slurms_reason(cluster: Cluster, tmp_path: Path):
    async with slurm_engine(cluster, tmp_path) as engine:
        await engine.queue("true", resources=TaskResources(1, queue="short", runtime_seconds=600))
        await engine.record.until(lambda: engine.record.statuses(1)[-1:] == [F])
        reason = engine.record.news[-1][-1]
        assert "(PartitionConfig)" in reason or "(PartitionTimeLimit)" in reason
        assert "10 minutes, and partition short allows 2" in reason


async def test_what_waits_for_something_doubtful_fails_after_a_while(cluster: Cluster, tmp_path: Path):
    """Slurm's reason alone does not say that it can never be."""
    async with slurm_engine(cluster, tmp_path, hopeless_after=1.0) as engine:
        engine.gateway._site.objection = lambda *_: ""  # type: ignore[method-assign]
        await engine.queue("true", resources=TaskResources(1, cores=999))
        [(status, reason)] = await engine.ends(1)
        assert status is E
        assert "PartitionConfig" in reason


async def test_a_task_that_runs_too_long_needs_more_runtime(fast_cluster: Cluster, tmp_path: Path):
    async with slurm_engine(fast_cluster, tmp_path) as engine:
        await engine.queue("sleep 100", "true", resources=TaskResources(1, runtime_seconds=30))
        assert await engine.ends(2) == [(D, "")]
        [(status, reason)] = await engine.ends(1)
        assert status is A
        assert reason == "ran longer than its runtime of 30 s (Slurm: TIMEOUT, TimeLimit)"
