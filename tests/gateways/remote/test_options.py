"""Which engine a swarm means, and what is shown there."""

import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from swarmd.core.errors import InvalidInputError
from swarmd.gateways.catalogue import GatewayContext
from swarmd.gateways.remote import made
from swarmd.gateways.remote.options import RemoteConfig, engine_options
from tests.security.certificates import Authority

NOTHING = RemoteConfig()


def test_a_swarm_says_where_its_engine_is():
    options = engine_options({"address": "engine.example:7000", "tls_ca": "/ca.pem"}, NOTHING)
    assert str(options.address) == "engine.example:7000"
    assert options.tls
    assert options.tls_ca == Path("/ca.pem")


def test_the_section_of_the_file_is_for_swarms_that_say_nothing():
    config = RemoteConfig(address="unix:/run/engine.sock", token_file=Path("/token"))
    options = engine_options({}, config)
    assert str(options.address) == "unix:/run/engine.sock"
    assert options.token_file == Path("/token")


def test_credentials_of_the_section_are_for_its_own_address_alone():
    config = RemoteConfig(address="localhost:7000", token_file=Path("/token"), tls_ca=Path("/ca.pem"))
    other = engine_options({"address": "localhost:7001"}, config)
    assert other.token_file is None
    assert other.tls is False
    same = engine_options({"address": "localhost:7000"}, config)
    assert same.token_file == Path("/token")
    assert same.tls is True


def test_a_swarm_may_show_something_else_at_the_same_address():
    config = RemoteConfig(address="localhost:7000", token_file=Path("/token"))
    options = engine_options({"token_file": "/mine"}, config)
    assert options.token_file == Path("/mine")


def test_swarms_that_say_the_same_share_an_engine_and_others_do_not():
    config = RemoteConfig(address="localhost:7000")
    assert engine_options({}, config).key == engine_options({"address": "localhost:7000"}, config).key
    assert engine_options({}, config).key != engine_options({"token_file": "/mine"}, config).key
    assert engine_options({}, config).key != engine_options({"address": "localhost:7001"}, config).key


def test_an_engine_stays_the_same_when_the_section_names_other_credentials():
    before = engine_options({}, RemoteConfig(address="localhost:7000", token_file=Path("/old")))
    after = engine_options({}, RemoteConfig(address="localhost:7000", token_file=Path("/new")))
    assert before.key == after.key


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "needs an address"),
        ({"adress": "localhost:1"}, "'adress' is no option of the remote gateway; did you mean 'address'?"),
        ({"address": "localhost"}, "cannot be used; write unix:PATH, or HOST:PORT"),
        ({"address": "localhost:0"}, "port 0"),
        ({"address": "unix:engine.sock"}, "relative path"),
        ({"address": "localhost:1", "token_file": "token"}, "token_file: 'token' is no absolute path"),
        ({"address": "localhost:1", "tls": "yes"}, "tls: 'yes' is neither 'true' nor 'false'"),
        ({"address": "unix:/e.sock", "tls": "true"}, "a unix socket has no TLS"),
        ({"address": "unix:/e.sock", "tls_ca": "/ca.pem"}, "a unix socket has no TLS"),
        ({"address": "localhost:1", "tls_cert": "/cert.pem"}, "give tls_cert and tls_key"),
        ({"address": "localhost:1", "tls_server_name": "engine"}, "it is of use with TLS only"),
        ({"address": "engine.example:1", "token_file": "/token"}, "in the clear to engine.example:1"),
    ],
)
def test_what_cannot_be_is_said_with_its_remedy(given: dict[str, str], words: str):
    with pytest.raises(InvalidInputError, match=re.escape(words)) as caught:
        engine_options(given, NOTHING)
    assert caught.value.field == "swarm.gateway_options"
    assert caught.value.message.startswith("swarm.gateway_options: ")


@pytest.mark.parametrize(
    "given",
    [
        {"address": "localhost:1", "token_file": "/token"},
        {"address": "127.0.0.1:1", "token_file": "/token"},
        {"address": "unix:/e.sock", "token_file": "/token"},
        {"address": "engine.example:1", "token_file": "/token", "tls": "true"},
        {"address": "engine.example:1", "token_file": "/token", "insecure": "true"},
        {"address": "engine.example:1"},
    ],
)
def test_a_token_may_go_where_nobody_listens_or_where_that_is_wanted(given: dict[str, str]):
    assert str(engine_options(given, NOTHING).address) == given["address"]


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"address": "localhost"}, "address"),
        ({"tls_ca": "ca.pem"}, "relative"),
        ({"queue_timeout": 0}, "greater than 0"),
        ({"queue_timeouts": 1}, "did you mean 'queue_timeout'?"),
        ({"token_file": "/token"}, "token_file: it is about the engine at `address`, which is not given"),
        ({"tls": True}, "tls: it is about the engine at `address`"),
        ({"address": "unix:/e.sock", "tls": True}, "a unix socket has no TLS"),
        ({"address": "engine.example:1", "token_file": "/token"}, "in the clear to engine.example:1"),
    ],
)
def test_the_section_is_checked_when_the_gateway_is_made(section: dict[str, object], words: str):
    with pytest.raises(InvalidInputError, match=re.escape(words)) as caught:
        made(GatewayContext("remote", section, "config.toml"))
    assert "config.toml: [gateways.remote]" in caught.value.message
    assert "gateway_options:" not in caught.value.message


def test_the_section_cannot_be_changed_afterwards():
    with pytest.raises(ValidationError):
        NOTHING.address = "localhost:1"


# -- files -------------------------------------------------------------------------------------------------------------


def test_a_token_file_that_is_not_there_is_named(tmp_path):
    options = engine_options({"address": "localhost:1", "token_file": f"{tmp_path}/none"}, NOTHING)
    with pytest.raises(InvalidInputError, match="token_file"):
        options.loaded()


def test_a_file_that_is_no_certificate_is_named(tmp_path):
    (tmp_path / "ca.pem").write_text("-----BEGIN CERTIFICATE-----\nnothing\n-----END CERTIFICATE-----\n")
    options = engine_options({"address": "localhost:1", "tls_ca": f"{tmp_path}/ca.pem"}, NOTHING)
    with pytest.raises(InvalidInputError, match="tls_ca: it is no CA certificate"):
        options.loaded()


def test_a_certificate_may_have_remarks_in_any_letters(tmp_path):
    ca = Path(Authority(tmp_path / "ca").file).read_bytes()
    (tmp_path / "remarked.pem").write_bytes("# Gültig für Zürich\n".encode() + ca)
    options = engine_options({"address": "localhost:1", "tls_ca": f"{tmp_path}/remarked.pem"}, NOTHING)
    assert options.loaded().tls is not None


def test_what_the_files_hold_is_not_shown(tmp_path):
    authority = Authority(tmp_path / "ca")
    (tmp_path / "token").write_text("secret\n")
    (tmp_path / "token").chmod(0o600)
    given = {"address": "localhost:1", "token_file": f"{tmp_path}/token", "tls_ca": str(authority.file)}
    loaded = engine_options(given, NOTHING).loaded()
    assert loaded.token == "secret"
    assert loaded.tls is not None
    assert "secret" not in repr(loaded)
