"""A swarm that is deleted while Slurm's controller is away: its jobs are ended when that is back, and no others."""

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from swarmd.gateways.contract import BatchRefusedError, OutcomeUnknownError, SwarmInfo
from swarmd.gateways.left import GIVE_UP_SECONDS
from swarmd.gateways.slurm import abandoned
from swarmd.gateways.slurm import gateway as slurm
from tests.gateways.recording import SWARM, batch_of, eventually
from tests.gateways.slurm.cluster import Cluster
from tests.gateways.slurm.engine import (
    PatientRecord,
    calls_of,
    gateway_for,
    slurm_engine,
    wrapped_programs,
)

PATIENCE = 120.0


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(slurm, "REMOVE_PATIENCE_SECONDS", 1.0)
    monkeypatch.setattr(abandoned, "SETTLE_SECONDS", 0.5)


@asynccontextmanager
async def next_gateway(cluster: Cluster, folder: Path, **options: object) -> AsyncIterator[None]:
    """Of a daemon that knows no swarm."""
    gateway = gateway_for(cluster, folder, **options)
    await gateway.start(PatientRecord().report)
    try:
        yield
    finally:
        await gateway.close()


def left(folder: Path) -> list[Path]:
    return list((folder / "batches").glob("*.left"))


def jobs(cluster: Cluster) -> dict[str, list[str]]:
    """The states of what Slurm has not ended, by name."""
    found: dict[str, list[str]] = {}
    for line in cluster.call("squeue", "-h", "-r", "-t", "PENDING,RUNNING", "-o", "%j %T", check=False).splitlines():
        name, state = line.split()
        found.setdefault(name, []).append(state)
    return found


async def until_answering(cluster: Cluster) -> None:
    await patiently(lambda: cluster.call("squeue", "-h", "-o", "answers %j", check=False).startswith("answers"))


async def patiently(condition) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - nobody tells what other processes do
            await asyncio.sleep(0.1)


def foreign_job(cluster: Cluster, folder: Path) -> None:
    script = folder / "foreign.sh"
    script.write_text("#!/bin/sh\nsleep 300\n")
    cluster.call("sbatch", "--array=0-1", "-o", "/dev/null", "-J", "foreign", str(script))


async def test_the_next_daemon_ends_its_jobs_and_no_others(own_cluster: Cluster, tmp_path: Path):
    foreign_job(own_cluster, tmp_path)
    async with slurm_engine(own_cluster, tmp_path) as engine:
        await engine.gateway.add_swarm(SwarmInfo("other", token="theirs", working_directory=tmp_path))
        mine = await engine.queue("sleep 300", "sleep 300")
        others = batch_of("sleep 300", first_id=50, swarm_id="other")
        await engine.gateway.queue_batch(others)
        await engine.record.running(1, 2, 50)
        own_cluster.stop_controller()
        await engine.gateway.remove_swarm(SWARM)
        assert len(left(tmp_path)) == 1
        assert not (tmp_path / "batches" / SWARM).exists()
    own_cluster.start_controller()
    await until_answering(own_cluster)
    assert jobs(own_cluster)[mine.batch_id] == ["RUNNING"] * 2
    async with next_gateway(own_cluster, tmp_path):
        await patiently(lambda: mine.batch_id not in jobs(own_cluster))
        await patiently(lambda: not left(tmp_path))
    assert jobs(own_cluster) == {"foreign": ["RUNNING"] * 2, others.batch_id: ["RUNNING"]}


async def test_it_outlives_several_daemons(own_cluster: Cluster, tmp_path: Path):
    async with slurm_engine(own_cluster, tmp_path) as engine:
        batch = await engine.queue("sleep 300")
        await engine.record.running(1)
        own_cluster.stop_controller()
        await engine.gateway.remove_swarm(SWARM)
    for _ in range(2):
        async with next_gateway(own_cluster, tmp_path):
            await asyncio.sleep(0.2)
    assert len(left(tmp_path)) == 1
    own_cluster.start_controller()
    await until_answering(own_cluster)
    assert jobs(own_cluster) == {batch.batch_id: ["RUNNING"]}
    async with next_gateway(own_cluster, tmp_path):
        await patiently(lambda: not left(tmp_path))
    assert batch.batch_id not in jobs(own_cluster)


async def test_a_batch_that_arrives_at_a_frozen_controller_is_ended_and_runs_nothing(
    own_cluster: Cluster, tmp_path: Path
):
    async with slurm_engine(own_cluster, tmp_path) as engine:
        await engine.queue("true")
        await engine.ends(1)
        own_cluster.call("scontrol", "update", "nodename=n1", "state=drain", "reason=test")
        ghost = batch_of("echo ran >>ran; sleep 300", first_id=10)
        with own_cluster.frozen():
            with pytest.raises(OutcomeUnknownError):
                await engine.gateway.queue_batch(ghost)
            await engine.gateway.remove_swarm(SWARM)
            assert len(left(tmp_path)) == 1
            await engine.gateway.close()
    await patiently(lambda: ghost.batch_id in jobs(own_cluster))
    async with next_gateway(own_cluster, tmp_path, find_patience=5.0):
        await patiently(lambda: ghost.batch_id not in jobs(own_cluster))
        own_cluster.call("scontrol", "update", "nodename=n1", "state=resume")
        await patiently(lambda: not left(tmp_path))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("keep_files", [True, False])
async def test_a_job_that_starts_after_its_swarm_was_deleted_runs_nothing(
    own_cluster: Cluster, tmp_path: Path, keep_files: bool
):
    async with slurm_engine(own_cluster, tmp_path, keep_files=keep_files) as engine:
        own_cluster.call("scontrol", "update", "nodename=n1", "state=drain", "reason=test")
        batch = await engine.queue("echo ran >>ran; sleep 300", "echo ran >>ran; sleep 300")
        own_cluster.stop_controller()
        await engine.gateway.remove_swarm(SWARM)
        assert (tmp_path / "batches" / SWARM).exists() == keep_files
    own_cluster.start_controller()
    await until_answering(own_cluster)
    own_cluster.call("scontrol", "update", "nodename=n1", "state=resume", check=False)
    await patiently(lambda: batch.batch_id not in jobs(own_cluster))
    ends = own_cluster.call("squeue", "-h", "-r", "-t", "all", "-n", batch.batch_id, "-O", "State:|,exit_code:|")
    assert set(ends.splitlines()) == {f"FAILED|{118 << 8}|"}
    assert not (tmp_path / "ran").exists()
    assert len(left(tmp_path)) == 1


async def test_the_same_daemon_ends_them_when_the_controller_is_back(own_cluster: Cluster, tmp_path: Path):
    async with slurm_engine(own_cluster, tmp_path) as engine:
        batch = await engine.queue("sleep 300")
        await engine.record.running(1)
        swarm = engine.gateway._swarms[SWARM]
        own_cluster.stop_controller()
        await engine.gateway.remove_swarm(SWARM)
        assert len(left(tmp_path)) == 1
        own_cluster.start_controller()
        await patiently(lambda: not left(tmp_path))
        assert batch.batch_id not in jobs(own_cluster)
        assert not swarm.elements
        assert not engine.gateway._tracker._elements
        assert not engine.record.ended_ids()


async def test_what_was_in_doubt_is_not_looked_for_for_ever(cluster: Cluster, tmp_path: Path):
    bin_directory = wrapped_programs(tmp_path / "bin", sbatch="echo something that nobody knows >&2; exit 1")
    async with slurm_engine(cluster, tmp_path, bin_directory=bin_directory) as engine:
        with pytest.raises(OutcomeUnknownError):
            await engine.gateway.queue_batch(batch_of("true"))
        await engine.gateway.remove_swarm(SWARM)
        assert len(left(tmp_path)) == 1
        await eventually(lambda: not left(tmp_path))
        assert not engine.gateway._tracker._sought


async def test_nothing_is_written_or_asked_when_there_is_nothing_to_end(cluster: Cluster, tmp_path: Path):
    async with slurm_engine(cluster, tmp_path) as engine:
        await engine.run("true")
        own = engine.gateway._abandonment
        await engine.gateway.remove_swarm(SWARM)
        assert not left(tmp_path)
        assert own._ending is None
    bin_directory = wrapped_programs(tmp_path / "bin")
    async with next_gateway(cluster, tmp_path, bin_directory=bin_directory):
        await asyncio.sleep(0.5)
    assert not calls_of(bin_directory, "squeue")


async def test_a_swarm_in_memory_is_ended_by_the_next_daemon_when_slurm_was_away_at_the_end(
    own_cluster: Cluster, tmp_path: Path, monkeypatch
):
    monkeypatch.setattr(slurm, "LAST_CANCEL_SECONDS", 0.5)
    async with slurm_engine(own_cluster, tmp_path, swarm=SwarmInfo(SWARM, working_directory=tmp_path)) as engine:
        batch = await engine.queue("sleep 300")
        await engine.record.running(1)
        own_cluster.stop_controller()
    assert len(left(tmp_path)) == 1
    own_cluster.start_controller()
    async with next_gateway(own_cluster, tmp_path):
        await patiently(lambda: not left(tmp_path))
    assert batch.batch_id not in jobs(own_cluster)


async def test_a_batch_that_comes_while_its_swarm_is_deleted_is_not_submitted(cluster: Cluster, tmp_path: Path):
    bin_directory = wrapped_programs(tmp_path / "bin")
    async with slurm_engine(cluster, tmp_path, bin_directory=bin_directory) as engine:
        site, asked, go_on = engine.gateway._site, asyncio.Event(), asyncio.Event()
        site.facts = type(site.facts)()

        async def refresh(*, now: bool = False) -> None:
            asked.set()
            await go_on.wait()

        site.refresh = refresh  # type: ignore[method-assign]
        queueing = asyncio.create_task(engine.gateway.queue_batch(batch_of("true")))
        await asked.wait()
        await engine.gateway.remove_swarm(SWARM)
        go_on.set()
        with pytest.raises(BatchRefusedError, match="its swarm was deleted"):
            await queueing
        assert not calls_of(bin_directory, "sbatch")


async def test_batches_whose_files_are_being_written_are_not_submitted(cluster: Cluster, tmp_path: Path):
    bin_directory = wrapped_programs(tmp_path / "bin")
    async with slurm_engine(cluster, tmp_path, bin_directory=bin_directory) as engine:
        submitting = engine.gateway._submitting
        write, swarm = submitting._write, engine.gateway._swarms[SWARM]

        def slow(known, specs) -> Path:
            asyncio.run_coroutine_threadsafe(engine.gateway.remove_swarm(SWARM), loop)
            while not swarm.is_removed:
                time.sleep(0.01)
            return write(known, specs)

        loop, submitting._write = asyncio.get_running_loop(), slow  # type: ignore[method-assign]
        with pytest.raises(BatchRefusedError, match="its swarm was deleted"):
            await engine.gateway.queue_batch(batch_of("true"))
        await eventually(lambda: not left(tmp_path))
        assert not calls_of(bin_directory, "sbatch")
        assert not list((tmp_path / "batches").rglob("tasks"))


async def test_after_a_day_it_is_in_the_log_and_no_more_is_tried(own_cluster: Cluster, tmp_path: Path, caplog):
    own_cluster.kill_controller()
    folder = tmp_path / "batches"
    folder.mkdir()
    old = {"swarm_id": SWARM, "batches": ["one-1"], "since": time.time() - GIVE_UP_SECONDS - 1}
    (folder / "old.left").write_text(json.dumps(old))
    (folder / "damaged.left").write_text("{")
    (folder / "strange.left").write_text("[]")
    (folder / "swarm.left").mkdir()
    with caplog.at_level(logging.WARNING):
        async with next_gateway(own_cluster, tmp_path):
            await patiently(lambda: not (folder / "old.left").exists())
    said = "\n".join(record.getMessage() for record in caplog.records)
    assert f"jobs of swarm {SWARM}, which was deleted, may run on at Slurm" in said
    assert "one-1" in said
    assert "damaged.left" in said
    assert "strange" in said
    assert "swarm.left" not in said


async def test_a_disk_that_is_full_is_in_the_log_and_the_jobs_are_ended(
    cluster: Cluster, tmp_path: Path, caplog, monkeypatch
):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    async with slurm_engine(cluster, tmp_path) as engine:
        batch = await engine.queue("sleep 300")
        await engine.record.running(1)
        monkeypatch.setattr("swarmd.gateways.left.write_whole", full)
        with caplog.at_level(logging.WARNING):
            await engine.gateway.remove_swarm(SWARM)
        assert "cannot be written down" in caplog.text
        await patiently(lambda: batch.batch_id not in jobs(cluster))
