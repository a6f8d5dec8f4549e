"""What a call to the daemon can end with: a class for each status code that a program may want to catch.

Raised by the client instead of gRPC's own errors, so that callers need not know gRPC; importing this module does not
import it.
"""

from collections.abc import Mapping

from swarmd.core.errors import SwarmdError


class RpcError(SwarmdError):
    """The daemon refused a call, or the call was lost.

    `message` is one sentence with the remedy, `reason` a constant for programs (`UNKNOWN_TASK`), `field` the path of
    the offending field or empty, and `metadata` has details for programs.
    """

    default_reason = "RPC_FAILED"

    def __init__(
        self,
        message: str,
        *,
        code: str,
        reason: str | None = None,
        field: str = "",
        metadata: Mapping[str, str] | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, reason=reason, field=field, metadata=metadata)
        self.code = code
        """The name of the gRPC status code: `NOT_FOUND`, for example."""
        self.retry_after = retry_after
        """After how many seconds the daemon wants to be asked again; None: it did not say that this would help."""


class InvalidArgumentError(RpcError):
    """The request is wrong, whatever the state is; `field` says where."""

    default_reason = "INVALID_ARGUMENT"


class NotFoundError(RpcError):
    """There is no such swarm, task or array."""

    default_reason = "NOT_FOUND"


class AlreadyExistsError(RpcError):
    """The id is taken."""

    default_reason = "ALREADY_EXISTS"


class FailedPreconditionError(RpcError):
    """The request is fine, and the state does not allow it now."""

    default_reason = "FAILED_PRECONDITION"


class RevisionGoneError(RpcError):
    """The changes since the revision that was asked for are no longer kept."""

    default_reason = "REVISION_GONE"


class LimitExceededError(RpcError):
    """A bound of the daemon is reached; `metadata["limit"]` names it. Never tried again by the client."""

    default_reason = "LIMIT_EXCEEDED"


class UnauthenticatedError(RpcError):
    """The daemon wants a token, or this one is not its own."""

    default_reason = "UNAUTHENTICATED"


class PermissionDeniedError(RpcError):
    """The token does not allow this: it is read-only."""

    default_reason = "PERMISSION_DENIED"


class DeadlineExceededError(RpcError):
    """No answer came in time; whether the call was carried out is not known."""

    default_reason = "DEADLINE_EXCEEDED"


class UnavailableError(RpcError):
    """Not now: the daemon starts or stops, cannot write, or is not there; and patience is at its end."""

    default_reason = "UNAVAILABLE"


class NoDaemonError(UnavailableError):
    """Nobody answers at the address, or the connection was lost."""

    default_reason = "NO_DAEMON"

    def __init__(self, message: str, *, address: str, reason: str | None = None) -> None:
        super().__init__(message, code="UNAVAILABLE", reason=reason, metadata={"address": address})
        self.address = address


CLASSES: Mapping[str, type[RpcError]] = {
    "INVALID_ARGUMENT": InvalidArgumentError,
    "NOT_FOUND": NotFoundError,
    "ALREADY_EXISTS": AlreadyExistsError,
    "FAILED_PRECONDITION": FailedPreconditionError,
    "OUT_OF_RANGE": RevisionGoneError,
    "RESOURCE_EXHAUSTED": LimitExceededError,
    "UNAUTHENTICATED": UnauthenticatedError,
    "PERMISSION_DENIED": PermissionDeniedError,
    "DEADLINE_EXCEEDED": DeadlineExceededError,
    "UNAVAILABLE": UnavailableError,
}
"""By the name of the status code; every other code is a plain RpcError."""


def client_closed() -> RpcError:
    """The error of a call through a client that was closed, before it or meanwhile."""
    return RpcError("the client was closed; make another one", code="CANCELLED", reason="CLIENT_CLOSED")


def error_of(
    code: str,
    message: str,
    *,
    reason: str | None = None,
    field: str = "",
    metadata: Mapping[str, str] | None = None,
    retry_after: float | None = None,
) -> RpcError:
    """The error for a status code, of the class that it has."""
    kind = CLASSES.get(code, RpcError)
    return kind(message, code=code, reason=reason, field=field, metadata=metadata, retry_after=retry_after)
