"""Which engine a swarm means, and what is shown there: its own gateway_options, or the section of the config file.

The section describes one engine as a whole. A swarm that names another address brings its own credentials: the token of
one engine is no other's business.
"""

import difflib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from swarmd.addresses import Address, parse_address
from swarmd.core.errors import InvalidInputError
from swarmd.tls_client import Tls, check_tls, is_loopback, read_pem
from swarmd.tokens import read_token

FIELD = "swarm.gateway_options"
SWITCHES = ("tls", "insecure")
PATHS = ("tls_ca", "tls_cert", "tls_key", "token_file")
NAMES = ("address", "tls", "tls_ca", "tls_cert", "tls_key", "tls_server_name", "token_file", "insecure")
"""What a swarm may say."""

Seconds = Annotated[float, Field(gt=0, le=86_400)]


class RemoteConfig(BaseModel):
    """The section [gateways.remote]: the engine of swarms that name none, and how long things may take."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    address: str = ""
    """`unix:PATH` or `HOST:PORT` of swarms that give none; empty: each must give its own."""
    tls: bool = False
    """TLS, checked with the CAs that the system trusts; with `tls_ca` or `tls_cert` it is used anyway."""
    tls_ca: Path | None = None
    """PEM file of the CA that the engine's certificate is checked with."""
    tls_cert: Path | None = None
    """PEM file of the certificate that the daemon shows, for mutual TLS; with `tls_key`."""
    tls_key: Path | None = None
    tls_server_name: str = ""
    """The name that the engine's certificate must have; empty: the host's."""
    token_file: Path | None = None
    """A file with the token that goes with every call; read again whenever the stream of news is opened."""
    insecure: bool = False
    """Whether the token may travel in the clear to another machine."""
    connect_timeout: Seconds = 5.0
    """How long a batch waits for an engine that is not connected before its tasks come back."""
    queue_timeout: Seconds = 60.0
    """The deadline of QueueBatch; after it the batch is in doubt, and the engine is asked what became of it."""
    call_timeout: Seconds = 20.0
    """The deadline of FindBatch and CancelTasks."""
    progress_interval: Seconds = 5.0
    """How often the engine gives a sign of life. After three of them without one the stream is opened anew."""

    @field_validator("address")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        if value:
            _address(value)
        return value

    @field_validator(*PATHS)
    @classmethod
    def _is_absolute(cls, value: Path | None) -> Path | None:
        if value is not None and not value.is_absolute():
            raise ValueError(f"{value} is relative; give an absolute path")
        return value

    @model_validator(mode="after")
    def _is_whole(self) -> "RemoteConfig":
        if self.address:
            try:
                engine_options({}, self)
            except InvalidInputError as error:
                raise ValueError(error.message.removeprefix(f"{FIELD}: ")) from None
            return self
        for name in NAMES:
            if getattr(self, name):
                what = "it is about the engine at `address`, which is not given; add it"
                raise ValueError(f"{name}: {what}, or let each swarm say so in its gateway_options")
        return self


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """Where an engine is, and what is shown there."""

    address: Address
    tls: bool = False
    tls_ca: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_server_name: str = ""
    token_file: Path | None = None
    insecure: bool = False
    key: str = ""
    """Swarms with the same key share the engine. Made of what the swarm says of it, so that it stays the same when the
    file's section is changed."""

    def loaded(self) -> "Credentials":
        """Read the files. Raises InvalidInputError for those that cannot be used."""
        whose = "a file with the token that the engine asks for"
        token = read_token(self.token_file, "token_file", whose=whose) if self.token_file is not None else ""
        if not self.tls:
            return Credentials(token)
        cert, key = read_pem(self.tls_cert, "tls_cert"), read_pem(self.tls_key, "tls_key")
        tls = Tls(read_pem(self.tls_ca, "tls_ca"), cert, key, self.tls_server_name or None)
        check_tls(tls)
        return Credentials(token, tls)


@dataclass(frozen=True, slots=True)
class Credentials:
    """What the files hold."""

    token: str = ""
    tls: Tls | None = None

    def __repr__(self) -> str:
        return f"Credentials(token={'...' if self.token else ''!r}, tls={self.tls is not None})"


def engine_options(given: Mapping[str, str], config: RemoteConfig) -> EngineOptions:
    """Which engine a swarm with these gateway_options means. Raises InvalidInputError for what cannot be."""
    _check_names(given)
    address = _address_of(given, config)
    values: dict[str, object] = {name: _read(name, text) for name, text in given.items() if name != "address"}
    if config.address and address == _address(config.address):
        section = {name: getattr(config, name) for name in NAMES if name != "address"}
        values = {**section, **values}
    own = sorted((name, text) for name, text in given.items() if name != "address")
    made = EngineOptions(address, **values, key=_key(address, own))  # type: ignore[arg-type]
    if made.tls_ca or made.tls_cert or made.tls_key:
        made = EngineOptions(address, **{**values, "tls": True}, key=made.key)  # type: ignore[arg-type]
    _check_whole(made)
    return made


def _check_names(given: Mapping[str, str]) -> None:
    for name in given:
        if name not in NAMES:
            close = difflib.get_close_matches(name, NAMES, n=1)
            remedy = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(NAMES)}"
            raise _wrong(f"{name!r} is no option of the remote gateway; {remedy}")


def _address_of(given: Mapping[str, str], config: RemoteConfig) -> Address:
    text = given.get("address") or config.address
    if not text:
        raise _wrong("the remote gateway needs an address: give `address`, unix:PATH or HOST:PORT of the engine")
    try:
        return _address(text)
    except ValueError as error:
        raise _wrong(str(error)) from None


def _address(text: str) -> Address:
    """Raises ValueError; of a relative path nobody would know where it begins."""
    if text.startswith("unix:") and not text.removeprefix("unix:").removeprefix("//").startswith("/"):
        raise ValueError(f"address: {text!r} has a relative path; give an absolute one")
    try:
        address = parse_address(text)
    except InvalidInputError as error:
        raise ValueError(error.message) from None
    if address.path is None and address.port == 0:
        raise ValueError(f"address: {text!r} has port 0, at which nobody can be called; give the engine's")
    return address


def _read(name: str, text: str) -> object:
    if name in SWITCHES:
        if text not in ("true", "false"):
            raise _wrong(f"{name}: {text!r} is neither 'true' nor 'false'; write one of them")
        return text == "true"
    if name in PATHS:
        if not Path(text).is_absolute():
            raise _wrong(f"{name}: {text!r} is no absolute path; the daemon starts elsewhere than you do")
        return Path(text)
    return text


def _key(address: Address, own: list[tuple[str, str]]) -> str:
    return f"{address} {hashlib.sha256(json.dumps(own).encode()).hexdigest()[:16]}" if own else str(address)


def _check_whole(options: EngineOptions) -> None:
    if options.address.path is not None and (options.tls or options.tls_server_name):
        raise _wrong("tls: a unix socket has no TLS, and needs none; leave it out, or give HOST:PORT as the address")
    if (options.tls_cert is None) != (options.tls_key is None):
        raise _wrong("tls_cert: a certificate and its key belong together; give tls_cert and tls_key")
    if options.tls_server_name and not options.tls:
        raise _wrong("tls_server_name: it is of use with TLS only; give tls_ca, or tls = 'true' for the system's CAs")
    elsewhere = options.address.path is None and not is_loopback(options.address.host)
    if options.token_file is not None and elsewhere and not (options.tls or options.insecure):
        raise _wrong(
            f"token_file: the token would travel in the clear to {options.address}, for everybody in between to read; "
            "use TLS (tls_ca, or tls = 'true' for the system's CAs), or insecure = 'true' if nobody can listen there"
        )


def _wrong(what: str) -> InvalidInputError:
    return InvalidInputError(f"{FIELD}: {what}", field=FIELD)
