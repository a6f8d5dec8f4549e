"""`swarmd token`: where it is, and a new one in its place."""

import stat
from pathlib import Path

import grpc
import pytest

from swarmd._pb.swarm.v1 import swarm_service_pb2
from swarmd._pb.swarm.v1.swarm_service_pb2_grpc import SwarmServiceStub
from tests.cli.conftest import swarmd_process
from tests.daemon import DaemonProcess, running, short_home, until

pytestmark = pytest.mark.e2e


def is_let_in(daemon: DaemonProcess, token: str) -> bool:
    with grpc.insecure_channel(daemon.address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        metadata = (("authorization", f"Bearer {token}"),)
        request = swarm_service_pb2.ListSwarmsRequest()
        call = SwarmServiceStub(channel).ListSwarms.future(request, metadata=metadata, timeout=60)
        return {grpc.StatusCode.OK: True, grpc.StatusCode.UNAUTHENTICATED: False}[call.code()]


def test_the_path_of_each(tmp_path: Path):
    said = swarmd_process("token", "path", "--state-dir", tmp_path)
    assert (said.code, said.out) == (0, f"{tmp_path}/token\n")
    assert swarmd_process("token", "path", "--read-only", SWARMD_STATE_DIR=str(tmp_path)).out == (
        f"{tmp_path}/token.read-only\n"
    )


def test_a_renewed_token_locks_out_whoever_has_the_old_one():
    with short_home() as home, running("--listen", "127.0.0.1:0", home=home) as daemon:
        old = daemon.token
        assert is_let_in(daemon, old)
        said = swarmd_process("token", "renew", "--state-dir", daemon.ready["state_dir"])
        assert said.code == 0, said.err
        assert f"process {daemon.process.pid}" in said.err
        assert daemon.token != old
        until(lambda: is_let_in(daemon, daemon.token), "the new token counts")
        assert not is_let_in(daemon, old)
        token = Path(daemon.ready["token_file"])
        assert stat.S_IMODE(token.stat().st_mode) == 0o600
        assert old not in said.out + said.err


def test_without_a_daemon_the_next_one_takes_it(tmp_path: Path):
    folder = tmp_path / "state"
    assert "the next one takes the new tokens" in swarmd_process("token", "renew", "--state-dir", folder).err
    assert sorted(path.name for path in folder.iterdir()) == ["token", "token.read-only"]
