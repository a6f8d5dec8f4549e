"""Journals that released versions wrote: this one reads them as they were meant."""

import json
import shutil
from pathlib import Path
from typing import Any, get_args

import pytest

from swarmd.core.checks import inconsistencies
from swarmd.core.comparing import differences
from swarmd.core.events import BatchesHandedOut, Created, Event
from swarmd.core.freezing import freeze
from swarmd.journal.encoding import decode
from swarmd.journal.store import SwarmStore
from tests.journal.record import EXPECTED, FORMATS, RECORDED, account_of, record

VERSIONS = sorted(path.name for path in RECORDED.iterdir())
LATER = {"0.1.0": {BatchesHandedOut}, "0.1.0-queues": {BatchesHandedOut}}
"""Kinds of events that a version did not know yet."""


def expected(version: str) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((RECORDED / version / EXPECTED).read_text())
    return read


def copied(version: str, kind: str, to: Path) -> SwarmStore:
    """Reading a journal tidies it up: never the recording itself."""
    return SwarmStore(Path(shutil.copytree(RECORDED / version / kind, to / kind)))


def as_far_as_recorded(now: Any, then: Any) -> Any:
    """Without the fields that later versions added."""
    if isinstance(now, dict) and isinstance(then, dict):
        return {name: as_far_as_recorded(now[name], then[name]) if name in now else None for name in then}
    if isinstance(now, list) and isinstance(then, list) and len(now) == len(then):
        return [as_far_as_recorded(*each) for each in zip(now, then, strict=True)]
    return now


@pytest.mark.parametrize("kind", ["events", "snapshot"])
@pytest.mark.parametrize("version", VERSIONS)
def test_a_recorded_journal_comes_back_as_it_was(version, kind, tmp_path):
    told = expected(version)
    recovered = copied(version, kind, tmp_path).recover()
    assert (recovered.seq, recovered.lost, recovered.warnings) == (told["seq"], 0, [])
    account = account_of(recovered.swarm)
    for part, value in told["swarm"].items():
        assert as_far_as_recorded(account[part], value) == value, part
    assert inconsistencies(recovered.swarm.state) == []


@pytest.mark.parametrize("version", VERSIONS)
def test_with_a_snapshot_and_without_one_it_is_the_same_swarm(version, tmp_path):
    one, other = (copied(version, kind, tmp_path).recover().swarm for kind in ("events", "snapshot"))
    found = differences(one, other)
    if expected(version)["formats"]["snapshot"] < 2:  # it did not keep what attempts had asked for
        found = [each for each in found if not each.startswith("history.resources differs")]
    assert found == []


@pytest.mark.parametrize("version", VERSIONS)
def test_a_recorded_journal_is_gone_on_with(version, tmp_path):
    store = copied(version, "events", tmp_path)
    recovered = store.recover()
    store.switch(store.prepare_segment())
    store.keep_snapshot(recovered.seq, freeze(recovered.swarm))
    store.rest()
    assert differences(store.recover().swarm, recovered.swarm) == []


@pytest.mark.parametrize("version", VERSIONS)
def test_every_kind_of_event_is_recorded(version, tmp_path):
    for kind, but in (("events", set()), ("snapshot", {Created})):
        found = {type(decode(each.event)) for each in copied(version, kind, tmp_path).records()}
        assert found >= set(get_args(Event)) - but - LATER.get(version, set())


@pytest.mark.parametrize("version", VERSIONS)
def test_a_recording_holds_what_is_worth_to_be_seen(version):
    told = expected(version)["swarm"]
    assert told["batches"], "a batch is open"
    assert {task["status"] for task in told["tasks"]} >= {"G", "X", "Q", "D", "F"}
    assert all(told[part] for part in ("loads", "ticks", "unanswered", "arrays", "task_resources"))
    assert any(attempt["reason"] for attempts in told["attempts"] for attempt in attempts)


def test_the_present_format_is_recorded():
    """When this fails, a format was raised: record it with `python -m tests.journal.record`, beside the older ones."""
    assert FORMATS in [expected(version)["formats"] for version in VERSIONS]


def test_a_recording_is_never_written_over(tmp_path):
    record(tmp_path / "new")
    with pytest.raises(FileExistsError):
        record(tmp_path / "new")
