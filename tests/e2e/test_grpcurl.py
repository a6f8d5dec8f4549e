"""A whole workflow by hand: the daemon as a process, and nothing but grpcurl."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.daemon import DaemonProcess, running, until
from tests.e2e.grpcurl import ask, call, command, documents, streaming

SCHEDULER, SWARM = "swarm.v1.SchedulerService", "swarm.v1.SwarmService"

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def daemon() -> Iterator[DaemonProcess]:
    with running() as process:
        yield process


@pytest.fixture
def swarm(daemon: DaemonProcess, request: pytest.FixtureRequest) -> str:
    """A new swarm with the pull gateway: 1 and 2, and 3 after both."""
    name = f"s{abs(hash(request.node.name)) % 10**9}"
    call(
        daemon, f"{SWARM}/CreateSwarm", {"swarm": {"swarm_id": name, "gateway": "pull", "max_concurrently_running": 2}}
    )
    (answer,) = call(
        daemon,
        f"{SWARM}/AddTasks",
        {
            "swarm_id": name,
            "tasks": [{"task_id": 3, "array_id": 1, "task_resources_id": 1, "upstream_task_ids": [1, 2]}],
        },
        {"arrays": [{"array_id": 1, "command": "run {task_id}"}], "task_resources": [{"task_resources_id": 1}]},
        {"tasks": [a_task(1), a_task(2)]},
    )
    added = {"task_count": 3, "array_count": 1, "task_resources_count": 1}
    assert answer == {**added, "newly_ready_count": 2, "revision": "1"}
    return name


def a_task(task_id: int, *upstreams: int) -> dict[str, Any]:
    return {"task_id": task_id, "array_id": 1, "task_resources_id": 1, "upstream_task_ids": upstreams}


def test_it_lists_and_describes_everything(daemon: DaemonProcess):
    listed = ask(daemon, "list")
    assert listed.returncode == 0, listed.stderr
    assert {SCHEDULER, SWARM, "grpc.health.v1.Health"} <= set(listed.stdout.split())
    methods = ask(daemon, "list", SCHEDULER).stdout.split()
    assert methods == [f"{SCHEDULER}.{name}" for name in ("ApplyUpdate", "HasWork", "Tick")]
    for symbol, text in {
        SCHEDULER: "rpc Tick ( .swarm.v1.TickRequest ) returns ( .swarm.v1.TickResponse );",
        f"{SCHEDULER}.Tick": "rpc Tick",
        "swarm.v1.Task": "repeated int64 upstream_task_ids = 6;",
        "swarm.v1.TaskStatus": "TASK_STATUS_ADJUSTING_RESOURCES = 8;",
        "swarm.v1.WatchEnd.Reason": "REASON_SLOW_WATCHER = 2;",
        "swarm.v1.StateUpdate": ".google.protobuf.Timestamp sync_time = 5;",
    }.items():
        described = ask(daemon, "describe", symbol)
        assert described.returncode == 0, described.stderr
        assert text in described.stdout


def test_a_workflow_by_hand(daemon: DaemonProcess, swarm: str, tmp_path: Path):
    story = tmp_path / "story"
    request = {"swarm_id": swarm, "until_finished": True}
    with streaming(daemon, f"{SWARM}/WatchSwarm", request, story) as watch:
        until(lambda: "snapshot" in story.read_text(), "the snapshot")
        (has_work,) = call(daemon, f"{SCHEDULER}/HasWork", {"swarm_id": swarm})
        assert has_work == {"has_work": True, "ready_to_run_count": 2, "available_capacity": 2, "revision": "1"}
        (tick,) = call(daemon, f"{SCHEDULER}/Tick", {"swarm_id": swarm, "view": "BATCH_VIEW_FULL", "timeout": "10s"})
        (batch,) = tick["batches"]
        assert [(task["task_id"], task["command"], task["attempt"]) for task in batch["tasks"]] == [
            ("1", "run 1", 1),
            ("2", "run 2", 1),
        ]
        answers = call(
            daemon,
            f"{SCHEDULER}/ApplyUpdate",
            news(1, "RUNNING", [1, 2], swarm_id=swarm),
            news(2, "DONE", [1, 7]),
            news(3, "DONE", [1, 2]),
            news(4, "RUNNING", [1]),
        )
        assert [answer.get("sequence") for answer in answers] == ["1", "2", "3", "4"]
        assert answers[1]["error"]["reason"] == "UNKNOWN_TASK"
        assert answers[1]["error"]["field"] == "update.task_statuses[0].task_ids[1]"
        assert (answers[2]["changed_count"], answers[2]["newly_ready_count"]) == (2, 1)
        assert answers[3]["ignored"][0]["reason"] == "REASON_TASK_IS_FINAL"
        call(daemon, f"{SCHEDULER}/Tick", {"swarm_id": swarm})
        call(daemon, f"{SCHEDULER}/ApplyUpdate", news(1, "DONE", [3], swarm_id=swarm))
        assert watch.wait(60) == 0
    (end,) = call(daemon, f"{SCHEDULER}/HasWork", {"swarm_id": swarm})
    assert end["finished"]
    messages = documents(story.read_text())
    assert "snapshot" in messages[0]
    assert [message["revision"] for message in messages[1:-1]] == ["2", "3", "4", "5", "6"]
    assert messages[-1]["end"] == {
        "reason": "REASON_FINISHED",
        "resume_revision": "6",
        "outcome": "SWARM_OUTCOME_DONE",
    }


def news(sequence: int, status: str, ids: list[int], **more: Any) -> dict[str, Any]:
    groups = [{"status": f"TASK_STATUS_{status}", "task_ids": ids}]
    return {"sequence": sequence, "update": {"task_statuses": groups}, **more}


def test_an_error_comes_with_its_details(daemon: DaemonProcess, swarm: str):
    done = ask(daemon, f"{SWARM}/GetTask", data=[{"swarm_id": swarm, "task_id": 99}])

    assert done.returncode != 0
    for part in (
        "NotFound",
        "no task 99 in this swarm",
        "ErrorInfo",
        "UNKNOWN_TASK",
        "swarmd",
        "BadRequest",
        "task_id",
    ):
        assert part in done.stderr
    unknown = ask(daemon, f"{SWARM}/GetSwarm", data=[{"swarm_id": "nobody"}])
    assert "UNKNOWN_SWARM" in unknown.stderr


def test_a_descriptor_set_does_instead_of_reflection(daemon: DaemonProcess, swarm: str, tmp_path: Path):
    file = tmp_path / "swarm.protoset"
    made = subprocess.run(
        [sys.executable, "-m", "swarmd", "protos", "--descriptor-set", str(file)],
        capture_output=True,
        text=True,
        check=False,
        env=daemon.environment,
    )
    assert made.returncode == 0, made.stderr
    (answer,) = call(daemon, f"{SCHEDULER}/HasWork", {"swarm_id": swarm}, options=["-protoset", str(file)])
    assert answer["hasWork"], "the set has the JSON names, which reflection leaves out"
    error = ask(daemon, f"{SWARM}/GetTask", data=[{"swarm_id": swarm, "task_id": 99}], options=["-protoset", str(file)])
    assert "UNKNOWN_TASK" in error.stderr, "the details of errors are in the set, too"


def test_its_health_can_be_asked(daemon: DaemonProcess):
    for service in ("", SCHEDULER, SWARM):
        assert call(daemon, "grpc.health.v1.Health/Check", {"service": service}) == [{"status": "SERVING"}]


def test_a_client_that_is_killed_in_the_middle_of_a_stream_leaves_nothing_behind(
    daemon: DaemonProcess, swarm: str, tmp_path: Path
):
    with streaming(daemon, f"{SWARM}/WatchSwarm", {"swarm_id": swarm}, tmp_path / "out") as watch:
        until(lambda: "snapshot" in (tmp_path / "out").read_text(), "the snapshot")
        watch.kill()
        watch.wait()
    half_load = subprocess.Popen(
        command(daemon, f"{SWARM}/AddTasks", "-d", "@"),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    assert half_load.stdin is not None
    half_load.stdin.write(
        b'{"swarm_id": "%s", "tasks": [{"task_id": 50, "array_id": 1, "task_resources_id": 1}]}\n' % swarm.encode()
    )
    half_load.stdin.flush()
    assert call(daemon, f"{SCHEDULER}/HasWork", {"swarm_id": swarm})[0]["has_work"]
    half_load.kill()
    half_load.wait()
    half_load.stdin.close()

    assert call(daemon, f"{SWARM}/GetSwarm", {"swarm_id": swarm})[0]["swarm"]["task_counts"]["total"] == 3
    assert "Traceback" not in daemon.log
