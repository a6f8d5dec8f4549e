"""Daemons of a program's own: as a child for the time of a block, and inside of its own event loop."""

import asyncio
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest
import structlog

import swarmd
from swarmd import Daemon, DaemonConfig, embedded
from swarmd.client import NoDaemonError, Outcome, Swarm, SwarmClient
from swarmd.core.errors import AlreadyExistsError, InvalidInputError
from swarmd.gateways.contract import SwarmInfo
from swarmd.gateways.pull import PullGateway
from tests.daemon import is_running, short_home, until

pytestmark = pytest.mark.e2e


def hello(swarm_id: str = "hello") -> Swarm:
    plan = Swarm(swarm_id)
    plan.array("greet", command="echo hello from {name}", tasks=["one", "two"])
    return plan


# -- as a child --------------------------------------------------------------------------------------------------------


def test_a_daemon_for_the_time_of_a_block():
    with embedded(local_cores=2) as daemon, daemon.blocking_client() as client:
        pid, state = daemon.pid, daemon.state_dir
        assert client.submit(hello()).wait(timeout=60).outcome is Outcome.DONE
        assert (state / "swarms").is_dir()
    assert pid is not None
    assert not is_running(pid)
    assert not state.parent.exists()


async def test_a_daemon_for_the_time_of_an_asynchronous_block():
    async with embedded(in_memory=True) as daemon, daemon.client() as client:
        assert (await (await client.submit(hello())).wait(timeout=60)).outcome is Outcome.DONE
        assert daemon.log.exists()


def test_a_state_directory_that_was_given_is_kept_and_taken_up_again():
    with short_home() as home:
        state = home / "state" / "kept"
        with embedded(state_dir=state) as daemon, daemon.blocking_client() as client:
            client.create_swarm("kept", gateway="pull")
        assert state.is_dir()
        with embedded(state_dir=state) as daemon, daemon.blocking_client() as client:
            assert [swarm.swarm_id for swarm in client.swarms()] == ["kept"]


def test_on_a_port_its_clients_show_its_token():
    with embedded(listen=["127.0.0.1:0"]) as daemon, daemon.blocking_client() as client:
        assert daemon.address.port > 0
        assert client.swarms() == []


def test_two_at_once_do_not_meet():
    with embedded() as first, embedded() as second:
        assert first.address != second.address
        with first.blocking_client() as client:
            client.create_swarm("only-here", gateway="pull")
        with second.blocking_client() as client:
            assert client.swarms() == []


def test_it_takes_nothing_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("SWARMD_MAX_SWARMS", "1")
    monkeypatch.setenv("SWARMD_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "swarmd").mkdir()
    (tmp_path / "swarmd" / "config.toml").write_text("max_swarms = 1\n")
    with embedded() as daemon, daemon.blocking_client() as client:
        for name in ("one", "two"):
            client.create_swarm(name, gateway="pull")
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"local_cors": 2}, "local_cors: a daemon has no such setting; did you mean local_cores?"),
        ({"local_cores": 0}, "local_cores: input should be greater than or equal to 1"),
        ({"on_stop": "wait"}, "on_stop: "),
    ],
)
def test_settings_that_it_cannot_have_are_refused_before_it_starts(settings, message):
    with pytest.raises(InvalidInputError) as refused:
        embedded(**settings)
    assert refused.value.message.startswith(message)


def test_one_that_cannot_start_says_why(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(NoDaemonError, match="could not start\n  swarmd: "), embedded(state_dir=tmp_path / "file"):
        pass


def test_a_daemon_that_died_is_told_soon():
    with embedded() as daemon, daemon.blocking_client(patience=0.1) as client:
        client.connect()
        assert daemon.pid is not None
        os.kill(daemon.pid, signal.SIGKILL)
        with pytest.raises(NoDaemonError, match="was lost"):
            client.swarms()


def test_before_its_block_it_is_nowhere():
    daemon = embedded()
    with pytest.raises(NoDaemonError, match="was not started"):
        _ = daemon.address
    daemon.stop()


def test_it_has_one_block_and_a_second_start_loses_nothing():
    daemon = embedded(in_memory=True)
    with daemon:
        pid = daemon.pid
        with pytest.raises(InvalidInputError, match="make a new one"):
            daemon.start()
        assert daemon.pid == pid
        with daemon.blocking_client() as client:
            assert client.swarms() == []
    with pytest.raises(InvalidInputError, match="make a new one"), daemon:
        pass
    stopped = embedded()
    stopped.stop()
    with pytest.raises(InvalidInputError, match="make a new one"):
        stopped.start()


def test_ctrl_c_while_it_stops_leaves_nothing_behind():
    daemon = embedded(in_memory=True).start()
    pid, scratch = daemon.pid, daemon.log.parent
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)  # so that it takes its time
    threading.Timer(0.3, signal.pthread_kill, (threading.get_ident(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        daemon.stop()
    assert not scratch.exists()
    assert not Path(f"/proc/{pid}").exists()  # not even as a zombie


FORKED = """
import os, sys
from swarmd import embedded
{made}
child = os.fork()
if child == 0:
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
assert daemon.log.parent.exists()
if daemon.pid is None:
    daemon.start()
with daemon.blocking_client() as client:
    print(client.swarms())
daemon.stop()
print(daemon.log.parent.exists())
"""


@pytest.mark.parametrize("made", ["daemon = embedded()", "daemon = embedded().start()"])
def test_a_forked_child_that_ends_takes_nothing_along(made: str):
    done = subprocess.run([sys.executable, "-c", FORKED.format(made=made)], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\nFalse\n", "")


PARENT = """
import os, sys
from swarmd import embedded
daemon = embedded().start()
print(daemon.pid, flush=True)
{then}
"""


@pytest.mark.parametrize("then", ["os.kill(os.getpid(), 9)", "sys.exit()", "raise SystemExit(3)", "os._exit(0)"])
def test_it_ends_with_its_parent_however_that_ends(then: str):
    done = subprocess.run([sys.executable, "-c", PARENT.format(then=then)], capture_output=True, text=True)
    pid = int(done.stdout)
    until(lambda: not is_running(pid), "the end of the daemon")


def test_ctrl_c_reaches_the_program_and_not_its_daemon():
    with embedded() as daemon, daemon.blocking_client() as client:
        assert daemon.pid is not None
        assert os.getpgid(daemon.pid) != os.getpgid(0)
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            threading.Event().wait(60)
        assert client.swarms() == []


def test_where_temporary_files_have_a_long_name_the_socket_has_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    long = tmp_path / ("x" * 90)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    with embedded() as daemon, daemon.blocking_client() as client:
        assert client.swarms() == []


# -- inside of an event loop -------------------------------------------------------------------------------------------


def config_in(home: Path, name: str = "one") -> DaemonConfig:
    return DaemonConfig(state_dir=home / "state" / name, listen=[f"unix:{home}/{name}.sock"])


async def test_a_daemon_in_ones_own_loop():
    with short_home() as home:
        daemon = Daemon(config_in(home))
        await daemon.start()
        try:
            async with SwarmClient(daemon.addresses[0]) as client:
                assert (await (await client.submit(hello())).wait(timeout=60)).outcome is Outcome.DONE
        finally:
            await daemon.stop()
        assert not (home / "one.sock").exists()


async def test_two_of_them_in_one_loop_and_one_again():
    with short_home() as home:
        async with Daemon(config_in(home)) as first, Daemon(config_in(home, "two")) as second:
            async with SwarmClient(first.addresses[0]) as one, SwarmClient(second.addresses[0]) as two:
                await one.create_swarm("kept", gateway="pull")
                assert await two.swarms() == []
            with pytest.raises(AlreadyExistsError):
                await Daemon(config_in(home)).start()
        async with Daemon(config_in(home)) as again, SwarmClient(again.addresses[0]) as client:
            assert [swarm.swarm_id for swarm in await client.swarms()] == ["kept"]


@pytest.fixture
def program_without_structlog() -> None:
    """Other tests set it up for themselves, and it stays so."""
    structlog.reset_defaults()


@pytest.mark.usefixtures("program_without_structlog")
async def test_it_leaves_the_program_around_it_alone(capfd: pytest.CaptureFixture[str]):
    def surroundings() -> list[object]:
        root = logging.getLogger()
        signals = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
        return [*signals, list(root.handlers), root.level, structlog.is_configured(), os.environ.copy()]

    before = surroundings()
    with short_home() as home:
        async with Daemon(config_in(home)) as daemon, SwarmClient(daemon.addresses[0]) as client:
            await client.create_swarm("quiet", gateway="pull")
            assert surroundings() == before
    assert surroundings() == before
    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("program_without_structlog")
async def test_its_log_goes_where_the_programs_log_goes(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO)
    with short_home() as home:
        async with Daemon(config_in(home)) as daemon, SwarmClient(daemon.addresses[0]) as client:
            await client.create_swarm("logged", gateway="pull")
    (line,) = (record for record in caplog.records if "swarm created" in record.message)
    assert (line.name.split(".")[0], "logged" in line.message) == ("swarmd", True)


async def test_a_blocking_client_may_call_it_from_another_thread():
    from swarmd.client import blocking

    def work(address: str) -> int:
        with blocking.SwarmClient(address) as client:
            return client.submit(hello()).wait(timeout=60).counts.done

    with short_home() as home:
        async with Daemon(config_in(home)) as daemon:
            assert await asyncio.to_thread(work, str(daemon.addresses[0])) == 2


def test_the_names_are_there_without_being_imported_at_once():
    program = "import sys, swarmd; assert 'grpc' not in sys.modules; swarmd.embedded; assert 'grpc' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
    assert {"Daemon", "DaemonConfig", "EmbeddedDaemon", "embedded"} <= set(swarmd.__all__)


class SlowToStart(PullGateway):
    """An engine that does not take up what was there before."""

    async def add_swarm(self, swarm: SwarmInfo) -> None:
        await asyncio.sleep(600)


async def test_a_start_that_is_given_up_leaves_nothing_behind():
    with short_home() as home:
        async with Daemon(config_in(home)) as first, SwarmClient(first.addresses[0]) as client:
            await client.create_swarm("kept", gateway="pull")
        slow = Daemon(config_in(home), gateways={"pull": SlowToStart()})
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(slow.start(), 1)
        mine = asyncio.current_task()
        assert [task.get_name() for task in asyncio.all_tasks() if task is not mine and "kept" in task.get_name()] == []
        async with Daemon(config_in(home)) as again, SwarmClient(again.addresses[0]) as client:
            assert [swarm.swarm_id for swarm in await client.swarms()] == ["kept"]
