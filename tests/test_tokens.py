"""Tokens: made once, private, found again, and good for what they say."""

import multiprocessing
import os
import stat
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from swarmd.core.errors import InvalidInputError
from swarmd.tokens import READ_ONLY_NAME, TOKEN_NAME, Grant, Tokens, read_token, renew


def test_both_are_made_once_and_are_the_owners_alone(tmp_path: Path):
    old = os.umask(0)
    try:
        made = Tokens.load_or_make(tmp_path)
    finally:
        os.umask(old)
    files = {path.name: path for path in tmp_path.iterdir()}
    assert sorted(files) == [TOKEN_NAME, READ_ONLY_NAME]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files.values()} == {0o600}
    full, read_only = (read_token(files[name]) for name in (TOKEN_NAME, READ_ONLY_NAME))
    assert full != read_only
    assert len(full) >= 43, "256 bits"
    assert (made.grant(full), made.grant(read_only)) == (Grant.FULL, Grant.READ_ONLY)
    assert Tokens.load_or_make(tmp_path) == made
    assert full not in repr(made)


@pytest.mark.parametrize("shown", ["", " ", "x", "é", "\ud800", "x" * 100_000])
def test_nothing_else_is_good(tmp_path: Path, shown: str):
    made = Tokens.load_or_make(tmp_path)
    assert made.grant(shown) is None
    assert made.grant(read_token(tmp_path / TOKEN_NAME) + shown) is (Grant.FULL if shown == "" else None)
    assert Tokens.unknown().grant(read_token(tmp_path / TOKEN_NAME)) is None


def test_new_ones_end_the_old_ones(tmp_path: Path):
    Tokens.load_or_make(tmp_path)
    before = read_token(tmp_path / TOKEN_NAME)
    renew(tmp_path)
    after = Tokens.load_or_make(tmp_path)
    assert after.grant(before) is None
    assert after.grant(read_token(tmp_path / TOKEN_NAME)) is Grant.FULL
    assert sorted(path.name for path in tmp_path.iterdir()) == [TOKEN_NAME, READ_ONLY_NAME]


def _make(directory: Path) -> Tokens:
    return Tokens.load_or_make(directory)


def test_daemons_that_start_at_the_same_time_agree(tmp_path: Path):
    with ProcessPoolExecutor(4, mp_context=multiprocessing.get_context("spawn")) as pool:
        assert len({each.full for each in pool.map(_make, [tmp_path] * 16)}) == 1


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o620, 0o604])
def test_a_token_that_others_may_know_is_refused(tmp_path: Path, mode: int):
    Tokens.load_or_make(tmp_path)
    (tmp_path / TOKEN_NAME).chmod(mode)
    with pytest.raises(InvalidInputError, match="is not yours alone"):
        Tokens.load_or_make(tmp_path)


@pytest.mark.parametrize("kind", ["link", "directory", "pipe", "empty", "text", "long"])
def test_what_is_no_token_is_refused_and_left_alone(tmp_path: Path, kind: str):
    path, other = tmp_path / TOKEN_NAME, tmp_path / "other"
    other.write_text("precious\n")
    match kind:
        case "link":
            path.symlink_to(other)
        case "directory":
            path.mkdir(0o700)
        case "pipe":
            os.mkfifo(path, 0o600)
        case _:
            path.write_text({"empty": "\n", "text": "two words\n", "long": "x" * 5000}[kind])
            path.chmod(0o600)
    with pytest.raises(InvalidInputError) as refused:
        Tokens.load_or_make(tmp_path)
    assert str(path) in refused.value.message
    assert other.read_text() == "precious\n"
    assert path.is_symlink() == (kind == "link")


def test_a_client_may_follow_a_link_and_share_with_a_group_as_kubernetes_has_it(tmp_path: Path):
    real = tmp_path / "real"
    real.write_text("abc\n")
    real.chmod(0o440)
    (tmp_path / "link").symlink_to(real)
    assert read_token(tmp_path / "link") == "abc"
    real.chmod(0o444)
    with pytest.raises(InvalidInputError, match="can be read by everybody"):
        read_token(tmp_path / "link")
    with pytest.raises(InvalidInputError, match=r"token_file: .*cannot be read"):
        read_token(tmp_path / "nothing")
