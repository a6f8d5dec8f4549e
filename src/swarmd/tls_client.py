"""What a caller needs for TLS, whether it calls the daemon or is the daemon that calls an engine.

PEM files, read and checked before gRPC sees them, for it says nothing about them and just never connects. Needs no gRPC
but for the credentials themselves.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from swarmd.core.errors import InvalidInputError

if TYPE_CHECKING:
    import grpc

TLS_TROUBLE = {
    "Hostname Verification": "its certificate is for another name; give the right one as tls_server_name",
    "CERTIFICATE_VERIFY_FAILED": "its certificate is of no CA that is trusted; give its CA as tls_ca",
    "WRONG_VERSION_NUMBER": "it speaks no TLS; leave TLS out, or give another address",
    "handshake failed": "the TLS handshake failed; it may want a certificate, tls_cert and tls_key",
}
"""What is in gRPC's words about a connection that cannot be secured, and what that means."""


@dataclass(frozen=True, slots=True)
class Tls:
    """How the connection is secured."""

    ca: bytes | None = None
    """PEM: whose certificates are trusted; None: those that the system trusts."""
    cert: bytes | None = None
    """PEM: what the client shows, for mutual TLS."""
    key: bytes | None = field(default=None, repr=False)
    server_name: str | None = None
    """The name that the server's certificate must have; None: the host's."""


def tls_trouble(details: str) -> str | None:
    """What gRPC's words about a lost connection say about TLS; None when it is not about that."""
    return next((meaning for words, meaning in TLS_TROUBLE.items() if words in details), None)


def is_loopback(host: str) -> bool:
    """Whether what is sent there stays on this machine."""
    import ipaddress

    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def read_pem(path: str | os.PathLike[str] | None, field: str) -> bytes | None:
    """A PEM file; None without a path. Raises InvalidInputError."""
    if not path:
        return None
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        message = f"{field}: {os.fspath(path)} cannot be read ({error.strerror}); give a PEM file"
        raise InvalidInputError(message, reason="INVALID_CERTIFICATE", field=field) from None
    if b"-----BEGIN " not in content:
        message = f"{field}: {os.fspath(path)} is no PEM file"
        raise InvalidInputError(message, reason="INVALID_CERTIFICATE", field=field)
    return content


def check_tls(tls: Tls) -> None:
    """Raise InvalidInputError for certificates that cannot be used; `field` is the setting that names them."""
    import ssl

    try:
        if tls.ca is not None:
            # The standard library takes ASCII only; remarks in it may be in any letters.
            ssl.create_default_context(cadata=tls.ca.decode("ascii", errors="ignore"))
    except ssl.SSLError as error:
        raise _unusable("tls_ca", "it is no CA certificate in PEM", error) from None
    if tls.cert is None or tls.key is None:
        return
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    pair = os.memfd_create("pair")  # the standard library reads it from files only
    try:
        os.write(pair, tls.cert + b"\n" + tls.key)
        context.load_cert_chain(f"/proc/self/fd/{pair}", password=_no_password)
    except (ssl.SSLError, ValueError) as error:
        raise _unusable("tls_cert", "it and tls_key are no certificate with its key in PEM", error) from None
    finally:
        os.close(pair)


def channel_credentials(tls: Tls) -> "grpc.ChannelCredentials":
    """For a channel of gRPC."""
    import grpc

    return grpc.ssl_channel_credentials(tls.ca or _system_roots(), tls.key, tls.cert)


def _system_roots() -> bytes | None:
    """The CAs that the system trusts; without such a file, those that come with gRPC."""
    import ssl

    file = ssl.get_default_verify_paths().cafile
    return Path(file).read_bytes() if file else None


def _no_password() -> str:
    raise ValueError("the key is encrypted; decrypt it, nobody is asked for a password")


def _unusable(field: str, what: str, error: Exception) -> InvalidInputError:
    why = getattr(error, "reason", None) or error
    return InvalidInputError(f"{field}: {what} ({why})", reason="INVALID_CERTIFICATE", field=field)
