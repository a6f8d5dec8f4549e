"""The example engines: who may call them, and with what they do not start."""

import signal

import pytest

from swarmd._pb.swarm.v1 import gateway_service_pb2 as pb
from swarmd.core.errors import InvalidInputError
from swarmd.gateways.contract import SwarmInfo
from tests.daemon import short_home, until
from tests.gateways.recording import SWARM, batch_of, eventually
from tests.gateways.remote.conftest import config_for
from tests.gateways.remote.engines import BUILD_SECONDS, EngineProcess
from tests.gateways.remote.test_example_engines import calling
from tests.security.certificates import Authority

pytestmark = pytest.mark.timeout(BUILD_SECONDS + 300)


@pytest.fixture
def secrets(home):
    """A CA, a certificate of it for the engine, and a token."""
    authority = Authority(home / "ca")
    identity = authority.issue("engine", "localhost")
    token = home / "token"
    token.touch(mode=0o600)
    token.write_text("a-secret\n")
    return authority, identity, token


async def test_tls_and_a_token_are_shown_and_asked_for(maker, home, gateways, record, secrets):
    authority, identity, token = secrets
    with maker(home, cores=2) as engine:
        tls = ("--tls-cert", str(identity.cert), "--tls-key", str(identity.key))
        engine.start("--listen", "localhost:0", "--token-file", str(token), *tls)
        address = f"localhost:{engine.log.split('listening at ')[1].split()[0].rpartition(':')[2]}"
        options = {"address": address, "tls_ca": str(authority.file), "token_file": str(token)}
        config = config_for("", connect_timeout=20.0)
        gateway = await gateways.begin(config, record.report, SwarmInfo(SWARM, token="t", options=options))
        await gateway.queue_batch(batch_of("true"))
        await record.ended(1)

        wrong = home / "wrong"
        wrong.touch(mode=0o600)
        wrong.write_text("another\n")
        swarm = SwarmInfo("stranger", token="t", options={**options, "token_file": str(wrong)})
        await gateway.add_swarm(swarm)
        await eventually(lambda: "UNAUTHENTICATED" in gateway.standing("stranger", 1, 1))

        wrong.write_text("a-secret\n")
        await eventually(lambda: not gateway.standing("stranger", 1, 1))
        await gateway.queue_batch(batch_of("true", swarm_id="stranger"))
        await record.until(lambda: "stranger" in {swarm_id for swarm_id, *_ in record.news})

        swarm = SwarmInfo(
            "untrusting", token="t", options={"address": address, "tls": "true", "token_file": str(token)}
        )
        await gateway.add_swarm(swarm)
        await eventually(lambda: "give its CA as tls_ca" in gateway.standing("untrusting", 1, 1))


async def test_a_token_that_is_missing_stops_the_swarm(gateways, record, home):
    options = {"address": "localhost:1", "token_file": str(home / "none")}
    with pytest.raises(InvalidInputError, match=r"token_file: .* give a file with the token that the engine asks for"):
        await gateways.begin(config_for(""), record.report, SwarmInfo(SWARM, options=options))


def test_over_tcp_it_wants_a_token_or_to_be_told_that_it_needs_none(maker, home):
    with maker(home) as engine:
        engine.launch("--listen", "localhost:0")
        until(lambda: engine.has_ended, "it ends")
        assert "give --token-file, or say --insecure" in engine.log


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--token-file", "{home}/empty"], "is empty"),
        (["--listen", "localhost:0", "--token-file", "{home}/empty"], "is empty"),
        (["--tls-key", "{home}/empty"], "give --tls-cert and --tls-key"),
        (["--tls-cert", "{home}/empty"], "give --tls-cert and --tls-key"),
        (["--cores", "0"], "give 1 or more"),
        (["--token-file", "{home}/none"], "o such file"),
        (
            ["--listen", "localhost:0", "--insecure", "--tls-cert", "{home}/none", "--tls-key", "{home}/none"],
            "o such file",
        ),
        (["--listen", "localhost:0", "--insecure", "--tls-cert", "{home}/empty", "--tls-key", "{home}/empty"], "PEM"),
        (["--listen", "localhost:99999", "--insecure"], "port"),
        (["--listen", "203.0.113.9:4000", "--insecure"], "203.0.113.9:4000"),
        (["--listen", "unix:{home}/none/engine.sock"], "none/engine.sock"),
        (["--listen", "unix:{home}/empty"], "is no socket; give another path"),
        (["--listen", "unix:{home}/folder"], "is no socket; give another path"),
        (["--state", "{home}/empty"], "empty"),
    ],
)
def test_it_does_not_start_with_what_would_let_anybody_in_or_cannot_be(maker, home, arguments, words):
    (home / "empty").touch(mode=0o600)
    (home / "folder").mkdir()
    with maker(home) as engine:
        engine.launch(*(argument.format(home=home) for argument in arguments))
        until(lambda: engine.has_ended, "it ends")
        assert words in engine.log
        assert engine.log.splitlines()[-1].startswith("engine: ")
        assert "Traceback" not in engine.log
    assert (home / "empty").is_file()
    assert (home / "folder").is_dir()


def test_it_takes_no_socket_away_at_which_somebody_listens(example):
    with short_home() as other:
        second = EngineProcess(example.command, other)
        second.launch("--listen", example.address)
        until(lambda: second.has_ended, "the second one ends")
        assert "somebody listens at" in second.log
    with calling(example) as stub:
        stub.FindBatch(pb.FindBatchRequest(swarm_id=SWARM, batch_id="b"), timeout=20)


def test_its_socket_is_its_owners_alone(example):
    path = example.home / "engine.sock"
    assert path.stat().st_mode & 0o077 == 0
    example.signal(signal.SIGINT)
    until(lambda: example.has_ended, "it ends")
