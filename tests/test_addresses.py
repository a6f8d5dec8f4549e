"""Addresses, and the folders of a user that must be nobody else's."""

import os
from pathlib import Path

import pytest

from swarmd.addresses import (
    Address,
    client_address,
    default_address,
    parse_address,
    runtime_directory,
    state_directory,
)
from swarmd.core.errors import InvalidInputError


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("unix:/tmp/s.sock", Address(path=Path("/tmp/s.sock"))),
        ("unix:///tmp/s.sock", Address(path=Path("/tmp/s.sock"))),
        ("127.0.0.1:0", Address(host="127.0.0.1", port=0)),
        ("localhost:65535", Address(host="localhost", port=65535)),
        ("[::1]:8080", Address(host="::1", port=8080)),
    ],
)
def test_an_address_is_a_socket_or_a_port(text: str, address: Address):
    assert parse_address(text) == address
    assert parse_address(str(address)) == address


def test_a_relative_path_is_taken_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert parse_address("unix:s.sock").path == tmp_path / "s.sock"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "here",
        ":80",
        "host:",
        "host:x",
        "host:65536",
        "host:-1",
        "host:٣",
        "unix:" + "x" * 108,
        "unix:/é" + "é" * 60,
    ],
)
def test_what_is_no_address_is_refused_with_the_remedy(text: str):
    with pytest.raises(InvalidInputError) as refused:
        parse_address(text)
    assert refused.value.reason == "INVALID_ADDRESS"
    assert ";" in refused.value.message


def test_the_default_is_the_socket_in_the_runtime_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert runtime_directory() == tmp_path / "swarmd"
    assert str(default_address()) == f"unix:{tmp_path}/swarmd/swarmd.sock"
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert runtime_directory().name == f"swarmd-{os.getuid()}"


def test_a_client_goes_where_it_is_told_then_where_the_environment_says(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("SWARMD_ADDRESS", raising=False)
    assert client_address(None) == default_address()
    monkeypatch.setenv("SWARMD_ADDRESS", "localhost:1")
    assert client_address(None).port == 1
    assert client_address("localhost:2").port == 2


def test_state_is_kept_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert state_directory() == tmp_path / "swarmd"
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert state_directory() == tmp_path / ".local" / "state" / "swarmd"


def test_the_runtime_directory_is_not_looked_for_by_writing(monkeypatch, tmp_path):
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "missing"))
    assert runtime_directory() == tmp_path / "missing" / f"swarmd-{os.getuid()}"
    assert not list(tmp_path.iterdir())
