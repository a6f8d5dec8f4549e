"""The folder of a swarm: what was acknowledged comes back, damage is contained, and nothing is lost without a word."""

import random
import shutil
import sqlite3
import stat
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from swarmd.core.change import Change
from swarmd.core.comparing import differences
from swarmd.core.errors import AlreadyExistsError, DamagedError, InvalidInputError, NotFoundError, StorageError
from swarmd.core.events import Created, Loaded, LoadPart, SwarmSettings
from swarmd.core.freezing import freeze
from swarmd.core.swarm import Swarm
from swarmd.journal.directory import StateDirectory
from swarmd.journal.encoding import encode
from swarmd.journal.segment import Record
from swarmd.journal.store import MARK, SwarmStore
from tests.core.test_freezing import A_LONG_LIFE, CREATED, lived, told_again
from tests.journal.stores import after_a_crash, flipped, keep_snapshot, records_of, stored, swarm_after, write

LIFE = lived(A_LONG_LIFE * 4)
TOLD = LIFE.told
LAST = 1 + len(TOLD)
HALF = next(
    place for place in range(len(TOLD) // 2, len(TOLD)) if not isinstance(TOLD[place][0], (LoadPart, Loaded))
)  # a snapshot is never made within a load


@cache
def expected(seq: int) -> Swarm:
    return swarm_after(LIFE, seq)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "s"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# -- there and back ----------------------------------------------------------------------------------------------------


def test_a_new_swarm_comes_back(folder):
    SwarmStore.create(folder, CREATED, 1.5)
    recovered = SwarmStore(folder).recover()
    assert (recovered.seq, recovered.events, recovered.lost, recovered.warnings) == (1, 1, 0, [])
    assert differences(recovered.swarm, Swarm(CREATED, 1.5)) == []


@pytest.mark.parametrize("snapshot_after", [None, 0, HALF, len(TOLD)])
@pytest.mark.parametrize("at_once", [1, 7, 1000])
def test_a_life_comes_back_after_a_crash_and_after_a_close(folder, at_once, snapshot_after):
    store = stored(folder, TOLD, at_once=at_once, snapshot_after=snapshot_after)
    killed = after_a_crash(store, folder.with_name("killed"))
    store.rest()
    for each in (killed, store):
        recovered = each.recover()
        assert (recovered.seq, recovered.lost, recovered.warnings) == (LAST, 0, [])
        assert recovered.events == (LAST if snapshot_after is None else len(TOLD) - snapshot_after)
        assert differences(recovered.swarm, LIFE.swarm) == []


def test_changes_since_the_snapshot_are_published_in_their_order(folder):
    stored(folder, TOLD, snapshot_after=HALF).rest()
    changes: list[Change] = []
    recovered = SwarmStore(folder).recover(changes.append)
    revisions = [change.revision for change in changes]
    assert revisions == list(range(expected(1 + HALF).state.revision + 1, recovered.swarm.state.revision + 1))


def test_it_goes_on_where_it_ended(folder):
    stored(folder, TOLD[:HALF]).rest()
    store = SwarmStore(folder)
    assert store.recover().seq == 1 + HALF
    write(store, TOLD[HALF:], first=2 + HALF)
    store.rest()
    assert differences(SwarmStore(folder).recover().swarm, LIFE.swarm) == []


def test_a_load_that_was_never_completed_leaves_nothing_behind(folder):
    place = next(place for place, (event, _) in enumerate(TOLD) if isinstance(event, Loaded) and place > HALF)
    stored(folder, TOLD[:place]).rest()
    swarm = SwarmStore(folder).recover().swarm
    assert swarm.parts_under_way == 0
    freeze(swarm)


def test_files_are_their_users_alone(folder):
    store = stored(folder, TOLD, snapshot_after=HALF)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    assert len(names(folder)) == 4
    store.rest()


def test_a_swarm_that_cannot_be_made_leaves_nothing(folder):
    folder.write_text("something else")
    with pytest.raises(StorageError, match="cannot be written to"):
        SwarmStore.create(folder, CREATED, 1.5)
    assert names(folder.parent) == ["s"]


def test_what_was_refused_is_cut_before_it_goes_on(folder):
    store = stored(folder, TOLD[:20])
    store.append(records_of(TOLD)[20:22])
    store.probe(21)
    store.append(records_of(TOLD)[20:21])
    assert differences(after_a_crash(store, folder.with_name("copy")).recover().swarm, expected(22)) == []


def test_a_folder_that_is_gone_is_told_when_something_is_to_be_written(folder):
    store = stored(folder, TOLD[:3])
    store.rest()
    shutil.rmtree(folder)
    with pytest.raises(StorageError, match=str(folder)):
        store.append(records_of(TOLD)[3:4])


# -- snapshots ---------------------------------------------------------------------------------------------------------


def test_a_snapshot_makes_what_is_before_it_go(folder):
    store = stored(folder, TOLD[:HALF])
    size = keep_snapshot(store, TOLD[:HALF])
    assert names(folder) == [MARK, "records-000002.db", "records-000002.db-wal", f"snapshot-{1 + HALF:09}.bin"]
    assert (folder / f"snapshot-{1 + HALF:09}.bin").stat().st_size == size
    write(store, TOLD[HALF:], first=2 + HALF)
    keep_snapshot(store, TOLD)
    store.rest()
    assert names(folder) == [MARK, "records-000003.db", f"snapshot-{LAST:09}.bin"]


def test_events_between_the_switch_and_the_snapshot_are_kept(folder):
    store = stored(folder, TOLD[:HALF])
    store.switch(store.prepare_segment())
    write(store, TOLD[HALF:], first=2 + HALF)
    killed = after_a_crash(store, folder.with_name("killed"))
    assert differences(killed.recover().swarm, LIFE.swarm) == []
    store.keep_snapshot(1 + HALF, freeze(expected(1 + HALF)))
    assert differences(after_a_crash(store, folder.with_name("later")).recover().swarm, LIFE.swarm) == []


def test_a_snapshot_that_fails_leaves_everything_as_it_was(folder):
    store = stored(folder, TOLD[:HALF])
    blocked = folder / f"snapshot-{1 + HALF:09}.bin.tmp"
    blocked.mkdir()
    with pytest.raises(StorageError, match="cannot be written to"):
        keep_snapshot(store, TOLD[:HALF])
    write(store, TOLD[HALF:], first=2 + HALF)
    blocked.rmdir()
    assert names(folder)[1:3] == ["records-000001.db", "records-000002.db"]
    assert differences(after_a_crash(store, folder.with_name("killed")).recover().swarm, LIFE.swarm) == []


def test_a_segment_that_cannot_be_made_leaves_nothing(folder):
    store = stored(folder, TOLD[:HALF])
    (folder / "records-000002.db.tmp").mkdir()
    with pytest.raises(StorageError):
        store.prepare_segment()
    (folder / "records-000002.db.tmp").rmdir()
    assert names(folder) == [MARK, "records-000001.db", "records-000001.db-wal"]


def test_a_damaged_snapshot_is_passed_over_when_an_older_one_reaches_as_far(folder):
    store = stored(folder, TOLD[:HALF], snapshot_after=10)
    older = (folder / "snapshot-000000011.bin").read_bytes(), (folder / "records-000002.db").read_bytes()
    log = (folder / "records-000002.db-wal").read_bytes()
    keep_snapshot(store, TOLD[:HALF])
    write(store, TOLD[HALF:], first=2 + HALF)
    store.rest()
    (folder / "snapshot-000000011.bin").write_bytes(older[0])  # as if it had been killed before it removed these
    (folder / "records-000002.db").write_bytes(older[1])
    (folder / "records-000002.db-wal").write_bytes(log)
    latest = folder / f"snapshot-{1 + HALF:09}.bin"
    latest.write_bytes(flipped(latest.read_bytes(), 3000))
    recovered = SwarmStore(folder).recover()
    assert differences(recovered.swarm, LIFE.swarm) == []
    assert recovered.lost == 0
    (warning,) = recovered.warnings
    assert str(latest) in warning
    assert warning.endswith("; an older one and the events since then were taken instead")


@pytest.mark.parametrize("how", ["flipped", "a folder"])
def test_without_its_snapshot_the_events_from_the_beginning_do(folder, how):
    store = stored(folder, TOLD)
    shutil.copytree(folder, folder.with_name("whole"))
    keep_snapshot(store, TOLD)
    snapshot = folder.with_name("whole") / f"snapshot-{LAST:09}.bin"
    if how == "flipped":
        snapshot.write_bytes(flipped((folder / snapshot.name).read_bytes(), 100))
    else:
        snapshot.mkdir()
    recovered = SwarmStore(snapshot.parent).recover()
    assert differences(recovered.swarm, LIFE.swarm) == []
    assert recovered.warnings[0].endswith("; the events since the beginning were taken instead")


@pytest.mark.parametrize("damage", ["flipped", "cut", "gone"])
def test_without_its_only_snapshot_a_swarm_is_damaged(folder, damage):
    stored(folder, TOLD, snapshot_after=HALF).rest()
    snapshot = folder / f"snapshot-{1 + HALF:09}.bin"
    whole = snapshot.read_bytes()
    snapshot.write_bytes(flipped(whole, 5000) if damage == "flipped" else whole[:5000])
    if damage == "gone":
        snapshot.unlink()
    with pytest.raises(DamagedError, match=str(folder)) as caught:
        SwarmStore(folder).recover()
    if damage == "gone":
        assert caught.value.message == f"the events 1 to {1 + HALF} in {folder} are missing"


# -- damage ------------------------------------------------------------------------------------------------------------


def test_acknowledged_events_that_are_gone_are_counted_and_told(folder):
    store = stored(folder, TOLD)
    log = store.folder / "records-000001.db-wal"
    sizes = log.stat().st_size
    killed = after_a_crash(store, folder.with_name("killed"))
    with (killed.folder / log.name).open("r+b") as file:
        file.truncate(sizes - 3 * 4120)
    recovered = killed.recover()
    assert recovered.lost > 0
    assert recovered.seq + recovered.lost == LAST
    gone = f"event {LAST} was" if recovered.lost == 1 else f"the events {recovered.seq + 1} to {LAST} were"
    verb = "is" if recovered.lost == 1 else "are"
    assert recovered.warnings == [
        f"{killed.folder} ends with event {recovered.seq}: {gone} acknowledged and {verb} gone"
    ]
    assert differences(recovered.swarm, expected(recovered.seq)) == []


def test_a_commit_that_was_never_finished_is_cut_off_with_a_warning(folder):
    store = stored(folder, TOLD)
    killed = after_a_crash(store, folder.with_name("killed"))
    with (killed.folder / "records-000001.db-wal").open("ab") as file:
        file.write(bytes(1000))
    recovered = killed.recover()
    what = "1000 bytes of a commit that was never finished were cut off"
    sentence = f"{killed.folder} ends with event {LAST}: {what}; nothing in them had been acknowledged"
    assert (recovered.warnings, recovered.lost) == ([sentence], 0)
    assert killed.recover().warnings == []


@pytest.mark.parametrize("mark", [b"", b"short", bytes(12), b"x" * 12])
def test_a_mark_that_is_wrong_says_nothing(folder, mark):
    stored(folder, TOLD[:5]).rest()
    (folder / MARK).write_bytes(mark)
    recovered = SwarmStore(folder).recover()
    assert (recovered.seq, recovered.lost, recovered.warnings) == (6, 0, [])


def edited(folder: Path, statement: str, *values: object) -> None:
    connection = sqlite3.connect(folder / "records-000001.db")
    connection.execute(statement, values)
    connection.commit()
    connection.close()


@pytest.mark.parametrize(
    ("seqs", "sentence"),
    [
        ("= 7", "event 7 in {} is missing"),
        ("BETWEEN 7 AND 9", "the events 7 to 9 in {} are missing"),
        ("= 1", "event 1 in {} is missing"),
        ("> 0", "{} holds neither a snapshot nor any events"),
    ],
)
def test_events_that_are_missing_are_named(folder, seqs, sentence):
    stored(folder, TOLD[:20]).rest()
    edited(folder, f"DELETE FROM record WHERE seq {seqs}")
    with pytest.raises(DamagedError) as caught:
        SwarmStore(folder).recover()
    assert caught.value.message == sentence.format(folder)


@pytest.mark.parametrize(
    ("record", "sentence"),
    [
        (Record(1, 2.0, encode(TOLD[0][0])), "event 1 in {} is damaged: it is the first, and does not say how"),
        (Record(2, 2.0, encode(CREATED)), "event 2 in {} is damaged: the swarm s is created a second time"),
        (Record(2, 2.0, b"\xff\xff"), "event 2 in {} is damaged: it cannot be read as an event"),
        (Record(2, 2.0, b"\xea\x04\x00"), "event 2 in {} is damaged: it is of a kind that this version does not know"),
        (Record(4, 2.0, encode(TOLD[1][0])), "event 4 in {} does not fit what was before it: "),
    ],
)
def test_an_event_that_makes_no_sense_is_named(folder, record, sentence):
    store = stored(folder, TOLD[: max(0, record.seq - 2)])
    if record.seq == 1:
        store.probe(0)
    store.append([record])
    store.rest()
    with pytest.raises(DamagedError) as caught:
        SwarmStore(folder).recover()
    assert caught.value.message.startswith(sentence.format(folder))


@pytest.mark.parametrize("name", ["records-000001.db", "records-000001.db-wal"])
def test_a_file_that_cannot_be_read_is_damage(folder, name):
    """Another error than damage would keep the other swarms from starting."""
    stored(folder, TOLD[:5]).rest()
    (folder / name).unlink(missing_ok=True)
    (folder / name).mkdir()
    with pytest.raises(DamagedError, match=f"{folder / name} cannot be read: Is a directory"):
        SwarmStore(folder).recover()


# -- the directory around it -------------------------------------------------------------------------------------------


@pytest.fixture
def directory(tmp_path: Path):
    made = StateDirectory(tmp_path)
    made.claim()
    yield made
    made.release()


def created(name: str) -> Created:
    return Created(SwarmSettings(name), token="t1")


def test_swarms_are_found_by_name(directory):
    for name in ("b", "a"):
        directory.create(created(name), 1.0)
    assert [store.folder.name for store in directory.stores()] == ["a", "b"]
    assert directory.store("a").recover().swarm.state.swarm_id == "a"
    for name in ("c", ".deleted-a", "../swarms/a", ""):
        with pytest.raises((NotFoundError, InvalidInputError)):
            directory.store(name)


def test_a_swarm_that_is_deleted_gives_its_space_back(directory):
    store = directory.create(created("s"), 1.0)
    before = used(directory.path)
    store.append([Record(2, 1.0, bytes(5_000_000))])
    assert used(directory.path) > before + 4_000_000
    directory.delete(store)
    assert used(directory.path) < before
    assert names(directory.swarms) == []
    directory.delete(store)
    directory.create(created("s"), 1.0)


def used(path: Path) -> int:
    return sum(each.stat().st_blocks * 512 for each in path.rglob("*"))


def test_what_an_earlier_daemon_left_half_made_is_cleared_away(directory):
    store = directory.create(created("s"), 1.0)
    store.rest()
    directory.release()
    for name in (".creating-x-t", ".deleted-y-t"):
        (directory.swarms / name).mkdir()
        (directory.swarms / name / "records-000001.db").write_bytes(b"half")
    for name in ("snapshot-000000009.bin.tmp", "records-000002.db.tmp", "records-000002.db.tmp-wal"):
        (store.folder / name).write_bytes(b"half")
    assert store.recover().warnings == []
    directory.claim()
    assert [path.relative_to(directory.swarms).as_posix() for path in directory.swarms.rglob("*")] == [
        "s",
        "s/records-000001.db",
    ]


def test_only_one_has_a_directory_at_a_time(directory):
    with pytest.raises(AlreadyExistsError, match=r"a daemon \(process \d+\) has .* already; use that one, stop it"):
        StateDirectory(directory.path).claim()
    directory.release()
    other = StateDirectory(directory.path)
    other.claim()
    other.release()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "2\n",
            r"was written by a newer version of swarmd \(format 2; this one reads up to 1\); start that version, or",
        ),
        ("", "says '' and not which format the directory has; write 1 into it if"),
        ("none of ours", "says 'none of ours' and not which format"),
        ("0", "says '0' and not which format"),
    ],
)
def test_another_format_of_the_directory_is_refused(directory, text, sentence):
    directory.release()
    (directory.path / "format").write_text(text)
    for _ in range(2):  # whoever was refused does not keep others out
        with pytest.raises(DamagedError, match=sentence) as caught:
            StateDirectory(directory.path).claim()
        assert str(directory.path) in caught.value.message


# -- a campaign --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lives(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """One life as four daemons left it: killed and closed, without a snapshot and with one."""
    folder = tmp_path_factory.mktemp("lives")
    found = []
    for name, snapshot_after in (("events", None), ("snapshot", HALF)):
        store = stored(folder / name, TOLD, at_once=3, snapshot_after=snapshot_after)
        found += [after_a_crash(store, folder / f"{name}-killed").folder, folder / name]
        store.rest()
    return found


def test_damage_anywhere_leads_to_the_sentence_or_to_a_state_that_there_was(lives, tmp_path):
    outcomes = Counter(one_damage(lives, tmp_path / str(number), random.Random(number)) for number in range(150))
    assert outcomes["whole"] > 10
    assert outcomes["lost"] > 5
    assert outcomes["refused"] > 50


def one_damage(lives: list[Path], copy: Path, dice: random.Random) -> str:
    """Damage a copy of a life in one place, and say what became of it; anything wrong fails the test."""
    shutil.copytree(dice.choice(lives), copy)
    damaged = dice.choice(sorted(copy.iterdir()))
    damage(damaged, dice)
    recovered = refusal = None
    try:
        recovered = SwarmStore(copy).recover()
    except DamagedError as error:
        refusal = error.message
    shutil.rmtree(copy)
    if recovered is None:
        assert str(copy) in str(refusal)
        return "refused"
    assert differences(recovered.swarm, expected(recovered.seq)) == []
    if damaged.name == MARK:
        assert (recovered.seq, recovered.lost) == (LAST, 0)
        return "whole"
    assert recovered.lost == LAST - recovered.seq
    if recovered.lost:
        assert "acknowledged and" in recovered.warnings[-1]
        return "lost"
    return "whole"


def damage(path: Path, dice: random.Random) -> None:
    """Flip bits, cut the file, remove it, or overwrite a stretch of it."""
    data = path.read_bytes()
    at = dice.randrange(len(data))
    kind = dice.choice(["flip", "flip", "flip near the beginning", "cut", "gone", "zeros", "noise"])
    if kind == "gone":
        path.unlink()
        return
    if kind == "cut":
        path.write_bytes(data[:at])
        return
    at = at % 200 if kind.endswith("beginning") else at
    if kind.startswith("flip"):
        path.write_bytes(flipped(data, at, dice.randrange(1, 256)))
        return
    length = min(len(data) - at, dice.choice([1, 16, 512, 4096]))
    path.write_bytes(data[:at] + (bytes(length) if kind == "zeros" else dice.randbytes(length)) + data[at + length :])


def test_a_life_is_told_twice_the_same():
    assert differences(told_again(TOLD), LIFE.swarm) == []
