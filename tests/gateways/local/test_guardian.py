"""The launcher is killed, and its guardian knows how everything ends: a real launcher, real tasks, a real kill -9."""

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from swarmd.core.status import TaskStatus
from swarmd.gateways.contract import SwarmInfo
from swarmd.gateways.local import connection, output_paths
from swarmd.gateways.local.connection import PROGRAM
from swarmd.gateways.local.launched import LOST_STATUS
from swarmd.gateways.local.launcher.guardian import PR_SET_CHILD_SUBREAPER
from tests.gateways.local.earlier_daemon import DURABLE, EarlierDaemon, next_daemon, same_batch
from tests.gateways.recording import (
    SWARM,
    eventually,
    file_with_text,
    is_alive,
    kill_all,
    launchers,
    local_engine,
    the_guardian,
    the_launcher,
)

DONE = (TaskStatus.DONE, "")
KILLED = (TaskStatus.ERROR_RECOVERABLE, "killed by signal 9 (SIGKILL)")
GO = "until [ -e {0}/go ]; do sleep 0.02; done; "
NOT_AT_ONCE = "echo + >> {0}/$SWARM_TASK_ID; sleep 0.1; echo - >> {0}/$SWARM_TASK_ID; exit $((SWARM_TASK_ID % 3))"
"""Whoever runs at the same time as another attempt of the same task is seen in what they write."""


def code(number: int) -> tuple[TaskStatus, str]:
    return (TaskStatus.ERROR_RECOVERABLE, f"exit code {number}") if number else DONE


@pytest.fixture
def earlier(tmp_path):
    earlier = EarlierDaemon(tmp_path)
    yield earlier
    earlier.end_all()


@pytest.mark.parametrize("swarm", [DURABLE, SwarmInfo(SWARM)], ids=["surviving", "in memory"])
async def test_exit_codes_are_told_although_the_launcher_was_killed(tmp_path, swarm):
    go = GO.format(tmp_path)
    async with local_engine(tmp_path, cores=4, swarm=swarm) as engine:
        await engine.queue(go + "exit 0", go + "exit 7", go + "kill -9 $$", "true")
        await engine.record.running(1, 2, 3)
        await engine.record.ended(4)
        launcher = the_launcher()
        launcher.kill()
        await eventually(lambda: not is_alive(launcher.pid))
        await engine.run("exit 3", first_id=5)
        (tmp_path / "go").touch()
        await engine.record.ended(1, 2, 3)
        ends = [engine.record.end_of(task_id) for task_id in range(1, 6)]
    assert ends == [DONE, code(7), KILLED, DONE, code(3)]


async def test_a_guardian_ends_with_the_last_of_its_tasks(tmp_path):
    async with local_engine(tmp_path) as engine:
        await engine.queue(GO.format(tmp_path))
        await engine.record.running(1)
        guardian = the_guardian()
        the_launcher().kill()
        await engine.run("true", first_id=2)
        assert guardian.is_running()
        (tmp_path / "go").touch()
        await engine.record.ended(1)
        await eventually(lambda: not psutil.pid_exists(guardian.pid))
        await engine.run("true", first_id=3)


async def test_a_task_is_cancelled_and_held_to_its_time_by_way_of_the_guardian(tmp_path):
    async with local_engine(tmp_path) as engine:
        await engine.queue("sleep 100 & echo $! > pid; wait".replace("pid", f"{tmp_path}/pid"))
        await file_with_text(tmp_path / "pid")
        the_launcher().kill()
        await engine.run("true", first_id=2)
        await engine.cancel(1)
        await eventually(lambda: not is_alive(int((tmp_path / "pid").read_text())))
        await engine.run("true", first_id=3)
        assert engine.record.ended_ids() == {2, 3}


@pytest.mark.parametrize("swarm", [DURABLE, SwarmInfo(SWARM)], ids=["surviving", "in memory"])
async def test_in_the_middle_of_many_tasks_every_code_is_right_and_nothing_runs_twice(tmp_path, swarm):
    async with local_engine(tmp_path, cores=8, swarm=swarm) as engine:
        await engine.queue(*[NOT_AT_ONCE.format(tmp_path)] * 150)
        for number in (10, 40, 41, 90, 130):
            await engine.record.ended(number)
            await eventually(launchers)
            kill_all(*launchers())
        await engine.record.ended(*range(1, 151))
        assert [engine.record.end_of(number) for number in range(1, 151)] == [code(n % 3) for n in range(1, 151)]
    assert {(tmp_path / str(number)).read_text() for number in range(1, 151)} == {"+\n-\n"}


@pytest.mark.parametrize("first", ["daemon", "launcher"])
async def test_daemon_and_launcher_are_killed_and_the_next_daemon_knows_how_everything_ended(tmp_path, earlier, first):
    commands = [NOT_AT_ONCE.format(tmp_path)] * 60
    found: list[psutil.Process] = []

    def look() -> None:
        found.extend(earlier.launchers())
        if first == "launcher":
            kill_all(*found)

    await earlier.leave(*commands, cores=8, later=0.3, before=look)
    if first == "daemon":
        kill_all(*found)
    assert found
    async with next_daemon(tmp_path, cores=8) as engine:
        await engine.gateway.resume([same_batch(*commands)])
        await engine.record.ended(*range(1, 61))
        assert [engine.record.end_of(number) for number in range(1, 61)] == [code(n % 3) for n in range(1, 61)]
    assert {(tmp_path / str(number)).read_text() for number in range(1, 61)} == {"+\n-\n"}


async def test_what_ended_between_two_daemons_after_its_launcher_was_killed_is_told(tmp_path, earlier):
    go = GO.format(tmp_path)
    await earlier.leave(go + "exit 0", go + "exit 5", go + "kill -9 $$")
    kill_all(*earlier.launchers())
    (tmp_path / "go").touch()
    for task_id in (1, 2, 3):
        await earlier.over(task_id)
    async with next_daemon(tmp_path) as engine:
        await engine.gateway.resume([same_batch(go, go, go)])
        await engine.record.ended(1, 2, 3)
        assert [engine.record.end_of(task_id) for task_id in (1, 2, 3)] == [DONE, code(5), KILLED]


@pytest.mark.parametrize("later", [False, True], ids=["at once", "later"])
async def test_what_nobody_waits_for_is_seen_to_its_end_before_it_has_failed(tmp_path, later):
    """The guardian is killed as well: how a task ends is known to nobody, but that it runs is."""
    async with next_daemon(tmp_path) as engine:
        await engine.queue(GO.format(tmp_path))
        await engine.record.running(1)
        guardian, launcher = the_guardian(), the_launcher()
        kill_all(*((launcher, guardian) if later else (guardian, launcher)))
        await engine.run("true", first_id=2)
        await asyncio.sleep(0.7)
        assert engine.record.ended_ids() == {2}
        (tmp_path / "go").touch()
        await engine.record.ended(1)
        assert engine.record.end_of(1) == (TaskStatus.ERROR_RECOVERABLE, LOST_STATUS)


@pytest.fixture
def reaper():
    """As process 1 of a container: what loses its parents is ours."""
    prctl = ctypes.CDLL(None).prctl
    assert prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    yield
    assert prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0) == 0


@pytest.mark.parametrize("swarm", [DURABLE, SwarmInfo(SWARM)], ids=["surviving", "in memory"])
async def test_process_1_knows_the_codes_of_what_has_lost_launcher_and_guardian(tmp_path, reaper, swarm):
    go = GO.format(tmp_path)
    async with local_engine(tmp_path, cores=3, swarm=swarm) as engine:
        await engine.queue(go + "exit 0", go + f"echo $$ > {tmp_path}/pid; exit 7", go + "kill -9 $$")
        await engine.record.running(1, 2, 3)
        kill_all(the_guardian(), the_launcher())
        (tmp_path / "go").touch()
        await engine.record.ended(1, 2, 3)
        assert [engine.record.end_of(task_id) for task_id in (1, 2, 3)] == [DONE, code(7), KILLED]
    assert not psutil.pid_exists(int((tmp_path / "pid").read_text())), "no zombie is left"


async def test_a_launcher_that_has_lost_its_guardian_goes_on(tmp_path):
    async with next_daemon(tmp_path) as engine:
        await engine.run("true")
        guardian, launcher = the_guardian(), the_launcher()
        kill_all(guardian)
        await engine.run("exit 4", first_id=2)
        assert engine.record.end_of(2) == code(4)
    await eventually(lambda: not is_alive(launcher.pid))


async def test_tasks_in_memory_end_with_the_daemon_also_when_the_launcher_was_killed_before(tmp_path):
    program = f"""
import asyncio
from pathlib import Path
from swarmd.gateways.contract import Found, SwarmInfo
from swarmd.gateways.local import LocalGateway
from tests.gateways.recording import SWARM, Record, batch_of, the_launcher

async def main():
    gateway, record = LocalGateway(Path({str(tmp_path)!r})), Record()
    await gateway.start(record.report)
    await gateway.add_swarm(SwarmInfo(SWARM))
    await gateway.queue_batch(batch_of("echo $$ > {tmp_path}/pid; exec sleep 100"))
    await record.running(1)
    the_launcher().kill()
    Path({str(tmp_path / "killed")!r}).write_text("\\n")
    await asyncio.sleep(100)

asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", program]) as daemon:  # noqa: ASYNC220 - it is short
        await file_with_text(tmp_path / "pid")
        await file_with_text(tmp_path / "killed")
        pid = int((tmp_path / "pid").read_text())
        assert is_alive(pid)
        daemon.kill()
    await eventually(lambda: not is_alive(pid))


ONE_PLACE = f"""
import sys
sys.path.append({str(Path(PROGRAM[-1]).parent.parent)!r})
del sys.argv[1]
from launcher import guardian, ledger

ledger.PLACES = 1
guardian.main()
"""


async def test_a_task_that_found_no_place_is_watched_by_its_process(tmp_path, monkeypatch):
    monkeypatch.setattr(connection, "PROGRAM", (PROGRAM[0], "-I", "-S", "-c", ONE_PLACE, PROGRAM[-1]))
    async with next_daemon(tmp_path, cores=3) as engine:
        await engine.queue(GO.format(tmp_path) + "exit 3")
        await engine.record.running(1)
        await engine.queue(f"until [ -e {tmp_path}/first ]; do sleep 0.02; done", first_id=2)
        await engine.record.running(2)
        the_launcher().kill()
        await engine.run("true", first_id=3)
        await asyncio.sleep(0.3)
        assert engine.record.ended_ids() == {3}
        (tmp_path / "first").touch()
        await engine.record.ended(2)
        assert engine.record.end_of(2) == (TaskStatus.ERROR_RECOVERABLE, LOST_STATUS)
        (tmp_path / "go").touch()
        await engine.record.ended(1)
        assert engine.record.end_of(1) == code(3)


async def test_what_tasks_leave_behind_is_reaped(tmp_path):
    """Processes that have left their task are the guardian's when that has ended."""
    async with next_daemon(tmp_path) as engine:
        left = f"setsid sh -c 'touch {tmp_path}/left; {GO.format(tmp_path)}'"
        await engine.run(f"ls /proc/self/fd; {left} & until [ -e {tmp_path}/left ]; do sleep 0.02; done")
        out = output_paths(engine.gateway.log_directory, SWARM, 7, 1, 1).out
        assert out.read_text().split() == ["0", "1", "2", "3"]  # 3: what ls reads
        guardian = the_guardian()
        await eventually(lambda: len(guardian.children()) == 2)
        (tmp_path / "go").touch()
        await eventually(lambda: len(guardian.children()) == 1)
        os.kill(guardian.pid, signal.SIGTERM)
        await engine.run("true", first_id=2)
        assert guardian.is_running()


NO_ROOM_FOR_TWO = f"""
import errno, sys
sys.path.append({str(Path(PROGRAM[-1]).parent.parent)!r})
del sys.argv[1]
from launcher import guardian

def fork():
    raise OSError(errno.EAGAIN, "no room")

guardian.os.fork = fork
guardian.main()
"""


async def test_a_launcher_without_a_guardian_is_no_parent_of_what_tasks_leave_behind(tmp_path, monkeypatch):
    """It would reap none of that."""
    monkeypatch.setattr(connection, "PROGRAM", (PROGRAM[0], "-I", "-S", "-c", NO_ROOM_FOR_TWO, PROGRAM[-1]))
    async with next_daemon(tmp_path) as engine:
        left = f"setsid sh -c 'echo $$ > {tmp_path}/pid; {GO.format(tmp_path)}'"
        await engine.run(f"{left} & until [ -s {tmp_path}/pid ]; do sleep 0.02; done; exit 3")
        assert engine.record.end_of(1) == code(3)
        launcher = the_guardian()  # it is in its place
        children = [child.pid for child in launcher.children()]
        (tmp_path / "go").touch()
        assert int((tmp_path / "pid").read_text()) not in children
