"""What is read from status files, whole, torn and strange, and who may create them."""

import os
import stat
import time

import pytest

from swarmd.core.model import MAX_REASON_BYTES
from swarmd.core.status import TaskStatus
from swarmd.gateways.local.launcher.files import NOT_BEGUN
from swarmd.gateways.local.procfs import boot_id, seconds_since, stat_of
from swarmd.gateways.local.status_file import Absent, Claimed, Started, Unbegun, Unclear, claim, read_status
from swarmd.gateways.output import output_paths, status_path
from tests.gateways.local.earlier_daemon import EarlierDaemon, next_daemon, same_batch
from tests.gateways.recording import SWARM

START = f"17 4711 {boot_id()}\n"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "logs" / "7" / "1.1.t.status"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (START, None),
        (START + "0\n", 0),
        (START + "137\n", 137),
        (START + "1", None),
        (START + "137", None),
    ],
)
def test_an_exit_code_counts_only_when_its_line_is_whole(tmp_path, text, code):
    path = tmp_path / "status"
    path.write_text(text)
    assert read_status(path) == Started(17, 4711, boot_id(), code)


@pytest.mark.parametrize(
    "text", ["", START[:-1], START[:10], "nev", "never", "hello\n", START + "x\n", START + "0\n0\n", "\0" * 60]
)
def test_anything_else_says_nothing(tmp_path, text):
    path = tmp_path / "status"
    path.write_text(text)
    status = read_status(path)
    assert isinstance(status, Unclear)
    assert str(path) in status.why


def test_what_is_no_file_says_nothing_and_blocks_nobody(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_text(START)
    (tmp_path / "link").symlink_to(tmp_path / "file")
    for name in ("pipe", "link", "file/below"):
        assert isinstance(read_status(tmp_path / name), Unclear)


def test_no_file_is_no_start(path):
    assert read_status(path) == Absent()


def test_a_claim_is_made_once(path):
    assert claim(path)
    assert read_status(path) == Claimed()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not claim(path)


def test_a_start_that_was_cut_off_is_no_start_and_no_claim(path):
    path.parent.mkdir(parents=True)
    path.write_bytes(NOT_BEGUN)
    assert read_status(path) == Unbegun()
    assert not claim(path)


def test_what_was_started_cannot_be_claimed(path):
    path.parent.mkdir(parents=True)
    path.write_text(START)
    assert not claim(path)
    assert isinstance(read_status(path), Started)


def test_swarms_that_had_an_id_one_after_the_other_share_no_status_file(tmp_path):
    paths = {status_path(tmp_path, "s", 1, 2, 3, token) for token in ("a", "b", "../c", "d/e")}
    assert len(paths) == 4
    assert {path.parent for path in paths} == {tmp_path / "s" / "1"}


def test_the_age_of_a_process_counts_from_its_start():
    own = stat_of(os.getpid())
    assert own is not None
    before = seconds_since(own.start_ticks)
    time.sleep(0.05)
    assert 0.04 < seconds_since(own.start_ticks) - before < 5
    assert stat_of(2**22 + 1) is None


@pytest.mark.parametrize("text", ["", START[:-1], "nonsense\n"])
async def test_an_attempt_whose_status_file_says_nothing_has_vanished(tmp_path, text):
    earlier = EarlierDaemon(tmp_path)
    earlier.status().parent.mkdir(parents=True)
    earlier.status().write_text(text)
    async with next_daemon(tmp_path) as engine:
        await engine.gateway.resume([same_batch("true")])
        await engine.record.ended(1)
        assert engine.record.end_of(1) == (
            TaskStatus.ERROR_RECOVERABLE,
            f"its status file {earlier.status()} cannot be understood",
        )


async def test_a_torn_exit_line_is_no_exit_code(tmp_path):
    earlier = EarlierDaemon(tmp_path)
    earlier.status().parent.mkdir(parents=True)
    earlier.status().write_text(f"{2**22 + 1} 1 {boot_id()}\n0")
    async with next_daemon(tmp_path) as engine:
        await engine.gateway.resume([same_batch("true")])
        await engine.record.ended(1)
        assert engine.record.end_of(1)[1].startswith("it vanished while no daemon was there")


async def test_a_log_directory_that_is_none_fails_the_attempt_with_words(tmp_path):
    async with next_daemon(tmp_path) as engine:
        engine.gateway.log_directory.rmdir()
        engine.gateway.log_directory.write_text("in the way")
        await engine.run("true")
        assert engine.record.end_of(1)[1].startswith("its output file could not be opened: Not a directory: ")
        await engine.gateway.resume([same_batch("true")])
        await engine.record.until(lambda: len(engine.record.news) == 2)
        assert "cannot be read: Not a directory" in engine.record.news[1][-1]


async def test_why_nothing_is_known_fits_into_a_reason_wherever_the_file_is(tmp_path):
    """News with a longer reason would be refused as a whole, and a name that is no text could not be written down."""
    folder = tmp_path.joinpath(*["d" * 200] * 6) / os.fsdecode(b"caf\xe9")
    earlier = EarlierDaemon(folder)
    earlier.status().parent.mkdir(parents=True)
    earlier.status().write_text("garbage")
    output_paths(earlier.logs, SWARM, 7, 1, 1).err.write_bytes(b"\1" * 3000)
    async with next_daemon(folder) as engine:
        await engine.gateway.resume([same_batch("true")])
        await engine.record.ended(1)
        status, reason = engine.record.end_of(1)
    assert status is TaskStatus.ERROR_RECOVERABLE
    assert reason.startswith("its status file ")
    assert reason.endswith("\\x01")
    assert len(reason.encode()) <= MAX_REASON_BYTES
