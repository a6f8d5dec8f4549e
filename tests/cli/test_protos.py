"""`swarmd protos`: what it writes is what the daemon speaks, and the real grpcurl can use it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from grpc_tools import protoc

from tests.cli.conftest import Swarmd

GRPCURL = Path(sys.executable).with_name("grpcurl")
CHECKED_IN = Path(__file__).parents[2] / "protos"


def test_the_proto_files_are_those_of_the_contract(swarmd: Swarmd, tmp_path):
    answer = swarmd("protos", "--out", tmp_path / "made" / "here")
    assert answer.code == 0
    written = {path.relative_to(tmp_path / "made" / "here") for path in (tmp_path / "made").rglob("*.proto")}
    assert written == {path.relative_to(CHECKED_IN) for path in CHECKED_IN.rglob("*.proto")}
    assert answer.out.count(".proto\n") == len(written)


def test_the_written_files_compile(swarmd: Swarmd, tmp_path):
    swarmd("protos", "--out", tmp_path)
    files = [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.proto")]
    include = str(Path(protoc.__file__).parent / "_proto")
    assert protoc.main(["protoc", f"-I{tmp_path}", f"-I{include}", f"--descriptor_set_out={tmp_path}/x", *files]) == 0


@pytest.fixture
def protoset(swarmd: Swarmd, tmp_path: Path) -> Path:
    path = tmp_path / "deep" / "swarmd.protoset"
    assert swarmd("protos", "--descriptor-set", path, "--json").json == {"written": [str(path)]}
    return path


def grpcurl(*arguments: object) -> str:
    done = subprocess.run([GRPCURL, *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(not GRPCURL.exists(), reason="grpcurl is not installed")
def test_grpcurl_lists_and_describes_without_a_daemon(protoset):
    services = grpcurl("-protoset", protoset, "list").split()
    assert {"swarm.v1.SchedulerService", "swarm.v1.SwarmService", "grpc.health.v1.Health"} <= set(services)
    assert "rpc HasWork" in grpcurl("-protoset", protoset, "describe", "swarm.v1.SchedulerService")


@pytest.mark.skipif(not GRPCURL.exists(), reason="grpcurl is not installed")
def test_grpcurl_calls_the_daemon_with_it(protoset, daemon):
    options = ["-plaintext", "-unix", "-protoset", protoset, daemon.socket]
    assert json.loads(grpcurl("-d", '{"page_size": 1}', *options, "swarm.v1.SwarmService/ListSwarms")).keys() <= {
        "swarms",
        "nextPageToken",
    }
    assert json.loads(grpcurl(*options, "grpc.health.v1.Health/Check")) == {"status": "SERVING"}
