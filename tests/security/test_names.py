"""Names that lead elsewhere or play with a terminal: an error in plain words, or harmless wherever they are shown."""

import json
import subprocess
import sys
from collections.abc import Iterator

import grpc
import pytest

from swarmd._pb.swarm.v1 import array_pb2, swarm_pb2, swarm_service_pb2, task_pb2
from swarmd._pb.swarm.v1.swarm_service_pb2_grpc import SwarmServiceStub
from tests.cli.terminal import Terminal
from tests.daemon import DaemonProcess, running, short_home, until
from tests.security.calls import channel_to

pytestmark = pytest.mark.e2e
pb = swarm_service_pb2
SECONDS = 30.0
PATHS = (
    "../../x",
    "/etc/passwd",
    "..",
    ".",
    "a/b",
    "a\\b",
    "%2e%2e",
    "a\nb",
    "a b",
    "\u202ea",
    "-rf",
    "x" * 64,
    "é",
    "~",
)
EVIL = "\x1b]0;evil\x07\x1b[2J\x9b31m\u202eabc\u2066\x08\r\x7f"
RAW = ("\x1b]", "\x07", "\x1b[2J", "\x9b", "\u202e", "\u2066", "\x08", "\x7f")


@pytest.fixture(scope="module")
def daemon() -> Iterator[DaemonProcess]:
    """With one swarm whose every text is evil, and whose only task has failed."""
    with short_home() as home, running("--log-format", "console", "--log-level", "debug", home=home) as found:
        with channel_to(found.address) as channel:
            stub = SwarmServiceStub(channel)
            swarm = swarm_pb2.Swarm(swarm_id="s", display_name=EVIL, autopilot=True, environment={EVIL: EVIL})
            stub.CreateSwarm(pb.CreateSwarmRequest(swarm=swarm, request_id=EVIL))
            load = pb.AddTasksRequest(
                swarm_id="s",
                request_id=EVIL,
                arrays=[array_pb2.Array(array_id=1, name=EVIL)],
                task_resources=[
                    task_pb2.TaskResources(task_resources_id=1, queue=EVIL, cluster="../../x", extra={EVIL: EVIL})
                ],
                tasks=[
                    task_pb2.Task(
                        task_id=1,
                        array_id=1,
                        task_resources_id=1,
                        name=EVIL,
                        max_attempts=1,
                        command=f"printf '\\033]0;evil\\007\\033[2Jshown \\033[31mred'; exit 3 # {EVIL}",
                    )
                ],
            )
            stub.AddTasks(iter([load]))
            get = pb.GetSwarmRequest(swarm_id="s")
            until(lambda: stub.GetSwarm(get).swarm.task_counts.error_fatal == 1, "the task fails")
        yield found


@pytest.fixture
def swarms(daemon: DaemonProcess) -> Iterator[SwarmServiceStub]:
    with channel_to(daemon.address) as channel:
        yield SwarmServiceStub(channel)


@pytest.mark.parametrize("name", PATHS, ids=repr)
def test_no_swarm_is_called_what_leads_elsewhere(swarms: SwarmServiceStub, name: str):
    request = pb.CreateSwarmRequest(swarm=swarm_pb2.Swarm(swarm_id=name, gateway="pull"))
    with pytest.raises(grpc.RpcError) as refused:
        swarms.CreateSwarm(request, timeout=SECONDS)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_name_that_leads_elsewhere_is_deleted_nowhere(daemon: DaemonProcess, swarms: SwarmServiceStub):
    kept = daemon.home / "kept"
    kept.mkdir()
    for name in (str(kept), "../../../kept", "s/../../../../kept"):
        with pytest.raises(grpc.RpcError):
            swarms.DeleteSwarm(pb.DeleteSwarmRequest(swarm_id=name, force=True), timeout=SECONDS)
    assert kept.is_dir()


@pytest.mark.parametrize("environment", [{"A=B": "x"}, {"": "x"}, {"A": "x\0y"}, {"A\0": "x"}], ids=repr)
def test_no_variable_is_smuggled_in(swarms: SwarmServiceStub, environment: dict[str, str]):
    request = pb.CreateSwarmRequest(swarm=swarm_pb2.Swarm(environment=environment, gateway="pull"))
    with pytest.raises(grpc.RpcError) as refused:
        swarms.CreateSwarm(request, timeout=SECONDS)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_nothing_is_written_outside_of_the_daemons_places(daemon: DaemonProcess):
    found = {path.name for path in daemon.home.iterdir()}
    assert found <= {"runtime", "state", "stderr", "kept"}
    assert {path.name for path in (daemon.home / "state").iterdir()} == {"swarmd"}


@pytest.mark.parametrize("command", ["status", "tasks", "explain", "logs", "watch"])
def test_a_terminal_is_shown_no_control_character_of_somebody_else(daemon: DaemonProcess, command: str):
    words = {"explain": ["s", "1"], "logs": ["s", "1"], "watch": ["s"], "tasks": ["s"], "status": ["s"]}[command]
    with Terminal(command, *words, "--address", daemon.address) as terminal:
        terminal.end()
        assert terminal.raw
        assert not [each for each in RAW if each in terminal.raw]


def test_what_a_task_wrote_is_passed_on_to_programs_as_it_is_and_keeps_its_colours(daemon: DaemonProcess):
    line = [sys.executable, "-m", "swarmd", "logs", "s", "1", "--address", daemon.address]
    done = subprocess.run(line, capture_output=True, timeout=SECONDS, check=True)
    assert done.stdout == b"\x1b]0;evil\x07\x1b[2Jshown \x1b[31mred"
    with Terminal("logs", "s", "1", "--address", daemon.address) as terminal:
        terminal.end()
        assert terminal.raw.strip() == "shown \x1b[31mred\x1b[0m"


def test_json_for_programs_escapes_them(daemon: DaemonProcess):
    line = [sys.executable, "-m", "swarmd", "tasks", "s", "--json", "--address", daemon.address]
    done = subprocess.run(line, capture_output=True, text=True, timeout=SECONDS, check=True)
    assert not [each for each in ("\x1b", "\x07", "\x08") if each in done.stdout]
    assert json.loads(done.stdout)


def test_the_log_is_shown_none_either(daemon: DaemonProcess, swarms: SwarmServiceStub):
    with pytest.raises(grpc.RpcError):
        swarms.GetSwarm(pb.GetSwarmRequest(swarm_id=f"{EVIL}\n2026 [info] made up"), timeout=SECONDS)
    until(lambda: "made up" in daemon.log or "evil" in daemon.log, "the log tells of the call")
    assert not [each for each in RAW if each in daemon.log]
    assert not [line for line in daemon.log.splitlines() if line.startswith("2026 [info]")]
