"""Whose files are these? Nothing is trusted that somebody else could have put there, or could put there later.

A path is safe when its owner is this user (or root, who can do everything anyway), nobody else may write to it, and the
same holds for every directory above it: whoever can rename a directory can put another one in its place. A sticky
directory, as /tmp is one, lets only a file's owner rename it.
"""

import contextlib
import grp
import os
import pwd
import stat
from functools import cache
from pathlib import Path

from swarmd.core.errors import InvalidInputError

ROOT = 0
NOBODY = 65_534
"""How root and everybody else who is not mapped look inside of a user namespace."""

_GROUP_OR_OTHERS = 0o077
_CHOOSE = "remove it, or choose another place (XDG_RUNTIME_DIR, --listen, --state-dir)"


def make_private(directory: Path) -> Path:
    """Make the directory, 0700, or check that the one there is the user's own; then nobody else may look into it.

    Raises InvalidInputError when it is somebody else's, a link or no directory, or when others could replace it.
    """
    _make(directory)
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise unsafe(directory, "is not a directory (a link will not do)", _CHOOSE)
    if found.st_uid != os.getuid():
        raise unsafe(directory, f"belongs to {user_name(found.st_uid)}, not to you", _CHOOSE)
    check_above(directory)
    if stat.S_IMODE(found.st_mode) & _GROUP_OR_OTHERS:
        directory.chmod(0o700)
    return directory


def check_above(path: Path) -> None:
    """Raise InvalidInputError unless only this user and root can put something else in the place of the path."""
    lexical, real = path.absolute().parents, Path(os.path.realpath(path.parent))
    for directory in dict.fromkeys((*lexical, real, *real.parents)):
        _check_directory(directory, path)


def check_file(path: Path, what: str, *, secret: bool = False) -> None:
    """Raise InvalidInputError unless the file is this user's or root's and nobody else can change it.

    `secret`: nobody else may read it either; a group may, as Kubernetes mounts secrets so.
    """
    try:
        found = path.stat()
    except OSError as error:
        message = f"{what}: {path} cannot be read ({error.strerror}); give a file that is there and yours"
        raise InvalidInputError(message, reason="UNREADABLE_FILE", field=what) from None
    if not stat.S_ISREG(found.st_mode):
        raise unsafe(path, "is no file", f"give {what} a file")
    check_open_file(found, path, secret=secret)
    check_above(path)


def check_open_file(found: os.stat_result, path: Path, *, secret: bool = False) -> None:
    """The same for the file itself, when it is open already."""
    if not is_trusted(found.st_uid):
        raise unsafe(path, f"belongs to {user_name(found.st_uid)}, not to you", "take a file of your own")
    if _others_may_write(found, path):
        raise unsafe(path, f"can be changed by others (its mode is {_mode(found)})", f"chmod go-w {path}")
    by_acl = bool(found.st_mode & stat.S_IRGRP) and _has_acl(path)
    if secret and (found.st_mode & stat.S_IROTH or by_acl):
        who = "others, by an access list" if by_acl else "everybody"
        raise unsafe(path, f"can be read by {who} (its mode is {_mode(found)})", f"chmod 600 {path}")


def unsafe(path: Path, what: str, remedy: str) -> InvalidInputError:
    """The error for a path that cannot be trusted."""
    return InvalidInputError(
        f"{path} {what}; {remedy}", reason="UNSAFE_PATH", field="path", metadata={"path": str(path)}
    )


def _make(directory: Path) -> None:
    """With what is missing above it: as private, for it is made for this alone."""
    missing = [directory, *(above for above in directory.parents if not above.exists())]
    for each in reversed(missing):
        with contextlib.suppress(FileExistsError):
            each.mkdir(mode=0o700)


def _check_directory(directory: Path, path: Path) -> None:
    try:
        link, found = directory.lstat(), directory.stat()
    except OSError as error:
        message = f"{path}: {directory} cannot be looked at ({error.strerror}); choose another place"
        raise InvalidInputError(message, reason="UNSAFE_PATH", field="path") from None
    for each in (link, found):
        if not is_trusted(each.st_uid):
            remedy = f"{user_name(each.st_uid)} could put something else in its place; choose another place"
            raise unsafe(path, f"is below {directory}, which belongs to {user_name(each.st_uid)}", remedy)
    if _others_may_write(found, directory) and not found.st_mode & stat.S_ISVTX:
        remedy = f"chmod go-w {directory}, or choose another place"
        raise unsafe(path, f"is below {directory}, where others may write (its mode is {_mode(found)})", remedy)


def _others_may_write(found: os.stat_result, path: Path) -> bool:
    if found.st_mode & stat.S_IWOTH:
        return True
    return bool(found.st_mode & stat.S_IWGRP) and (not _is_private_group(found.st_gid) or _has_acl(path))


def _has_acl(path: Path) -> bool:
    """Whether there is a list of more users and groups; the group's bits of the mode stand for all of them then."""
    try:
        return bool(os.getxattr(path, "system.posix_acl_access"))
    except OSError:  # there is none, or the file system has no such thing
        return False


def is_trusted(uid: int) -> bool:
    """Whether what this user does is as good as one's own: this user, and root, who can do everything anyway."""
    return uid in (os.getuid(), ROOT) or (uid == NOBODY and _in_user_namespace())


@cache
def _is_private_group(gid: int) -> bool:
    """Whether nobody but this user (and root) is in the group, as on systems where each user has a group."""
    if gid == ROOT:
        return True
    try:
        user, group = pwd.getpwuid(os.getuid()), grp.getgrgid(gid)
    except KeyError:
        return False
    return user.pw_gid == gid and group.gr_name == user.pw_name and set(group.gr_mem) <= {user.pw_name}


@cache
def _in_user_namespace() -> bool:
    """Whether only some of the system's users are known here, so that root's own files look like nobody's."""
    try:
        words = Path("/proc/self/uid_map").read_text().split()
    except OSError:
        return False
    return words != ["0", "0", "4294967295"]


def user_name(uid: int) -> str:
    """A user for people."""
    try:
        return f"user {pwd.getpwuid(uid).pw_name} ({uid})"
    except KeyError:
        return f"user {uid}"


def _mode(found: os.stat_result) -> str:
    return f"{stat.S_IMODE(found.st_mode):04o}"
