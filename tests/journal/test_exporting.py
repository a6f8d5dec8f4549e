"""Export and import: the same swarm again, a problem for everything that could not be read, and nothing half made."""

import contextlib
import json
import shutil
import sqlite3
from pathlib import Path

import pytest

from swarmd.core.comparing import differences
from swarmd.core.errors import InvalidInputError
from swarmd.journal.exporting import exported, imported, write_lines
from swarmd.journal.store import SwarmStore
from tests.core.test_freezing import lived
from tests.journal.record import RECORDED
from tests.journal.stores import after_a_crash, stored, swarm_after


def lines_of(store: SwarmStore) -> tuple[list[str], list[str]]:
    """The lines, and the problems among them."""
    written: list[str] = []
    problems = write_lines(exported(store), written.append)
    return written, problems


def taken_in(lines: list[str], folder: Path, until: int | None = None) -> SwarmStore:
    store = SwarmStore(folder)
    imported(lines, lambda _: store, until=until)
    return store


@pytest.mark.parametrize("snapshot_after", [None, 0, 40])
def test_what_was_exported_whole_is_the_same_swarm_again(tmp_path, snapshot_after):
    life = lived()
    store = stored(tmp_path / "s", life.told, snapshot_after=snapshot_after)
    store.rest()
    lines, problems = lines_of(store)
    again = taken_in(lines, tmp_path / "again").recover()

    assert problems == []
    assert again.seq == 1 + len(life.told)
    assert differences(life.swarm, again.swarm) == []
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_snapshot_of_the_first_format_is_exported_and_taken_in(tmp_path):
    recorded = SwarmStore(Path(shutil.copytree(RECORDED / "0.1.0" / "snapshot", tmp_path / "s")))
    lines, problems = lines_of(recorded)
    assert problems == []
    assert differences(recorded.recover().swarm, taken_in(lines, tmp_path / "again").recover().swarm) == []


def test_every_line_is_json_that_people_can_read(tmp_path):
    store = stored(tmp_path / "s", lived().told, snapshot_after=40)
    store.rest()
    lines = [json.loads(line) for line in lines_of(store)[0]]
    assert lines[0] == {"journal": {"swarm_id": "s", "format": 2}}
    status = next(line for line in lines if line.get("column") == "status")
    assert set(status["values"]) <= set(range(9))
    assert all({"seq", "at", "event"} == set(line) for line in lines if "event" in line)


def test_what_cannot_be_read_is_told_and_the_rest_is_there(tmp_path):
    store = stored(tmp_path / "s", lived().told)
    store.rest()
    copy = after_a_crash(store, tmp_path / "copy")
    with contextlib.closing(sqlite3.connect(copy.folder / "records-000001.db")) as connection, connection:
        connection.execute("UPDATE record SET crc = crc + 1 WHERE seq = 20")
    whole, (lines, problems) = lines_of(store)[0], lines_of(copy)

    assert [problem.split()[:2] for problem in problems] == [["record", "20"], ["the", "events"]]
    readable = [line for line in lines[1:] if "problem" not in line]
    assert readable == [line for line in whole[1:] if '"seq":20,' not in line]


def test_a_gap_is_refused_and_what_is_before_it_can_be_had(tmp_path):
    life = lived()
    store = stored(tmp_path / "s", life.told)
    store.rest()
    lines, _ = lines_of(store)
    at = next(number for number, line in enumerate(lines) if '"seq":12,' in line)
    cut = [*lines[:at], *lines[at + 1 :]]
    with pytest.raises(InvalidInputError, match=rf"line {at + 1}: .* event 12 is missing; with `--until 11`"):
        taken_in(cut, tmp_path / "no")
    assert not (tmp_path / "no").exists()
    again = taken_in(cut, tmp_path / "yes", until=11).recover()

    assert again.seq == 12
    assert again.swarm.state.paused, "its engine may have more than it knows of"
    before = swarm_after(life, 11)
    before.state.paused = True
    before.state.revision += 1
    assert differences(before, again.swarm) == []


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["{"], "line 1: it is not what"),
        (['{"seq": 1}'], "line 1: it is not what"),
        (['{"journal": {"swarm_id": "s", "format": 99}}'], "its format is 99"),
        (['{"journal": {"swarm_id": "s", "format": 1}}'], "neither a snapshot nor the event that created"),
        (['{"problem": "event 3 is damaged"}'], "with `--until 0` what is before it is taken"),
        (['{"seq": 1, "at": 1.0, "event": {"nothing": {}}}'], "line 1"),
        (['{"column": "unknown", "values": []}'], "line 1"),
        ([], "neither"),
    ],
)
def test_what_is_no_export_is_refused_with_the_line(tmp_path, lines, said):
    with pytest.raises(InvalidInputError, match=said):
        taken_in(lines, tmp_path / "s")
    assert list(tmp_path.iterdir()) == []
