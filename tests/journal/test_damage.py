"""Damage on disk that a daemon finds when it starts: it is contained, told in one sentence, and can be lived with."""

import json
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.daemon import DaemonProcess, launched, running, short_home
from tests.journal.calls import Calls, connected, refusal_of
from tests.journal.stores import flipped

pytestmark = pytest.mark.e2e
SECONDS = 60.0


@pytest.fixture
def home() -> Iterator[Path]:
    with short_home() as folder:
        yield folder


@pytest.fixture
def state(home: Path) -> Path:
    return home / "state" / "swarmd"


@pytest.fixture
def swarms(state: Path) -> Path:
    return state / "swarms"


def left_by_a_daemon(home: Path, *names: str, killed: bool = False) -> None:
    """Swarms with ten tasks each, and the daemon gone."""
    with running(home=home) as daemon, connected(daemon.address) as calls:
        for name in names:
            calls.create(name, gateway="pull", max_concurrently_running=5)
            calls.add(name, 1, 10)
            calls.tick(name)
        if killed:
            daemon.process.kill()
        assert (daemon.wait() if killed else daemon.stop()) == (-9 if killed else 0)


def damaged(path: Path, at: int) -> None:
    path.write_bytes(flipped(path.read_bytes(), at))


def damage_records(folder: Path) -> None:
    """A byte in the middle of what was loaded."""
    path = folder / "records-000001.db"
    data = path.read_bytes()
    damaged(path, data.index(b"load_id") if b"load_id" in data else data.rindex(b"true"))


def refused_start(home: Path) -> str:
    """The one sentence of a daemon that must not start: everything else on standard error is its log."""
    said = home / "stderr"
    before = len(said.read_text()) if said.exists() else 0
    with launched(home=home) as process:
        assert process.wait(SECONDS) == 2
    lines = said.read_text()[before:].splitlines()
    sentences = [line for line in lines if not line.startswith("{")]
    assert len(sentences) == 1, lines
    assert sentences[0].startswith("swarmd: ")
    return sentences[0]


def warnings_of(daemon: DaemonProcess) -> list[str]:
    """What it said about journals that it mended."""
    logged: list[dict[str, Any]] = [json.loads(line) for line in daemon.log.splitlines() if line.startswith("{")]
    return [line["what"] for line in logged if line["event"] == "the journal was mended"]


def assert_lives(calls: Calls, name: str) -> None:
    assert len(calls.tasks(name)) == 10
    calls.add(name, 100, 5)
    assert not calls.tell(name, "DONE", *range(1, 6)).HasField("error")
    assert calls.statuses(name) == {"DONE": 5, "REGISTERED": 10}


def test_a_damaged_swarm_is_set_aside_and_the_other_goes_on(home: Path, swarms: Path):
    left_by_a_daemon(home, "broken", "whole")
    damage_records(swarms / "broken")
    with running(home=home) as daemon, connected(daemon.address) as calls:
        assert_lives(calls, "whole")
        assert calls.is_healthy
        listed = calls.listed()
        assert [swarm.swarm_id for swarm in listed.swarms] == ["whole"]
        (aside,) = listed.set_aside
        assert aside.swarm_id == "broken"
        assert str(swarms / "broken") in aside.problem
        assert "swarmd journal check" in aside.remedy

        refusal = refusal_of(calls.get, "broken")
        assert (refusal.code, refusal.reason) == ("FAILED_PRECONDITION", "SWARM_SET_ASIDE")
        assert aside.problem in refusal.message
        assert aside.remedy in refusal.message
        for call in (calls.tick, calls.tasks, calls.watched, lambda name: calls.add(name, 1, 1), calls.delete):
            assert refusal_of(call, "broken").reason == "SWARM_SET_ASIDE"
        refusal = refusal_of(calls.create, "broken")
        assert (refusal.code, refusal.reason) == ("ALREADY_EXISTS", "SWARM_EXISTS")
        assert daemon.stop() == 0

    with running(home=home) as daemon, connected(daemon.address) as calls:
        assert [aside.swarm_id for aside in calls.listed().set_aside] == ["broken"], "nobody touched it"
        calls.delete("broken", force=True)
        assert list(calls.listed().set_aside) == []
        assert [path.name for path in swarms.iterdir()] == ["whole"]
        calls.create("broken", gateway="pull")
        assert calls.tasks("broken") == []


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        ("header", "application id is another"),
        ("newer", "was written by a newer version of swarmd (format 2; this one reads up to 1); start that version"),
        ("empty", "does not begin as an SQLite database does"),
        ("records", "records-000001.db"),
        ("gone", "holds neither a snapshot nor any events"),
        ("folder", "cannot be read: Is a directory"),
    ],
)
def test_when_all_are_damaged_it_does_not_start_and_says_what_can_be_done(
    home: Path, swarms: Path, damage: str, told: str
):
    left_by_a_daemon(home, "a", "b")
    for name in ("a", "b"):
        path = swarms / name / "records-000001.db"
        if damage == "header":
            damaged(path, 68)
        elif damage == "newer":
            data = path.read_bytes()
            path.write_bytes(data[:60] + struct.pack(">I", 2) + data[64:])
        elif damage == "empty":
            os.truncate(path, 0)
        elif damage == "records":
            damage_records(swarms / name)
        else:
            path.unlink()
        if damage == "folder":
            path.mkdir()
    sentence = refused_start(home)
    assert told in sentence
    assert f"{swarms}/a" in sentence
    assert "(and so are 1 more)" in sentence
    assert f"`swarmd journal check --state-dir {swarms.parent} a` says more" in sentence
    assert f"without {swarms}/a the others start" in sentence


def test_a_directory_of_a_newer_format_is_left_alone(home: Path, state: Path):
    left_by_a_daemon(home, "a")
    before = sorted(path.stat().st_mtime_ns for path in (state / "swarms").rglob("*"))
    (state / "format").write_text("2\n")
    sentence = refused_start(home)
    assert f"{state} was written by a newer version of swarmd (format 2; this one reads up to 1)" in sentence
    assert sentence.endswith("start that version, or give another --state-dir")
    assert sorted(path.stat().st_mtime_ns for path in (state / "swarms").rglob("*")) == before


def test_a_damaged_log_with_whole_commits_behind_is_no_torn_one(home: Path, swarms: Path):
    left_by_a_daemon(home, "a", "b", killed=True)
    log = swarms / "a" / "records-000001.db-wal"
    damaged(log, 32 + 24 + 4000)
    before = log.read_bytes()
    with running(home=home) as daemon, connected(daemon.address) as calls:
        refusal = refusal_of(calls.get, "a")
        assert f"{log} is damaged at byte 32, and events that were acknowledged stand behind it" in refusal.message
        assert_lives(calls, "b")
        assert daemon.stop() == 0
    assert log.read_bytes() == before, "nobody touched it"


def test_a_torn_tail_is_cut_off_with_a_warning(home: Path, swarms: Path):
    left_by_a_daemon(home, "a", killed=True)
    with (swarms / "a" / "records-000001.db-wal").open("ab") as file:
        file.write(bytes(777))
    with running(home=home) as daemon, connected(daemon.address) as calls:
        (warning,) = warnings_of(daemon)
        assert "777 bytes of a commit that was never finished were cut off" in warning
        assert warning.endswith("nothing in them had been acknowledged")
        assert not calls.get("a").paused
        assert_lives(calls, "a")


def test_a_swarm_that_lost_events_starts_paused_with_a_warning(home: Path, swarms: Path):
    left_by_a_daemon(home, "a", killed=True)
    mark = swarms / "a" / "mark"
    (seq,) = struct.unpack_from("<q", mark.read_bytes())
    ahead = struct.pack("<q", seq + 3)
    mark.write_bytes(ahead + struct.pack("<I", zlib.crc32(ahead)))
    with running(home=home) as daemon, connected(daemon.address) as calls:
        (warning,) = warnings_of(daemon)
        gone = f"the events {seq + 1} to {seq + 3} were acknowledged and are gone"
        assert warning == f"{swarms / 'a'} ends with event {seq}: {gone}"
        assert "the swarm is paused: look what its engine has, then resume it" in daemon.log
        assert calls.get("a").paused
        assert daemon.stop() == 0
    with running(home=home) as daemon, connected(daemon.address) as calls:
        assert "acknowledged and are gone" not in daemon.log.split("ready")[-1]
        assert calls.get("a").paused


def test_events_cut_from_the_end_of_a_log_are_noticed(home: Path, swarms: Path):
    left_by_a_daemon(home, "a", killed=True)
    log = swarms / "a" / "records-000001.db-wal"
    os.truncate(log, log.stat().st_size - 100)
    with running(home=home) as daemon, connected(daemon.address) as calls:
        (warning,) = warnings_of(daemon)
        assert "acknowledged and" in warning
        assert calls.get("a").paused
