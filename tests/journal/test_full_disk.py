"""A daemon whose disk is full: it refuses what it cannot write down, goes on reading, and recovers by itself."""

import contextlib
import resource
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from swarmd._pb.swarm.v1 import swarm_pb2
from tests.daemon import DaemonProcess, running, short_home, until
from tests.journal.calls import Calls, connected, refusal_of
from tests.journal.disks import fill, small_disk

pytestmark = pytest.mark.e2e
RECOVERY_SECONDS = 2.0


@pytest.fixture
def home() -> Iterator[Path]:
    with short_home() as folder:
        yield folder


@contextlib.contextmanager
def nothing_can_be_written(daemon: DaemonProcess) -> Iterator[None]:
    """No file of the daemon can be written to: a limit of the kernel's, which it cannot tell from a failing disk."""
    before = resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE, (1, before[1]))
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE, before)


def seen(calls: Calls) -> Any:
    """All that a client can see of the swarms."""
    return [
        (swarm.SerializeToString(deterministic=True), calls.tasks(swarm.swarm_id)) for swarm in calls.listed().swarms
    ]


def changes(calls: Calls) -> dict[str, Any]:
    """A call of every kind that changes something."""
    return {
        "CreateSwarm": lambda: calls.create("another", gateway="pull"),
        "AddTasks": lambda: calls.add("s", 1000, 50),
        "UpdateSwarm": lambda: calls.update(swarm_pb2.Swarm(swarm_id="s", paused=True), "paused"),
        "Tick": lambda: calls.tick("s"),
        "Tick with a request_id": lambda: calls.tick("s", "once"),
    }


def assert_refused(calls: Calls, *codes: str) -> None:
    """Every change is refused with one of these codes, and nothing is as it was not before."""
    before = seen(calls)
    for name, call in changes(calls).items():
        refusal = refusal_of(call)
        assert refusal.code in codes, (name, refusal)
        assert refusal.reason in ("STORAGE_FAILED", "STORAGE_FULL"), (name, refusal)
        assert "nothing was changed" in refusal.message, (name, refusal)
    news = calls.tell("s", "RUNNING", 1)
    assert grpc.StatusCode.UNAVAILABLE.value[0] == news.error.code or "RESOURCE_EXHAUSTED" in codes
    assert "nothing was changed" in news.error.message
    assert seen(calls) == before
    assert calls.watched("s").snapshot.swarm.task_counts == calls.get("s").task_counts
    assert not calls.is_healthy


def assert_recovers(calls: Calls) -> None:
    """Within moments everything is written down again, without anybody's help."""
    end = time.monotonic() + RECOVERY_SECONDS
    while not calls.is_healthy:
        assert time.monotonic() < end, "it did not recover"
        time.sleep(0.02)
    for call in changes(calls).values():
        call()
    assert not calls.tell("s", "RUNNING", 1).HasField("error")


def test_changes_are_refused_until_files_can_be_written_again(home: Path):
    with running(home=home) as daemon, connected(daemon.address) as calls:
        calls.create("s", gateway="pull", max_concurrently_running=30)
        calls.add("s", 1, 100)
        calls.tick("s")
        with nothing_can_be_written(daemon):
            assert_refused(calls, "UNAVAILABLE")
        assert_recovers(calls)
        assert calls.statuses("s") == {"QUEUED": 29, "REGISTERED": 120, "RUNNING": 1}
        with nothing_can_be_written(daemon):
            refusal_of(calls.update, swarm_pb2.Swarm(swarm_id="s", paused=False), "paused")
            assert not calls.is_healthy
            before = seen(calls)
            daemon.process.kill()
            daemon.wait()
    with running(home=home) as daemon, connected(daemon.address) as calls:
        assert seen(calls) == before


def test_the_ends_of_tasks_are_told_when_there_is_room_again(home: Path):
    """They happened: nobody can be refused them, and nobody hears of them before they are on disk."""
    with running(home=home) as daemon, connected(daemon.address) as calls:
        calls.create("s", autopilot=True, max_concurrently_running=10)
        calls.add("s", 1, 2, command=f"while test ! -e {home}/go; do sleep 0.05; done")
        until(lambda: calls.statuses("s") == {"RUNNING": 2}, "both run")
        with nothing_can_be_written(daemon):
            (home / "go").touch()
            until(lambda: not calls.is_healthy, "it notices by itself")
            time.sleep(1.0)
            assert calls.statuses("s") == {"RUNNING": 2}
            refusal_of(calls.add, "s", 10, 1)
        until(lambda: calls.statuses("s") == {"DONE": 2}, "their ends are told")
        until(lambda: calls.is_healthy, "it is well again", seconds=RECOVERY_SECONDS)
        before = seen(calls)
        daemon.process.kill()
        daemon.wait()
    with running(home=home) as daemon, connected(daemon.address) as calls:
        assert seen(calls) == before


def test_a_daemon_that_is_killed_meanwhile_finds_the_ends_of_its_tasks(home: Path):
    with running(home=home) as daemon, connected(daemon.address) as calls:
        calls.create("s", autopilot=True, max_concurrently_running=10)
        calls.add("s", 1, 2, command=f"while test ! -e {home}/go; do sleep 0.05; done")
        until(lambda: calls.statuses("s") == {"RUNNING": 2}, "both run")
        with nothing_can_be_written(daemon):
            (home / "go").touch()
            until(lambda: not calls.is_healthy, "it notices by itself")
            daemon.process.kill()
            daemon.wait()
    with running(home=home) as daemon, connected(daemon.address) as calls:
        until(lambda: calls.statuses("s") == {"DONE": 2}, "their ends are found")


def test_a_disk_that_is_really_full(home: Path):
    disk = home / "state" / "swarmd"
    with small_disk(disk):
        with running(home=home) as daemon, connected(daemon.address) as calls:
            calls.create("s", gateway="pull", max_concurrently_running=30)
            calls.add("s", 1, 100)
            calls.tick("s")
            acknowledged = 0
            ballast = fill(disk)
            refusal = None
            while refusal is None:  # what SQLite has room for in its files yet is no lie
                try:
                    calls.add("s", 100_000 + acknowledged * 1000, 100)
                    acknowledged += 1
                except grpc.RpcError:
                    refusal = refusal_of(calls.add, "s", 50_000, 100)
            assert (refusal.code, refusal.reason) == ("RESOURCE_EXHAUSTED", "STORAGE_FULL")
            assert f"the disk with {disk}" in refusal.message
            assert "is full; nothing was changed; make room there and try again" in refusal.message
            assert_refused(calls, "RESOURCE_EXHAUSTED", "UNAVAILABLE")
            before = seen(calls)
            assert len(calls.tasks("s")) == 100 * (1 + acknowledged)
            daemon.process.kill()
            daemon.wait()
        with running(home=home) as daemon, connected(daemon.address) as calls:
            assert seen(calls) == before, "it starts on a full disk, and all that was acknowledged is there"
            refusal_of(calls.add, "s", 60_000, 100)
            ballast.unlink()
            assert_recovers(calls)
            assert daemon.stop() == 0
        with running(home=home) as daemon, connected(daemon.address) as calls:
            assert len(calls.tasks("s")) == 100 * (1 + acknowledged) + 50
