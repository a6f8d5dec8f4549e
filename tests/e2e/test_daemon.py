"""The life of the daemon: where it listens, who may, how it ends, and what it finds when it starts."""

import contextlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from swarmd._pb.swarm.v1 import array_pb2, swarm_pb2, swarm_service_pb2, task_pb2
from swarmd._pb.swarm.v1 import scheduler_service_pb2 as scheduler_pb
from swarmd._pb.swarm.v1.scheduler_service_pb2_grpc import SchedulerServiceStub
from swarmd._pb.swarm.v1.swarm_service_pb2_grpc import SwarmServiceStub
from tests.daemon import launched, private_environment, running, short_home, until

pytestmark = pytest.mark.e2e
SECONDS = 60.0


@pytest.fixture
def home() -> Iterator[Path]:
    with short_home() as folder:
        yield folder


@contextlib.contextmanager
def connected(address: str) -> Iterator[tuple[SwarmServiceStub, SchedulerServiceStub]]:
    with grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        yield SwarmServiceStub(channel), SchedulerServiceStub(channel)


def swarms_at(address: str, token: str = "") -> int:
    metadata = (("authorization", f"Bearer {token}"),) if token else ()
    request = swarm_service_pb2.ListSwarmsRequest()
    with connected(address) as (swarms, _):
        return len(swarms.ListSwarms(request, timeout=SECONDS, metadata=metadata).swarms)


def refused_start(home: Path, *arguments: str, **environment: str) -> str:
    """A daemon that must not start; gives what it says."""
    said = home / "stderr"
    before = len(said.read_text()) if said.exists() else 0
    with launched(*arguments, home=home, environment=environment) as process:
        assert process.wait(SECONDS) == 2
    text = said.read_text()[before:]
    assert "Traceback" not in text
    assert text.splitlines()[-1].startswith("swarmd: ")
    return text


def load_sleepers(address: str, count: int, command: str, **swarm: Any) -> None:
    """A swarm on autopilot whose tasks run this command."""
    settings = swarm_pb2.Swarm(swarm_id="s", **{"autopilot": True, **swarm})
    chunk = swarm_service_pb2.AddTasksRequest(
        arrays=[array_pb2.Array(array_id=1, command=command)],
        task_resources=[task_pb2.TaskResources(task_resources_id=1)],
        tasks=[task_pb2.Task(task_id=n, array_id=1, task_resources_id=1) for n in range(1, count + 1)],
    )
    with connected(address) as (swarms, _):
        swarms.CreateSwarm(swarm_service_pb2.CreateSwarmRequest(swarm=settings), timeout=SECONDS)
        swarms.AddTasks(iter([chunk]), timeout=SECONDS)


def counts(address: str) -> Any:
    with connected(address) as (swarms, _):
        return swarms.GetSwarm(swarm_service_pb2.GetSwarmRequest(), timeout=SECONDS).swarm.task_counts


# -- where -------------------------------------------------------------------------------------------------------------


def test_it_listens_in_the_runtime_directory_and_only_its_user_may_connect(home: Path):
    with running(home=home, umask=0) as daemon:
        assert daemon.socket == home / "runtime" / "swarmd" / "swarmd.sock"
        assert stat.S_IMODE(daemon.socket.stat().st_mode) == 0o600
        assert stat.S_IMODE(daemon.socket.parent.stat().st_mode) == 0o700
        assert stat.S_IMODE((home / "state" / "swarmd").stat().st_mode) == 0o700
        assert swarms_at(daemon.address) == 0
        assert daemon.ready["pid"] == daemon.process.pid


def test_a_socket_elsewhere_is_private_too_whatever_the_umask(home: Path):
    with running("--listen", f"unix:{home}/other.sock", home=home, umask=0) as daemon:
        assert stat.S_IMODE((home / "other.sock").stat().st_mode) == 0o600
        assert daemon.stop() == 0
    assert not (home / "other.sock").exists()


def test_it_listens_in_several_places_and_says_which_ports_it_picked(home: Path):
    wanted = [f"unix:{home}/a.sock", "127.0.0.1:0", "localhost:0", f"unix:{home}/b.sock"]
    with running(*[word for address in wanted for word in ("--listen", address)], home=home) as daemon:
        addresses = daemon.ready["addresses"]
        assert (addresses[0], addresses[3]) == (wanted[0], wanted[3])
        ports = [int(address.rpartition(":")[2]) for address in addresses[1:3]]
        assert 0 not in ports
        assert ports[0] != ports[1]
        for address in addresses:
            assert swarms_at(address, daemon.token) == 0
        assert daemon.stop() == 0
    assert not any(Path(address.removeprefix("unix:")).exists() for address in addresses)


def test_without_ready_json_it_says_where_in_words(home: Path):
    with launched(home=home) as process:
        assert process.stdout is not None
        line = process.stdout.readline().decode()
        assert line.endswith(f"is ready at unix:{home}/runtime/swarmd/swarmd.sock\n")


def test_a_port_in_use_is_refused_and_not_shared(home: Path):
    with running("--listen", "127.0.0.1:0", home=home) as daemon:
        said = refused_start(home, "--listen", daemon.address)
        assert "in use" in said
        assert swarms_at(daemon.address, daemon.token) == 0
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        assert "in use" in refused_start(home, "--listen", f"127.0.0.1:{other.getsockname()[1]}")


def test_when_one_of_several_addresses_is_taken_nothing_is_left_behind(home: Path):
    with running("--listen", "127.0.0.1:0", home=home) as daemon:
        refused_start(home, "--listen", f"unix:{home}/c.sock", "--listen", daemon.address)
    assert not list(home.glob("c.sock*"))


@pytest.mark.parametrize("address", ["nonsense", "unix:" + "x" * 200, "127.0.0.1:99999", "unix:/no/such/folder/s.sock"])
def test_an_address_that_cannot_be_is_refused(home: Path, address: str):
    assert refused_start(home, "--listen", address)


# -- who else is there -------------------------------------------------------------------------------------------------


def test_a_second_daemon_on_the_same_socket_is_refused_and_told_who_has_it(home: Path):
    with running(home=home) as daemon:
        said = refused_start(home)
        assert f"process {daemon.process.pid}" in said
        assert swarms_at(daemon.address) == 0, "the first one goes on"
        (daemon.socket.with_name("swarmd.sock.lock")).unlink()
        assert f"process {daemon.process.pid}" in refused_start(home), "also when somebody removed the lock file"
        assert swarms_at(daemon.address) == 0


def test_after_a_kill_the_stale_socket_is_no_obstacle(home: Path):
    with running(home=home) as daemon:
        daemon.signal(signal.SIGKILL)
        daemon.wait()
        assert daemon.socket.exists()
    with running(home=home) as again:
        assert swarms_at(again.address) == 0
        assert again.stop() == 0
        assert list(again.socket.parent.iterdir()) == []


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_what_is_no_socket_is_left_alone(home: Path, kind: str):
    place = home / "taken.sock"
    if kind == "file":
        place.write_text("precious")
    elif kind == "folder":
        place.mkdir()
    else:
        (home / "target").write_text("precious")
        place.symlink_to(home / "target")
    assert "is no socket" in refused_start(home, "--listen", f"unix:{place}")
    assert place.is_dir() if kind == "folder" else place.read_text() == "precious"


def test_the_socket_of_another_program_is_left_alone(home: Path):
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(home / "other.sock"))
        other.listen()
        assert f"process {os.getpid()}" in refused_start(home, "--listen", f"unix:{home}/other.sock")
    assert (home / "other.sock").exists()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder to somebody else")
def test_a_runtime_directory_of_somebody_else_is_refused(home: Path):
    theirs = home / "runtime" / "swarmd"
    theirs.mkdir(mode=0o700)
    os.chown(theirs, 12345, 12345)
    assert "belongs to user 12345" in refused_start(home)
    assert list(theirs.iterdir()) == []


def test_a_runtime_directory_that_is_a_link_is_refused(home: Path):
    (home / "elsewhere").mkdir()
    (home / "runtime" / "swarmd").symlink_to(home / "elsewhere")
    assert "is not a directory" in refused_start(home)


def test_a_runtime_directory_that_others_may_read_is_made_private(home: Path):
    (home / "runtime" / "swarmd").mkdir(mode=0o755)
    with running(home=home) as daemon:
        assert stat.S_IMODE(daemon.socket.parent.stat().st_mode) == 0o700


# -- the end -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_signal_drains_it(home: Path, number: signal.Signals):
    """Watchers get their last message with a place to resume from, who waits is let go, and the socket is gone."""
    with running(home=home) as daemon, connected(daemon.address) as (swarms, scheduler):
        load_sleepers(daemon.address, 2, "true", gateway="pull", autopilot=False)
        watch = swarms.WatchSwarm(swarm_service_pb2.WatchSwarmRequest(), timeout=SECONDS)
        assert next(watch).HasField("snapshot")
        scheduler.Tick(scheduler_pb.TickRequest(), timeout=SECONDS)
        assert next(watch).revision == 2
        waiting = scheduler.HasWork.future(scheduler_pb.HasWorkRequest(wait={"seconds": 600}), timeout=SECONDS)
        updates = scheduler.ApplyUpdate(iter(lambda: time.sleep(3600), None), timeout=SECONDS)
        time.sleep(0.2)
        daemon.signal(number)

        end = next(watch).end
        assert end.reason == swarm_service_pb2.WatchEnd.REASON_DRAINING
        assert end.resume_revision == 2
        assert list(watch) == []
        assert not waiting.result().has_work
        with pytest.raises(grpc.RpcError):
            next(updates)
        assert daemon.wait(20) == 0
        assert not daemon.socket.exists()
        assert list(daemon.socket.parent.iterdir()) == []
        assert "Traceback" not in daemon.log


def test_a_drain_ends_what_the_local_gateway_runs_and_leaves_no_child(home: Path):
    marker = home / "pids"
    with running("--on-stop", "kill", "--kill-grace", "1", "--local-cores", "4", home=home) as daemon:
        load_sleepers(daemon.address, 6, f"echo $$ >> {marker}; exec sleep 600")
        until(lambda: counts(daemon.address).running == 4, "four tasks that run")
        until(lambda: marker.exists() and len(marker.read_text().split()) == 4, "their pids")
        assert daemon.stop() == 0
    assert not [pid for pid in marker.read_text().split() if Path(f"/proc/{pid}").exists()]


def test_a_second_signal_ends_it_at_once(home: Path):
    """The first drain hangs: a task ignores TERM and the grace time is long."""
    marker = home / "pids"
    with running("--on-stop", "kill", "--kill-grace", "600", home=home) as daemon:
        load_sleepers(daemon.address, 1, f"trap '' TERM; echo $$ >> {marker}; while true; do sleep 0.1; done")
        until(lambda: marker.exists() and marker.read_text().strip(), "the task that runs")
        daemon.signal(signal.SIGTERM)
        until(lambda: "draining" in daemon.log, "the drain")
        with pytest.raises(subprocess.TimeoutExpired):
            daemon.process.wait(1)
        daemon.signal(signal.SIGTERM)

        assert daemon.wait(20) == 128 + signal.SIGTERM
        assert not daemon.socket.exists()
    until(lambda: not Path(f"/proc/{marker.read_text().strip()}").exists(), "the end of the task")


def test_an_idle_daemon_ends_by_itself(home: Path):
    with running("--idle-timeout", "0.3", home=home) as daemon:
        assert daemon.wait(30) == 0
        assert not daemon.socket.exists()


def test_its_log_is_json_when_it_is_not_on_a_terminal(home: Path):
    with running(home=home) as daemon:
        load_sleepers(daemon.address, 1, "true")
        assert daemon.stop() == 0
        lines = [json.loads(line) for line in daemon.log.splitlines()]
    assert {"ready", "swarm created", "stopped"} <= {line["event"] for line in lines}


# -- clients -----------------------------------------------------------------------------------------------------------


def test_a_client_that_is_killed_changes_nothing_for_the_workflow(home: Path):
    """Autopilot: a study goes on to its end when the program that loaded it has gone."""
    with running(home=home) as daemon:
        code = (
            "import os, sys; sys.path.insert(0, sys.argv[2])\n"
            "from tests.e2e.test_daemon import load_sleepers\n"
            "load_sleepers(sys.argv[1], 20, 'true'); os.kill(os.getpid(), 9)\n"
        )
        import sys

        root = str(Path(__file__).resolve().parents[2])
        done = subprocess.run([sys.executable, "-c", code, daemon.address, root], check=False, timeout=SECONDS)
        assert done.returncode == -signal.SIGKILL
        until(lambda: counts(daemon.address).done == 20, "all tasks done")


def test_a_daemon_that_is_gone_is_told_to_its_clients(home: Path):
    with running(home=home) as daemon, connected(daemon.address) as (swarms, _):
        load_sleepers(daemon.address, 1, "true", gateway="pull", autopilot=False)
        watch = swarms.WatchSwarm(swarm_service_pb2.WatchSwarmRequest(), timeout=SECONDS)
        next(watch)
        daemon.signal(signal.SIGKILL)
        daemon.wait()
        with pytest.raises(grpc.RpcError) as lost:
            next(watch)
        assert lost.value.code() is grpc.StatusCode.UNAVAILABLE


def test_a_log_that_cannot_be_written_stops_nothing(home: Path):
    with Path("/dev/full").open("wb") as full:
        command = [sys.executable, "-m", "swarmd", "serve", "--ready-json", "--log-level", "debug"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=full, env=private_environment(home)) as process:
            assert process.stdout is not None
            address = json.loads(process.stdout.readline())["address"]
            load_sleepers(address, 1, "true")
            until(lambda: counts(address).done == 1, "the task")
            process.terminate()
            assert process.wait(20) == 0


def after_a_while() -> Iterator[swarm_service_pb2.AddTasksRequest]:
    time.sleep(3)
    yield swarm_service_pb2.AddTasksRequest()


def test_a_daemon_that_is_called_is_not_idle(home: Path):
    """Whatever is called, and for as long as a call goes on."""
    with running("--idle-timeout", "1", home=home) as daemon:
        end = time.monotonic() + 3
        while time.monotonic() < end:
            assert swarms_at(daemon.address) == 0
            time.sleep(0.2)
        with connected(daemon.address) as (swarms, _):
            swarm = swarm_pb2.Swarm(swarm_id="s")
            swarms.CreateSwarm(swarm_service_pb2.CreateSwarmRequest(swarm=swarm), timeout=SECONDS)
            assert swarms.AddTasks(after_a_while(), timeout=SECONDS).task_count == 0
        assert daemon.wait(SECONDS) == 0
