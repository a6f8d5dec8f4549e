"""A launcher is killed in the middle of a start, at every line: it has happened, or it happens later, and once."""

from pathlib import Path

import pytest

from swarmd.gateways.contract import Found, SwarmInfo
from swarmd.gateways.local import connection, procfs
from swarmd.gateways.local.connection import PROGRAM
from swarmd.gateways.local.status_file import Started, Unclear, read_status
from tests.gateways.local.earlier_daemon import DURABLE, EarlierDaemon, next_daemon
from tests.gateways.local.test_guardian import GO, code
from tests.gateways.recording import SWARM, batch_of, is_alive, local_engine


@pytest.fixture
def earlier(tmp_path):
    earlier = EarlierDaemon(tmp_path)
    yield earlier
    earlier.end_all()


DIES_ONCE = f"""
import os, signal, sys
sys.path.append({str(Path(PROGRAM[-1]).parent.parent)!r})
del sys.argv[1]
from launcher import guardian, ledger, starting

def dying(done):
    def die(*arguments):
        try:
            os.close(os.open({{died!r}}, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return done(*arguments)
        os.kill(os.getpid(), signal.SIGKILL)
    return die

{{what}} = dying({{what}})
guardian.main()
"""


@pytest.mark.parametrize("command", ["echo ran >> {0}/ran; sleep 0.5; exit 3", "/bin/sh {0}/short"])
@pytest.mark.parametrize("what", ["ledger.Ledger.note", "ledger.Ledger.started", "starting.Launcher._write"])
@pytest.mark.parametrize("swarm", [DURABLE, SwarmInfo(SWARM)], ids=["surviving", "in memory"])
async def test_whenever_it_dies_a_start_happens_once_and_its_end_is_known(tmp_path, monkeypatch, swarm, what, command):
    (tmp_path / "short").write_text(f"echo ran >> {tmp_path}/ran; exit 3")
    program = DIES_ONCE.format(died=str(tmp_path / "died"), what=what)
    monkeypatch.setattr(connection, "PROGRAM", (PROGRAM[0], "-I", "-S", "-c", program, PROGRAM[-1]))
    async with local_engine(tmp_path, swarm=swarm) as engine:
        await engine.run(command.format(tmp_path))
        assert engine.record.end_of(1) == code(3)
    assert (tmp_path / "ran").read_text() == "ran\n"
    assert (tmp_path / "died").exists() != (what == "starting.Launcher._write" and not swarm.token)


BEGINS_NOTHING = f"""
import os, signal, sys
sys.path.append({str(Path(PROGRAM[-1]).parent.parent)!r})
del sys.argv[1]
from launcher import guardian, starting

spawned = starting.Launcher._spawned

def failing(*arguments):
    try:
        os.close(os.open({{died!r}}, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return spawned(*arguments)
    if not os.fork():
        os.setsid()
        os._exit(127)
    os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
    os.kill(os.getpid(), signal.SIGKILL)

starting.Launcher._spawned = failing
guardian.main()
"""


@pytest.mark.parametrize("swarm", [DURABLE, SwarmInfo(SWARM)], ids=["surviving", "in memory"])
async def test_what_had_no_program_yet_has_not_begun(tmp_path, monkeypatch, swarm):
    """As a script without #!, for which the launcher was just about to try the shell."""
    await _runs_once(BEGINS_NOTHING, swarm, tmp_path, monkeypatch)


BEGINS_SLOWLY = f"""
import os, signal, sys, time
sys.path.append({str(Path(PROGRAM[-1]).parent.parent)!r})
del sys.argv[1]
from launcher import guardian, starting

spawned = starting.Launcher._spawned

def slow(launcher, arguments, shell_arguments, environment, out, err, alone):
    try:
        os.close(os.open({{died!r}}, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return spawned(launcher, arguments, shell_arguments, environment, out, err, alone)
    if not os.fork():
        os.setsid()
        os.dup2(out, 1)
        os.dup2(err, 2)
        time.sleep(1.5)
        os.execve(arguments[0], arguments, environment)
    os.kill(os.getpid(), signal.SIGKILL)

starting.Launcher._spawned = slow
guardian.main()
"""


@pytest.mark.parametrize("swarm", [DURABLE, SwarmInfo(SWARM)], ids=["surviving", "in memory"])
async def test_a_start_whose_program_comes_slowly_is_waited_for(tmp_path, monkeypatch, swarm):
    """As from a file server that does not answer for a while."""
    await _runs_once(BEGINS_SLOWLY, swarm, tmp_path, monkeypatch)


async def test_a_start_that_a_killed_launcher_had_not_begun_is_not_spent_where_another_was_waiting_for_it(
    tmp_path, monkeypatch, earlier
):
    """A daemon was killed, then its launcher in the middle of a start; the next one had just been told: taken."""
    seen: list[object] = []

    def late(path: Path) -> object:
        seen.append(read_status(path))
        if len(seen) == 1:  # the guardian comes a moment later
            path.write_text("not begun\n")
        return seen[-1]

    earlier.status().parent.mkdir(parents=True)
    earlier.status().write_text(f"{0:010d} {0:020d} {procfs.boot_id()} {2**22 + 1}\n")
    monkeypatch.setattr("swarmd.gateways.local.inheritance.read_status", late)
    async with next_daemon(tmp_path) as engine:
        await engine.run(f"echo ran >> {tmp_path}/ran; exit 3")
        assert engine.record.end_of(1) == code(3)
    assert isinstance(seen[0], Unclear)
    assert (tmp_path / "ran").read_text() == "ran\n"


async def test_what_was_not_begun_is_not_when_it_must_not(tmp_path, earlier):
    earlier.status().parent.mkdir(parents=True)
    for task_id in (1, 2):
        earlier.status(task_id).write_text("not begun\n")
    async with next_daemon(tmp_path) as engine:
        found = await engine.gateway.find_batch(batch_of(f"touch {tmp_path}/wrong"))
        assert found.found is Found.NOT_QUEUED
        await engine.gateway.resume([], [batch_of(f"touch {tmp_path}/wrong", first_id=2)])
        await engine.run("true", first_id=3)
        assert engine.record.ended_ids() == {3}
        assert earlier.status(1).exists()
        assert earlier.status(2).exists()
    assert not (tmp_path / "wrong").exists()


@pytest.mark.parametrize("what", ["ledger.Ledger.started", "starting.Launcher._write"])
async def test_the_next_daemon_knows_what_a_launcher_was_starting_when_it_died(tmp_path, monkeypatch, earlier, what):
    program = DIES_ONCE.format(died=str(tmp_path / "died"), what=what)
    monkeypatch.setattr(connection, "PROGRAM", (PROGRAM[0], "-I", "-S", "-c", program, PROGRAM[-1]))
    async with next_daemon(tmp_path) as engine:
        await engine.queue(GO.format(tmp_path) + "exit 6")
        await engine.record.running(1)
        started = read_status(earlier.status())
        assert isinstance(started, Started)
        assert is_alive(started.pid)
        engine.gateway.kill_all = lambda: None
        async with next_daemon(tmp_path) as other:
            await other.gateway.resume([batch_of("true")])
            (tmp_path / "go").touch()
            await other.record.ended(1)
            assert other.record.end_of(1) == code(6)


async def _runs_once(program: str, swarm: SwarmInfo, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though the launcher dies of the first try."""
    first = program.format(died=str(folder / "died"))
    monkeypatch.setattr(connection, "PROGRAM", (PROGRAM[0], "-I", "-S", "-c", first, PROGRAM[-1]))
    async with local_engine(folder, swarm=swarm) as engine:
        await engine.run(f"echo ran >> {folder}/ran; exit 3")
        assert engine.record.end_of(1) == code(3)
    assert (folder / "died").exists()
    assert (folder / "ran").read_text() == "ran\n"
