"""Who may call what: decided by the headers of a call, before anything of its message is read."""

from collections.abc import Callable, Iterable

from swarmd.core.errors import PermissionDeniedError, UnauthenticatedError
from swarmd.tokens import Grant, Tokens

OPEN_SERVICE = "/grpc.health.v1.Health/"
"""Whether the daemon is well is for everybody who can reach it: probes carry no secrets."""

CHANGING = frozenset(
    {
        "/swarm.v1.SchedulerService/Tick",
        "/swarm.v1.SchedulerService/ApplyUpdate",
        "/swarm.v1.SwarmService/CreateSwarm",
        "/swarm.v1.SwarmService/UpdateSwarm",
        "/swarm.v1.SwarmService/DeleteSwarm",
        "/swarm.v1.SwarmService/AddTasks",
        "/swarm.v1.SwarmService/CancelTasks",
        "/swarm.v1.SwarmService/ResetTasks",
    }
)
"""What a read-only token does not allow. Every RPC is here or below; a test holds both against the protocol."""

READING = frozenset(
    {
        "/swarm.v1.SchedulerService/HasWork",
        "/swarm.v1.SwarmService/GetSwarm",
        "/swarm.v1.SwarmService/ListSwarms",
        "/swarm.v1.SwarmService/GetTask",
        "/swarm.v1.SwarmService/ListTasks",
        "/swarm.v1.SwarmService/ExplainTask",
        "/swarm.v1.SwarmService/WatchSwarm",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    }
)

Metadata = Iterable[tuple[str, str | bytes]]


class Guard:
    """What the callers at one door must show."""

    def __init__(self, tokens: Callable[[], Tokens] | None, *, required: bool) -> None:
        """Without tokens nobody is asked. `required`: a caller without one is turned away; else it may do all."""
        self._tokens = tokens
        self._required = required

    def admit(self, method: str, metadata: Metadata | None) -> Grant:
        """What the caller may do. Raises UnauthenticatedError or PermissionDeniedError.

        A token that is shown is looked at wherever that is, so that a read-only one makes any call read-only.
        """
        if self._tokens is None or method.startswith(OPEN_SERVICE):
            return Grant.FULL
        shown = next((value for name, value in metadata or () if name == "authorization"), None)
        if shown is None:
            if self._required:
                raise _no_token()
            return Grant.FULL
        grant = self._tokens().grant(_bearer(shown))
        if grant is None:
            raise _wrong_token()
        if grant is Grant.READ_ONLY and method not in READING:
            raise _read_only(method)
        return grant


def _bearer(shown: str | bytes) -> str:
    text = shown.decode(errors="replace") if isinstance(shown, bytes) else shown
    scheme, _, token = text.partition(" ")
    if scheme.lower() != "bearer":
        raise UnauthenticatedError(
            "authorization: it is no bearer token; send `authorization: Bearer TOKEN`", reason="WRONG_TOKEN"
        )
    return token.strip()


def _no_token() -> UnauthenticatedError:
    message = (
        "authorization: no token was sent; send `authorization: Bearer TOKEN` with the token from the daemon's token "
        "file (swarmd clients find it by SWARMD_TOKEN_FILE or --token-file)"
    )
    return UnauthenticatedError(message, reason="NO_TOKEN")


def _wrong_token() -> UnauthenticatedError:
    message = (
        "authorization: the token is not this daemon's; take the one from its token file, which may have been renewed"
    )
    return UnauthenticatedError(message, reason="WRONG_TOKEN")


def _read_only(method: str) -> PermissionDeniedError:
    name = method.removeprefix("/swarm.v1.").replace("/", ".")
    message = f"authorization: the token is read-only and {name} changes something; use the full token"
    return PermissionDeniedError(message, reason="READ_ONLY_TOKEN", metadata={"method": name})
