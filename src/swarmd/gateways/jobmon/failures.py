"""What a call to Jobmon's server can come to when it does not succeed, and what that says about what was done."""

import json
import re

PERMANENT_ERRORS = frozenset({"KeyError", "ValueError", "NoResultFound", "ArgumentError"})
"""Python errors inside the server that mean a wrong request: it will be as wrong next time."""

_LAST_NAME = re.compile(r"([A-Za-z_]\w*)\W*$")
SHOWN_BYTES = 300


class CallError(Exception):
    """A call that did not succeed, in words."""


class RefusedError(CallError):
    """The server says no, and would say so again. Nothing was done."""


class NotDoneError(CallError):
    """Nothing was done; it may go well another time."""


class NoRouteError(NotDoneError):
    """The server does not know the route: it is of another version, or the prefix is wrong."""


class LostError(CallError):
    """Nobody knows whether it was done."""


def failure(status: int, body: bytes, what: str) -> CallError | None:
    """The error that an answer stands for; None when it is none.

    503 means that nothing was done. 423 and other 5xx may come from after a commit: what was done is not known.
    """
    if 200 <= status < 300:
        return None
    kind, said = _error_in(body)
    words = f"{what}: Jobmon's server answers {status}{f' ({kind})' if kind else ''}{f': {said}' if said else ''}"
    if status in (400, 422) or (status == 500 and kind in PERMANENT_ERRORS):
        return RefusedError(words)
    if status in (401, 403):
        return NotDoneError(f"{words}; it must let programs in without a session: turn its authentication off")
    if status == 404:
        return NoRouteError(f"{words}; is the route prefix right?")
    if status == 503 or (status < 500 and status not in (408, 423)):
        return NotDoneError(words)
    return LostError(words)


def _error_in(body: bytes) -> tuple[str, str]:
    """The kind of the error and what is said of it."""
    try:
        error = json.loads(body)["error"]
        kind = _LAST_NAME.search(str(error.get("type", "")))
        said = str(error.get("exception_message", ""))
    except (ValueError, TypeError, KeyError, AttributeError):
        return "", " ".join(body[:SHOWN_BYTES].decode(errors="replace").split())
    return kind[1] if kind else "", " ".join(said[:SHOWN_BYTES].split())
