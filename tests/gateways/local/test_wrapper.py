"""A task that survives the daemon runs as it would without the script that keeps its status file."""

import asyncio
import os
import re
import stat
import subprocess
from pathlib import Path

import pytest

from swarmd.core.status import TaskStatus
from swarmd.gateways.contract import SwarmInfo
from swarmd.gateways.local import output_paths
from swarmd.gateways.local.status_file import Absent, Started, read_status
from swarmd.gateways.local.wrapper import TAKEN_CODE, UNWRITABLE_CODE, wrapped_arguments
from tests.gateways.local.earlier_daemon import DURABLE, EarlierDaemon, next_daemon
from tests.gateways.recording import SWARM, batch_of, eventually, local_engine


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


def start(earlier: EarlierDaemon, command: str) -> "subprocess.Popen[bytes]":
    """What a killed daemon left behind to start task 1."""
    earlier.status().parent.mkdir(parents=True, exist_ok=True)
    return subprocess.Popen(
        wrapped_arguments(earlier.status(), 0o022, command),
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "SWARM_ID": SWARM, "SWARM_TASK_ID": "1", "SWARM_ATTEMPT": "1"},
    )


def test_of_many_starts_at_the_same_moment_one_runs(tmp_path, earlier):
    starts = [start(earlier, f"echo ran >> {tmp_path}/ran; exit 7") for _ in range(30)]
    for process in starts:
        process.communicate()
    assert (tmp_path / "ran").read_text() == "ran\n"
    assert sorted(process.returncode for process in starts) == [7, *[TAKEN_CODE] * 29]
    (winner,) = [process.pid for process in starts if process.returncode == 7]
    assert earlier.started().pid == winner


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
        await engine.queue("sleep 0.3", first_id=2)
        await engine.record.running(2)
        await engine.gateway.resume([batch_of("sleep 100")])
        with start(earlier, "sleep 0.6; exit 9") as orphan:
            await engine.record.ended(1)
            assert engine.record.end_of(1) == (TaskStatus.ERROR_RECOVERABLE, "exit code 9")
            assert orphan.stderr is not None
            assert orphan.stderr.read() == b""


async def test_a_task_that_was_cancelled_before_its_orphan_came_never_runs(tmp_path, earlier):
    async with next_daemon(tmp_path, cores=1) as engine:
        await engine.queue("sleep 0.2", first_id=2)
        await engine.record.running(2)
        await engine.gateway.resume([batch_of("true")])
        await engine.cancel(1)
        await engine.record.ended(2)
        with start(earlier, f"touch {tmp_path}/wrong") as orphan:
            assert await asyncio.to_thread(orphan.wait) == TAKEN_CODE
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
        with start(earlier, "sleep 100") as orphan:
            await eventually(lambda: isinstance(read_status(earlier.status()), Started))
            await engine.cancel(1)
            assert await asyncio.to_thread(orphan.wait) == -15
        await engine.record.ended(2)
        assert engine.record.ended_ids() == {2}


# -- a status file that cannot be made ---------------------------------------------------------------------------------


def test_without_a_status_file_nothing_runs(tmp_path):
    done = subprocess.run(
        wrapped_arguments(tmp_path / "missing" / "status", 0o022, f"touch {tmp_path}/wrong"), capture_output=True
    )
    assert done.returncode == UNWRITABLE_CODE
    assert not (tmp_path / "wrong").exists()


async def test_an_attempt_whose_status_file_cannot_be_made_fails_and_says_so(tmp_path, earlier):
    earlier.status().parent.mkdir(parents=True)
    earlier.status().symlink_to("nowhere")
    async with next_daemon(tmp_path) as engine:
        await engine.run(f"touch {tmp_path}/wrong")
        status, reason = engine.record.end_of(1)
        assert status is TaskStatus.ERROR_RECOVERABLE
        assert reason.startswith("could not be started: its status file could not be written\n/bin/sh: ")
        assert str(earlier.status()) in reason
    assert not (tmp_path / "wrong").exists()


async def test_a_status_file_that_is_lost_hides_no_exit_code_from_the_daemon_that_waits(tmp_path, earlier):
    async with next_daemon(tmp_path) as engine:
        await engine.run(f"rm {earlier.status()}; exit 4")
        assert engine.record.end_of(1) == (TaskStatus.ERROR_RECOVERABLE, "exit code 4")
    assert read_status(earlier.status()) == Absent()
