"""A daemon is killed, and the next one takes up its tasks: a real daemon process, real tasks, a real kill -9."""

import asyncio
import os
import shutil
import signal
import subprocess
import time

import psutil
import pytest

from swarmd.core.model import TaskResources
from swarmd.core.status import Code, TaskStatus
from swarmd.gateways.contract import Found, SwarmInfo
from swarmd.gateways.local.procfs import boot_id, stat_of
from tests.gateways.local.earlier_daemon import DURABLE, EarlierDaemon, next_daemon, same_batch
from tests.gateways.recording import ENDS, SWARM, batch_of, eventually, file_with_text, is_alive, kill_all, local_engine

DONE = (TaskStatus.DONE, "")
KILLED = (TaskStatus.ERROR_RECOVERABLE, "killed by signal 9 (SIGKILL)")
VANISHED = "it vanished while no daemon was there: its process is gone and left no exit status"
WAITS_FOR_GO = "until [ -e {0}/go ]; do sleep 0.02; done"


@pytest.fixture
def earlier(tmp_path):
    earlier = EarlierDaemon(tmp_path)
    yield earlier
    earlier.end_all()


@pytest.fixture
def another_process():
    with subprocess.Popen(["sleep", "100"], start_new_session=True) as process:
        yield process
        process.kill()


def kill_launcher(earlier: EarlierDaemon) -> None:
    """And its guardian first, which would take over."""
    launcher = psutil.Process(earlier.started().launcher)
    guardian = launcher.parent()
    assert guardian is not None
    kill_all(guardian, launcher)


# -- what was running when the daemon was killed -----------------------------------------------------------------------


async def test_a_task_that_still_runs_is_seen_to_its_end(tmp_path, earlier):
    command = WAITS_FOR_GO.format(tmp_path) + "; echo finished"
    await earlier.leave(command)
    async with next_daemon(tmp_path) as engine:
        await engine.gateway.resume([same_batch(command)])
        await engine.record.running(1)
        (tmp_path / "go").touch()
        await engine.record.ended(1)
        assert engine.record.end_of(1) == DONE
    assert earlier.out() == "finished\n"


@pytest.mark.parametrize("command", ["exit 7", "/bin/false"])
async def test_the_exit_code_of_an_adopted_task_is_told(tmp_path, earlier, command):
    script = tmp_path / "script"
    script.write_text(f"#!/bin/sh\n{WAITS_FOR_GO.format(tmp_path)}\necho sorry >&2\n{command}\n")
    script.chmod(0o700)
    await earlier.leave(str(script))
    async with next_daemon(tmp_path) as engine:
        await engine.gateway.resume([same_batch(str(script))])
        (tmp_path / "go").touch()
        await engine.record.ended(1)
        code = 7 if command == "exit 7" else 1
        assert engine.record.end_of(1) == (TaskStatus.ERROR_RECOVERABLE, f"exit code {code}\nsorry")


async def test_an_adopted_task_is_held_to_what_is_left_of_its_runtime(tmp_path, earlier):
    await earlier.leave("sleep 100", runtime=2.0)
    async with next_daemon(tmp_path) as engine:
        await engine.gateway.resume([same_batch("sleep 100", runtime=2.0)])
        await engine.record.ended(1)
        assert engine.record.end_of(1) == (TaskStatus.ADJUSTING_RESOURCES, "ran longer than its runtime of 2 s")
        started = earlier.started()
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert 1.9 < now - started.start_ticks / os.sysconf("SC_CLK_TCK") < 5.0
    assert not is_alive(started.pid)


async def test_an_adopted_task_over_its_time_is_ended_at_once(tmp_path, earlier):
    await earlier.leave("trap '' TERM; while :; do sleep 0.05; done")
    await asyncio.sleep(0.2)
    async with next_daemon(tmp_path) as engine:
        await engine.gateway.resume([same_batch("x", runtime=0.1)])
        await engine.record.ended(1)
        assert engine.record.end_of(1)[0] is TaskStatus.ADJUSTING_RESOURCES
        await earlier.over()


async def test_an_adopted_task_is_cancelled_with_all_its_processes(tmp_path, earlier):
    command = f"sh -c 'echo $$ >> {tmp_path}/pids; exec sleep 100' & echo $$ >> {tmp_path}/pids; wait"
    await earlier.leave(command)
    pids = tmp_path / "pids"
    await eventually(lambda: pids.exists() and pids.read_text().count("\n") == 2)
    async with next_daemon(tmp_path) as engine:
        await engine.gateway.resume([same_batch(command)])
        await engine.cancel(1)
        await eventually(lambda: not any(is_alive(int(pid)) for pid in pids.read_text().split()))
        await engine.run("true", first_id=2)
        assert engine.record.ended_ids() == {2}


async def test_a_task_that_is_cancelled_while_it_is_looked_for_is_ended(tmp_path, earlier):
    await earlier.leave("sleep 100")
    async with next_daemon(tmp_path) as engine:
        resuming = asyncio.create_task(engine.gateway.resume([same_batch("sleep 100")]))
        await asyncio.sleep(0)
        await engine.cancel(1)
        await resuming
        await earlier.over()
        assert engine.record.ended_ids() == set()


async def test_a_task_that_was_cancelled_when_nobody_could_be_told_is_ended_in_silence(tmp_path, earlier):
    await earlier.leave("sleep 100")
    async with next_daemon(tmp_path) as engine:
        await engine.gateway.resume([], [same_batch("sleep 100")])
        await earlier.over()
        assert engine.record.ended_ids() == set()


async def test_an_adopted_task_goes_with_its_swarm(tmp_path, earlier):
    await earlier.leave("sleep 100")
    async with next_daemon(tmp_path) as engine:
        await engine.gateway.resume([same_batch("sleep 100")])
        await engine.gateway.remove_swarm(SWARM)
        await earlier.over()
        assert engine.record.ended_ids() == set()


async def test_adopted_tasks_take_their_cores_even_when_they_overfill_the_machine(tmp_path, earlier):
    command = WAITS_FOR_GO.format(tmp_path)
    await earlier.leave(command, command)
    async with next_daemon(tmp_path, cores=1) as engine:
        await engine.gateway.resume([same_batch(command, command)])
        await engine.record.running(1, 2)
        await engine.queue("true", first_id=3)
        await asyncio.sleep(0.2)
        assert engine.record.statuses(3) == []
        (tmp_path / "go").touch()
        await engine.record.ended(1, 2, 3)


async def test_adopted_tasks_are_watched_without_pidfds(tmp_path, earlier, monkeypatch):
    monkeypatch.setattr("swarmd.gateways.local.adoption.pidfd_of", lambda pid: -1)
    command = WAITS_FOR_GO.format(tmp_path)
    await earlier.leave(command, "sleep 100")
    async with next_daemon(tmp_path) as engine:
        await engine.gateway.resume([same_batch(command, "sleep 100")])
        (tmp_path / "go").touch()
        await engine.record.ended(1)
        assert engine.record.end_of(1) == DONE
    await earlier.over(2)


async def test_an_adopted_task_that_is_killed_has_failed(tmp_path, earlier):
    await earlier.leave("sleep 100")
    async with next_daemon(tmp_path) as engine:
        await engine.gateway.resume([same_batch("sleep 100")])
        os.killpg(earlier.started().pid, signal.SIGKILL)
        await engine.record.ended(1)
        assert engine.record.end_of(1) == KILLED


async def test_an_adopted_task_that_is_killed_with_its_launcher_and_guardian_left_no_status(tmp_path, earlier):
    await earlier.leave("sleep 100")
    async with next_daemon(tmp_path) as engine:
        await engine.gateway.resume([same_batch("sleep 100")])
        kill_launcher(earlier)
        os.killpg(earlier.started().pid, signal.SIGKILL)
        await engine.record.ended(1)
        assert engine.record.end_of(1) == (TaskStatus.ERROR_RECOVERABLE, "it ended and left no exit status")


async def test_what_an_earlier_daemon_did_not_start_starts_now(tmp_path, earlier):
    command = f"echo $SWARM_TASK_ID >> {tmp_path}/ran; sleep 0.3"
    await earlier.leave(command, command, command, cores=1)
    async with next_daemon(tmp_path) as engine:
        await engine.gateway.resume([same_batch(command, command, command)])
        await engine.record.ended(1, 2, 3)
        assert {engine.record.end_of(task_id) for task_id in (1, 2, 3)} == {DONE}
    assert sorted((tmp_path / "ran").read_text().split()) == ["1", "2", "3"]


@pytest.mark.parametrize("later", [0.0, 0.03, 0.06])
async def test_whenever_the_daemon_is_killed_every_attempt_runs_once(tmp_path, earlier, later):
    commands = [f"sleep 0.01; echo $SWARM_TASK_ID >> {tmp_path}/ran"] * 100
    await earlier.leave(*commands, cores=4, later=later)
    async with next_daemon(tmp_path, cores=4) as engine:
        await engine.gateway.resume([same_batch(*commands)])
        await engine.record.ended(*range(1, 101))
        assert {engine.record.end_of(task_id) for task_id in range(1, 101)} == {DONE}
    assert sorted(map(int, (tmp_path / "ran").read_text().split())) == list(range(1, 101))


# -- what ended while no daemon was there ------------------------------------------------------------------------------


async def test_what_finished_while_nobody_looked_is_told(tmp_path, earlier):
    commands = ("sleep 0.1", "sleep 0.1; echo alas >&2; exit 3", "sleep 0.1; kill -9 $(exec sh -c 'echo $PPID')")
    await earlier.leave(*commands)
    for task_id in (1, 2, 3):
        await earlier.over(task_id)
    async with next_daemon(tmp_path) as engine:
        await engine.gateway.resume([same_batch(*commands)])
        await engine.record.ended(1, 2, 3)
        assert engine.record.end_of(1) == DONE
        assert engine.record.end_of(2) == (TaskStatus.ERROR_RECOVERABLE, "exit code 3\nalas")
        assert engine.record.end_of(3) == KILLED


async def test_what_was_killed_with_its_launcher_and_guardian_while_nobody_looked_vanished(tmp_path, earlier):
    await earlier.leave("echo last words >&2; exec sleep 100")
    await eventually(lambda: "last" in earlier.status().with_name("1.1.err").read_text())
    kill_launcher(earlier)
    os.killpg(earlier.started().pid, signal.SIGKILL)
    await earlier.over()
    async with next_daemon(tmp_path) as engine:
        await engine.gateway.resume([same_batch("sleep 100")])
        await engine.record.ended(1)
        assert engine.record.end_of(1) == (TaskStatus.ERROR_RECOVERABLE, f"{VANISHED}\nlast words")


async def test_what_is_left_of_a_task_that_was_killed_is_ended(tmp_path, earlier):
    await earlier.leave(f"echo $SWARM_TASK_ID > {tmp_path}/here; sleep 100")
    await file_with_text(tmp_path / "here")
    leader = earlier.started().pid
    left = [child.pid for child in psutil.Process(leader).children(recursive=True)]
    os.kill(leader, signal.SIGKILL)
    await earlier.over()
    assert left
    assert all(map(is_alive, left))
    async with next_daemon(tmp_path) as engine:
        await engine.gateway.resume([same_batch("sleep 100")])
        await engine.record.ended(1)
        assert engine.record.end_of(1) == KILLED
        await eventually(lambda: not any(map(is_alive, left)))


async def test_what_a_finished_task_left_behind_is_ended(tmp_path, earlier):
    await earlier.leave(f"sleep 100 & echo $! > {tmp_path}/left; sleep 0.2")
    await earlier.over()
    left = int((tmp_path / "left").read_text())
    assert is_alive(left)
    async with next_daemon(tmp_path) as engine:
        await engine.gateway.resume([same_batch("x")])
        await engine.record.ended(1)
        assert engine.record.end_of(1) == DONE
        await eventually(lambda: not is_alive(left))


async def test_a_recycled_process_number_is_not_mistaken_for_the_task(tmp_path, earlier, another_process):
    stat = stat_of(another_process.pid)
    assert stat is not None
    earlier.status().parent.mkdir(parents=True)
    earlier.status(1).write_text(f"{another_process.pid} {stat.start_ticks - 1} {boot_id()}\n")
    earlier.status(2).write_text(f"{another_process.pid} {stat.start_ticks} {'0' * 8}-{boot_id()[9:]}\n")
    async with next_daemon(tmp_path) as engine:
        await engine.gateway.resume([same_batch("sleep 100", "sleep 100")])
        await engine.record.ended(1, 2)
        assert {engine.record.end_of(task_id) for task_id in (1, 2)} == {(TaskStatus.ERROR_RECOVERABLE, VANISHED)}
    assert another_process.poll() is None


async def test_a_group_that_took_over_the_number_is_left_alone(tmp_path, earlier):
    # A leader that ended and was taken away, as those of daemons do, with a member that is not the task's.
    script = "sleep 100 >/dev/null & echo $! $$"
    shell = await asyncio.create_subprocess_exec("sh", "-c", script, stdout=subprocess.PIPE, start_new_session=True)
    member, leader = map(int, (await shell.communicate())[0].split())
    earlier.status().parent.mkdir(parents=True)
    earlier.status().write_text(f"{leader} 1 {boot_id()}\n")
    try:
        async with next_daemon(tmp_path) as engine:
            await engine.gateway.resume([same_batch("sleep 100")])
            await engine.record.ended(1)
        assert is_alive(member)
    finally:
        os.kill(member, signal.SIGKILL)


async def test_a_task_that_ran_and_lost_its_status_file_does_not_run_again(tmp_path, earlier):
    batch = same_batch(f"touch {tmp_path}/wrong")
    batch.table.status[batch.rows] = Code.RUNNING
    async with next_daemon(tmp_path) as engine:
        await engine.gateway.resume([batch])
        await engine.record.ended(1)
        status, reason = engine.record.end_of(1)
        assert status is TaskStatus.ERROR_RECOVERABLE
        assert "its status file is gone" in reason
    assert not (tmp_path / "wrong").exists()


@pytest.mark.parametrize("lost", ["its status file", "everything"])
async def test_a_task_that_runs_and_lost_its_status_file_is_found_and_waited_for(tmp_path, earlier, lost, request):
    command = WAITS_FOR_GO.format(tmp_path)
    await earlier.leave(command)
    started = earlier.started()
    request.addfinalizer((tmp_path / "go").touch)
    if lost == "everything":
        shutil.rmtree(earlier.logs)
    else:
        earlier.status().unlink()
    batch = same_batch(command)
    batch.table.status[batch.rows] = Code.RUNNING
    async with next_daemon(tmp_path) as engine:
        await engine.gateway.resume([batch])
        await engine.record.running(1)
        await asyncio.sleep(0.3)
        assert engine.record.ended_ids() == set()
        assert is_alive(started.pid)
        (tmp_path / "go").touch()
        await engine.record.ended(1)
        assert engine.record.end_of(1) == (TaskStatus.ERROR_RECOVERABLE, "it ended and left no exit status")


async def test_a_cancelled_task_that_lost_its_status_file_is_ended(tmp_path, earlier):
    await earlier.leave("sleep 100")
    started = earlier.started()
    earlier.status().unlink()
    batch = same_batch("sleep 100")
    batch.table.status[batch.rows] = Code.RUNNING
    async with next_daemon(tmp_path) as engine:
        await engine.gateway.resume([], [batch])
        await eventually(lambda: not is_alive(started.pid))
        assert engine.record.ended_ids() == set()


async def test_a_task_that_fits_no_more_is_given_back(tmp_path):
    async with next_daemon(tmp_path, cores=1) as engine:
        await engine.gateway.resume([batch_of("true", resources=TaskResources(1, cores=2))])
        await engine.record.ended(1)
        status, reason = engine.record.end_of(1)
        assert (status, reason) == (TaskStatus.REGISTERED, "asks for 2 cores, and this machine has 1")


async def test_a_swarm_in_memory_has_nothing_to_resume(tmp_path):
    async with local_engine(tmp_path) as engine:
        await engine.gateway.resume([same_batch("true")])
        await engine.record.ended(1)
        assert engine.record.end_of(1) == (TaskStatus.ERROR_RECOVERABLE, VANISHED)


async def test_ten_thousand_are_taken_up_without_holding_the_loop(tmp_path, earlier):
    earlier.status().parent.mkdir(parents=True)
    for task_id in range(1, 10_001):
        earlier.status(task_id).write_text(f"{task_id} 1 {boot_id()}\n0\n")
    batches = [batch_of(*["true"] * 500, first_id=first) for first in range(1, 10_001, 500)]
    async with next_daemon(tmp_path) as engine:
        turns = 0
        resuming = asyncio.create_task(engine.gateway.resume(batches))
        while not resuming.done():
            await asyncio.sleep(0)
            turns += 1
        await engine.record.ended(*range(1, 10_001))
        assert turns > 20, "others have their turn meanwhile, again and again"
    assert {status for *_, status, _ in engine.record.news if status in ENDS} == {TaskStatus.DONE}


# -- batches in doubt --------------------------------------------------------------------------------------------------


async def test_a_batch_in_doubt_that_was_started_is_taken_up(tmp_path, earlier):
    await earlier.leave("sleep 0.5", "exit 3")
    async with next_daemon(tmp_path) as engine:
        found = await engine.gateway.find_batch(same_batch("sleep 0.5", "exit 3"))
        assert (found.found, list(found.refusals)) == (Found.QUEUED, [])
        await engine.record.ended(1, 2)
        assert engine.record.end_of(1) == DONE
        assert engine.record.end_of(2) == (TaskStatus.ERROR_RECOVERABLE, "exit code 3")


async def test_what_was_not_started_of_a_batch_in_doubt_is_refused_and_never_starts(tmp_path, earlier):
    await earlier.leave("sleep 0.3", "true", cores=1)
    async with next_daemon(tmp_path) as engine:
        batch = same_batch("sleep 0.3", f"touch {tmp_path}/wrong")
        for _ in range(2):
            found = await engine.gateway.find_batch(batch)
            (refusal,) = found.refusals
            assert found.found is Found.QUEUED
            assert (refusal.task_ids, refusal.reason, refusal.permanent) == ([2], "it was not started", False)
        # The process that an earlier daemon left to start it: it comes too late.
        await engine.gateway.queue_batch(batch)
        await engine.record.ended(1, 2)
        assert engine.record.end_of(1) == DONE
        assert engine.record.end_of(2)[0] is TaskStatus.ERROR_RECOVERABLE
        assert "given it up" in engine.record.end_of(2)[1]
    assert not (tmp_path / "wrong").exists()


async def test_a_batch_in_doubt_of_which_nothing_was_started_was_not_taken(tmp_path):
    async with next_daemon(tmp_path) as engine:
        assert (await engine.gateway.find_batch(same_batch("true", "true"))).found is Found.NOT_QUEUED


async def test_a_batch_that_is_known_is_taken(tmp_path):
    for swarm in (DURABLE, SwarmInfo(SWARM)):
        async with local_engine(tmp_path / (swarm.token or "none"), cores=1, swarm=swarm) as engine:
            batch = batch_of("sleep 0.2", "true")
            await engine.gateway.queue_batch(batch)
            found = await engine.gateway.find_batch(batch)
            assert (found.found, list(found.refusals)) == (Found.QUEUED, [])
            assert (await engine.gateway.find_batch(batch_of("true", first_id=9))).found is Found.NOT_QUEUED
            await engine.record.ended(1, 2)
            assert engine.record.end_of(2) == DONE


async def test_a_batch_whose_tasks_have_ended_was_taken(tmp_path):
    async with local_engine(tmp_path) as engine:
        batch = batch_of("true", "exit 3")
        await engine.gateway.queue_batch(batch)
        await engine.record.ended(1, 2)
        found = await engine.gateway.find_batch(batch)
        assert (found.found, list(found.refusals)) == (Found.QUEUED, [])


async def test_nobody_knows_of_a_batch_of_an_unknown_swarm_or_when_closed(tmp_path):
    async with next_daemon(tmp_path) as engine:
        assert (await engine.gateway.find_batch(batch_of("true", swarm_id="other"))).found is Found.UNKNOWN
        await engine.gateway.close()
        assert (await engine.gateway.find_batch(batch_of("true"))).found is Found.UNKNOWN


async def test_a_batch_that_cannot_be_claimed_stays_in_doubt(tmp_path):
    async with next_daemon(tmp_path) as engine:
        folder = engine.gateway.log_directory / SWARM
        folder.symlink_to("nowhere")
        assert (await engine.gateway.find_batch(batch_of("true", "true"))).found is Found.UNKNOWN
        folder.unlink()
        assert (await engine.gateway.find_batch(batch_of("true", "true"))).found is Found.NOT_QUEUED


async def test_a_batch_whose_status_files_cannot_be_read_counts_as_taken_and_fails(tmp_path):
    async with next_daemon(tmp_path) as engine:
        engine.gateway.log_directory.rmdir()
        engine.gateway.log_directory.write_text("in the way")
        assert (await engine.gateway.find_batch(batch_of("true"))).found is Found.QUEUED
        await engine.record.ended(1)
        assert "cannot be read: Not a directory" in engine.record.end_of(1)[1]
