"""How a client finds the daemon and what it shows there: one rule for every client and for the command line.

What was given counts, then the environment, then what a daemon of the same user has by itself. Needs no gRPC, so that
the command line can say what is wrong without it.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from swarmd.addresses import Address, client_address, daemons_state_directory, parse_address
from swarmd.core.errors import InvalidInputError
from swarmd.ownership import is_trusted, user_name
from swarmd.tls_client import Tls, is_loopback, read_pem

TOKEN_VARIABLE = "SWARMD_TOKEN"  # noqa: S105 - the names of variables
TOKEN_FILE_VARIABLE = "SWARMD_TOKEN_FILE"  # noqa: S105
TLS_VARIABLE = "SWARMD_CLIENT_TLS"
CA_VARIABLE = "SWARMD_TLS_CA"
CERT_VARIABLE = "SWARMD_CLIENT_CERT"
KEY_VARIABLE = "SWARMD_CLIENT_KEY"
SERVER_NAME_VARIABLE = "SWARMD_CLIENT_SERVER_NAME"
INSECURE_VARIABLE = "SWARMD_CLIENT_INSECURE"
"""SWARMD_TLS_CERT, SWARMD_TLS_KEY and SWARMD_INSECURE are the daemon's own settings; these are the clients'. The daemon
takes no notice of SWARMD_CLIENT_..., and refuses other names that it does not know."""

TOKEN_NAME = "token"  # noqa: S105 - as in `tokens.py`
YES = frozenset({"1", "true", "yes", "on"})


@dataclass(frozen=True, slots=True)
class Connection:
    """Where the daemon is, and what is shown there."""

    address: Address
    token: str | None = field(default=None, repr=False)
    tls: Tls | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionSettings:
    """What somebody said about the way to a daemon. None: looked up in the environment."""

    address: str | None = None
    """`unix:PATH` or `HOST:PORT`; SWARMD_ADDRESS, else where the user's own daemon listens, as its settings say."""
    token: str | None = field(default=None, repr=False)
    """SWARMD_TOKEN."""
    token_file: str | os.PathLike[str] | None = None
    """SWARMD_TOKEN_FILE, else the file `token` of the user's own daemon's state directory, if it is there."""
    tls: bool | None = None
    """Whether TLS is used; SWARMD_CLIENT_TLS, else when a CA or a certificate is given."""
    tls_ca: str | os.PathLike[str] | None = None
    """PEM file of the CA that the daemon's certificate is checked with; SWARMD_TLS_CA, else the system's CAs."""
    tls_cert: str | os.PathLike[str] | None = None
    """PEM file of the client's certificate; SWARMD_CLIENT_CERT."""
    tls_key: str | os.PathLike[str] | None = None
    """PEM file of its key; SWARMD_CLIENT_KEY."""
    tls_server_name: str | None = None
    """SWARMD_CLIENT_SERVER_NAME."""
    insecure: bool | None = None
    """Whether a token may travel in the clear to another machine; SWARMD_CLIENT_INSECURE, else not."""

    @property
    def is_chosen(self) -> bool:
        """Whether somebody said where the daemon is, so that another one will not do."""
        return bool(self.address or os.environ.get("SWARMD_ADDRESS"))

    def found(self) -> Connection:
        """Look everything up. Raises InvalidInputError for what does not fit together or cannot be read."""
        address = parse_address(str(client_address(self.address)))  # checked here too: a default path may be too long
        if address.path is not None:
            self._check_no_tls()
            return Connection(address, self._given_token())
        tls = self._found_tls(os.environ)
        token = self._given_token() or _token_of_environment(os.environ)
        if token is None and (tls is None or tls.cert is None):
            token = _own_daemons_token(address, is_secured=tls is not None)
        if token and tls is None and not is_loopback(address.host) and not self._may_be_heard(os.environ):
            raise _in_the_clear(address)
        return Connection(address, token, tls)

    # -- tokens ----------------------------------------------------------------------------------------------------

    def _given_token(self) -> str | None:
        if self.token is not None:
            return _checked(self.token, "token")
        return None if self.token_file is None else _read(Path(self.token_file))

    def _may_be_heard(self, environment: Mapping[str, str]) -> bool:
        return _is_yes(environment.get(INSECURE_VARIABLE)) if self.insecure is None else self.insecure

    # -- TLS -------------------------------------------------------------------------------------------------------

    def _check_no_tls(self) -> None:
        """On a socket file there is none: what the environment says about it is for other addresses."""
        if self.tls or self.tls_ca or self.tls_cert or self.tls_key:
            message = "tls: a unix socket has no TLS, and needs none; leave it out, or give HOST:PORT as the address"
            raise InvalidInputError(message, reason="NO_TLS", field="tls")

    def _found_tls(self, environment: Mapping[str, str]) -> Tls | None:
        if self.tls is False:
            return None
        ca = self.tls_ca or environment.get(CA_VARIABLE)
        cert = self.tls_cert or environment.get(CERT_VARIABLE)
        key = self.tls_key or environment.get(KEY_VARIABLE)
        if not (self.tls or ca or cert or key or _is_yes(environment.get(TLS_VARIABLE))):
            return None
        if bool(cert) != bool(key):
            message = "tls_cert: a certificate and its key belong together; give tls_cert and tls_key"
            raise InvalidInputError(message, reason="INVALID_CERTIFICATE", field="tls_cert")
        name = self.tls_server_name or environment.get(SERVER_NAME_VARIABLE) or None
        return Tls(read_pem(ca, "tls_ca"), read_pem(cert, "tls_cert"), read_pem(key, "tls_key"), name)


def _token_of_environment(environment: Mapping[str, str]) -> str | None:
    """The token that the environment holds or names."""
    if environment.get(TOKEN_VARIABLE):
        return _checked(environment[TOKEN_VARIABLE], TOKEN_VARIABLE)
    if environment.get(TOKEN_FILE_VARIABLE):
        return _read(Path(environment[TOKEN_FILE_VARIABLE]), TOKEN_FILE_VARIABLE)
    return None


def _own_daemons_token(address: Address, *, is_secured: bool) -> str | None:
    """The token of the user's own daemon, if it ever had one: for that daemon, and nobody who took its port."""
    kept = daemons_state_directory() / TOKEN_NAME
    if not kept.exists():
        return None
    if not is_secured and is_loopback(address.host):
        from swarmd.listeners import listeners_at

        for uid in listeners_at(address.host, address.port):
            if not is_trusted(uid):
                raise _taken(address, uid, kept)
    return _read(kept)


def _taken(address: Address, uid: int, token_file: Path) -> InvalidInputError:
    message = (
        f"address: {user_name(uid)} listens at {address}, who would get your daemon's token; if that daemon is the one "
        f"you mean, give its own token with --token-file (yours is {token_file})"
    )
    return InvalidInputError(message, reason="LISTENER_NOT_YOURS", field="address")


def _read(path: Path, field: str = "token_file") -> str:
    from swarmd.tokens import read_token  # with what it needs for making tokens: not for every command's help

    return read_token(path, field)


def _checked(token: str, field: str) -> str:
    token = token.strip()
    if not token or not all("!" <= each <= "~" for each in token):
        message = f"{field}: it is no token: one line of visible ASCII characters; take that of the daemon's token file"
        raise InvalidInputError(message, reason="INVALID_TOKEN", field=field)
    return token


def _in_the_clear(address: Address) -> InvalidInputError:
    message = (
        f"insecure: the token would travel in the clear to {address}, for everybody in between to read; use TLS "
        "(tls_ca, or tls for the system's CAs), or say insecure if nobody can listen there"
    )
    return InvalidInputError(message, reason="TOKEN_IN_THE_CLEAR", field="insecure")


def _is_yes(text: str | None) -> bool:
    return (text or "").lower() in YES
