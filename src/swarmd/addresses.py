"""Where the daemon is: one rule for daemon, client and command line.

An address is `unix:PATH` or `HOST:PORT`. Without one, it is the socket `swarmd.sock` in the user's runtime directory:
`$XDG_RUNTIME_DIR/swarmd`, or else `swarmd-UID` in the system's directory for temporary files.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from swarmd.config_file import listed, read_config
from swarmd.core.errors import InvalidInputError

ADDRESS_VARIABLE = "SWARMD_ADDRESS"
LISTEN_VARIABLE = "SWARMD_LISTEN"
STATE_VARIABLE = "SWARMD_STATE_DIR"
SOCKET_NAME = "swarmd.sock"
LONGEST_SOCKET_PATH = 107  # sockaddr_un has 108 bytes, with the closing NUL
HIGHEST_PORT = 65_535


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen, or where to connect to: a socket file, or a host and a port."""

    path: Path | None = None
    host: str = ""
    port: int = 0

    def __str__(self) -> str:
        if self.path is not None:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def target(self) -> str:
        """As gRPC wants it."""
        return str(self)


def parse_address(text: str) -> Address:
    """`unix:PATH`, `HOST:PORT` or `[IPV6]:PORT`. Raises InvalidInputError with the remedy."""
    if text.startswith("unix:"):
        path = Path(text.removeprefix("unix:").removeprefix("//")).absolute()
        if len(os.fsencode(path)) > LONGEST_SOCKET_PATH:
            raise _unusable(text, f"a socket's path has at most {LONGEST_SOCKET_PATH} bytes; choose a shorter one")
        return Address(path=path)
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (colon and host and port.isascii() and port.isdigit() and int(port) <= HIGHEST_PORT):
        raise _unusable(text, "write unix:PATH, or HOST:PORT with a port from 0 to 65535")
    return Address(host=host, port=int(port))


def default_address() -> Address:
    """The address that everybody uses who gives none; `SWARMD_ADDRESS` overrides it for clients."""
    return Address(path=runtime_directory() / SOCKET_NAME)


def client_address(given: str | None) -> Address:
    """Where a client connects to: what was given, else `SWARMD_ADDRESS`, else where the user's own daemon listens.

    That is the first address of `SWARMD_LISTEN` or of the settings file, else the default socket.
    """
    text = given or os.environ.get(ADDRESS_VARIABLE)
    return parse_address(text) if text else _own_daemons_address()


def _own_daemons_address() -> Address:
    text = os.environ.get(LISTEN_VARIABLE)
    addresses = listed(text, LISTEN_VARIABLE) if text else read_config(os.environ)[1].get("listen")
    if not isinstance(addresses, list) or not addresses:
        return default_address()
    first = parse_address(str(addresses[0]))
    return default_address() if first.path is None and first.port == 0 else first


def runtime_directory() -> Path:
    """The user's directory for the socket; it may not exist yet."""
    base = os.environ.get("XDG_RUNTIME_DIR")
    if base:
        return Path(base) / "swarmd"
    # not tempfile's own way to find it, which writes into it: nothing may be writable where all paths are given
    return Path(os.environ.get("TMPDIR") or "/tmp") / f"swarmd-{os.getuid()}"  # noqa: S108


def daemons_state_directory() -> Path:
    """Where the user's own daemon keeps what it has: `SWARMD_STATE_DIR`, the settings file, else the usual place."""
    given = os.environ.get(STATE_VARIABLE) or read_config(os.environ)[1].get("state_dir")
    return Path(given).absolute() if isinstance(given, str) else state_directory()


def state_directory() -> Path:
    """The user's directory for logs and state; it may not exist yet."""
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "swarmd"


def _unusable(text: str, remedy: str) -> InvalidInputError:
    return InvalidInputError(f"address: {text!r} cannot be used; {remedy}", reason="INVALID_ADDRESS", field="address")
