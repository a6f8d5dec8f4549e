"""TLS and mutual TLS with real certificates: who gets in, what is refused at the start, and what SIGHUP changes."""

import contextlib
import os
import signal
import socket
import ssl
import warnings
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from swarmd.tokens import READ_ONLY_NAME, TOKEN_NAME, read_token, renew
from tests.daemon import DaemonProcess, launched, running, short_home, until
from tests.security.calls import Metadata, Outcome, Rpc, bearer, call, channel_to
from tests.security.certificates import Authority, Identity

pytestmark = pytest.mark.e2e
LIST = Rpc("/swarm.v1.SwarmService/ListSwarms", client_streaming=False, server_streaming=False)
CREATE = Rpc("/swarm.v1.SwarmService/CreateSwarm", client_streaming=False, server_streaming=False)
NO_CONNECTION = grpc.StatusCode.UNAVAILABLE
START_SECONDS = 60.0


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ours"))


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("theirs"))


def settings(identity: Identity, client_ca: Path | None = None) -> dict[str, str]:
    more = {} if client_ca is None else {"SWARMD_TLS_CLIENT_CA": str(client_ca)}
    return {"SWARMD_TLS_CERT": str(identity.cert), "SWARMD_TLS_KEY": str(identity.key), **more}


@contextlib.contextmanager
def serving(environment: dict[str, str]) -> Iterator[DaemonProcess]:
    with running("--listen", "127.0.0.1:0", environment=environment) as found:
        yield found


def token_of(daemon: DaemonProcess, name: str = TOKEN_NAME) -> Metadata:
    return bearer(read_token(Path(daemon.ready["state_dir"]) / name))


def outcome(
    daemon: DaemonProcess, credentials: grpc.ChannelCredentials | None, metadata: Metadata = (), rpc: Rpc = LIST
) -> Outcome:
    """What a call on a connection of its own comes to."""
    with channel_to(daemon.address, credentials) as channel:
        return call(channel, rpc, metadata)


def serial(daemon: DaemonProcess) -> str:
    """Of the certificate that a new connection is shown."""
    host, _, port = daemon.address.rpartition(":")
    pem = ssl.get_server_certificate((host, int(port)), timeout=START_SECONDS)
    return pem.strip()


def test_with_tls_a_token_is_needed_still_and_nothing_goes_in_the_clear(ours: Authority, theirs: Authority):
    with serving(settings(ours.issue("server", "127.0.0.1"))) as daemon:
        full = token_of(daemon)
        assert outcome(daemon, ours.trusted(), full).code is grpc.StatusCode.OK
        assert outcome(daemon, ours.trusted()).reason == "NO_TOKEN"
        assert outcome(daemon, ours.trusted(), bearer("wrong")).reason == "WRONG_TOKEN"
        look = token_of(daemon, READ_ONLY_NAME)
        assert outcome(daemon, ours.trusted(), look).code is grpc.StatusCode.OK
        assert outcome(daemon, ours.trusted(), look, CREATE).reason == "READ_ONLY_TOKEN"
        assert outcome(daemon, None, full).code is NO_CONNECTION
        assert outcome(daemon, theirs.trusted(), full).code is NO_CONNECTION
        assert outcome(daemon, ours.trusted(), full).code is grpc.StatusCode.OK


def test_a_certificate_for_another_name_is_not_believed(ours: Authority):
    with serving(settings(ours.issue("elsewhere", "elsewhere.example"))) as daemon:
        assert outcome(daemon, ours.trusted(), token_of(daemon)).code is NO_CONNECTION


def test_old_versions_of_tls_are_not_spoken(ours: Authority):
    with serving(settings(ours.issue("server", "127.0.0.1"))) as daemon:
        shake_hands(daemon, ssl.TLSVersion.TLSv1_2)
        with pytest.raises((ssl.SSLError, ConnectionError)):
            shake_hands(daemon, ssl.TLSVersion.TLSv1_1)


def shake_hands(daemon: DaemonProcess, version: ssl.TLSVersion) -> None:
    host, _, port = daemon.address.rpartition(":")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.set_alpn_protocols(["h2"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that it is old is what this is about
        context.minimum_version = context.maximum_version = version
    with socket.create_connection((host, int(port)), START_SECONDS) as plain:
        context.wrap_socket(plain).close()


def test_with_mutual_tls_the_certificate_is_the_key(ours: Authority, theirs: Authority):
    server, client = ours.issue("server", "127.0.0.1"), ours.issue("client", "someone@example.org")
    with serving(settings(server, ours.file)) as daemon:
        assert outcome(daemon, ours.trusted(client)).code is grpc.StatusCode.OK
        assert outcome(daemon, ours.trusted()).code is NO_CONNECTION
        stranger = theirs.issue("client", "someone@example.org")
        assert outcome(daemon, ours.trusted(stranger), token_of(daemon)).code is NO_CONNECTION
        # A token that is shown counts all the same: a read-only one makes the call read-only.
        assert outcome(daemon, ours.trusted(client), bearer("wrong")).reason == "WRONG_TOKEN"
        look = token_of(daemon, READ_ONLY_NAME)
        assert outcome(daemon, ours.trusted(client), look, CREATE).reason == "READ_ONLY_TOKEN"


def test_sighup_takes_up_a_new_certificate_and_what_is_broken_changes_nothing(ours: Authority):
    identity = ours.issue("renewed", "127.0.0.1")
    with serving(settings(identity)) as daemon:
        full = token_of(daemon)
        first = serial(daemon)
        with channel_to(daemon.address, ours.trusted()) as old:
            assert call(old, LIST, full).code is grpc.StatusCode.OK
            ours.issue("renewed", "127.0.0.1")
            assert serial(daemon) == first, "not before it is told to"
            daemon.signal(signal.SIGHUP)
            until(lambda: serial(daemon) != first, "new connections see the new certificate")
            assert call(old, LIST, full).code is grpc.StatusCode.OK, "the old connection goes on"
        second = serial(daemon)
        assert second in identity.cert.read_text()
        identity.cert.write_text("nonsense\n")
        daemon.signal(signal.SIGHUP)
        until(lambda: "not reloaded" in daemon.log, "the log says that it was not reloaded")
        assert serial(daemon) == second
        assert outcome(daemon, ours.trusted(), full).code is grpc.StatusCode.OK


def test_a_token_that_was_renewed_counts_although_the_certificate_is_broken(ours: Authority):
    identity = ours.issue("broken", "127.0.0.1")
    with serving(settings(identity)) as daemon:
        old = token_of(daemon)
        identity.cert.write_text("nonsense\n")
        renew(Path(daemon.ready["state_dir"]))
        daemon.signal(signal.SIGHUP)
        until(lambda: outcome(daemon, ours.trusted(), old).reason == "WRONG_TOKEN", "the old token is refused")
        assert outcome(daemon, ours.trusted(), token_of(daemon)).code is grpc.StatusCode.OK
        assert "tls_cert" in daemon.log


def test_sighup_takes_up_another_ca_of_clients(ours: Authority, theirs: Authority, tmp_path: Path):
    server, ca = ours.issue("server", "127.0.0.1"), tmp_path / "clients.pem"
    ca.write_bytes(ours.file.read_bytes())
    old, new = ours.issue("client", "old@example.org"), theirs.issue("client", "new@example.org")
    with serving(settings(server, ca)) as daemon:
        assert outcome(daemon, ours.trusted(old)).code is grpc.StatusCode.OK
        assert outcome(daemon, ours.trusted(new)).code is NO_CONNECTION
        ca.write_bytes(theirs.file.read_bytes())
        daemon.signal(signal.SIGHUP)
        until(lambda: outcome(daemon, ours.trusted(new)).code is grpc.StatusCode.OK, "the new CA's clients are let in")
        assert outcome(daemon, ours.trusted(old)).code is NO_CONNECTION


# -- what a daemon does not start with ---------------------------------------------------------------------------------


def refusal(environment: dict[str, str]) -> str:
    """The one line in which it says why it does not start."""
    with short_home() as home:
        with launched("--listen", "127.0.0.1:0", home=home, environment=environment) as process:
            assert process.wait(START_SECONDS) == 2
        text = (home / "stderr").read_text()
    assert "Traceback" not in text
    return next(line for line in text.splitlines() if line.startswith("swarmd: "))


def test_files_that_are_none_are_named(ours: Authority, theirs: Authority, tmp_path: Path):
    good, other = ours.issue("server", "127.0.0.1"), theirs.issue("server", "127.0.0.1")
    missing = tmp_path / "missing.pem"
    assert f"tls_cert: {missing} cannot be read" in refusal(settings(Identity(missing, good.key)))
    assert "are no certificate with its key" in refusal(settings(Identity(good.cert, other.key)))
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("nonsense\n")
    assert "tls_client_ca" in refusal(settings(good, nonsense))


def test_a_key_that_others_can_read_is_refused(ours: Authority):
    identity = ours.issue("loose", "127.0.0.1")
    identity.key.chmod(0o644)
    assert "can be read by everybody" in refusal(settings(identity))


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file to another user")
def test_a_certificate_of_another_user_is_refused(ours: Authority):
    identity = ours.issue("foreign", "127.0.0.1")
    os.chown(identity.cert, 54_321, 54_321)
    assert "belongs to user 54321" in refusal(settings(identity))


def test_without_token_and_tls_it_says_so_loudly(ours: Authority):
    with serving({"SWARMD_INSECURE": "true"}) as daemon:
        assert outcome(daemon, None).code is grpc.StatusCode.OK
        until(lambda: "WHOEVER CAN REACH THIS ADDRESS CAN RUN COMMANDS AS YOU" in daemon.log, "the warning")
        assert outcome(daemon, None, bearer("wrong")).reason == "WRONG_TOKEN"
