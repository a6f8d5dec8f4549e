"""The launcher by itself: what it makes of orders when its daemon is gone, was quicker, or started it in odd places."""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import psutil
import pytest

from swarmd.core.status import TaskStatus
from swarmd.gateways.contract import SwarmInfo
from swarmd.gateways.local import connection, output_paths
from swarmd.gateways.local.connection import PROGRAM
from swarmd.gateways.local.launcher import protocol
from swarmd.gateways.local.launcher.starting import MOST_ANSWERS
from swarmd.gateways.local.procfs import boot_id
from swarmd.gateways.local.status_file import Started, read_status
from tests.gateways.local.earlier_daemon import EarlierDaemon, next_daemon
from tests.gateways.recording import (
    SWARM,
    batch_of,
    eventually,
    is_alive,
    kill_all,
    local_engine,
    the_guardian,
    the_launcher,
)

PATIENCE_SECONDS = 20


class Alone:
    """A launcher, and the test as its daemon."""

    def __init__(self, folder: Path, program: tuple[str, ...] = PROGRAM, **options: Any) -> None:
        self._folder = folder
        self._connection, theirs = socket.socketpair()
        self._connection.settimeout(PATIENCE_SECONDS)
        self._frames = protocol.Frames()
        with theirs:
            self.process = subprocess.Popen([*program, boot_id()], stdin=theirs.fileno(), **options)
        self.send((protocol.SWARM, 1, dict(os.environb), None))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.hang_up()
        self.process.wait(PATIENCE_SECONDS)

    def send(self, *orders: tuple[object, ...]) -> None:
        self._connection.sendall(protocol.framed(list(orders)))

    def start(self, key: int, command: str, *, survives: bool = True) -> tuple[object, ...]:
        """The order for a command."""
        status = bytes(self.status(key)) if survives else None
        arguments = [b"/bin/sh", b"-c", command.encode()]
        return protocol.START, key, 1, {}, arguments, None, bytes(self._folder / str(key)), status

    def status(self, key: int) -> Path:
        return self._folder / f"{key}.status"

    def exit_code(self, key: int) -> int | None:
        status = read_status(self.status(key))
        assert isinstance(status, Started)
        return status.exit_code

    def heard(self, kind: int, key: int) -> tuple[Any, ...]:
        """Its answer of this kind about this one."""
        while True:
            data = self._connection.recv(protocol.READ_BYTES)
            assert data
            for answer in self._frames.taken(data):
                if answer[:2] == (kind, key):
                    return answer

    def hang_up(self) -> None:
        self._connection.close()


def test_orders_that_a_daemon_gave_before_it_was_killed_break_nothing(tmp_path):
    with Alone(tmp_path) as alone:
        alone.send(alone.start(1, "exit 0"), alone.start(2, "sleep 0.5; exit 5"))
        alone.heard(protocol.ENDED, 1)
        many = [alone.start(10 + number, "sleep 0.1") for number in range(3 * MOST_ANSWERS)]
        late = f"sleep 1; touch {tmp_path}/went_on"
        alone.send(*many, (protocol.RELEASE, 1), alone.start(9, late, survives=False), (protocol.KILL, 10))
        alone.hang_up()
    assert alone.process.returncode == 0
    assert alone.exit_code(2) == 5
    assert {alone.exit_code(11 + number) for number in range(len(many) - 1)} == {0}
    assert not (tmp_path / "went_on").exists()


def test_orders_to_kill_are_obeyed_although_nobody_hears_the_answers(tmp_path):
    with Alone(tmp_path) as alone:
        many = [alone.start(1 + number, "sleep 100") for number in range(2 * MOST_ANSWERS)]
        alone.send(*many)
        alone.send(*[(protocol.KILL, 1 + number) for number in range(len(many))])
        alone.hang_up()
    assert {alone.exit_code(1 + number) for number in range(len(many))} == {-signal.SIGKILL}


NO_PIDFD = f"""
import os, runpy, sys
del os.pidfd_open
sys.argv = [sys.argv[0], {boot_id()!r}]
runpy.run_path({PROGRAM[-1]!r}, run_name="__main__")
"""


@pytest.mark.parametrize("program", [PROGRAM, (PROGRAM[0], "-c", NO_PIDFD)])
def test_a_daemon_may_see_an_end_before_the_launcher_does(tmp_path, program):
    with Alone(tmp_path, program) as alone:
        alone.send(alone.start(1, "sleep 0.05; exit 4"), alone.start(2, "sleep 0.5; exit 5"))
        pid = alone.heard(protocol.STARTED, 1)[2]
        os.kill(alone.process.pid, signal.SIGSTOP)
        while psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.001)
        alone.send((protocol.RELEASE, 1))
        os.kill(alone.process.pid, signal.SIGCONT)
        alone.hang_up()
    assert (alone.process.returncode, alone.exit_code(1), alone.exit_code(2)) == (0, 4, 5)


def test_what_a_task_in_memory_has_left_ends_with_the_daemon(tmp_path):
    with Alone(tmp_path) as alone:
        alone.send(alone.start(1, "sleep 100 & echo $!", survives=False))
        alone.heard(protocol.ENDED, 1)
    follower = int((tmp_path / "1.out").read_text())
    while is_alive(follower):
        time.sleep(0.001)


def test_tasks_have_nothing_open_that_the_daemon_inherited(tmp_path):
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    with Alone(tmp_path, close_fds=False) as alone:
        alone.send(alone.start(1, "ls /proc/self/fd"))
        alone.heard(protocol.ENDED, 1)
    os.close(reading)
    os.close(writing)
    assert (tmp_path / "1.out").read_text().split() == ["0", "1", "2", "3"]  # 3: what ls reads


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be someone else")
@pytest.mark.skipif(not Path("/usr/bin/python3").exists(), reason="nobody else could start this Python")
def test_it_starts_in_a_directory_that_it_may_not_enter(tmp_path):
    """As when `sudo -u` starts the daemon in somebody's home."""
    place = Path("/tmp") / f"swarmd-test-{os.getpid()}"  # all above pytest's are its owner's alone
    locked = place / "locked"
    locked.mkdir(parents=True)
    try:
        place.chmod(0o777)
        locked.chmod(0o700)
        program = shutil.copytree(Path(PROGRAM[-1]).parent, place / "launcher") / "__main__.py"

        def enter() -> None:
            os.chdir(locked)
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)

        with Alone(place, ("/usr/bin/python3", "-I", "-S", str(program)), preexec_fn=enter) as alone:
            alone.send(alone.start(1, "pwd -P"))
            alone.heard(protocol.ENDED, 1)
            assert (place / "1.out").read_text() == "/\n"
        locked.chmod(0o777)
        with Alone(place, ("/usr/bin/python3", "-I", "-S", str(program)), preexec_fn=enter) as alone:
            alone.send(alone.start(2, "pwd -P"))
            alone.heard(protocol.ENDED, 2)
            locked.chmod(0o700)  # and when it may not any more
            alone.send((protocol.SWARM, 1, dict(os.environb), bytes(place)), alone.start(3, "pwd -P"))
            alone.heard(protocol.ENDED, 3)
            alone.send((protocol.SWARM, 1, dict(os.environb), None), alone.start(4, "pwd -P"))
            alone.heard(protocol.ENDED, 4)
            assert [(place / f"{key}.out").read_text() for key in (2, 3, 4)] == [f"{locked}\n", f"{place}\n", "/\n"]
        assert alone.process.returncode == 0
    finally:
        shutil.rmtree(place)


# -- within the gateway ------------------------------------------------------------------------------------------------


async def test_a_launcher_keeps_nothing_of_swarms_that_are_removed(tmp_path, monkeypatch):
    sent: list[Any] = []
    framed = protocol.framed

    def noted(messages: list[Any]) -> bytes:
        sent.extend(messages)
        return framed(messages)

    monkeypatch.setattr(protocol, "framed", noted)
    async with local_engine(tmp_path) as engine:
        await engine.run("true")
        await engine.gateway.remove_swarm(SWARM)
        await engine.gateway.add_swarm(SwarmInfo(SWARM))
        await engine.run("true", first_id=2)
    named = [order[:2] for order in sent if order[0] in (protocol.SWARM, protocol.FORGET)]
    first, second = named[0][1], named[-1][1]
    assert named == [(protocol.SWARM, first), (protocol.FORGET, first), (protocol.SWARM, second)]


async def test_tasks_run_where_the_daemon_says_and_write_where_it_does(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "work").mkdir()
    async with local_engine(Path("relative"), swarm=SwarmInfo(SWARM, Path("work"), token="t")) as engine:
        await engine.run("pwd", "pwd")
        for task_id in (1, 2):
            out = output_paths(tmp_path / "relative" / "logs", SWARM, 7, task_id, 1).out
            assert out.read_text() == f"{tmp_path}/work\n"


async def test_what_a_killed_launcher_was_just_starting_for_a_swarm_in_memory_does_not_run_on(tmp_path):
    async with local_engine(tmp_path, cores=1) as engine:
        await engine.run("true")
        processes = the_guardian(), the_launcher()
        deaf = engine.gateway._launchpad._connection
        deaf._hears = replace(deaf._hears, told=lambda *_: None)
        await engine.queue(f"echo $$ > {tmp_path}/pid; sleep 100", "echo next", first_id=2)
        await eventually(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
        kill_all(*processes)
        await engine.record.ended(2, 3)
        assert engine.record.end_of(2) == (TaskStatus.ERROR_RECOVERABLE, "the launcher that was to start it is gone")
        assert engine.record.end_of(3)[0] is TaskStatus.DONE
        assert not is_alive(int((tmp_path / "pid").read_text()))


DIES_AT_ITS_FIRST_START = f"""
import os, runpy, signal, sys
spawn = os.posix_spawn
def spawned(*arguments, **options):
    spawn(*arguments, **options)
    os.kill(os.getpid(), signal.SIGKILL)
os.posix_spawn = spawned
sys.argv = [sys.argv[0], {boot_id()!r}]  # the guardian is not asked for
runpy.run_path({PROGRAM[-1]!r}, run_name="__main__")
"""


@pytest.mark.parametrize("token", ["", "t0ken"])
async def test_a_launcher_without_guardian_may_have_started_a_task_before_it_is_killed(tmp_path, monkeypatch, token):
    monkeypatch.setattr(connection, "PROGRAM", (PROGRAM[0], "-c", DIES_AT_ITS_FIRST_START))
    async with local_engine(tmp_path, swarm=SwarmInfo(SWARM, token=token)) as engine:
        await engine.queue(f"echo $$ >> {tmp_path}/ran; sleep 1; touch {tmp_path}/went_on")
        await eventually(lambda: engine.gateway._launchpad._connection is not None)
        monkeypatch.undo()
        await engine.record.ended(1)
        assert (tmp_path / "went_on").exists() == bool(token)
        assert (tmp_path / "ran").read_text().count("\n") == 1


async def test_launchers_that_end_at_once_are_not_started_all_the_time(tmp_path, monkeypatch):
    ready = protocol.framed([(protocol.READY, 0, protocol.VERSION)])
    program = f"open({str(tmp_path / 'begun')!r}, 'a').write('x'); import os; os.write(0, {ready!r}); os.read(0, 100)"
    monkeypatch.setattr(connection, "PROGRAM", (PROGRAM[0], "-c", program))
    async with local_engine(tmp_path, swarm=SwarmInfo(SWARM, token="t0ken")) as engine:
        await engine.queue("true")
        await asyncio.sleep(1)
        assert len((tmp_path / "begun").read_text()) <= 6
        monkeypatch.undo()
        await engine.record.ended(1)
        assert engine.record.end_of(1)[0] is TaskStatus.DONE


async def test_a_program_that_takes_long_to_start_is_waited_for(tmp_path):
    """The daemon was killed while its launcher waited for a slow disk."""
    earlier = EarlierDaemon(tmp_path)
    async with next_daemon(tmp_path) as engine:
        await engine.queue("sleep 1.5; exit 6")
        await engine.record.running(1)
        whole = earlier.status().read_bytes()
        started = earlier.started()
        earlier.status().write_text(f"{0:010d} {0:020d} {started.boot_id} {started.launcher}\n")
        async with next_daemon(tmp_path) as other:
            found = asyncio.create_task(other.gateway.resume([batch_of("sleep 1.5; exit 6")]))
            await asyncio.sleep(1.2)
            assert not found.done()
            assert other.record.ended_ids() == set()
            with earlier.status().open("r+b") as file:
                file.write(whole)
            await other.record.ended(1)
            assert other.record.end_of(1) == (TaskStatus.ERROR_RECOVERABLE, "exit code 6")
