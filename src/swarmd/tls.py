"""The daemon's certificate: checked when it is loaded, and loaded again while the daemon runs."""

import ssl
from dataclasses import dataclass
from pathlib import Path

import grpc

from swarmd.core.errors import InvalidInputError
from swarmd.ownership import check_file


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files: a certificate chain, its key, and for mutual TLS the CA whose clients are let in."""

    cert: Path
    key: Path
    client_ca: Path | None = None


class ServerTls:
    """What each new connection is greeted with: the files as they were when they were last loaded."""

    def __init__(self, files: TlsFiles) -> None:
        """Raises InvalidInputError when a file is missing, unsafe or does not fit the others."""
        self._files = files
        self._current = _load(files)

    @property
    def mutual(self) -> bool:
        """Whether clients show a certificate of their own."""
        return self._files.client_ca is not None

    def reload(self) -> None:
        """Greet new connections with what the files hold now. Raises InvalidInputError, and all stays as it was."""
        self._current = _load(self._files)

    def credentials(self) -> grpc.ServerCredentials:
        """For a listener; it asks again at each handshake."""
        return grpc.dynamic_ssl_server_credentials(self._current, lambda: self._current, self.mutual)


def _load(files: TlsFiles) -> grpc.ServerCertificateConfiguration:
    check_file(files.cert, "tls_cert")
    check_file(files.key, "tls_key", secret=True)
    if files.client_ca is not None:
        check_file(files.client_ca, "tls_client_ca")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(files.cert, files.key, password=_no_password)
    except (ssl.SSLError, OSError, ValueError) as error:
        message = f"tls_cert: {files.cert} and {files.key} are no certificate with its key, both PEM ({_why(error)})"
        raise InvalidInputError(message, reason="INVALID_CERTIFICATE", field="tls_cert") from None
    if files.client_ca is not None:
        try:
            context.load_verify_locations(files.client_ca)
        except (ssl.SSLError, OSError) as error:
            message = f"tls_client_ca: {files.client_ca} is no CA certificate in PEM ({_why(error)})"
            raise InvalidInputError(message, reason="INVALID_CERTIFICATE", field="tls_client_ca") from None
    roots = None if files.client_ca is None else files.client_ca.read_bytes()
    pair = (files.key.read_bytes(), files.cert.read_bytes())
    return grpc.ssl_server_certificate_configuration([pair], root_certificates=roots)


def _no_password() -> str:
    raise ValueError("the key is encrypted; decrypt it, the daemon cannot ask for a password")


def _why(error: Exception) -> str:
    reason = getattr(error, "reason", None) or getattr(error, "strerror", None)
    return str(reason or error).replace("_", " ").lower()
