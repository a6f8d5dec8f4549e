"""Certificates for tests: a CA of their own each, in files as a daemon and its clients take them."""

from dataclasses import dataclass
from pathlib import Path

import grpc
import trustme


@dataclass(frozen=True)
class Identity:
    """A certificate and its key, in files."""

    cert: Path
    key: Path


class Authority:
    """A CA that somebody trusts."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, exist_ok=True)
        self._folder = folder
        self._ca = trustme.CA()
        self.file = folder / "ca.pem"
        self.file.write_bytes(self._ca.cert_pem.bytes())
        self.file.chmod(0o644)

    def issue(self, name: str, *hosts: str) -> Identity:
        """A certificate for these hosts; a file of the same name is replaced."""
        made = self._ca.issue_cert(*hosts)
        identity = Identity(self._folder / f"{name}.pem", self._folder / f"{name}.key")
        identity.cert.write_bytes(b"".join(each.bytes() for each in made.cert_chain_pems))
        identity.key.touch(mode=0o600)
        identity.key.write_bytes(made.private_key_pem.bytes())
        identity.cert.chmod(0o644)
        return identity

    def trusted(self, identity: Identity | None = None) -> grpc.ChannelCredentials:
        """What a client has who trusts this CA, and shows a certificate when it has one."""
        if identity is None:
            return grpc.ssl_channel_credentials(self.file.read_bytes())
        return grpc.ssl_channel_credentials(
            self.file.read_bytes(), identity.key.read_bytes(), identity.cert.read_bytes()
        )
