"""Paths of output files, and tails that are safe to show."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmd.gateways.output import folder_name, make_folder, output_paths, tail


def test_paths_name_swarm_array_task_and_attempt():
    paths = output_paths(Path("/logs"), "study", 3, 14, 2)
    assert paths.out == Path("/logs/study/3/14.2.out")
    assert paths.err == Path("/logs/study/3/14.2.err")


@pytest.mark.parametrize("swarm_id", ["", ".", "..", "../../etc", "/etc", "a/b", "a\0b", "ü" * 1000, "\ud800"])
def test_no_swarm_leaves_the_log_directory(swarm_id):
    name = folder_name(swarm_id)
    assert name not in ("", ".", "..")
    assert "/" not in name
    assert "\0" not in name
    assert len(name.encode()) <= 255


@given(st.sets(st.text(max_size=300), min_size=2, max_size=10))
def test_swarms_never_share_a_folder(swarm_ids):
    assert len({folder_name(swarm_id) for swarm_id in swarm_ids}) == len(swarm_ids)


def test_long_names_that_differ_at_the_end_only_differ():
    assert folder_name("x" * 500 + "a") != folder_name("x" * 500 + "b")


def test_a_folder_is_not_made_where_a_file_is(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileExistsError):
        make_folder(tmp_path / "file")
    with pytest.raises(NotADirectoryError):
        make_folder(tmp_path / "file" / "below")
    make_folder(tmp_path / "a" / "b" / "c")
    make_folder(tmp_path / "a" / "b" / "c")


@pytest.fixture
def tail_of(tmp_path):
    def read(data: bytes) -> str:
        (tmp_path / "err").write_bytes(data)
        return tail(tmp_path / "err")

    return read


def test_a_short_output_is_shown_whole(tail_of):
    assert tail_of(b"one\ntwo\n\n") == "one\ntwo"
    assert tail_of(b"") == ""


def test_only_the_last_twenty_lines_are_shown(tail_of):
    assert tail_of(b"".join(b"%d\n" % number for number in range(50))).split() == [str(n) for n in range(30, 50)]


def test_a_line_that_was_cut_is_left_out(tail_of):
    assert tail_of(b"x" * 5000 + b"\nlast\n") == "last"
    assert tail_of(b"x" * 5000) == "x" * 2048


def test_control_characters_are_spelt_out(tail_of):
    shown = tail_of(b"\x1b[31mred\x07\ttab \xe2\x80\xaereversed\xc2\x9b\n")
    assert shown == "\\x1b[31mred\\x07\ttab \\u202ereversed\\x9b"


def test_of_a_progress_bar_its_last_state_is_shown(tail_of):
    assert tail_of(b"10%\r20%\r30%\nfailed\r\n") == "30%\nfailed"


def test_invalid_utf_8_is_replaced(tail_of):
    assert tail_of(b"caf\xe9\n") == "caf\ufffd"


@given(st.binary(max_size=6000))
def test_any_output_makes_a_bounded_and_harmless_tail(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "any"
    path.write_bytes(data)
    shown = tail(path)
    assert len(shown.encode()) <= 3072
    assert shown.count("\n") < 20
    assert all(character.isprintable() or character in "\n\t" for character in shown)


def test_what_is_no_regular_file_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "link").symlink_to(tmp_path / "secret")
    assert [tail(tmp_path / name) for name in ("pipe", "link", "missing")] == ["", "", ""]
