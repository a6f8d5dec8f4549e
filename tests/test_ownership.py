"""Whose files they are: nothing is trusted that somebody else could have put there."""

import os
import stat
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from swarmd.core.errors import InvalidInputError
from swarmd.ownership import check_above, check_file, make_private


def test_a_private_folder_is_made_and_made_private(tmp_path: Path):
    old = os.umask(0)
    try:
        made = make_private(tmp_path / "a" / "b")
    finally:
        os.umask(old)
    assert stat.S_IMODE(made.stat().st_mode) == 0o700
    made.chmod(0o777)
    assert stat.S_IMODE(make_private(made).stat().st_mode) == 0o700


@pytest.mark.parametrize("kind", ["file", "link", "dangling link"])
def test_what_is_no_folder_is_refused(tmp_path: Path, kind: str):
    place = tmp_path / "x"
    if kind == "file":
        place.write_text("")
    else:
        place.symlink_to(tmp_path if kind == "link" else tmp_path / "nowhere")
    with pytest.raises(InvalidInputError) as refused:
        make_private(place)
    assert refused.value.reason == "UNSAFE_PATH"


def test_the_folder_of_somebody_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "getuid", lambda: tmp_path.stat().st_uid + 1)
    with pytest.raises(InvalidInputError, match="belongs to user"):
        make_private(tmp_path)


def stranger_owns(monkeypatch: pytest.MonkeyPatch, *paths: Path) -> None:
    """Show these paths as another user's, to whoever looks at them."""
    foreign = {(found.st_dev, found.st_ino) for found in (path.lstat() for path in paths)}

    def shown(real: Callable[..., os.stat_result]) -> Callable[..., os.stat_result]:
        def look(path: Path, **more: bool) -> os.stat_result:
            found = real(path, **more)
            if (found.st_dev, found.st_ino) not in foreign:
                return found
            return os.stat_result((*found[:4], os.getuid() + 7, *found[5:10]))

        return look

    for name in ("stat", "lstat"):
        monkeypatch.setattr(Path, name, shown(getattr(Path, name)))


def test_what_is_missing_above_is_made_as_private(tmp_path: Path):
    old = os.umask(0)
    try:
        make_private(tmp_path / "a" / "b" / "c")
    finally:
        os.umask(old)
    modes = {stat.S_IMODE((tmp_path / each).stat().st_mode) for each in ("a", "a/b", "a/b/c")}
    assert modes == {0o700}


def test_a_place_below_a_strangers_directory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "theirs").mkdir()
    stranger_owns(monkeypatch, tmp_path / "theirs")
    with pytest.raises(InvalidInputError, match=r"is below .*theirs, which belongs to user") as refused:
        make_private(tmp_path / "theirs" / "ours")
    assert refused.value.reason == "UNSAFE_PATH"


def test_a_place_behind_a_strangers_link_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    check_above(tmp_path / "link" / "file")
    stranger_owns(monkeypatch, tmp_path / "link")
    with pytest.raises(InvalidInputError, match="belongs to user"):
        check_above(tmp_path / "link" / "file")


@pytest.mark.parametrize(("mode", "safe"), [(0o777, False), (0o757, False), (0o1777, True), (0o755, True)])
def test_others_may_write_above_only_where_they_can_rename_nothing_of_ours(tmp_path: Path, mode: int, safe: bool):
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(mode)
    if safe:
        make_private(shared / "ours")
    else:
        with pytest.raises(InvalidInputError, match=r"where others may write.*chmod go-w"):
            make_private(shared / "ours")


@pytest.mark.parametrize(
    ("mode", "secret", "wrong"),
    [
        (0o644, False, ""),
        (0o644, True, "can be read by everybody"),
        (0o640, True, ""),
        (0o600, True, ""),
        (0o602, False, "can be changed by others"),
    ],
)
def test_a_file_is_ours_to_change_and_a_secret_is_nobody_elses_to_read(
    tmp_path: Path, mode: int, secret: bool, wrong: str
):
    file = tmp_path / "file"
    file.write_text("x")
    file.chmod(mode)
    if wrong:
        with pytest.raises(InvalidInputError, match=wrong):
            check_file(file, "tls_key", secret=secret)
    else:
        check_file(file, "tls_key", secret=secret)


def test_a_file_that_is_missing_or_none_is_named_with_its_setting(tmp_path: Path):
    with pytest.raises(InvalidInputError, match=r"tls_key: .*nothing cannot be read") as missing:
        check_file(tmp_path / "nothing", "tls_key")
    assert missing.value.field == "tls_key"
    with pytest.raises(InvalidInputError, match="is no file"):
        check_file(tmp_path, "tls_key")


def test_a_strangers_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = tmp_path / "file"
    file.write_text("x")
    file.chmod(0o644)
    stranger_owns(monkeypatch, file)
    with pytest.raises(InvalidInputError, match="belongs to user"):
        check_file(file, "tls_cert")


def test_an_access_list_lets_others_in_whatever_the_group(tmp_path: Path):
    """The bits of the group stand for everybody on the list."""
    file = tmp_path / "file"
    file.write_text("x")
    anybody, user = 0xFFFFFFFF, 65_534
    entries = ((0x01, 6, anybody), (0x02, 6, user), (0x04, 4, anybody), (0x10, 6, anybody), (0x20, 0, anybody))
    packed = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    try:
        os.setxattr(file, "system.posix_acl_access", packed)
    except OSError as error:
        pytest.skip(f"no access lists here: {error.strerror}")
    assert stat.S_IMODE(file.stat().st_mode) == 0o660
    with pytest.raises(InvalidInputError, match="can be changed by others"):
        check_file(file, "config")
    entries = ((0x01, 6, anybody), (0x02, 4, user), (0x04, 0, anybody), (0x10, 4, anybody), (0x20, 0, anybody))
    packed = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    os.setxattr(file, "system.posix_acl_access", packed)
    check_file(file, "config")
    with pytest.raises(InvalidInputError, match="can be read by others, by an access list"):
        check_file(file, "tls_key", secret=True)
