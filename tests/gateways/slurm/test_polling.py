"""Looks at the queue: one for everything, as often as things change, and never in anybody's way."""

import asyncio
import time
from pathlib import Path

import pytest

from swarmd.core.status import TaskStatus
from swarmd.gateways.contract import OutcomeUnknownError, SwarmInfo
from tests.gateways.recording import SWARM, batch_of, eventually
from tests.gateways.slurm.cluster import Cluster
from tests.gateways.slurm.engine import TOKEN, calls_of, slurm_engine, wrapped_programs

D = TaskStatus.DONE


async def test_one_call_lists_all_arrays_of_all_swarms(cluster: Cluster, tmp_path: Path):
    bin_directory = wrapped_programs(tmp_path / "bin")
    async with slurm_engine(cluster, tmp_path, bin_directory=bin_directory) as engine:
        for number in range(1, 4):
            await engine.gateway.add_swarm(SwarmInfo(f"swarm-{number}", tmp_path, {}, TOKEN))
        batches = [
            batch_of(*["sleep 100"] * 10, first_id=1 + 10 * number, swarm_id=f"swarm-{1 + number % 3}")
            for number in range(9)
        ]
        await asyncio.gather(*(engine.gateway.queue_batch(batch) for batch in batches))
        await engine.record.running(*range(1, 91))
        before = len(calls_of(bin_directory, "squeue"))
        for _ in range(3):
            await engine.gateway._tracker.next_look()
        calls = calls_of(bin_directory, "squeue")[before:]
        assert len(calls) <= 4  # three, and one that was under way
        for call in calls:
            assert all(batch.batch_id in call for batch in batches)


async def test_nothing_is_asked_while_nothing_is_there(cluster: Cluster, tmp_path: Path):
    bin_directory = wrapped_programs(tmp_path / "bin")
    async with slurm_engine(cluster, tmp_path, bin_directory=bin_directory) as engine:
        await engine.queue("true")
        await engine.ends(1)
        await asyncio.sleep(0.3)
        asked = len(calls_of(bin_directory, "squeue"))
        await asyncio.sleep(1.0)
        assert len(calls_of(bin_directory, "squeue")) == asked


async def test_looks_become_rare_when_nothing_changes_and_frequent_again(cluster: Cluster, tmp_path: Path):
    async with slurm_engine(cluster, tmp_path, poll_min=0.05, poll_max=600) as engine:
        await engine.queue("sleep 100")
        await engine.record.running(1)
        tracker = engine.gateway._tracker
        await eventually(lambda: tracker._pause > 0.5)
        await engine.queue("true", first_id=2)
        assert tracker._pause == 0.05
        assert await engine.ends(2) == [(D, "")]


async def test_a_squeue_that_hangs_holds_up_nobody_and_is_killed(cluster: Cluster, tmp_path: Path):
    hang = tmp_path / "hang"
    script = f'[ -e {hang} ] && sleep 1000; exec "$real" "$@"'
    bin_directory = wrapped_programs(tmp_path / "bin", squeue=script)
    async with slurm_engine(cluster, tmp_path, bin_directory=bin_directory, command_timeout=1.0) as engine:
        hang.touch()
        await engine.queue("echo ran >>ran")
        latest = 0.0
        begun = time.monotonic()
        while time.monotonic() - begun < 2.5:
            before = time.monotonic()
            await asyncio.sleep(0.01)
            latest = max(latest, time.monotonic() - before)
        assert latest < 2.0, "the event loop stood still"
        await engine.queue("true", first_id=2)  # submitting goes on meanwhile
        hang.unlink()
        assert await engine.ends(1, 2) == [(D, "")] * 2


async def test_an_sbatch_that_hangs_leaves_its_own_batch_in_doubt_and_no_other(cluster: Cluster, tmp_path: Path):
    script = f'case "$*" in *{SWARM}-*) [ -e {tmp_path}/hang ] && sleep 1000;; esac; exec "$real" "$@"'
    bin_directory = wrapped_programs(tmp_path / "bin", sbatch=script)
    async with slurm_engine(cluster, tmp_path, bin_directory=bin_directory, command_timeout=2.0) as engine:
        await engine.gateway.add_swarm(SwarmInfo("other", tmp_path, {}, TOKEN))
        (tmp_path / "hang").touch()
        hanging = asyncio.create_task(engine.gateway.queue_batch(batch_of("true")))
        await eventually(lambda: calls_of(bin_directory, "sbatch"))
        await engine.gateway.queue_batch(batch_of("true", first_id=2, swarm_id="other"))
        assert await engine.ends(2) == [(D, "")]
        with pytest.raises(OutcomeUnknownError):
            await hanging


async def test_a_submission_whose_caller_gave_up_goes_on(cluster: Cluster, tmp_path: Path):
    bin_directory = wrapped_programs(tmp_path / "bin", sbatch='sleep 1; exec "$real" "$@"')
    async with slurm_engine(cluster, tmp_path, bin_directory=bin_directory) as engine:
        batch = batch_of("echo ran >>ran")
        queueing = asyncio.create_task(engine.gateway.queue_batch(batch))
        await eventually(lambda: calls_of(bin_directory, "sbatch"))
        queueing.cancel()
        await asyncio.wait((queueing,))
        assert await engine.ends(1) == [(D, "")]
        assert (tmp_path / "ran").read_text() == "ran\n"


async def test_limits_of_the_queues_are_reported(cluster: Cluster, tmp_path: Path):
    async with slurm_engine(cluster, tmp_path) as engine:
        await engine.record.until(lambda: any(update.queue_limits for _, update in engine.record.updates))
        [limits] = [update.queue_limits for _, update in engine.record.updates if update.queue_limits]
    known = {(each.cluster, each.queue): (each.cores, each.memory_mib, each.runtime_seconds) for each in limits}
    assert known["", "main"] == known["box", "main"] == known["", ""] == (256, 256_000, None)
    assert known["", "short"] == (256, 256_000, 120.0)
    assert {queue for _, queue in known} == {"", "main", "short", "frail", "low", "high"}


async def test_what_is_missing_is_said_with_what_to_do(cluster: Cluster, tmp_path: Path):
    async with slurm_engine(cluster, tmp_path, bin_directory=tmp_path) as engine:
        words = await engine.gateway.trouble()
        assert words.startswith(f"sbatch, squeue, scancel, scontrol, sinfo cannot be found in {tmp_path}: install ")
    async with slurm_engine(cluster, tmp_path, conf=tmp_path / "nowhere") as engine:
        assert "which is no file" in await engine.gateway.trouble()
    nothing = tmp_path / "slurm.conf"
    nothing.write_text("ClusterName=nowhere\n")
    async with slurm_engine(cluster, tmp_path, conf=nothing) as engine:
        words = await engine.gateway.trouble()
        assert words.startswith("Slurm's programs find no cluster (")
        assert "give the path of slurm.conf as conf in [gateways.slurm]" in words
        assert await engine.gateway.obstacle() == ""
    async with slurm_engine(cluster, tmp_path / "unmounted") as engine:
        assert await engine.gateway.trouble() == "", "a daemon makes its state directory itself"
    directory = tmp_path / "unmounted"
    async with slurm_engine(cluster, directory, directory=directory) as engine:
        words = f"directory in [gateways.slurm]: {tmp_path}/unmounted is not there; mount its file system, or make the"
        assert (await engine.gateway.trouble()).startswith(words)
    async with slurm_engine(cluster, tmp_path) as engine:
        assert await engine.gateway.trouble() == await engine.gateway.obstacle() == ""


async def test_a_controller_that_is_away_is_an_obstacle_and_no_trouble(own_cluster: Cluster, tmp_path: Path):
    async with slurm_engine(own_cluster, tmp_path) as engine:
        with own_cluster.frozen():
            assert "Slurm's controller does not answer now (" in await engine.gateway.obstacle()
        assert await engine.gateway.obstacle() == ""
        own_cluster.kill_controller()
        words = "Slurm's controller does not answer now (Slurmctld(primary) at "
        assert (await engine.gateway.obstacle()).startswith(words)
        assert await engine.gateway.trouble() == ""  # its swarms are taken, and wait
