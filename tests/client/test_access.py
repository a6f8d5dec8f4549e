"""Clients that show something: tokens and certificates at a real daemon over TCP, and a token on a socket file."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trustme

from swarmd.cli.main import execute
from swarmd.client import NoDaemonError, PermissionDeniedError, SwarmClient, UnauthenticatedError
from swarmd.client.blocking import SwarmClient as BlockingClient
from swarmd.core.errors import InvalidInputError
from swarmd.tokens import READ_ONLY_NAME, TOKEN_NAME
from tests.daemon import DaemonProcess, running, short_home

pytestmark = pytest.mark.e2e


@dataclass(frozen=True)
class Papers:
    """The files of a CA, of a daemon and of a client."""

    ca: Path
    server: Path
    server_key: Path
    client: Path
    client_key: Path


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    folder = tmp_path_factory.mktemp("papers")
    ca = trustme.CA()
    ca.cert_pem.write_to_path(folder / "ca.pem")
    for name, identity in (("server", "localhost"), ("client", "user@example.org")):
        made = ca.issue_cert(identity)
        made.cert_chain_pems[0].write_to_path(folder / f"{name}.pem")
        made.private_key_pem.write_to_path(folder / f"{name}.key")
        (folder / f"{name}.key").chmod(0o600)
    names = ("ca.pem", "server.pem", "server.key", "client.pem", "client.key")
    return Papers(*(folder / name for name in names))


@pytest.fixture(scope="module")
def plain() -> Iterator[DaemonProcess]:
    with short_home() as home:
        addresses = ["--listen", "127.0.0.1:0", "--listen", f"unix:{home}/s.sock"]
        with running(*addresses, home=home) as process:
            yield process


@pytest.fixture(scope="module")
def secured(papers: Papers) -> Iterator[DaemonProcess]:
    pair = ["--tls-cert", str(papers.server), "--tls-key", str(papers.server_key)]
    with running("--listen", "localhost:0", *pair) as process:
        yield process


@pytest.fixture(scope="module")
def mutual(papers: Papers) -> Iterator[DaemonProcess]:
    pair = ["--tls-cert", str(papers.server), "--tls-key", str(papers.server_key)]
    with running("--listen", "localhost:0", *pair, "--tls-client-ca", str(papers.ca)) as process:
        yield process


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.delenv("SWARMD_STATE_DIR", raising=False)


def token_of(daemon: DaemonProcess, name: str = TOKEN_NAME) -> Path:
    return Path(daemon.ready["state_dir"]) / name


async def test_without_a_token_nobody_gets_in(plain: DaemonProcess):
    async with SwarmClient(plain.address) as client:
        with pytest.raises(UnauthenticatedError) as refused:
            await client.swarms()
    assert refused.value.reason == "NO_TOKEN"


async def test_the_token_of_the_users_own_daemon_is_found(plain: DaemonProcess, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SWARMD_STATE_DIR", plain.ready["state_dir"])
    async with SwarmClient(plain.address) as client:
        assert await client.swarms() == []


async def test_a_token_opens_every_call_and_every_stream(plain: DaemonProcess):
    async with SwarmClient(plain.address, token_file=token_of(plain)) as client:
        swarm = await client.create_swarm("opened", gateway="pull")
        await anext(swarm.watch())
        await swarm.pause()
        async with swarm.updates() as updates:
            await updates.flush()
        await swarm.delete()


@pytest.mark.parametrize("where", [0, 1])
def test_a_read_only_token_only_looks_on_a_socket_file_too(plain: DaemonProcess, where: int):
    address = plain.ready["addresses"][where]
    with BlockingClient(address, token_file=token_of(plain, READ_ONLY_NAME)) as client:
        client.swarms()
        with pytest.raises(PermissionDeniedError) as refused:
            client.create_swarm("refused")
    assert refused.value.reason == "READ_ONLY_TOKEN"


async def test_tls_with_a_ca_of_ones_own(secured: DaemonProcess, papers: Papers):
    async with SwarmClient(secured.address, tls_ca=papers.ca, token_file=token_of(secured)) as client:
        assert await client.swarms() == []
    async with SwarmClient(secured.address, tls_ca=papers.ca) as client:
        with pytest.raises(UnauthenticatedError):
            await client.swarms()


async def test_a_name_that_is_not_in_the_certificate_is_given(secured: DaemonProcess, papers: Papers):
    address = secured.address.replace("localhost", "127.0.0.1")
    given: dict[str, Any] = {"tls_ca": papers.ca, "token_file": token_of(secured)}
    async with SwarmClient(address, **given) as client:
        with pytest.raises(NoDaemonError, match="cannot be secured: its certificate is for another name"):
            await client.connect()
    async with SwarmClient(address, tls_server_name="localhost", **given) as client:
        await client.connect()


async def test_a_certificate_that_nobody_knows_is_not_trusted(secured: DaemonProcess):
    async with SwarmClient(secured.address, tls=True, token_file=token_of(secured)) as client:
        with pytest.raises(NoDaemonError, match="its certificate is of no CA that is trusted") as refused:
            await client.connect()
    assert refused.value.reason == "TLS_FAILED"


async def test_who_mistakes_tls_is_told(plain: DaemonProcess, secured: DaemonProcess, papers: Papers):
    async with SwarmClient(plain.address, tls_ca=papers.ca) as client:
        with pytest.raises(NoDaemonError, match="it speaks no TLS"):
            await client.connect()
    async with SwarmClient(secured.address) as client:
        with pytest.raises(NoDaemonError, match="if a daemon with TLS is there"):
            await client.connect()


async def test_mutual_tls_needs_no_token(mutual: DaemonProcess, papers: Papers):
    shown: dict[str, Any] = {"tls_ca": papers.ca, "tls_cert": papers.client, "tls_key": papers.client_key}
    async with SwarmClient(mutual.address, **shown) as client:
        assert await client.swarms() == []
    async with SwarmClient(mutual.address, tls_ca=papers.ca) as client:
        with pytest.raises(NoDaemonError):
            await client.connect()


def test_what_is_no_certificate_is_told_before_any_call(papers: Papers, tmp_path: Path):
    wrong = tmp_path / "wrong.pem"
    wrong.write_text("-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n")
    with pytest.raises(InvalidInputError, match="tls_ca"):
        BlockingClient("localhost:1", tls_ca=wrong)
    with pytest.raises(InvalidInputError, match="tls_cert"):
        BlockingClient("localhost:1", tls_cert=papers.client, tls_key=papers.server_key)


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Calls the command line: the exit code, and what it said about errors."""

    def call(*words: object) -> tuple[int, str]:
        code = execute([str(word) for word in words])
        return int(code), capsys.readouterr().err

    return call


def test_the_command_line_shows_the_same(
    plain: DaemonProcess,
    secured: DaemonProcess,
    papers: Papers,
    command: Callable[..., tuple[int, str]],
    monkeypatch: pytest.MonkeyPatch,
):
    code, said = command("status", "--address", plain.address)
    assert (code, "no token was sent" in said) == (4, True)
    assert command("status", "--address", plain.address, "--token-file", token_of(plain)) == (0, "")
    there = ["--address", secured.address, "--token-file", token_of(secured)]
    assert command("status", *there, "--tls-ca", papers.ca) == (0, "")
    monkeypatch.setenv("SWARMD_TLS_CA", str(papers.ca))
    monkeypatch.setenv("SWARMD_TOKEN_FILE", str(token_of(secured)))
    monkeypatch.setenv("SWARMD_ADDRESS", secured.address)
    assert command("has-work", "--json")[0] in (1, 4)
    assert command("tasks", "--tls-ca", "/nowhere.pem")[0] == 2


def test_the_command_line_sends_no_token_in_the_clear(plain: DaemonProcess, command: Callable[..., tuple[int, str]]):
    code, said = command("status", "--address", "192.0.2.1:1", "--token-file", token_of(plain))
    assert (code, "would travel in the clear" in said) == (2, True)
