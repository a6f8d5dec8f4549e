"""No room on the disk, and no descriptors: what cannot be written down is told, waits, or is not begun."""

import asyncio
import errno
import os
import resource
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from swarmd.core.status import TaskStatus
from swarmd.gateways.local import connection, procfs
from swarmd.gateways.local.adoption import is_running
from swarmd.gateways.local.connection import PROGRAM
from swarmd.gateways.local.gateway import POSTPONED_SECONDS
from swarmd.gateways.local.launcher import protocol
from swarmd.gateways.local.launching import FEW
from swarmd.gateways.local.procfs import boot_id, stat_of
from swarmd.gateways.local.status_file import Started, claim, read_status
from tests.gateways.local.earlier_daemon import EarlierDaemon, next_daemon, same_batch
from tests.gateways.local.test_launcher_alone import Alone
from tests.gateways.recording import batch_of, eventually, is_alive, the_launcher
from tests.journal.disks import fill, small_disk


def limited(which: int, most: int) -> dict[str, Any]:
    return {"preexec_fn": lambda: resource.setrlimit(which, (most, resource.getrlimit(which)[1]))}


@pytest.fixture
def earlier(tmp_path):
    earlier = EarlierDaemon(tmp_path)
    yield earlier
    earlier.end_all()


# -- no room on the disk -----------------------------------------------------------------------------------------------


def test_nothing_runs_when_there_is_room_for_half_of_a_status_file(tmp_path):
    with Alone(tmp_path, **limited(resource.RLIMIT_FSIZE, 40)) as alone:
        alone.send(alone.start(1, f"mkdir {tmp_path}/ran"))
        _, _, what, number, *_ = alone.heard(protocol.FAILED, 1)
        assert (what, number) == (protocol.NO_STATUS, errno.EFBIG)
        assert not alone.status(1).exists()
        alone.send(alone.start(2, "mkdir ran", survives=False))
        alone.heard(protocol.ENDED, 2)
    assert not (tmp_path / "ran").exists()


def test_nothing_runs_when_the_disk_is_full(tmp_path):
    disk = tmp_path / "disk"
    with small_disk(disk), Alone(disk) as alone:
        ballast = fill(disk)
        alone.send(alone.start(1, f"mkdir {tmp_path}/ran"))
        _, _, what, number, *_ = alone.heard(protocol.FAILED, 1)
        assert number == errno.ENOSPC
        assert not alone.status(1).exists()
        ballast.unlink()
        alone.send(alone.start(1, f"mkdir {tmp_path}/ran; exit 6"))
        alone.heard(protocol.ENDED, 1)
        assert alone.exit_code(1) == 6
        assert what in (protocol.NO_STATUS, protocol.NO_OUTPUT)


@pytest.mark.parametrize("room", [0, 1], ids=["none", "half a line"])
@pytest.mark.parametrize("is_served", [True, False], ids=["a daemon", "no daemon"])
def test_an_exit_code_waits_for_room_and_so_does_who_looks_for_it(tmp_path, room, is_served):
    with Alone(tmp_path) as alone:
        alone.send(alone.start(1, f"until [ -e {tmp_path}/go ]; do sleep 0.02; done; exit 3"))
        pid = alone.heard(protocol.STARTED, 1)[2]
        hard = resource.prlimit(alone.process.pid, resource.RLIMIT_FSIZE)[1]
        size = alone.status(1).stat().st_size
        resource.prlimit(alone.process.pid, resource.RLIMIT_FSIZE, (size + room, hard))
        if not is_served:
            alone.hang_up()
        (tmp_path / "go").touch()
        if is_served:
            assert alone.heard(protocol.ENDED, 1)[2] == 3
            alone.send((protocol.RELEASE, 1))
        while psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.001)
        time.sleep(0.7)
        status = read_status(alone.status(1))
        assert isinstance(status, Started)
        assert status.exit_code is None
        assert is_running(status), "the next daemon waits"
        resource.prlimit(alone.process.pid, resource.RLIMIT_FSIZE, (hard, hard))
        while is_running(status):
            time.sleep(0.001)
        assert alone.exit_code(1) == 3


async def test_a_daemon_goes_on_although_an_exit_code_cannot_be_written(tmp_path, earlier):
    async with next_daemon(tmp_path, cores=1) as engine:
        await engine.run("true")
        launcher = the_launcher().pid
        hard = resource.prlimit(launcher, resource.RLIMIT_FSIZE)[1]
        await engine.queue("sleep 0.3; exit 3", "exit 4", first_id=2)
        await engine.record.running(2)
        resource.prlimit(launcher, resource.RLIMIT_FSIZE, (earlier.status(2).stat().st_size, hard))
        await engine.record.ended(2, 3)
        assert earlier.started(2).exit_code is None
        resource.prlimit(launcher, resource.RLIMIT_FSIZE, (hard, hard))
        await eventually(lambda: earlier.started(2).exit_code == 3 and earlier.started(3).exit_code == 4)
        assert [engine.record.end_of(task_id)[1] for task_id in (2, 3)] == ["exit code 3", "exit code 4"]


def test_a_claim_that_there_is_no_room_for_is_none(tmp_path):
    path = tmp_path / "1.1.t.status"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    for most in (0, 3):
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
        try:
            with pytest.raises(OSError):
                claim(path)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert not path.exists()
    assert claim(path)


# -- no descriptors ----------------------------------------------------------------------------------------------------


def test_a_launcher_starts_no_more_than_it_can_look_after(tmp_path):
    most = 4
    with Alone(tmp_path, **limited(resource.RLIMIT_NOFILE, protocol.OTHER_DESCRIPTORS + 2 * most)) as alone:
        go = f"until [ -e {tmp_path}/go ]; do sleep 0.02; done; exit 3"
        alone.send(*[alone.start(key, go) for key in range(1, most + 2)])
        assert alone.heard(protocol.FAILED, most + 1)[2:4] == (protocol.NO_PROCESS, errno.EMFILE)
        assert not alone.status(most + 1).exists()
        for key in range(1, most + 1):
            status = read_status(alone.status(key))
            assert isinstance(status, Started)
            assert is_running(status)
            assert status.start_ticks > 0
        (tmp_path / "go").touch()
        alone.heard(protocol.ENDED, 1)
        alone.send((protocol.RELEASE, 1), alone.start(most + 1, go))
        alone.heard(protocol.ENDED, most + 1)
    assert {alone.exit_code(key) for key in range(1, most + 2)} == {3}


IN_WANT = """
import asyncio, resource, sys
from pathlib import Path
from tests.gateways.local.earlier_daemon import next_daemon, same_batch
from tests.gateways.recording import eventually

async def main():
    folder, most, tasks = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    async with next_daemon(folder, cores=tasks) as engine:
        await engine.gateway.resume([same_batch(*["x"] * tasks)])
        await engine.record.running(*range(1, tasks + 1))
        await asyncio.sleep(1)
        assert not engine.record.ended_ids()
        (folder / "ready").open().close()  # there is a descriptor for what must have one
        (folder / "go").touch()
        await engine.record.ended(*range(1, tasks + 1))
        print({engine.record.end_of(task_id) for task_id in range(1, tasks + 1)})

asyncio.run(main())
"""


async def test_more_tasks_than_descriptors_are_taken_up_and_none_counts_as_failed(tmp_path, earlier):
    tasks, most = 60, 40
    (tmp_path / "ready").touch()
    command = f"until [ -e {tmp_path}/go ]; do sleep 0.1; done; exit 3"
    await earlier.leave(*[command] * tasks, cores=tasks)
    arguments = [sys.executable, "-c", IN_WANT, str(tmp_path), str(most), str(tasks)]
    done = await asyncio.to_thread(subprocess.run, arguments, check=False, capture_output=True, text=True, timeout=60)
    assert "exit code 3" in done.stdout, done.stderr
    assert done.stdout.count("TaskStatus") == 1


REFUSED = f"""
import errno, os, sys
sys.path.append({str(Path(PROGRAM[-1]).parent.parent)!r})
del sys.argv[1]
from launcher import guardian, starting

spawned = starting.Launcher._spawned

def refused(*arguments):
    if os.path.exists({{scarce!r}}):
        raise BlockingIOError(errno.EAGAIN, "there are no more")
    return spawned(*arguments)

starting.Launcher._spawned = refused
guardian.main()
"""


async def test_a_machine_that_has_no_room_is_not_asked_for_it_all_the_time(tmp_path, monkeypatch):
    scarce, tasks = tmp_path / "scarce", 400
    scarce.touch()
    program = REFUSED.format(scarce=str(scarce))
    monkeypatch.setattr(connection, "PROGRAM", (PROGRAM[0], "-I", "-S", "-c", program, PROGRAM[-1]))
    async with next_daemon(tmp_path, cores=tasks) as engine:
        launchpad, begun = engine.gateway._launchpad, time.monotonic()
        await engine.queue(*["exit 3"] * tasks)
        await eventually(lambda: launchpad._keys >= tasks + 3 * FEW)
        tries = 2 + (time.monotonic() - begun) / POSTPONED_SECONDS
        assert launchpad._keys <= tasks + FEW * tries
        scarce.unlink()
        await engine.record.ended(*range(1, tasks + 1))
        assert {engine.record.end_of(task_id)[1] for task_id in range(1, tasks + 1)} == {"exit code 3"}


async def test_attempts_are_looked_for_although_no_thread_can_be_started(tmp_path, earlier, monkeypatch):
    await earlier.leave("exit 3")
    await earlier.over()

    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor())
    async with next_daemon(tmp_path) as engine:
        monkeypatch.setattr(threading.Thread, "start", refuse)
        await engine.gateway.resume([same_batch("exit 3")])
        await engine.record.ended(1)
        monkeypatch.undo()
        assert engine.record.end_of(1) == (TaskStatus.ERROR_RECOVERABLE, "exit code 3")


# -- processes that cannot be seen -------------------------------------------------------------------------------------


async def test_a_process_that_proc_hides_is_waited_for(tmp_path, earlier, monkeypatch):
    """As a command of another user where /proc is mounted with hidepid: it was hidden when it started, and is."""
    go = f"until [ -e {tmp_path}/go ]; do sleep 0.02; done; exit 3"
    await earlier.leave(go)
    started = earlier.started()
    text = earlier.status().read_text()
    with earlier.status().open("r+") as file:
        file.write(text.replace(f"{started.start_ticks:020d}", f"{0:020d}"))
    seen = stat_of

    def hidden(pid: int) -> procfs.ProcessStat | None:
        return None if pid == started.pid else seen(pid)

    monkeypatch.setattr("swarmd.gateways.local.adoption.stat_of", hidden)
    async with next_daemon(tmp_path) as engine:
        await engine.gateway.resume([batch_of(go)])
        await engine.record.running(1)
        await asyncio.sleep(0.5)
        assert engine.record.ended_ids() == set()
        (tmp_path / "go").touch()
        await engine.record.ended(1)
        assert engine.record.end_of(1) == (TaskStatus.ERROR_RECOVERABLE, "exit code 3")


async def test_a_process_that_was_hidden_when_it_started_is_known_by_its_parent(tmp_path, earlier):
    await earlier.leave("sleep 100")
    started = earlier.started()
    assert is_running(Started(started.pid, 0, boot_id(), None, started.launcher))
    assert not is_running(Started(os.getpid(), 0, boot_id(), None, started.launcher))
    async with next_daemon(tmp_path) as engine:
        await engine.gateway.resume([same_batch("sleep 100")])
        await engine.cancel(1)
        await eventually(lambda: not is_alive(started.pid))
