"""SocketClaim: one holder a path, stale files are no obstacle, and nobody else can connect."""

import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from swarmd.core.errors import AlreadyExistsError, InvalidInputError
from swarmd.sockets import SocketClaim
from tests.daemon import short_home


@pytest.fixture
def path() -> Iterator[Path]:
    with short_home() as home:
        yield home / "s.sock"


def bound(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    return listener


def test_the_socket_is_private_while_it_is_bound_and_gone_at_the_end(path: Path):
    claim = SocketClaim(path)
    old = os.umask(0)
    try:
        claim.claim()
        with claim.binding(), bound(path):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert os.umask(0) == 0, "the umask is as it was"
    finally:
        os.umask(old)
    claim.release()
    assert list(path.parent.glob("s.sock*")) == []
    claim.release()


def test_a_second_claim_is_refused_and_names_the_holder(path: Path):
    first = SocketClaim(path)
    first.claim()
    with pytest.raises(AlreadyExistsError) as refused:
        SocketClaim(path).claim()
    assert refused.value.metadata == {"pid": str(os.getpid())}
    first.release()
    second = SocketClaim(path)
    second.claim()
    second.release()


def test_a_socket_that_nobody_listens_on_is_removed(path: Path):
    bound(path).close()
    claim = SocketClaim(path)
    claim.claim()
    assert not path.exists()
    claim.release()


def test_a_socket_that_somebody_listens_on_is_left_alone(path: Path):
    with bound(path), pytest.raises(AlreadyExistsError, match=f"process {os.getpid()}"):
        SocketClaim(path).claim()
    assert path.exists()
    assert not path.with_name("s.sock.lock").exists(), "what was not got leaves nothing behind"


def test_the_claim_of_a_killed_process_is_over(path: Path):
    code = (
        "import sys, time; from pathlib import Path; from swarmd.sockets import SocketClaim\n"
        "claim = SocketClaim(Path(sys.argv[1])); claim.claim(); print('held', flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(AlreadyExistsError, match=f"process {holder.pid}"):
            SocketClaim(path).claim()
        holder.send_signal(signal.SIGKILL)
    claim = SocketClaim(path)
    claim.claim()
    claim.release()


def test_a_socket_that_was_replaced_meanwhile_is_not_removed(path: Path):
    claim = SocketClaim(path)
    claim.claim()
    with claim.binding():
        ours = bound(path)
    path.rename(path.with_name("moved"))
    with bound(path), ours:
        claim.release()
        assert path.exists()


def test_a_lock_file_that_is_a_link_is_not_followed(path: Path):
    target = path.parent / "precious"
    target.write_text("precious")
    path.with_name("s.sock.lock").symlink_to(target)
    with pytest.raises(InvalidInputError, match="cannot be opened"):
        SocketClaim(path).claim()
    assert target.read_text() == "precious"


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_is_no_socket_is_refused_and_left_alone(path: Path, kind: str):
    path.write_text("precious") if kind == "file" else path.mkdir()
    with pytest.raises(InvalidInputError, match="is no socket"):
        SocketClaim(path).claim()
    assert path.exists()


def test_a_folder_that_is_not_there_is_refused(path: Path):
    with pytest.raises(InvalidInputError) as refused:
        SocketClaim(path.parent / "nowhere" / "s.sock").claim()
    assert refused.value.reason == "NO_DIRECTORY"
