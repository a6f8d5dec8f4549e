"""What can go wrong, as one tree of exceptions.

Raised everywhere below `rpc`, which maps each class to one gRPC status code. A message names the field, the value and
the remedy, so that it can be shown to a user as it is.
"""

from collections.abc import Mapping


class SwarmdError(Exception):
    """The root of everything that swarmd raises on purpose.

    `reason` is a constant for programs (`UNKNOWN_TASK`), `field` the path of the offending field or empty, and
    `metadata` holds details for programs.
    """

    default_reason = "INTERNAL"

    def __init__(
        self,
        message: str,
        *,
        reason: str | None = None,
        field: str = "",
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason or self.default_reason
        self.field = field
        self.metadata = dict(metadata or {})


class InvalidInputError(SwarmdError):
    """The request is wrong whatever the state is."""

    default_reason = "INVALID_INPUT"


class NotFoundError(SwarmdError):
    """Something named in the request does not exist."""

    default_reason = "NOT_FOUND"


class AlreadyExistsError(SwarmdError):
    """What the request makes exists already."""

    default_reason = "ALREADY_EXISTS"


class FailedPreconditionError(SwarmdError):
    """The request is fine, and the state does not allow it now."""

    default_reason = "FAILED_PRECONDITION"


class RevisionGoneError(SwarmdError):
    """The changes since the revision that was asked for are no longer kept."""

    default_reason = "REVISION_GONE"


class LimitExceededError(SwarmdError):
    """A bound of the daemon is reached; `metadata["limit"]` names it."""

    default_reason = "LIMIT_EXCEEDED"


class BusyError(LimitExceededError):
    """A bound on what goes on at once is reached: trying again later helps."""

    default_reason = "BUSY"


class UnauthenticatedError(SwarmdError):
    """Nobody knows who calls: a token is missing or wrong."""

    default_reason = "UNAUTHENTICATED"


class PermissionDeniedError(SwarmdError):
    """The caller is known, and may not do this."""

    default_reason = "PERMISSION_DENIED"


class UnavailableError(SwarmdError):
    """Not now; trying again later is safe."""

    default_reason = "UNAVAILABLE"


class StorageError(SwarmdError):
    """The change cannot be written down now: the disk is full, or fails. Nothing of it was done."""

    default_reason = "STORAGE_FAILED"


class StorageFullError(StorageError, LimitExceededError):
    """There is no room left to write the change down. Nothing of it was done."""

    default_reason = "STORAGE_FULL"


class DamagedError(SwarmdError):
    """What was written down cannot be what was written: the sentence says where."""

    default_reason = "DAMAGED"
