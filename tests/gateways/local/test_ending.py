"""Ending what runs: at the end of its runtime, when it is cancelled, when its swarm goes, when the daemon stops."""

import asyncio
import signal
import subprocess
import sys

import psutil
import pytest

from swarmd.core.model import TaskResources
from swarmd.core.status import TaskStatus
from swarmd.gateways.contract import SwarmInfo
from swarmd.gateways.local import LocalGateway, connection
from swarmd.gateways.local.connection import PROGRAM
from swarmd.gateways.local.procfs import command_of
from tests.gateways.recording import (
    SWARM,
    Record,
    batch_of,
    eventually,
    file_with_text,
    is_alive,
    local_engine,
)

SHORT = TaskResources(1, runtime_seconds=0.3)
RAN_OUT = (TaskStatus.ADJUSTING_RESOURCES, "ran longer than its runtime of 0.3 s")


@pytest.fixture
async def engine(tmp_path):
    async with local_engine(tmp_path) as engine:
        yield engine


@pytest.fixture
def pids(tmp_path):
    """A shell's words that note a pid, and the pids that were noted."""

    class Pids:
        note = f"echo $$ >> {tmp_path}/pids"
        path = tmp_path / "pids"

        async def all(self, count: int) -> list[int]:
            await eventually(lambda: self.path.exists() and self.path.read_text().count("\n") == count)
            return [int(line) for line in self.path.read_text().split()]

    return Pids()


def children() -> list[int]:
    """The children of this process, zombies included, but for the daemons of other tests."""
    return [child.pid for child in psutil.Process().children() if b"serve" not in command_of(child.pid)]


def other_child() -> "subprocess.Popen[bytes]":
    return subprocess.Popen(["sleep", "100"])


def launcher_after(statement: str) -> tuple[str, ...]:
    """A launcher that meets another machine."""
    program = f"{statement}\nimport runpy\nrunpy.run_path({PROGRAM[-1]!r}, run_name='__main__')"
    return (sys.executable, "-I", "-S", "-c", program)


# -- runtime -----------------------------------------------------------------------------------------------------------


async def test_a_task_that_runs_too_long_is_ended(engine):
    await engine.run("sleep 100", resources=SHORT)
    assert engine.record.end_of(1) == RAN_OUT


async def test_a_task_that_ends_in_time_is_left_alone(engine):
    await engine.run("sleep 0.05", resources=SHORT)
    await asyncio.sleep(0.4)
    assert engine.record.statuses(1)[-1] is TaskStatus.DONE


async def test_a_task_that_ignores_term_is_killed(engine, pids):
    await engine.run(f"{pids.note}; trap '' TERM; while :; do sleep 0.05; done", resources=SHORT)
    assert engine.record.end_of(1) == RAN_OUT
    (pid,) = await pids.all(1)
    assert not is_alive(pid)


async def test_a_task_may_use_the_grace_to_save_its_work(tmp_path):
    async with local_engine(tmp_path, kill_grace=5.0) as engine:
        # The shell that the gateway started dies of TERM at once; its program takes its time.
        program = f"{sys.executable} {tmp_path}/saver.py"
        (tmp_path / "saver.py").write_text(
            "import signal, sys, time\n"
            "def save(*_):\n"
            "    time.sleep(0.3)\n"
            f"    open('{tmp_path}/saved', 'w').write('saved\\n')\n"
            "    sys.exit(0)\n"
            "signal.signal(signal.SIGTERM, save)\n"
            f"open('{tmp_path}/ready', 'w').write('ready\\n')\n"
            "time.sleep(100)\n"
        )
        await engine.queue(f"{program}; echo never here", resources=TaskResources(1, runtime_seconds=1.0))
        await file_with_text(tmp_path / "ready")
        await engine.record.ended(1)
        assert (tmp_path / "saved").read_text() == "saved\n"
        assert engine.record.end_of(1)[0] is TaskStatus.ADJUSTING_RESOURCES


async def test_descendants_that_ignore_term_are_killed_with_their_task(engine, pids):
    stubborn = f"sh -c \"{pids.note.replace('$$', chr(92) + '$$')}; trap '' TERM; while :; do sleep 0.05; done\""
    await engine.run(f"{pids.note}; {stubborn} & {stubborn} & wait", resources=SHORT)
    assert engine.record.end_of(1) == RAN_OUT
    await eventually(lambda: not any(map(is_alive, map(int, pids.path.read_text().split()))))
    assert len(await pids.all(3)) == 3


async def test_what_a_task_leaves_behind_is_killed(engine, pids):
    await engine.run(f"sh -c '{pids.note}; exec sleep 100' & until [ -s {pids.path} ]; do sleep 0.01; done")
    assert engine.record.end_of(1) == (TaskStatus.DONE, "")
    (pid,) = await pids.all(1)
    await eventually(lambda: not is_alive(pid))


async def test_a_task_that_left_its_group_is_ended_as_well(engine, tmp_path):
    (tmp_path / "leaver.py").write_text(
        "import os, time\n"
        "os.setpgid(0, os.getpgid(os.getppid()))\n"
        f"open('{tmp_path}/pid', 'w').write(f'{{os.getpid()}}\\n')\n"
        "time.sleep(100)\n"
    )
    await engine.run(f"{sys.executable} {tmp_path}/leaver.py", resources=TaskResources(1, runtime_seconds=0.5))
    assert engine.record.end_of(1)[0] is TaskStatus.ADJUSTING_RESOURCES
    assert not is_alive(int((tmp_path / "pid").read_text()))


# -- cancel ------------------------------------------------------------------------------------------------------------


async def test_a_running_task_is_cancelled_with_all_its_processes(engine, pids):
    await engine.queue(f"sh -c '{pids.note}; exec sleep 100' & {pids.note}; wait", "sleep 0.05")
    both = await pids.all(2)
    await engine.cancel(1)
    await eventually(lambda: not any(map(is_alive, both)))
    await engine.record.ended(2)
    await engine.run("true", first_id=3)
    assert engine.record.ended_ids() == {2, 3}


async def test_a_cancelled_task_that_ignores_term_is_killed(engine, pids):
    await engine.queue(f"trap '' TERM; {pids.note}; while :; do sleep 0.05; done")
    (pid,) = await pids.all(1)
    await engine.cancel(1)
    await eventually(lambda: not is_alive(pid))


async def test_a_waiting_task_that_is_cancelled_never_starts(tmp_path):
    async with local_engine(tmp_path, cores=1) as engine:
        await engine.queue("sleep 0.2", f"touch {tmp_path}/wrong", "true")
        await engine.cancel(2)
        await engine.record.ended(1, 3)
        assert engine.record.statuses(2) == []
        assert not (tmp_path / "wrong").exists()


async def test_another_attempt_is_not_cancelled(engine):
    await engine.gateway.queue_batch(batch_of("sleep 0.2", attempt=2))
    await engine.record.running(1)
    await engine.cancel(1, attempt=1)
    await engine.cancel(1, attempt=3)
    await engine.record.ended(1)
    assert engine.record.end_of(1) == (TaskStatus.DONE, "")


async def test_a_cancelled_task_holds_its_cores_until_it_is_gone(tmp_path):
    async with local_engine(tmp_path, cores=1) as engine:
        await engine.queue(f"trap '' TERM; echo here > {tmp_path}/here; while :; do sleep 0.02; done", "true")
        await file_with_text(tmp_path / "here")
        begin = asyncio.get_running_loop().time()
        await engine.cancel(1)
        await engine.record.ended(2)
        assert asyncio.get_running_loop().time() - begin >= 0.29


# -- swarms and the daemon go ------------------------------------------------------------------------------------------


async def test_a_removed_swarm_takes_its_tasks_along_and_no_others(tmp_path, pids):
    async with local_engine(tmp_path, cores=2) as engine:
        await engine.gateway.add_swarm(SwarmInfo("other"))
        await engine.queue(f"{pids.note}; exec sleep 100", *["sleep 100"] * 50)
        await engine.gateway.queue_batch(batch_of("sleep 0.3", swarm_id="other", first_id=99))
        (pid,) = await pids.all(1)
        await engine.gateway.remove_swarm(SWARM)
        await eventually(lambda: not is_alive(pid))
        await engine.record.ended(99)
        assert engine.record.ended_ids() == {99}


async def test_close_leaves_no_child_behind(tmp_path, pids):
    async with local_engine(tmp_path, cores=4) as engine:
        stubborn = f"trap '' TERM; {pids.note}; while :; do sleep 0.05; done"
        await engine.queue(stubborn, f"{pids.note}; exec sleep 100", f"sh -c '{pids.note}; exec sleep 100' & wait")
        await engine.queue(*["sleep 100"] * 20, first_id=10)
        started = await pids.all(3)
        await engine.gateway.close()
        assert children() == []
        assert not any(map(is_alive, started))
        assert engine.record.ended_ids() == set()


async def test_close_is_quick_when_all_end_when_told(tmp_path):
    async with local_engine(tmp_path, cores=4, kill_grace=30.0) as engine:
        await engine.queue(*["sleep 100"] * 4)
        await engine.record.running(1, 2, 3, 4)
        async with asyncio.timeout(2):
            await engine.gateway.close()
        assert children() == []


async def test_close_tells_what_had_ended_before(tmp_path):
    async with local_engine(tmp_path) as engine:
        await engine.queue("true", "sleep 100")
        await engine.record.running(2)
        await eventually(lambda: len(psutil.Process(children()[0]).children()) == 1)
        await asyncio.sleep(0)
        await engine.gateway.close()
        assert engine.record.ended_ids() == {1}


async def test_a_close_that_is_cut_short_kills(tmp_path, pids):
    gateway = LocalGateway(tmp_path / "logs", cores=1, kill_grace=30.0)
    await gateway.start(Record().report)
    await gateway.add_swarm(SwarmInfo(SWARM))
    await gateway.queue_batch(batch_of(f"trap '' TERM; {pids.note}; while :; do sleep 0.05; done"))
    (pid,) = await pids.all(1)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await gateway.close()
    assert not is_alive(pid)
    assert children() == []


# -- where the machine offers less -------------------------------------------------------------------------------------


async def test_children_are_found_without_pidfds(tmp_path, monkeypatch, pids):
    monkeypatch.setattr(connection, "PROGRAM", launcher_after("import os; del os.pidfd_open"))
    async with local_engine(tmp_path, cores=4) as engine:
        await engine.run("true", "exit 3", f"trap '' TERM; {pids.note}; while :; do sleep 0.05; done", resources=SHORT)
        assert engine.record.end_of(1) == (TaskStatus.DONE, "")
        assert engine.record.end_of(2) == (TaskStatus.ERROR_RECOVERABLE, "exit code 3")
        assert engine.record.end_of(3) == RAN_OUT
        await engine.queue("sleep 100", first_id=4)
        await engine.record.running(4)
    assert children() == []


async def test_other_children_of_the_process_are_left_alone(engine):
    with other_child() as other:
        await engine.run("true", "exit 1", "kill -9 $$")
        assert other.poll() is None
        other.send_signal(signal.SIGTERM)
        assert other.wait() == -signal.SIGTERM


NO_SESSIONS = """
import os
spawn = os.posix_spawn
def without_sessions(*arguments, setsid=False, **options):
    if setsid:
        raise NotImplementedError
    return spawn(*arguments, **options)
os.posix_spawn = without_sessions
"""


async def test_tasks_are_started_where_the_c_library_makes_no_sessions(tmp_path, monkeypatch):
    monkeypatch.setattr(connection, "PROGRAM", launcher_after(NO_SESSIONS))
    async with local_engine(tmp_path, swarm=SwarmInfo(SWARM, token="t")) as engine:
        await engine.run("cut -d' ' -f 5 /proc/$$/stat; echo $$; kill -PIPE $$", "/no/such/program", "exit 3")
        output = (engine.gateway.log_directory / SWARM / "7" / "1.1.out").read_text().split()
        assert len(set(output)) == 1
        assert engine.record.end_of(1)[1] == "killed by signal 13 (SIGPIPE)"
        assert "not found" in engine.record.end_of(2)[1]
        assert engine.record.end_of(3)[1] == "exit code 3"


async def test_an_inherited_disregard_for_children_is_undone(tmp_path):
    old = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        async with local_engine(tmp_path) as engine:
            await engine.run("exit 3")
            assert engine.record.end_of(1)[1] == "exit code 3"
    finally:
        signal.signal(signal.SIGCHLD, old)
