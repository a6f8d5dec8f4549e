"""What a task finds when it starts, and what is told of its end: real children, real files, real signals."""

import asyncio
import os
import stat
import sys

import pytest

from swarmd.core.status import TaskStatus
from swarmd.gateways.contract import BatchRefusedError, SwarmInfo
from swarmd.gateways.local import LocalGateway, output_paths
from tests.gateways.recording import SWARM, Record, batch_of, local_engine

PYTHON = sys.executable


@pytest.fixture
async def engine(tmp_path):
    async with local_engine(tmp_path) as engine:
        yield engine


@pytest.fixture
def out(tmp_path):
    def text(task_id: int, attempt: int = 1, array_id: int = 7) -> str:
        return output_paths(tmp_path / "logs", SWARM, array_id, task_id, attempt).out.read_text()

    return text


async def test_a_task_knows_who_it_is(engine, out):
    batch = batch_of("env -0", attempt=4, name="one two\nthree ü")
    await engine.gateway.queue_batch(batch)
    await engine.record.ended(1)
    output = output_paths(engine.gateway.log_directory, SWARM, 7, 1, 4).out.read_text()
    environment = dict(entry.split("=", 1) for entry in output.rstrip("\0").split("\0"))
    assert environment["SWARM_ID"] == SWARM
    assert environment["SWARM_ARRAY_ID"] == "7"
    assert environment["SWARM_TASK_ID"] == "1"
    assert environment["SWARM_TASK_NAME"] == "one two\nthree ü"
    assert environment["SWARM_ATTEMPT"] == "4"
    assert environment["PATH"] == os.environ["PATH"]


async def test_a_swarm_brings_environment_and_working_directory(tmp_path, out):
    info = SwarmInfo(SWARM, tmp_path, {"STUDY": "dé", "SWARM_ID": "not mine", "HOME": "/nowhere"})
    async with local_engine(tmp_path, swarm=info) as engine:
        await engine.run('echo "$STUDY $SWARM_ID $HOME"; /bin/pwd', f'{PYTHON} -c "import os; print(os.getcwd())"')
    assert out(1) == f"dé {SWARM} /nowhere\n{tmp_path}\n"
    assert out(2) == f"{tmp_path}\n"


async def test_a_plain_command_is_told_its_working_directory_too(tmp_path, out):
    async with local_engine(tmp_path, swarm=SwarmInfo(SWARM, tmp_path)) as engine:
        await engine.run("/usr/bin/env", "env")
    assert f"\nPWD={tmp_path}\n" in "\n" + out(1)
    assert f"\nPWD={tmp_path}\n" in "\n" + out(2)


async def test_there_is_nothing_to_read(engine, out):
    await engine.run("cat; echo end")
    assert out(1) == "end\n"


async def test_no_descriptor_of_the_daemon_is_inherited(engine, out):
    await engine.run("ls /proc/self/fd | wc -l")
    assert int(out(1)) == 4  # the three that it should have, and that of the folder it lists


async def test_a_task_leads_a_process_group_of_its_own(engine, out):
    await engine.run("cut -d' ' -f 5 /proc/$$/stat; echo $$")
    group, pid = out(1).split()
    assert group == pid


async def test_output_is_for_its_owner_only(tmp_path):
    old = os.umask(0)
    try:
        async with local_engine(tmp_path) as engine:
            await engine.run("echo out; echo err >&2")
    finally:
        os.umask(old)
    paths = output_paths(tmp_path / "logs", SWARM, 7, 1, 1)
    assert (paths.out.read_text(), paths.err.read_text()) == ("out\n", "err\n")
    assert [stat.S_IMODE(path.stat().st_mode) for path in (paths.out, paths.err)] == [0o600, 0o600]
    for folder in (paths.out.parent, paths.out.parent.parent, paths.out.parent.parent.parent):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


async def test_attempts_have_files_of_their_own(engine, out):
    await engine.run("echo first")
    await engine.gateway.queue_batch(batch_of("echo second", attempt=2))
    await engine.record.until(lambda: engine.record.statuses(1).count(TaskStatus.DONE) == 2)
    assert (out(1, 1), out(1, 2)) == ("first\n", "second\n")


async def test_exit_codes_and_signals_are_told(engine):
    await engine.run("exit 3", "kill -9 $$", "kill -40 $$", "/bin/true", "/bin/false")
    end = engine.record.end_of
    assert end(1) == (TaskStatus.ERROR_RECOVERABLE, "exit code 3")
    assert end(2) == (TaskStatus.ERROR_RECOVERABLE, "killed by signal 9 (SIGKILL)")
    assert end(3) == (TaskStatus.ERROR_RECOVERABLE, "killed by signal 40")
    assert end(4) == (TaskStatus.DONE, "")
    assert end(5) == (TaskStatus.ERROR_RECOVERABLE, "exit code 1")


async def test_a_failure_shows_the_last_lines_of_its_errors(engine):
    await engine.run("seq 1 1000 >&2; exit 2", "echo to the wrong place; exit 2")
    _, reason = engine.record.end_of(1)
    assert reason == "exit code 2\n" + "\n".join(map(str, range(981, 1001)))
    assert engine.record.end_of(2) == (TaskStatus.ERROR_RECOVERABLE, "exit code 2")


async def test_ten_megabytes_of_errors_make_a_short_reason(engine):
    await engine.run("head -c 10000000 /dev/zero >&2; exit 1", "head -c 10000000 /dev/urandom >&2; exit 1")
    for task_id in (1, 2):
        _, reason = engine.record.end_of(task_id)
        assert len(reason.encode()) < 4096
        assert all(character.isprintable() or character in "\n\t" for character in reason)


async def test_a_program_that_is_not_there_fails_in_the_words_of_the_shell(engine):
    await engine.run("/no/such/program --now", "no-such-program")
    for task_id in (1, 2):
        status, reason = engine.record.end_of(task_id)
        assert status is TaskStatus.ERROR_RECOVERABLE
        assert reason.startswith("exit code 127\n")
        assert "not found" in reason


async def test_a_script_without_an_interpreter_line_runs(engine, tmp_path, out):
    script = tmp_path / "script"
    script.write_text("echo from the script: $1\n")
    script.chmod(0o700)
    await engine.run(f"{script} now")
    assert out(1) == "from the script: now\n"


async def test_a_missing_working_directory_fails_the_attempt(tmp_path):
    missing = tmp_path / "not\nthere"
    async with local_engine(tmp_path, swarm=SwarmInfo(SWARM, missing)) as engine:
        await engine.run("/bin/true", "true; true")
        for task_id in (1, 2):
            assert engine.record.end_of(task_id) == (
                TaskStatus.ERROR_RECOVERABLE,
                f"could not be started: No such file or directory: {tmp_path}/not\\nthere",
            )
            assert TaskStatus.RUNNING not in engine.record.statuses(task_id)


async def test_a_long_command_runs_in_whatever_pieces(engine, out):
    # Linux takes at most 131,071 bytes in one argument; the core lets a command have 131,072, and a filled one more.
    for task_id, size in enumerate((131_071, 131_072, 131_073, 500_000), start=1):
        command = 'echo "$# $0"; printf "%s" ' + "ä" * ((size - 26) // 2) + "x" * (size % 2)
        assert len(command.encode()) == size
        await _run_unchecked(engine, command, task_id)
        head, _, text = out(task_id).partition("\n")
        assert head == "0 /bin/sh"
        assert text == command[26:]


async def _run_unchecked(engine, command: str, task_id: int) -> None:
    """A command that the core would not load, as a filled template may be."""
    batch = batch_of("", first_id=task_id)
    template = batch.table.arrays[0]
    object.__setattr__(template, "command", command)
    await engine.gateway.queue_batch(batch)
    await engine.record.ended(task_id)


async def test_a_command_that_no_process_can_start_with_fails_with_words(engine):
    await _run_unchecked(engine, "true " + "x" * 20_000_000, 1)
    status, reason = engine.record.end_of(1)
    assert status is TaskStatus.ERROR_RECOVERABLE
    assert reason.startswith("could not be started: Argument list too long")


async def test_a_nul_character_is_refused_for_good(engine):
    outcome = await engine.gateway.queue_batch(batch_of("true", "true\0", "true"))
    assert outcome is not None
    (refusal,) = outcome.refusals
    assert (refusal.task_ids, refusal.permanent) == ([2], True)
    assert "NUL" in refusal.reason
    await engine.record.ended(1, 3)


async def test_an_environment_that_no_process_can_have_fails_the_attempt(tmp_path):
    async with local_engine(tmp_path, swarm=SwarmInfo(SWARM, None, {"A=B": "c"})) as engine:
        await engine.run("true")
        assert engine.record.end_of(1)[1] == "could not be started: illegal environment variable name"


async def test_a_thousand_tasks_make_few_reports(engine):
    await engine.gateway.queue_batch(batch_of(*["/bin/true"] * 500))
    await engine.gateway.queue_batch(batch_of(*["/bin/true"] * 500, first_id=501))
    await engine.record.ended(*range(1, 1001))
    assert {engine.record.end_of(task_id) for task_id in (1, 500, 501, 1000)} == {(TaskStatus.DONE, "")}
    assert len(engine.record.news) <= 2000
    assert len(engine.record.updates) < 500
    assert max(len(update.task_statuses.groups) for _, update in engine.record.updates) <= 2


async def test_the_loop_is_not_held_while_many_start(tmp_path):
    async with local_engine(tmp_path, cores=200) as engine:
        await engine.queue(*["sleep 0.2"] * 200)
        turns = 0
        while len(engine.record.ended_ids()) < 200:
            await asyncio.sleep(0)
            turns += 1
        assert turns > 20, "others have their turn meanwhile, again and again"


async def test_the_same_batch_again_runs_once(engine, out):
    batch = batch_of("echo once; sleep 0.1")
    await asyncio.gather(engine.gateway.queue_batch(batch), engine.gateway.queue_batch(batch))
    await engine.record.ended(1)
    await engine.run("true", first_id=2)
    assert engine.record.statuses(1).count(TaskStatus.DONE) == 1


async def test_a_batch_is_refused_when_its_swarm_is_unknown_or_the_gateway_closed(engine):
    with pytest.raises(BatchRefusedError, match="'other' is not known"):
        await engine.gateway.queue_batch(batch_of("true", swarm_id="other"))
    await engine.gateway.close()
    with pytest.raises(BatchRefusedError, match="not running"):
        await engine.gateway.queue_batch(batch_of("true"))


async def test_news_of_a_swarm_that_is_added_again_go_on(engine):
    await engine.queue("sleep 0.1")
    await engine.gateway.add_swarm(SwarmInfo(SWARM, None, {"NEW": "yes"}))
    await engine.record.ended(1)


async def test_a_log_directory_that_cannot_be_made_stops_the_start(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        await LocalGateway(tmp_path / "file" / "logs").start(Record().report)


async def test_a_log_directory_that_breaks_later_fails_the_attempts(engine):
    folder = engine.gateway.log_directory
    folder.rmdir()
    folder.write_text("in the way")
    await engine.run("true")
    status, reason = engine.record.end_of(1)
    assert status is TaskStatus.ERROR_RECOVERABLE
    assert reason.startswith("its output file could not be opened: Not a directory: ")


async def test_a_log_directory_that_was_removed_is_made_again(engine, out):
    engine.gateway.log_directory.rmdir()
    await engine.run("echo here")
    assert out(1) == "here\n"
