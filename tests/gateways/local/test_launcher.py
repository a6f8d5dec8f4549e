"""The launcher: tasks run as the shell alone would run them, each attempt once, and it outlives the daemon."""

import asyncio
import os
import re
import socket
import stat
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import pytest

from swarmd.core.status import TaskStatus
from swarmd.gateways.contract import SwarmInfo
from swarmd.gateways.local import connection, output_paths
from swarmd.gateways.local.adoption import is_running
from swarmd.gateways.local.commands import shell_arguments
from swarmd.gateways.local.connection import PROGRAM
from swarmd.gateways.local.launcher import protocol
from swarmd.gateways.local.procfs import boot_id
from swarmd.gateways.local.status_file import Absent, Started, read_status
from tests.gateways.local.earlier_daemon import DURABLE, TOKEN, EarlierDaemon, next_daemon, with_runtime
from tests.gateways.recording import (
    SWARM,
    batch_of,
    eventually,
    file_with_text,
    is_alive,
    kill_all,
    local_engine,
    the_guardian,
    the_launcher,
)


@pytest.fixture
def earlier(tmp_path):
    return EarlierDaemon(tmp_path)


async def outcome(folder: Path, swarm: SwarmInfo, command: str):
    """The end of a command, and what it wrote; the shell's own words without the place in the script."""
    async with local_engine(folder, swarm=swarm) as engine:
        batch = batch_of("")
        # As a filled template may be, longer than the core would load a command.
        object.__setattr__(batch.table.arrays[0], "command", command)
        await engine.gateway.queue_batch(batch)
        await engine.record.ended(1)
        paths = output_paths(engine.gateway.log_directory, SWARM, 7, 1, 1)
        texts = engine.record.end_of(1)[1], paths.out.read_text(errors="replace"), paths.err.read_text()
        placeless = [re.sub(r"/bin/sh: \d+: (eval: )?", "/bin/sh: ", text) for text in texts]
        return engine.record.end_of(1)[0], *placeless


@pytest.mark.parametrize(
    "command",
    [
        "/bin/echo plain words",
        "/bin/false",
        "/no/such/program --now",
        "no-such-program",
        'echo "it\'s" \'"quoted"\' \\\\ $((6 * 7)) `echo ticked`',
        "echo one\necho two\n\n# a comment\n",
        "cat <<END\nhere $((1 + 1))\nEND",
        "exit 3",
        "set -e; false; echo not here",
        "set -u; echo $UNSET_BEFORE; echo not here",
        "trap 'echo trapped' EXIT; exit 5",
        "exec /bin/echo instead",
        "cd /; pwd",
        "exit 125",
        "exit 124",
        "kill -9 $$",
        "kill -TERM $$; sleep 10",
        "echo $# $0 $-; set | grep -i swarmd_; type swarmd_record; umask",
        "echo line $LINENO\necho line $LINENO",
        "ls /proc/self/fd | wc -l; echo here >&9; echo after",
        "cat; echo end",
        "a=1; echo ${a}${b-none}; false",
        "echo bytes \udce4 ä",
        "# nothing but a comment",
        "",
        "printf %s " + "ä" * 100_000 + "; echo; echo $#",
        "echo " + "x" * 131_073,
        "/bin/echo " + "x" * 131_061,
        "/bin/echo " + "x" * 131_071,
    ],
)
async def test_a_command_does_the_same_as_without(tmp_path, command):
    without = await outcome(tmp_path / "without", SwarmInfo(SWARM), command)
    assert await outcome(tmp_path / "with", DURABLE, command) == without


@pytest.mark.parametrize("command", ["echo 'unclosed", "if true; then", "; ;", "echo before; )"])
async def test_a_syntax_error_fails_in_the_words_of_the_shell(tmp_path, command):
    without = await outcome(tmp_path / "without", SwarmInfo(SWARM), command)
    assert await outcome(tmp_path / "with", DURABLE, command) == without
    assert "yntax error" in without[1]


async def test_a_task_leads_a_session_of_its_own(tmp_path, earlier):
    async with next_daemon(tmp_path) as engine:
        await engine.run("cut -d' ' -f 5,6 /proc/$$/stat; echo $$")
    group, session, pid = earlier.out().split()
    assert group == session == pid == str(earlier.started().pid)


async def test_the_environment_is_the_same(tmp_path):
    swarm = SwarmInfo(SWARM, None, {"STUDY": "dé"})
    _, _, without, _ = await outcome(tmp_path / "without", swarm, "/usr/bin/env")
    _, _, with_it, _ = await outcome(tmp_path / "with", SwarmInfo(SWARM, None, {"STUDY": "dé"}, "t"), "/usr/bin/env")
    assert sorted(with_it.split("\n")) == sorted(without.split("\n"))


async def test_a_swarm_without_a_token_keeps_no_status_file(tmp_path):
    async with local_engine(tmp_path) as engine:
        await engine.run("true", "/bin/true")
    assert not list(tmp_path.rglob("*.status"))


async def test_the_status_file_tells_who_ran_and_how_it_ended(tmp_path, earlier):
    old = os.umask(0o027)
    try:
        async with next_daemon(tmp_path) as engine:
            await engine.run(f"umask; touch {tmp_path}/made; exit 3")
    finally:
        os.umask(old)
    assert earlier.started().exit_code == 3
    assert earlier.status().read_text().count("\n") == 2
    assert stat.S_IMODE(earlier.status().stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "made").stat().st_mode) == 0o640
    assert earlier.out() == "0027\n"


async def test_signals_that_ended_a_program_are_named(tmp_path):
    async with next_daemon(tmp_path) as engine:
        await engine.run("sh -c 'kill -9 $$'; exit $?", "exit 255")
        assert engine.record.end_of(1)[1].startswith("exit code 137 (killed by signal 9 (SIGKILL))")
        assert engine.record.end_of(2)[1] == "exit code 255"


async def test_output_of_a_swarm_that_had_the_id_before_is_gone(tmp_path, earlier):
    async with local_engine(tmp_path, swarm=SwarmInfo(SWARM, token="before")) as engine:
        await engine.run("echo old; echo old >&2")
    async with next_daemon(tmp_path) as engine:
        await engine.run("echo new")
    assert earlier.out() == "new\n"


# -- started more than once --------------------------------------------------------------------------------------------


class Orphan:
    """A launcher that a killed daemon left behind to start task 1."""

    def __init__(self, earlier: EarlierDaemon, command: str, status: Path | None = None) -> None:
        output = str(earlier.status()).removesuffix(f".{TOKEN}.status")
        variables = {b"SWARM_ID": SWARM.encode(), b"SWARM_TASK_ID": b"1", b"SWARM_ATTEMPT": b"1"}
        names = output.encode(), bytes(status or earlier.status())
        orders = [
            (protocol.SWARM, 1, {**os.environb, **variables}, None),
            (protocol.START, 1, 1, {}, shell_arguments(command), None, *names),
        ]
        ours, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen([*PROGRAM, boot_id()], stdin=theirs.fileno())
        self._connection = ours
        ours.sendall(protocol.framed(orders))
        ours.shutdown(socket.SHUT_WR)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()
        self.process.wait()

    def answers(self) -> list[tuple[Any, ...]]:
        """All that it has to say until it ends, after its version."""
        frames, found = protocol.Frames(), []
        while data := self._connection.recv(protocol.READ_BYTES):
            found += frames.taken(data)
        assert found[0] == (protocol.READY, 0, protocol.VERSION)
        return found[1:]


def test_of_many_starts_at_the_same_moment_one_runs(tmp_path, earlier):
    with ExitStack() as stack:
        orphans = [stack.enter_context(Orphan(earlier, f"echo ran >> {tmp_path}/ran; exit 7")) for _ in range(15)]
        answers = [orphan.answers() for orphan in orphans]
    assert (tmp_path / "ran").read_text() == "ran\n"
    assert answers.count([(protocol.TAKEN, 1)]) == 14
    taken = [(protocol.TAKEN, 1)]
    (winner,) = [orphan.process.pid for orphan, said in zip(orphans, answers, strict=True) if said != taken]
    assert (earlier.started().launcher, earlier.started().exit_code) == (winner, 7)


async def test_an_attempt_that_two_daemons_start_runs_once_and_both_know_its_end(tmp_path):
    command = f"echo ran >> {tmp_path}/ran; sleep 0.3; exit 3"
    async with next_daemon(tmp_path) as one, next_daemon(tmp_path) as other:
        await asyncio.gather(one.queue(command), other.queue(command))
        for engine in (one, other):
            await engine.record.ended(1)
            assert engine.record.end_of(1) == (TaskStatus.ERROR_RECOVERABLE, "exit code 3")
    assert (tmp_path / "ran").read_text() == "ran\n"


async def test_a_start_that_comes_second_adopts_the_first(tmp_path, earlier):
    async with next_daemon(tmp_path, cores=1) as engine:
        await engine.queue("sleep 1.5", first_id=2)
        await engine.record.running(2)
        await engine.gateway.resume([batch_of("sleep 100")])
        with Orphan(earlier, "echo here; sleep 2.5; exit 9"):
            await engine.record.ended(1)
            assert engine.record.end_of(1) == (TaskStatus.ERROR_RECOVERABLE, "exit code 9")
            assert earlier.out() == "here\n"


async def test_a_task_that_was_cancelled_before_its_orphan_came_never_runs(tmp_path, earlier):
    async with next_daemon(tmp_path, cores=1) as engine:
        await engine.queue("sleep 0.2", first_id=2)
        await engine.record.running(2)
        await engine.gateway.resume([batch_of("true")])
        await engine.cancel(1)
        await engine.record.ended(2)
        with Orphan(earlier, f"touch {tmp_path}/wrong") as orphan:
            assert await asyncio.to_thread(orphan.answers) == [(protocol.TAKEN, 1)]
        assert engine.record.ended_ids() == {2}
    assert not (tmp_path / "wrong").exists()


@pytest.mark.parametrize("ending", ["exit 4", "exit 125", "kill -9 $$"])
async def test_an_attempt_that_was_waiting_before_and_removes_its_status_file_runs_once(tmp_path, earlier, ending):
    async with next_daemon(tmp_path) as engine:
        await engine.gateway.resume([batch_of(f"echo ran >> {tmp_path}/ran; rm {earlier.status()}; {ending}")])
        await engine.record.ended(1)
        assert engine.record.end_of(1)[0] is TaskStatus.ERROR_RECOVERABLE
        await engine.run("true", first_id=2)
    assert (tmp_path / "ran").read_text() == "ran\n"


async def test_an_adopted_task_that_removes_its_status_file_runs_once(tmp_path, earlier):
    command = f"echo ran >> {tmp_path}/ran; until [ -e {tmp_path}/go ]; do sleep 0.02; done; rm {earlier.status()}"
    await earlier.leave(command)
    async with next_daemon(tmp_path) as engine:
        await engine.gateway.resume([batch_of(command)])
        (tmp_path / "go").touch()
        await engine.record.ended(1)
        assert engine.record.end_of(1) == (TaskStatus.ERROR_RECOVERABLE, "it ended and left no exit status")
        await engine.run("true", first_id=2)
    assert (tmp_path / "ran").read_text() == "ran\n"


async def test_an_orphan_that_is_just_starting_a_cancelled_task_is_ended_as_well(tmp_path, earlier):
    async with next_daemon(tmp_path, cores=1) as engine:
        await engine.queue("sleep 0.5", first_id=2)
        await engine.record.running(2)
        await engine.gateway.resume([batch_of("sleep 100")])
        with Orphan(earlier, "sleep 100") as orphan:
            await eventually(lambda: isinstance(read_status(earlier.status()), Started))
            await engine.cancel(1)
            await asyncio.to_thread(orphan.process.wait)
            assert earlier.started().exit_code == -15
        await engine.record.ended(2)
        assert engine.record.ended_ids() == {2}


# -- a status file that cannot be made ---------------------------------------------------------------------------------


def test_without_a_status_file_nothing_runs(tmp_path, earlier):
    (tmp_path / "file").touch()
    with Orphan(earlier, f"touch {tmp_path}/wrong", tmp_path / "file" / "status") as orphan:
        ((kind, _, what, *_),) = orphan.answers()
    assert (kind, what) == (protocol.FAILED, protocol.NO_STATUS)
    assert not (tmp_path / "wrong").exists()


async def test_an_attempt_whose_status_file_cannot_be_made_fails_and_says_so(tmp_path, earlier):
    earlier.status().parent.mkdir(parents=True)
    earlier.status().symlink_to("nowhere")
    async with next_daemon(tmp_path) as engine:
        await engine.run(f"touch {tmp_path}/wrong")
        status, reason = engine.record.end_of(1)
        assert status is TaskStatus.ERROR_RECOVERABLE
        assert reason == f"its status file {earlier.status()} cannot be read: Too many levels of symbolic links"
    assert not (tmp_path / "wrong").exists()


async def test_a_status_file_that_is_lost_hides_no_exit_code_from_the_daemon_that_waits(tmp_path, earlier):
    async with next_daemon(tmp_path) as engine:
        await engine.run(f"rm {earlier.status()}; exit 4")
        assert engine.record.end_of(1) == (TaskStatus.ERROR_RECOVERABLE, "exit code 4")
    assert read_status(earlier.status()) == Absent()


# -- the launcher and its daemon ---------------------------------------------------------------------------------------


async def test_a_launcher_that_is_killed_loses_no_task_and_runs_none_twice(tmp_path, earlier):
    command = f"echo $SWARM_TASK_ID >> {tmp_path}/ran; sleep 0.05"
    async with next_daemon(tmp_path, cores=3) as engine:
        await engine.queue(*[command] * 60)
        for task_id in (5, 20, 40):
            await engine.record.running(task_id)
            child = the_launcher()
            child.kill()
        await engine.record.ended(*range(1, 61))
        assert {engine.record.end_of(task_id) for task_id in range(1, 61)} == {(TaskStatus.DONE, "")}
    assert sorted(map(int, (tmp_path / "ran").read_text().split())) == list(range(1, 61))


async def test_a_task_whose_launcher_was_killed_is_held_to_its_time_and_cancelled(tmp_path, earlier):
    async with next_daemon(tmp_path) as engine:
        await engine.queue("sleep 100", resources=with_runtime(0.7))
        await engine.queue("sleep 100", first_id=2)
        await engine.record.running(1, 2)
        child = the_launcher()
        child.kill()
        await engine.record.ended(1)
        assert engine.record.end_of(1)[0] is TaskStatus.ADJUSTING_RESOURCES
        await engine.cancel(2)
        await earlier.over(2)
        await engine.run("true", first_id=3)
        assert engine.record.ended_ids() == {1, 3}


async def test_a_task_that_was_just_starting_when_its_launcher_was_killed_is_found(tmp_path, earlier):
    """The launcher was killed between the start and writing it down: the file is there, and says nothing."""
    async with next_daemon(tmp_path) as engine:
        await engine.queue("sleep 100")
        await engine.record.running(1)
        started = earlier.started()
        kill_all(the_guardian(), the_launcher())
        earlier.status().write_text(f"{0:010d} {0:020d} {started.boot_id} {started.launcher}\n")
        engine.gateway.kill_all = lambda: None
        async with next_daemon(tmp_path) as other:
            await other.gateway.resume([batch_of("sleep 100")])
            await other.record.running(1)
            await other.cancel(1)
            await eventually(lambda: not is_running(started))


async def test_tasks_in_memory_end_with_the_daemon(tmp_path):
    program = f"""
import asyncio
from pathlib import Path
from swarmd.gateways.contract import SwarmInfo
from swarmd.gateways.local import LocalGateway
from tests.gateways.recording import SWARM, Record, batch_of, the_launcher

async def main():
    gateway, record = LocalGateway(Path({str(tmp_path)!r})), Record()
    await gateway.start(record.report)
    await gateway.add_swarm(SwarmInfo(SWARM))
    await gateway.queue_batch(batch_of("echo $$ > {tmp_path}/pid; exec sleep 100"))
    await asyncio.sleep(100)

asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", program]) as daemon:  # noqa: ASYNC220 - it is short
        await file_with_text(tmp_path / "pid")
        pid = int((tmp_path / "pid").read_text())
        assert is_alive(pid)
        daemon.kill()
    await eventually(lambda: not is_alive(pid))


@pytest.mark.parametrize("program", ["/bin/false", "/no/such/python", "/etc"])
async def test_a_launcher_that_cannot_run_delays_tasks_and_loses_none(tmp_path, monkeypatch, caplog, program):
    """As while Python or the package is being replaced."""
    monkeypatch.setattr(connection, "PROGRAM", (program,))
    async with local_engine(tmp_path) as engine:
        await engine.queue("true")
        await eventually(lambda: "starts are put off" in caplog.text)
        assert engine.record.news == []
        monkeypatch.undo()
        await engine.record.ended(1)
        assert engine.record.end_of(1) == (TaskStatus.DONE, "")


async def test_what_is_being_started_when_it_is_cancelled_is_ended_in_silence(tmp_path, earlier):
    async with next_daemon(tmp_path) as engine:
        await engine.queue("sleep 100")
        await asyncio.sleep(0)
        await engine.cancel(1)
        await engine.run("true", first_id=2)
        assert engine.record.ended_ids() == {2}
        assert engine.record.statuses(1) == []
        if earlier.status().exists():
            await earlier.over()


def test_frames_come_in_whatever_pieces():
    messages = [(1, b"x" * size, {b"a": None}, "ü") for size in (0, 1, 70_000)]
    data = b"".join(protocol.framed([message]) for message in messages)
    for step in (1000, 7, 1):
        frames, found = protocol.Frames(), []
        for start in range(0, len(data), step):
            found += frames.taken(data[start : start + step])
            if step == 1 and start > 300:
                break
        assert found == messages[: len(found)]
        assert len(found) >= (3 if step > 1 else 2)
