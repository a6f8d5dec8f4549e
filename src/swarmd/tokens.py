"""The secrets that let a caller in over TCP: made once, kept in files that only their owner can read.

`token` lets its bearer do everything, which includes running commands as the daemon's user; `token.read-only` lets it
look and nothing else. Both lie in the state directory, so that daemon, command line and client find them by one rule.
"""

import enum
import hashlib
import hmac
import os
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from swarmd.core.errors import InvalidInputError
from swarmd.ownership import check_open_file, unsafe

TOKEN_NAME = "token"  # noqa: S105 - a file's name
READ_ONLY_NAME = "token.read-only"
TOKEN_BYTES = 32
LONGEST_TOKEN = 4096

_OPEN = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK  # a pipe in the place of the file must not hold anybody up


class Grant(enum.Enum):
    """What a caller may do."""

    FULL = "full"
    READ_ONLY = "read-only"


@dataclass(frozen=True, slots=True)
class Tokens:
    """The two tokens, as digests: the secrets themselves stay in their files."""

    full: bytes
    read_only: bytes

    @classmethod
    def load_or_make(cls, directory: Path) -> "Tokens":
        """Those of a private directory; what is missing is made. Raises InvalidInputError for unsafe files."""
        return cls(_digest(_kept(directory / TOKEN_NAME)), _digest(_kept(directory / READ_ONLY_NAME)))

    @classmethod
    def unknown(cls) -> "Tokens":
        """Tokens that nobody has."""
        return cls(secrets.token_bytes(TOKEN_BYTES), secrets.token_bytes(TOKEN_BYTES))

    def grant(self, token: str) -> Grant | None:
        """What the bearer of this token may do; None: it is none of ours. Takes as long whichever it is."""
        digest = _digest(token)
        is_full, is_read_only = hmac.compare_digest(digest, self.full), hmac.compare_digest(digest, self.read_only)
        return Grant.FULL if is_full else Grant.READ_ONLY if is_read_only else None


def renew(directory: Path) -> None:
    """Put new tokens in the place of the old ones, each at once. A daemon takes them up at SIGHUP."""
    for name in (TOKEN_NAME, READ_ONLY_NAME):
        new = _write(directory, secrets.token_urlsafe(TOKEN_BYTES))
        new.replace(directory / name)


def read_token(
    path: Path, field: str = "token_file", *, whose: str = "the token file of the daemon that you call"
) -> str:
    """The token in a file: this user's or root's, and not readable by everybody. Raises InvalidInputError.

    `whose`: what is to be given when there is none.
    """
    try:
        descriptor = os.open(path, _OPEN)
    except OSError as error:
        message = f"{field}: {path} cannot be read ({error.strerror}); give {whose}"
        raise InvalidInputError(message, reason="NO_TOKEN_FILE", field=field) from None
    with _opened(descriptor, path) as file:
        return _checked(file.read(LONGEST_TOKEN + 1), os.fstat(descriptor), path)


def _kept(path: Path) -> str:
    """The token in one of the daemon's own files, which is made when it is not there."""
    try:
        descriptor = os.open(path, _OPEN | os.O_NOFOLLOW)
    except FileNotFoundError:
        _make(path)
        return _kept(path)
    except OSError as error:
        raise unsafe(path, f"cannot be read ({error.strerror}; a link will not do)", f"rm {path}") from None
    with _opened(descriptor, path) as file:
        found = os.fstat(descriptor)
        if found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077:
            what = f"is not yours alone (owner {found.st_uid}, mode {stat.S_IMODE(found.st_mode):04o})"
            raise unsafe(path, what, "others may know it; remove it and start again, a new one is made")
        return _checked(file.read(LONGEST_TOKEN + 1), found, path)


def _opened(descriptor: int, path: Path) -> BinaryIO:
    """To read from, closed at the end. Directories and pipes can be opened too; nothing is read from those."""
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise unsafe(path, "is no file", "give a file with a token in it")
    return os.fdopen(descriptor, "rb")


def _make(path: Path) -> None:
    """A new token, unless somebody else of this user is quicker."""
    new = _write(path.parent, secrets.token_urlsafe(TOKEN_BYTES))
    try:
        path.hardlink_to(new)
    except FileExistsError:
        return
    finally:
        new.unlink()


def _write(directory: Path, token: str) -> Path:
    path = directory / f".token-{secrets.token_hex(8)}"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(token + "\n")
        file.flush()
        os.fsync(descriptor)
    return path


def _checked(content: bytes, found: os.stat_result, path: Path) -> str:
    check_open_file(found, path, secret=True)
    token = content.decode("ascii", errors="replace").strip()
    if not token or len(token) > LONGEST_TOKEN or not all("!" <= each <= "~" for each in token):
        raise unsafe(path, "holds no token: one line of visible ASCII characters", "remove it, and a new one is made")
    return token


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode(errors="surrogatepass")).digest()
