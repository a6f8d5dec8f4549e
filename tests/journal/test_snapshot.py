"""The file of a snapshot: wholly there or not at all, and no damage to it goes unseen."""

import json
import stat
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from swarmd.core.checks import inconsistencies
from swarmd.core.comparing import differences
from swarmd.core.errors import DamagedError
from swarmd.core.freezing import Section, freeze
from swarmd.journal import snapshot
from swarmd.journal.snapshot import load_snapshot, read_snapshot, take_snapshot, write_snapshot
from tests.core.test_freezing import Life, lived, steps, told_again

PIECE = snapshot.ITEMS_AT_ONCE
POINTS = ["snapshot.begun", "snapshot.half", "snapshot.written", "snapshot.renamed"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "swarm.snapshot"


def some_sections(*, chunks: int = 3) -> Iterator[Section]:
    yield "facts", [b'{"size": 3}']
    yield "status", (bytes([each]) * 10 for each in range(chunks))
    yield "nothing", []


@settings(max_examples=25, deadline=timedelta(seconds=5), suppress_health_check=list(HealthCheck))
@given(before=steps, meanwhile=steps)
def test_a_swarm_comes_back_as_it_was_when_it_was_frozen(tmp_path_factory, before, meanwhile):
    path = tmp_path_factory.mktemp("journal") / "swarm.snapshot"
    life = lived(before)
    then = len(life.told)
    frozen = freeze(life.swarm)
    life.go_on(meanwhile)
    assert take_snapshot(path, 17, frozen) == path.stat().st_size
    seq, swarm = load_snapshot(path)
    assert seq == 17
    assert differences(swarm, told_again(life.told[:then])) == []
    assert inconsistencies(swarm.state) == []


@pytest.mark.parametrize(
    "length", [0, 1, snapshot.ITEMS_AT_ONCE, snapshot.ITEMS_AT_ONCE + 1, 3 * snapshot.ITEMS_AT_ONCE]
)
def test_facts_are_written_in_pieces(length):
    facts = {"before": {"a": [1]}, "é": [{"n": [n, None, "\u2028"]} for n in range(length)], "after": [], "last": 1.5}
    pieces = list(snapshot.json_pieces(facts))
    assert json.loads(b"".join(pieces)) == facts
    assert max(map(len, pieces)) < 40 * PIECE
    assert b"".join(snapshot.json_pieces({})) == b"{}"


def test_sections_come_back_in_one_piece_each(path):
    size = write_snapshot(path, 2**40, some_sections())
    seq, sections = read_snapshot(path)
    assert (seq, size) == (2**40, path.stat().st_size)
    assert {name: bytes(section) for name, section in sections.items()} == {
        "facts": b'{"size": 3}',
        "status": bytes(10) + b"\1" * 10 + b"\2" * 10,
        "nothing": b"",
    }


def test_nobody_else_may_read_it(path):
    write_snapshot(path, 1, some_sections())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_new_snapshot_takes_the_place_of_the_old_one(path):
    write_snapshot(path, 1, some_sections())
    write_snapshot(path, 2, some_sections(chunks=1))
    assert read_snapshot(path)[0] == 2
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_the_points_that_a_crash_may_come_at_are_told_in_order(path):
    seen: list[tuple[str, bool]] = []
    write_snapshot(path, 1, some_sections(), reach=lambda point: seen.append((point, path.exists())))
    assert seen == list(zip(POINTS, [False, False, False, True], strict=True))


@pytest.mark.parametrize("point", POINTS)
def test_an_error_leaves_the_old_snapshot_or_the_new_one_and_nothing_else(path, point):
    def fail(reached: str) -> None:
        if reached == point:
            raise OSError("no space left on device")

    write_snapshot(path, 1, some_sections())
    with pytest.raises(OSError, match="no space left"):
        write_snapshot(path, 2, some_sections(), reach=fail)
    assert read_snapshot(path)[0] == (2 if point == "snapshot.renamed" else 1)
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_an_error_in_a_section_leaves_nothing_behind(path):
    def broken() -> Iterator[Section]:
        yield "status", [b"1"]
        raise ValueError("cannot be encoded")

    with pytest.raises(ValueError, match="cannot be encoded"):
        write_snapshot(path, 1, broken())
    assert list(path.parent.iterdir()) == []


CRASHING = """
import os, signal, sys
from pathlib import Path
from swarmd.journal.snapshot import write_snapshot

def crash(point):
    if point == sys.argv[2]:
        os.kill(os.getpid(), signal.SIGKILL)

write_snapshot(Path(sys.argv[1]), 2, [("facts", [b"{}"]), ("status", [bytes(100_000)])], reach=crash)
"""


@pytest.mark.parametrize("point", POINTS)
def test_a_killed_writer_leaves_the_old_snapshot_or_the_new_one(path, point):
    write_snapshot(path, 1, some_sections())
    ended = subprocess.run([sys.executable, "-c", CRASHING, path, point], check=False)
    assert ended.returncode == -9
    assert read_snapshot(path)[0] == (2 if point == "snapshot.renamed" else 1)
    write_snapshot(path, 3, some_sections())  # what the killed one left is in nobody's way
    assert [each.name for each in path.parent.iterdir()] == [path.name]


# -- damage ------------------------------------------------------------------------------------------------------------


def test_every_flipped_bit_is_found(path):
    write_snapshot(path, 5, some_sections())
    whole = path.read_bytes()
    for at in range(len(whole)):
        for bit in range(8):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :])
            with pytest.raises(DamagedError, match=r"is damaged|is cut off|newer version"):
                read_snapshot(path)


def test_every_truncation_is_found(path):
    write_snapshot(path, 5, some_sections())
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(DamagedError, match=f"swarm.snapshot is cut off after {length} bytes"):
            read_snapshot(path)


def test_what_follows_a_snapshot_is_found(path):
    write_snapshot(path, 5, some_sections())
    path.write_bytes(path.read_bytes() * 2)
    with pytest.raises(DamagedError, match=r"not as long as its index says|do not match their checksum"):
        read_snapshot(path)


def test_damage_is_told_with_the_file_and_the_section(path):
    write_snapshot(path, 5, some_sections())
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"\1" * 10, b"\1" * 9 + b"\2"))
    with pytest.raises(DamagedError) as caught:
        read_snapshot(path)
    assert caught.value.message == f'{path} is damaged: section "status" does not match its checksum'


def test_a_file_of_another_kind_is_told(path):
    path.write_bytes(b"\x7fELF" + bytes(100))
    with pytest.raises(DamagedError, match="it does not begin as a snapshot does"):
        read_snapshot(path)


def test_a_snapshot_of_a_newer_version_is_told(path, monkeypatch):
    with monkeypatch.context() as newer:
        newer.setattr(snapshot, "FORMAT", 7)
        write_snapshot(path, 5, some_sections())
    with pytest.raises(DamagedError) as caught:
        read_snapshot(path)
    sentence = f"{path} was written by a newer version of swarmd (format 7; this one reads up to {snapshot.FORMAT})"
    assert caught.value.message == sentence


@pytest.mark.parametrize("facts", [b"", b"{", b"[]", b"{}", b'"x"', b"\xff\xff\xff\xff"])
def test_facts_that_are_none_are_told_with_the_file(path, facts):
    write_snapshot(path, 5, [("facts", [facts])])
    with pytest.raises(DamagedError, match=f"{path} is damaged: "):
        load_snapshot(path)


def test_sections_that_do_not_fit_are_told_with_the_file(path):
    frozen = freeze(Life().swarm)
    sections = [(name, [b""] if name == "status" else chunks) for name, chunks in frozen.sections()]
    write_snapshot(path, 5, [("facts", [json.dumps(frozen.facts()).encode()]), *sections])
    with pytest.raises(DamagedError, match=f"{path} is damaged: status has 0 elements instead of"):
        load_snapshot(path)
