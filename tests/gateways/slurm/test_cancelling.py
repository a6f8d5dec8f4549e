"""Cancelling: what waits and what runs, before Slurm has it and while Slurm is away."""

import asyncio
import getpass
import secrets
from pathlib import Path
from typing import Any

import pytest

from swarmd import Scheduler, SwarmState
from swarmd.core.model import Array, Task, TaskResources
from swarmd.core.selecting import Selector
from swarmd.core.status import TaskStatus
from swarmd.core.update import StateUpdate
from swarmd.gateways.contract import SwarmInfo
from swarmd.gateways.slurm.programs import Answer
from tests.gateways.recording import ENDS, SWARM, batch_of, eventually, file_with_text
from tests.gateways.slurm.cluster import Cluster
from tests.gateways.slurm.engine import calls_of, slurm_engine, wrapped_programs

D, E = TaskStatus.DONE, TaskStatus.ERROR_RECOVERABLE


def waiting(cluster: Cluster) -> list[str]:
    return cluster.call("squeue", "-h", "-r", "-o", "%i %T").splitlines()


def left_files(folder: Path) -> list[Path]:
    return list(folder.rglob("*.left"))


async def test_running_elements_are_ended_and_their_siblings_go_on(cluster: Cluster, tmp_path: Path):
    async with slurm_engine(cluster, tmp_path) as engine:
        await engine.queue(*["sleep 100"] * 4, "until [ -e go ]; do sleep 0.1; done")
        await engine.record.running(1, 2, 3, 4, 5)
        last = engine.job_of(5)
        await engine.cancel(1, 2, 3, 4)
        await eventually(lambda: waiting(cluster) == [f"{last} RUNNING"])
        (tmp_path / "go").touch()
        assert await engine.ends(5) == [(D, "")]
        assert engine.record.ended_ids() == {5}


async def test_waiting_elements_are_ended_and_their_siblings_go_on(cluster: Cluster, tmp_path: Path):
    """Slurm 22.05 ends the whole array when it is given a name and some elements that wait."""
    async with slurm_engine(cluster, tmp_path) as engine:
        cluster.call("scontrol", "update", "nodename=n1", "state=drain", "reason=test")
        await engine.queue(*[f"echo {number} >>ran" for number in range(1, 7)])
        await engine.cancel(2, 3, 5)
        assert len(waiting(cluster)) == 3
        cluster.call("scontrol", "update", "nodename=n1", "state=resume")
        assert await engine.ends(1, 4, 6) == [(D, "")] * 3
        assert sorted((tmp_path / "ran").read_text().split()) == ["1", "4", "6"]
        assert engine.record.ended_ids() == {1, 4, 6}


async def test_a_whole_batch_is_ended_in_one_call(cluster: Cluster, tmp_path: Path):
    bin_directory = wrapped_programs(tmp_path / "bin")
    async with slurm_engine(cluster, tmp_path, bin_directory=bin_directory) as engine:
        await engine.queue(*["sleep 100"] * 50)
        await engine.record.running(*range(1, 51))
        await engine.cancel(*range(1, 51))
        await eventually(lambda: not waiting(cluster))
        assert len(calls_of(bin_directory, "scancel")) == 1
        assert not engine.record.ended_ids()


async def test_what_is_cancelled_before_its_job_is_known_never_runs(cluster: Cluster, tmp_path: Path):
    bin_directory = wrapped_programs(tmp_path / "bin", sbatch='sleep 1; exec "$real" "$@"')
    async with slurm_engine(cluster, tmp_path, bin_directory=bin_directory) as engine:
        cluster.call("scontrol", "update", "nodename=n1", "state=drain", "reason=test")
        queueing = asyncio.create_task(engine.gateway.queue_batch(batch_of("echo 1 >>ran", "echo 2 >>ran")))
        await eventually(lambda: calls_of(bin_directory, "sbatch"))
        await engine.cancel(1)
        await queueing
        await eventually(lambda: len(waiting(cluster)) == 1)
        cluster.call("scontrol", "update", "nodename=n1", "state=resume")
        assert await engine.ends(2) == [(D, "")]
        assert (tmp_path / "ran").read_text() == "2\n"
        assert engine.record.ended_ids() == {2}


async def test_a_controller_that_is_away_hears_of_it_later(own_cluster: Cluster, tmp_path: Path):
    async with slurm_engine(own_cluster, tmp_path) as engine:
        await engine.queue("sleep 100", "sleep 100")
        await engine.record.running(1, 2)
        own_cluster.stop_controller()
        cancelling = asyncio.create_task(engine.cancel(1))
        await asyncio.sleep(1)
        assert not cancelling.done()
        own_cluster.start_controller()
        await cancelling
        await eventually(lambda: [line.split()[1] for line in waiting(own_cluster)].count("RUNNING") == 1)
        assert not engine.record.ended_ids()


async def test_the_job_of_another_batch_is_never_ended(cluster: Cluster, tmp_path: Path):
    """A number that the controller lost may be another's by now."""
    script = tmp_path / "other.sh"
    script.write_text("#!/bin/sh\nsleep 100\n")
    other = cluster.call("sbatch", "--parsable", "--array=0-3", "-o", "/dev/null", "-J", "others", str(script))
    async with slurm_engine(cluster, tmp_path) as engine:
        await engine.queue("sleep 100", "sleep 100")
        await engine.record.running(1, 2)
        for task_id in (1, 2):
            engine.gateway._swarms[SWARM].elements[task_id, 1].job_id = int(other)
        await asyncio.wait({asyncio.create_task(engine.cancel(1))}, timeout=1.0)
        await asyncio.wait({asyncio.create_task(engine.cancel(2))}, timeout=1.0)
        assert len([line for line in waiting(cluster) if line.startswith(f"{other}_")]) == 4


async def test_what_somebody_else_cancels_has_failed_and_says_so(cluster: Cluster, tmp_path: Path):
    async with slurm_engine(cluster, tmp_path) as engine:
        await engine.queue("echo half >&2; sleep 100", "sleep 100")
        await engine.record.running(1, 2)
        job = engine.job_of(1)
        await file_with_text(engine.output(1, ending="err"))
        cluster.call("scancel", job)
        [(status, reason)] = await engine.ends(1)
        assert status is E
        assert reason.startswith(f"Slurm's job {job} was cancelled by somebody else\nhalf")
        assert 2 not in engine.record.ended_ids()


async def test_what_somebody_else_cancels_before_it_started_has_failed_too(cluster: Cluster, tmp_path: Path):
    async with slurm_engine(cluster, tmp_path) as engine:
        cluster.call("scontrol", "update", "nodename=n1", "state=drain", "reason=test")
        await engine.queue("true", "true", "true")
        await engine.record.until(lambda: engine.record.statuses(2))
        job = engine.job_of(2)
        cluster.call("scancel", job)
        [(status, reason)] = await engine.ends(2)
        assert (status, reason) == (E, f"Slurm's job {job} was cancelled before it started")
        cluster.call("scontrol", "update", "nodename=n1", "state=resume")
        assert await engine.ends(1, 3) == [(D, "")] * 2


@pytest.mark.parametrize("how", ["job", "name", "user", "state"])
async def test_what_somebody_else_cancels_of_whole_arrays_has_failed_and_is_not_queued_again(
    cluster: Cluster, tmp_path: Path, how: str
):
    """Slurm tells of each element, or of the array alone, which depends on how it was asked."""
    async with slurm_engine(cluster, tmp_path) as engine:
        cluster.call("scontrol", "update", "nodename=n1", "state=drain", "reason=test")
        batch = await engine.queue("true", "true", "true")
        await engine.record.until(lambda: engine.record.statuses(2))
        job = engine.job_of(1).split("_")[0]
        ways = {"job": job, "name": f"--name={batch.batch_id}", "user": f"--user={getpass.getuser()}"}
        cluster.call("scancel", ways.get(how, "--state=PENDING"))
        for status, reason in await engine.ends(1, 2, 3):
            assert status is E
            assert "was cancelled" in reason
        assert engine.status_file(1).read_text() == "never\n"


async def test_what_waits_and_what_runs_of_an_array_is_cancelled_by_somebody_else(cluster: Cluster, tmp_path: Path):
    async with slurm_engine(cluster, tmp_path) as engine:
        await engine.queue(*["sleep 100"] * 4, resources=TaskResources(1, cores=100))
        await eventually(lambda: [line.split()[1] for line in waiting(cluster)].count("RUNNING") == 2)
        cluster.call("scancel", f"--user={getpass.getuser()}")
        ends = await engine.ends(1, 2, 3, 4)
        assert [status for status, _ in ends] == [E] * 4
        assert all("was cancelled" in reason for _, reason in ends)


async def test_jobs_of_a_removed_swarm_are_ended(cluster: Cluster, tmp_path: Path):
    async with slurm_engine(cluster, tmp_path) as engine:
        await engine.queue("sleep 100", "sleep 100")
        await engine.record.running(1)
        await engine.gateway.remove_swarm(SWARM)
        await eventually(lambda: not waiting(cluster))
        assert not (tmp_path / "batches" / SWARM).exists()
        assert not [status for *_, status, _ in engine.record.news if status in ENDS]


async def test_jobs_go_on_when_the_gateway_closes(cluster: Cluster, tmp_path: Path):
    async with slurm_engine(cluster, tmp_path) as engine:
        await engine.queue("sleep 100")
        await engine.record.running(1)
    assert len(waiting(cluster)) == 1


async def test_jobs_of_a_swarm_in_memory_end_with_the_gateway(cluster: Cluster, tmp_path: Path):
    async with slurm_engine(cluster, tmp_path, swarm=SwarmInfo(SWARM)) as engine:
        await engine.queue("sleep 100")
        await engine.record.running(1)
    assert not left_files(tmp_path)
    await eventually(lambda: not waiting(cluster))


async def test_many_cancellations_hold_up_neither_looks_nor_submissions(cluster: Cluster, tmp_path: Path):
    go = tmp_path / "go"
    bin_directory = wrapped_programs(
        tmp_path / "bin", scancel=f'until [ -e {go} ]; do sleep 0.1; done; exec "$real" "$@"'
    )
    async with slurm_engine(cluster, tmp_path, bin_directory=bin_directory) as engine:
        for task_id in range(1, 13):
            await engine.queue("sleep 100", first_id=task_id)
        cancelling = asyncio.create_task(engine.cancel(*range(1, 13)))
        await eventually(lambda: len(calls_of(bin_directory, "scancel")) == 2)
        assert await engine.gateway._tracker.next_look()
        await engine.queue("true", first_id=20)
        assert await engine.ends(20) == [(TaskStatus.DONE, "")]
        assert not cancelling.done()
        go.touch()
        await cancelling


async def test_a_cancellation_is_tried_again_whatever_goes_wrong(cluster: Cluster, tmp_path: Path):
    async with slurm_engine(cluster, tmp_path) as engine:
        await engine.queue("sleep 100")
        programs = engine.gateway._programs
        call = programs.call
        failed: list[str] = []

        async def failing(name: str, *arguments: str, **options: Any) -> Answer:
            if name == "scancel" and not failed:
                failed.append(name)
                raise RuntimeError("can't start new thread")
            return await call(name, *arguments, **options)

        programs.call = failing  # type: ignore[method-assign]
        await engine.cancel(1)
        assert failed


async def test_all_of_a_batch_in_doubt_is_ended_though_it_was_cancelled_before_it_was_found(
    cluster: Cluster, tmp_path: Path
):
    """The daemon was killed while it submitted; the next one hears of the cancel, and of others, before it asks."""
    state = SwarmState(SWARM, batch_prefix=f"{SWARM}-{secrets.token_hex(4)}")
    state.load([Array(7, command="sleep 100")], [TaskResources(1)], [Task(1, 7, 1), Task(2, 7, 1)])
    batch = state.take_batch()
    assert batch is not None
    async with slurm_engine(cluster, tmp_path) as engine:
        await engine.gateway.queue_batch(batch)
        await engine.record.running(1, 2)
    state.doubt(batch, "the daemon ended while it was being queued")
    async with slurm_engine(cluster, tmp_path) as engine:
        scheduler = Scheduler(engine.gateway, state, apply=state.apply_update)
        scheduler.ask(batch)
        state.cancel(Selector(everything=True))
        await engine.cancel(1, 2)
        state.apply_update(StateUpdate(max_concurrently_running=5))
        await eventually(lambda: not waiting(cluster))
        await scheduler.drain()
        assert not engine.record.ended_ids()


async def test_what_is_cancelled_in_doubt_is_not_looked_for_for_ever(own_cluster: Cluster, tmp_path: Path):
    state = SwarmState(SWARM, batch_prefix=f"{SWARM}-{secrets.token_hex(4)}")
    state.load([Array(7, command="true")], [TaskResources(1)], [Task(1, 7, 1, command="true"), Task(2, 7, 1)])
    bin_directory = wrapped_programs(tmp_path / "bin", sbatch="echo something that nobody knows >&2; exit 1")
    async with slurm_engine(own_cluster, tmp_path, bin_directory=bin_directory) as engine:
        scheduler = Scheduler(engine.gateway, state, apply=state.apply_update)
        await scheduler.tick()
        assert state.counts().in_doubt == 2
        state.cancel(Selector(everything=True))
        await engine.cancel(1, 2)
        state.apply_update(StateUpdate(max_concurrently_running=5))
        await eventually(lambda: not engine.gateway._swarms[SWARM].batches)
        await eventually(lambda: not engine.gateway._tracker._sought)
        await scheduler.drain()


async def test_a_swarm_in_memory_leaves_no_job_that_was_just_being_submitted(cluster: Cluster, tmp_path: Path):
    bin_directory = wrapped_programs(tmp_path / "bin", sbatch='"$real" "$@"; sleep 1')
    swarm = SwarmInfo(SWARM, working_directory=tmp_path)
    async with slurm_engine(cluster, tmp_path, swarm=swarm, bin_directory=bin_directory) as engine:
        queueing = asyncio.create_task(engine.gateway.queue_batch(batch_of("sleep 100")))
        await eventually(lambda: cluster.call("squeue", "-h"))
        assert not queueing.done()
    await asyncio.wait((queueing,))
    await eventually(lambda: not cluster.call("squeue", "-h"))
