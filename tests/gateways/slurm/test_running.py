"""Commands on the nodes: what they see, what is kept of them, and what is said when they cannot run."""

import asyncio
import errno
import os
import shutil
import subprocess
import threading
from pathlib import Path

import pytest

from swarmd.core.batch import TaskSpec
from swarmd.core.model import MAX_COMMAND_BYTES, TaskResources
from swarmd.core.status import TaskStatus
from swarmd.gateways.contract import BatchRefusedError, SwarmInfo
from swarmd.gateways.slurm.spool import Manifest, Spool
from tests.gateways.recording import SWARM, batch_of, eventually
from tests.gateways.slurm.cluster import Cluster
from tests.gateways.slurm.engine import TOKEN, slurm_engine

D, E = TaskStatus.DONE, TaskStatus.ERROR_RECOVERABLE


async def test_output_and_exit_code_are_kept_in_files_of_the_users_own(cluster: Cluster, tmp_path: Path):
    async with slurm_engine(cluster, tmp_path) as engine:
        [ok, failed] = await engine.run("echo out; echo err >&2", "echo no table >&2; exit 3")
        assert ok == (D, "")
        assert failed == (E, "exit code 3\nno table")
        assert engine.output(1).read_text() == "out\n"
        assert engine.output(1, ending="err").read_text() == "err\n"
        assert engine.status_file(1).read_text().split("\n")[1] == "0"
        assert engine.status_file(2).read_text().split("\n")[1] == "3"
        for path in (engine.output(1), engine.output(1, ending="err"), engine.status_file(1)):
            assert path.stat().st_mode & 0o777 == 0o600
        assert (tmp_path / "batches").stat().st_mode & 0o777 == 0o700


COMMANDS = (
    "printf '%s' 'it'\\''s' \"$HOME\" >/dev/null; printf 'a\\\\b'",
    "# a comment first\nprintf 'two\nlines'",
    "printf 'ends with a backslash' \\",
    "printf 'āȁä\x01\x7f\u0085 snow ☃ 漢字'",
    "cat <<'end'\nnot $expanded\nend\n",
    "printf '%s' \"$#$1\"",
    "  \n\n printf spaces \n\n\n",
    "exit 0",
    "printf '%s' \"${swarmd_command-unset}\"",
    "{ printf no >&9; } 2>/dev/null || printf closed",
    "cat",
)


async def test_commands_mean_what_they_mean_to_a_shell(cluster: Cluster, tmp_path: Path):
    async with slurm_engine(cluster, tmp_path) as engine:
        assert await engine.run(*COMMANDS) == [(D, "")] * len(COMMANDS)
        for number, command in enumerate(COMMANDS, 1):
            assert engine.output(number).read_bytes() == output_here(command), command


def output_here(command: str) -> bytes:
    done = subprocess.run(["sh", "-c", command], stdin=subprocess.DEVNULL, capture_output=True, check=True)
    return done.stdout


async def test_the_longest_command_and_one_full_of_quotes(cluster: Cluster, tmp_path: Path):
    text = "x" * (MAX_COMMAND_BYTES - len("printf %s  | wc -c"))
    quotes = 'printf %s "' + "'" * 50_000 + '" | wc -c'
    async with slurm_engine(cluster, tmp_path) as engine:
        assert await engine.run(f"printf %s {text} | wc -c", quotes, "echo between") == [(D, "")] * 3
        assert int(engine.output(1).read_text()) == len(text)
        assert int(engine.output(2).read_text()) == 50_000
        assert engine.output(3).read_text() == "between\n"


async def test_what_a_task_sees(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OF_THE_DAEMON", "inherited")
    monkeypatch.setenv("SWARMD_TOKEN", "secret")
    environment = {"OWN": "it's\ntwo lines é", "SLURM_JOB_ID": "of another job", "OF_THE_DAEMON": "covered"}
    environment |= {"PWD": "/elsewhere", "IFS": "x", "UID": "12345"}
    swarm = SwarmInfo(SWARM, tmp_path, environment, TOKEN)
    async with slurm_engine(cluster, tmp_path, swarm=swarm) as engine:
        batch = batch_of('env -0; printf "PWD_IS=$(pwd -P)\\0UMASK=$(umask)\\0"', name="a 'name'", attempt=4)
        await engine.gateway.queue_batch(batch)
        await engine.ends(1)
        seen = dict(line.split("=", 1) for line in engine.output(1, 4).read_text().split("\0") if "=" in line)
    assert seen["OWN"] == environment["OWN"]
    assert seen["OF_THE_DAEMON"] == "covered"
    assert "SWARMD_TOKEN" not in seen
    assert seen["SLURM_JOB_ID"].isdecimal()
    assert seen["SLURM_ARRAY_TASK_ID"] == "0"
    assert (seen["SWARM_ID"], seen["SWARM_ARRAY_ID"], seen["SWARM_TASK_ID"]) == (SWARM, "7", "1")
    assert (seen["SWARM_ATTEMPT"], seen["SWARM_TASK_NAME"]) == ("4", "a 'name'")
    assert seen["PWD_IS"] == seen["PWD"] == os.fspath(tmp_path)
    assert "IFS" not in seen
    assert int(seen["UMASK"], 8) == _umask()
    assert not [name for name in seen if name.startswith("swarmd_")]


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


async def test_a_working_directory_that_is_not_there_is_a_failure_that_says_so(cluster: Cluster, tmp_path: Path):
    swarm = SwarmInfo(SWARM, tmp_path / "nowhere", {}, TOKEN)
    async with slurm_engine(cluster, tmp_path, swarm=swarm) as engine:
        [(status, reason)] = await engine.run("true")
        assert status is E
        assert reason == f"its working directory could not be entered on its node ({tmp_path / 'nowhere'})"


async def test_files_that_the_nodes_do_not_see_are_a_failure_that_names_the_option(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("swarmd.gateways.slurm.script.TRIES", 1)
    async with slurm_engine(cluster, tmp_path) as engine:
        cluster.call("scontrol", "update", "nodename=n1", "state=drain", "reason=test")
        await engine.queue("true")
        for path in (tmp_path / "batches").rglob("tasks"):
            path.unlink()
        cluster.call("scontrol", "update", "nodename=n1", "state=resume")
        [(status, reason)] = await engine.ends(1)
        assert status is E
        assert "`directory` in [gateways.slurm] must be on a file system that the compute nodes share" in reason


async def test_output_that_cannot_be_written_is_a_failure(cluster: Cluster, tmp_path: Path):
    async with slurm_engine(cluster, tmp_path) as engine:
        engine.output(1).mkdir(parents=True)
        [(status, reason)] = await engine.run("true")
        assert status is E
        assert reason == "its output could not be written on its node"


async def test_a_command_that_is_killed_says_by_what(cluster: Cluster, tmp_path: Path):
    async with slurm_engine(cluster, tmp_path) as engine:
        [(status, reason), (_, whole)] = await engine.run("sh -c 'kill -9 $$'", "kill -9 $$")
        assert status is E
        assert reason.startswith("exit code 137 (killed by signal 9 (SIGKILL))")
        assert whole == "killed by signal 9 (SIGKILL)"


async def test_a_command_may_end_with_any_code(cluster: Cluster, tmp_path: Path):
    async with slurm_engine(cluster, tmp_path) as engine:
        codes = (1, 118, 119, 124, 125, 126, 127, 255)
        ends = await engine.run(*(f"exit {code}" for code in codes))
        assert [status for status, _ in ends] == [E] * len(codes)
        assert [reason.split()[2] for _, reason in ends] == [str(code) for code in codes]


async def test_commands_with_nul_are_refused_and_the_others_run(cluster: Cluster, tmp_path: Path):
    async with slurm_engine(cluster, tmp_path) as engine:
        outcome = await engine.offer("true", "a\0b", "exit 3")
        [refusal] = outcome.refusals
        assert (list(refusal.task_ids), refusal.permanent) == ([2], True)
        assert [status for status, _ in await engine.ends(1, 3)] == [D, E]


async def test_a_folder_that_cannot_be_made_refuses_the_batch(cluster: Cluster, tmp_path: Path):
    (tmp_path / "batches").write_text("a file in the way")
    async with slurm_engine(cluster, tmp_path) as engine:
        with pytest.raises(BatchRefusedError, match="the files of the batch cannot be written"):
            await engine.gateway.queue_batch(batch_of("true"))
        assert not cluster.call("squeue", "-h")


async def test_news_goes_from_launched_to_running_to_the_end(cluster: Cluster, tmp_path: Path):
    async with slurm_engine(cluster, tmp_path) as engine:
        cluster.call("scontrol", "update", "nodename=n1", "state=drain", "reason=test")
        await engine.queue("until [ -e go ]; do sleep 0.1; done")
        await engine.record.until(lambda: engine.record.statuses(1) == [TaskStatus.LAUNCHED])
        waits = engine.gateway.standing(SWARM, 1, 1)
        assert waits.startswith(f"Slurm's job {engine.job_of(1)} is PENDING: ")
        cluster.call("scontrol", "update", "nodename=n1", "state=resume")
        await engine.record.running(1)
        assert engine.gateway.standing(SWARM, 1, 1) == f"Slurm's job {engine.job_of(1)} is RUNNING"
        (tmp_path / "go").touch()
        await engine.ends(1)
        assert engine.record.statuses(1) == [TaskStatus.LAUNCHED, TaskStatus.RUNNING, D]
        assert engine.gateway.standing(SWARM, 1, 1) == ""


async def test_resources_become_options_of_the_job(cluster: Cluster, tmp_path: Path):
    resources = TaskResources(
        1,
        cluster="box",
        queue="short",
        cores=3,
        memory_mib=100,
        runtime_seconds=61,
        extra={"nice": "7", "exclusive": ""},
    )
    async with slurm_engine(cluster, tmp_path) as engine:
        batch = await engine.queue("sleep 100", resources=resources)
        shown = cluster.call("scontrol", "show", "job", engine.job_of(1))
        for wanted in (
            *("Partition=short", "CPUs/Task=3", "mem=100M", "TimeLimit=00:02:00", "Nice=7", "Requeue=0"),
            *(f"JobName={batch.batch_id}", f"Comment={batch.batch_id} 0 1", "OverSubscribe=NO"),
        ):
            assert wanted in shown, shown


async def test_what_a_swarm_chooses_wins_over_the_config_file(cluster: Cluster, tmp_path: Path):
    swarm = SwarmInfo(SWARM, tmp_path, {}, TOKEN, {"partition": "short"})
    async with slurm_engine(cluster, tmp_path, swarm=swarm, partition="frail", sbatch_options=("--nice=3",)) as engine:
        await engine.queue("sleep 100")
        shown = cluster.call("scontrol", "show", "job", engine.job_of(1))
        assert "Partition=short" in shown
        assert "Nice=3" in shown


async def test_batch_files_go_when_their_tasks_are_over_and_output_stays(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("swarmd.gateways.slurm.gateway.KEPT_SECONDS", 0.0)
    async with slurm_engine(cluster, tmp_path) as engine:
        batch = await engine.queue("true")
        folder = tmp_path / "batches" / SWARM / batch.batch_id
        assert folder.exists()
        await engine.ends(1)
        await eventually(lambda: not folder.exists())
        await engine.gateway.swarm_finished(SWARM, succeeded=True)
        assert not (tmp_path / "batches" / SWARM).exists()
        assert engine.status_file(1).exists()


async def test_batch_files_stay_when_that_is_wished(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("swarmd.gateways.slurm.gateway.KEPT_SECONDS", 0.0)
    async with slurm_engine(cluster, tmp_path, keep_files=True) as engine:
        batch = await engine.queue("true")
        await engine.ends(1)
        await engine.gateway.swarm_finished(SWARM, succeeded=True)
        await engine.gateway.remove_swarm(SWARM)
        assert (tmp_path / "batches" / SWARM / batch.batch_id / "tasks").exists()


async def test_a_swarm_that_goes_on_while_its_files_are_removed_has_them(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    begun, go_on, remove = threading.Event(), threading.Event(), shutil.rmtree

    def slow(path: Path, *, ignore_errors: bool) -> None:
        begun.set()
        go_on.wait(60)
        remove(path, ignore_errors=ignore_errors)

    async with slurm_engine(cluster, tmp_path) as engine:
        await engine.run("true")
        monkeypatch.setattr("swarmd.gateways.slurm.spool.shutil.rmtree", slow)
        finishing = asyncio.create_task(engine.gateway.swarm_finished(SWARM, succeeded=True))
        await eventually(begun.is_set)
        queueing = asyncio.create_task(engine.queue("true", first_id=2))
        await asyncio.sleep(0.3)  # the batch is written now, or waits
        go_on.set()
        await asyncio.gather(finishing, queueing)
        assert await engine.ends(2) == [(TaskStatus.DONE, "")]
        await engine.queue("true", first_id=3)
        await engine.gateway.swarm_finished(SWARM, succeeded=True)  # said late: it has a batch again
        assert await engine.ends(3) == [(TaskStatus.DONE, "")]


def test_a_file_that_could_not_be_written_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("swarmd.gateways.slurm.spool.os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        Spool(tmp_path).write("s", {}, Manifest("b", 1, 0.0, [1], [1]), [TaskSpec(1, 1, "", "true")])
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
