"""Where the daemon is and what is shown there: what was given, then the environment, then the user's own daemon's."""

from pathlib import Path

import pytest

from swarmd.addresses import default_address
from swarmd.client import ConnectionSettings
from swarmd.core.errors import InvalidInputError
from swarmd.tls_client import is_loopback


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No settings of this machine's user."""
    for name in (
        *("ADDRESS", "TOKEN", "TOKEN_FILE", "STATE_DIR", "TLS_CA", "LISTEN", "CONFIG"),
        *("CLIENT_TLS", "CLIENT_CERT", "CLIENT_KEY", "CLIENT_SERVER_NAME", "CLIENT_INSECURE"),
    ):
        monkeypatch.delenv(f"SWARMD_{name}", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def token_file(path: Path, token: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{token}\n")
    path.chmod(0o600)
    return path


def pem(path: Path, what: str = "CERTIFICATE") -> Path:
    path.write_text(f"-----BEGIN {what}-----\nAAAA\n-----END {what}-----\n")
    return path


def token(**given) -> str | None:
    return ConnectionSettings(**{"address": "127.0.0.1:1", **given}).found().token


def test_the_address_is_the_given_one_then_the_environments_then_the_default(monkeypatch: pytest.MonkeyPatch):
    assert ConnectionSettings().found().address == default_address()
    assert not ConnectionSettings().is_chosen
    monkeypatch.setenv("SWARMD_ADDRESS", "localhost:1")
    assert ConnectionSettings().found().address.port == 1
    assert ConnectionSettings().is_chosen
    assert ConnectionSettings(address="localhost:2").found().address.port == 2


def settings_file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "config" / "swarmd" / "config.toml"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    return path


def test_what_the_settings_file_tells_the_daemon_its_clients_know(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    kept = tmp_path / "kept"
    settings_file(tmp_path, f'listen = ["127.0.0.1:7421", "unix:/s.sock"]\nstate_dir = "{kept}"\n')
    token_file(kept / "token", "of-the-file")
    found = ConnectionSettings().found()
    assert (str(found.address), found.token) == ("127.0.0.1:7421", "of-the-file")
    assert not ConnectionSettings().is_chosen
    monkeypatch.setenv("SWARMD_LISTEN", "unix:/other.sock,127.0.0.1:1")
    assert str(ConnectionSettings().found().address) == "unix:/other.sock"
    monkeypatch.setenv("SWARMD_ADDRESS", "localhost:1")
    assert ConnectionSettings().found().address.port == 1


@pytest.mark.parametrize("text", ['listen = ["127.0.0.1:0"]', "listen = []", "local_cores = 1", 'listen = "nonsense"'])
def test_settings_that_do_not_tell_an_address_leave_the_default(tmp_path: Path, text: str):
    settings_file(tmp_path, text)
    assert ConnectionSettings().found().address == default_address()


def test_a_settings_file_that_others_can_change_is_not_believed(tmp_path: Path):
    settings_file(tmp_path, 'listen = ["127.0.0.1:1"]').chmod(0o666)
    with pytest.raises(InvalidInputError, match="can be changed by others"):
        ConnectionSettings().found()


def test_each_place_of_a_token_wins_over_the_next_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    assert token() is None
    token_file(tmp_path / "state" / "swarmd" / "token", "default")
    assert token() == "default"
    token_file(tmp_path / "elsewhere" / "token", "elsewhere")
    monkeypatch.setenv("SWARMD_STATE_DIR", str(tmp_path / "elsewhere"))
    assert token() == "elsewhere"
    monkeypatch.setenv("SWARMD_TOKEN_FILE", str(token_file(tmp_path / "named", "named")))
    assert token() == "named"
    monkeypatch.setenv("SWARMD_TOKEN", "variable")
    assert token() == "variable"
    given = token_file(tmp_path / "given", "from-a-file")
    assert token(token_file=given) == "from-a-file"
    assert token(token_file=given, token="given") == "given"


def test_on_a_socket_file_only_a_token_that_was_given_is_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("SWARMD_TOKEN", "variable")
    assert token(address="unix:/tmp/x.sock") is None
    assert token(address="unix:/tmp/x.sock", token="given") == "given"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_what_stays_on_this_machine_may_travel_in_the_clear(host: str):
    assert is_loopback(host)
    assert token(address=f"[{host}]:1", token="secret") == "secret"


@pytest.mark.parametrize("host", ["10.0.0.1", "example.org", "localhost.example.org", "::2"])
def test_a_token_never_travels_in_the_clear_unless_that_is_said(
    host: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    assert not is_loopback(host)
    address = f"[{host}]:1"
    assert token(address=address) is None
    with pytest.raises(InvalidInputError, match="would travel in the clear") as refused:
        token(address=address, token="secret")
    assert refused.value.reason == "TOKEN_IN_THE_CLEAR"
    assert "secret" not in str(refused.value)
    assert token(address=address, token="secret", insecure=True) == "secret"
    assert token(address=address, token="secret", tls=True) == "secret"
    monkeypatch.setenv("SWARMD_CLIENT_INSECURE", "1")
    assert token(address=address, token="secret") == "secret"
    with pytest.raises(InvalidInputError):
        token(address=address, token="secret", insecure=False)


def test_tls_is_used_when_anything_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    settings = ConnectionSettings(address="localhost:1")
    assert settings.found().tls is None
    tls = ConnectionSettings(address="localhost:1", tls=True, tls_server_name="daemon").found().tls
    assert tls is not None
    assert (tls.ca, tls.server_name) == (None, "daemon")
    monkeypatch.setenv("SWARMD_TLS_CA", str(pem(tmp_path / "ca.pem")))
    found = settings.found().tls
    assert found is not None
    assert found.ca == (tmp_path / "ca.pem").read_bytes()
    assert ConnectionSettings(address="localhost:1", tls=False).found().tls is None
    assert ConnectionSettings(address="unix:/tmp/x.sock").found().tls is None


def test_who_shows_a_certificate_does_not_show_the_token_of_another_daemon_by_chance(tmp_path: Path):
    token_file(tmp_path / "state" / "swarmd" / "token", "default")
    cert, key = pem(tmp_path / "cert.pem"), pem(tmp_path / "key.pem", "PRIVATE KEY")
    assert token(tls_cert=cert, tls_key=key) is None
    assert token(tls_cert=cert, tls_key=key, token="given") == "given"


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"token": ""}, "INVALID_TOKEN"),
        ({"token": "two words"}, "INVALID_TOKEN"),
        ({"token_file": "/nowhere/token"}, "NO_TOKEN_FILE"),
        ({"tls_ca": "/nowhere/ca.pem"}, "INVALID_CERTIFICATE"),
        ({"tls_ca": "/dev/null"}, "INVALID_CERTIFICATE"),
        ({"tls_cert": "/dev/null"}, "INVALID_CERTIFICATE"),
        ({"address": "unix:/tmp/x.sock", "tls": True}, "NO_TLS"),
        ({"address": "nowhere"}, "INVALID_ADDRESS"),
    ],
)
def test_what_cannot_be_used_is_refused_before_any_call(given: dict[str, str], reason: str):
    with pytest.raises(InvalidInputError) as refused:
        token(**given)
    assert refused.value.reason == reason


def test_secrets_are_not_shown(tmp_path: Path):
    shown = repr(ConnectionSettings(address="localhost:1", token="secret").found())
    assert "secret" not in shown + repr(ConnectionSettings(token="secret"))
