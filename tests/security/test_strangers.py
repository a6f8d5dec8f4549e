"""Another user of the machine: what the daemon has is closed to them, and what they prepared does not catch it."""

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from swarmd._pb.swarm.v1 import array_pb2, swarm_pb2, swarm_service_pb2, task_pb2
from swarmd._pb.swarm.v1.swarm_service_pb2_grpc import SwarmServiceStub
from tests.daemon import DaemonProcess, launched, private_environment, running, short_home, until
from tests.security import http2
from tests.security.calls import channel_to

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(os.getuid() != 0, reason="only root can act as another user"),
]
STRANGER = 54_321
SECONDS = 60.0
START_SECONDS = 60.0
PYTHON = shutil.which("python3", path="/usr/bin:/bin:/usr/local/bin") or sys.executable
"""One that is not in somebody's home: another user is to run it."""

OPENING = """
import os, socket, sys
for path in sys.argv[1:]:
    for what in (
        lambda: os.open(path, os.O_RDONLY), lambda: os.open(path, os.O_WRONLY), lambda: os.listdir(path),
        lambda: socket.socket(socket.AF_UNIX).connect(path), lambda: os.unlink(path), lambda: os.chmod(path, 0o777),
    ):
        try:
            what()
        except OSError:
            continue
        print(path)
"""


def as_stranger(code: str, *arguments: object) -> str:
    """What a fresh process of another user says."""
    try:
        done = subprocess.run(
            [PYTHON, "-I", "-S", "-c", code, *map(str, arguments)],
            user=STRANGER,
            group=STRANGER,
            extra_groups=[],
            cwd="/",
            env={},
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    except PermissionError:
        pytest.skip(f"another user cannot run {PYTHON}")
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def home() -> Iterator[Path]:
    with short_home() as folder:
        folder.chmod(0o755)  # what protects the daemon's files must not be the test's own folder
        yield folder


def run_a_task(address: str, command: str) -> None:
    with channel_to(address) as channel:
        stub = SwarmServiceStub(channel)
        swarm = swarm_pb2.Swarm(swarm_id="s", autopilot=True)
        stub.CreateSwarm(swarm_service_pb2.CreateSwarmRequest(swarm=swarm))
        load = swarm_service_pb2.AddTasksRequest(
            arrays=[array_pb2.Array(array_id=1)],
            task_resources=[task_pb2.TaskResources(task_resources_id=1)],
            tasks=[task_pb2.Task(task_id=1, array_id=1, task_resources_id=1, command=command)],
        )
        stub.AddTasks(iter([load]))
        get = swarm_service_pb2.GetSwarmRequest(swarm_id="s")
        until(lambda: stub.GetSwarm(get).swarm.task_counts.done == 1, "the task is done")


def everything_of(daemon: DaemonProcess) -> list[Path]:
    return [path for top in ("runtime", "state") for path in [daemon.home / top, *(daemon.home / top).rglob("*")]]


@pytest.mark.parametrize("umask", [0o000, 0o022])
def test_nothing_that_the_daemon_makes_is_open_to_others(home: Path, umask: int):
    for name in ("runtime", "state"):
        (home / name).chmod(0o755)
    own = home / "own"
    with running(
        "--listen", f"unix:{home}/runtime/swarmd.sock", "--listen", "127.0.0.1:0", home=home, umask=umask
    ) as daemon:
        run_a_task(daemon.address, f"echo secret; umask > {own}")
        found = [path for path in everything_of(daemon) if path.parent != daemon.home]
        assert {"token", "token.read-only", "swarmd.sock", "swarmd.sock.lock"} <= {path.name for path in found}
        assert any(path.suffix == ".out" for path in found)
        assert any("journal" in path.name or path.parent.parent.name == "swarms" for path in found)
        opened = [f"{path} {path.lstat().st_mode:o}" for path in found if path.lstat().st_mode & 0o077]
        assert not opened
        assert int(own.read_text(), 8) == umask, "a task has the umask of whoever started the daemon"
        others = [f"/proc/{daemon.process.pid}/{name}" for name in ("environ", "mem", "fd", "maps")]
        assert as_stranger(OPENING, *found, *others) == ""
        assert daemon.process.poll() is None


def test_a_port_of_this_machine_is_no_way_in(home: Path):
    code = """
import socket, sys
host, _, port = sys.argv[1].rpartition(":")
with socket.create_connection((host, int(port)), 10) as found:
    found.sendall(bytes.fromhex(sys.argv[2]))
    data = b""
    while b"no token was sent" not in data:
        more = found.recv(65536)
        if not more:
            break
        data += more
print(b"no token was sent" in data)
"""
    with running("--listen", "127.0.0.1:0", home=home) as daemon:
        words = http2.hello() + http2.request(1, "/swarm.v1.SwarmService/ListSwarms")
        assert as_stranger(code, daemon.address, words.hex()).strip() == "True"


# -- what a stranger prepared ------------------------------------------------------------------------------------------


def theirs(path: Path) -> Path:
    os.chown(path, STRANGER, STRANGER, follow_symlinks=False)
    return path


def refused(home: Path, *arguments: str, **environment: str) -> str:
    """The daemon must not start; gives the one line in which it says why."""
    with launched(*arguments, home=home, environment=environment) as process:
        assert process.wait(START_SECONDS) == 2
    text = (home / "stderr").read_text()
    assert "Traceback" not in text
    (line,) = [each for each in text.splitlines() if each.startswith("swarmd: ")]
    return line


@pytest.fixture
def victim(home: Path) -> Iterator[Path]:
    """A file of the user's that a link of the stranger points to; it must stay as it is."""
    path = home / "victim"
    path.write_text("precious\n")
    path.chmod(0o644)
    yield path
    assert path.read_text() == "precious\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def shared(home: Path, mode: int = 0o1777) -> Path:
    """Like /tmp."""
    folder = home / "shared"
    folder.mkdir()
    folder.chmod(mode)
    return folder


def test_a_runtime_directory_that_a_stranger_made_first(home: Path):
    tmp = shared(home)
    made = tmp / f"swarmd-{os.getuid()}"
    made.mkdir(mode=0o700)
    theirs(made)
    line = refused(home, XDG_RUNTIME_DIR="", TMPDIR=str(tmp))
    assert str(made) in line
    assert f"user {STRANGER}" in line
    assert not list(made.iterdir())


def test_a_link_in_the_place_of_the_runtime_directory(home: Path):
    tmp, trap = shared(home), home / "trap"
    trap.mkdir(mode=0o755)
    link = tmp / f"swarmd-{os.getuid()}"
    link.symlink_to(trap)
    theirs(link)
    assert "is not a directory" in refused(home, XDG_RUNTIME_DIR="", TMPDIR=str(tmp))
    assert not list(trap.iterdir())
    assert stat.S_IMODE(trap.stat().st_mode) == 0o755


@pytest.mark.parametrize("name", ["s.sock", "s.sock.lock"])
def test_a_link_in_the_place_of_the_socket_or_its_lock(home: Path, victim: Path, name: str):
    tmp = shared(home)
    link = tmp / name
    link.symlink_to(victim)
    theirs(link)
    assert str(tmp) in refused(home, "--listen", f"unix:{tmp}/s.sock")
    assert link.is_symlink()


def test_a_lock_of_a_stranger(home: Path):
    tmp = shared(home)
    lock = tmp / "s.sock.lock"
    lock.write_text("")
    theirs(lock).chmod(0o666)
    assert "s.sock.lock" in refused(home, "--listen", f"unix:{tmp}/s.sock")
    assert lock.read_text() == ""


@pytest.mark.parametrize("what", ["state", "socket"])
def test_a_directory_of_a_stranger_above_ours(home: Path, what: str):
    above = home / "above"
    above.mkdir(mode=0o755)
    ours = above / "ours"
    ours.mkdir(mode=0o700)
    theirs(above)
    arguments = ("--state-dir", str(ours / "state")) if what == "state" else ("--listen", f"unix:{ours}/s.sock")
    line = refused(home, *arguments)
    assert str(above) in line
    assert f"user {STRANGER}" in line


def test_a_directory_above_in_which_everybody_may_write(home: Path):
    above = shared(home, 0o777)
    assert "where others may write" in refused(home, "--state-dir", str(above / "state"))


@pytest.mark.parametrize("name", ["token", "token.read-only", "lock", "format", "swarms", "logs"])
def test_a_link_in_the_place_of_something_in_the_state_directory(home: Path, victim: Path, name: str):
    state = home / "state" / "swarmd"
    state.mkdir(mode=0o700)
    trap = home / "trap"
    trap.mkdir(mode=0o755)
    target = trap if name in ("swarms", "logs") else victim
    link = state / name
    link.symlink_to(target)
    theirs(link)
    assert str(link) in refused(home, "--listen", "127.0.0.1:0")
    assert link.is_symlink()
    assert not list(trap.iterdir())


def test_a_link_in_the_place_of_a_tasks_output_is_not_followed(home: Path, victim: Path):
    folder = home / "state" / "swarmd" / "logs" / "s" / "1"
    folder.mkdir(parents=True, mode=0o700)
    (home / "state" / "swarmd").chmod(0o700)
    for name in ("1.1.out", "1.1.err"):
        (folder / name).symlink_to(victim)
    with running(home=home) as daemon, channel_to(daemon.address) as channel:
        stub = SwarmServiceStub(channel)
        stub.CreateSwarm(swarm_service_pb2.CreateSwarmRequest(swarm=swarm_pb2.Swarm(swarm_id="s", autopilot=True)))
        load = swarm_service_pb2.AddTasksRequest(
            arrays=[array_pb2.Array(array_id=1)],
            task_resources=[task_pb2.TaskResources(task_resources_id=1)],
            tasks=[task_pb2.Task(task_id=1, array_id=1, task_resources_id=1, command="echo gone", max_attempts=1)],
        )
        stub.AddTasks(iter([load]))
        get = swarm_service_pb2.GetSwarmRequest(swarm_id="s")
        until(lambda: stub.GetSwarm(get).swarm.task_counts.error_fatal == 1, "the task fails")
        task = stub.GetTask(swarm_service_pb2.GetTaskRequest(swarm_id="s", task_id=1)).task
        assert "output file could not be opened" in task.reason
        assert daemon.process.poll() is None


# -- a port that a stranger took ---------------------------------------------------------------------------------------

TAKING = """
import socket, sys
with socket.socket() as taken:
    taken.bind(("127.0.0.1", int(sys.argv[1])))
    taken.listen()
    print("listening", flush=True)
    taken.settimeout(float(sys.argv[2]))
    try:
        print(taken.accept())
    except TimeoutError:
        pass
"""


def test_the_token_is_not_shown_to_a_stranger_who_took_the_daemons_port(home: Path):
    """The daemon is down, its port is anybody's, and the settings say that it is there."""
    with running("--listen", "127.0.0.1:0", home=home) as daemon:
        address = daemon.address
        daemon.stop()
    settings = home / "config" / "swarmd" / "config.toml"
    settings.parent.mkdir(parents=True)
    settings.write_text(f'listen = ["{address}"]\n')
    command = [PYTHON, "-I", "-S", "-c", TAKING, address.rpartition(":")[2], "600"]
    with subprocess.Popen(
        command, user=STRANGER, group=STRANGER, extra_groups=[], cwd="/", env={}, stdout=subprocess.PIPE, text=True
    ) as stranger:
        try:
            assert stranger.stdout is not None
            assert stranger.stdout.readline() == "listening\n"
            asked = subprocess.run(
                [sys.executable, "-m", "swarmd", "status"],
                env=private_environment(home),
                capture_output=True,
                text=True,
                timeout=SECONDS,
                check=False,
            )
            assert asked.returncode == 2
            assert f"user {STRANGER} listens at {address}, who would get your daemon's token" in asked.stderr
            assert stranger.poll() is None, "nobody has come to it"
        finally:
            stranger.kill()
