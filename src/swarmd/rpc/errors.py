"""From exceptions to gRPC status codes with details: one table, one place."""

import grpc
from google.protobuf import any_pb2
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from swarmd._pb.swarm.v1 import scheduler_service_pb2 as scheduler_pb
from swarmd.core.errors import (
    AlreadyExistsError,
    BusyError,
    FailedPreconditionError,
    InvalidInputError,
    LimitExceededError,
    NotFoundError,
    PermissionDeniedError,
    RevisionGoneError,
    StorageError,
    StorageFullError,
    SwarmdError,
    UnauthenticatedError,
    UnavailableError,
)

DOMAIN = "swarmd"
RETRY_SECONDS = 1
LONGEST_DETAIL = 1024
"""In bytes. Details travel in a header, of which clients take 8 KiB by default; a longer value is cut."""

CODES: dict[type[SwarmdError], grpc.StatusCode] = {
    InvalidInputError: grpc.StatusCode.INVALID_ARGUMENT,
    NotFoundError: grpc.StatusCode.NOT_FOUND,
    AlreadyExistsError: grpc.StatusCode.ALREADY_EXISTS,
    FailedPreconditionError: grpc.StatusCode.FAILED_PRECONDITION,
    RevisionGoneError: grpc.StatusCode.OUT_OF_RANGE,
    LimitExceededError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    UnauthenticatedError: grpc.StatusCode.UNAUTHENTICATED,
    PermissionDeniedError: grpc.StatusCode.PERMISSION_DENIED,
    UnavailableError: grpc.StatusCode.UNAVAILABLE,
    StorageFullError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    StorageError: grpc.StatusCode.UNAVAILABLE,
    SwarmdError: grpc.StatusCode.INTERNAL,
}


def code_of(error: SwarmdError) -> grpc.StatusCode:
    """The status code of the nearest class in the table."""
    return next(CODES[kind] for kind in type(error).__mro__ if kind in CODES)


def to_status(error: SwarmdError) -> grpc.Status:
    """A status with ErrorInfo, and BadRequest, PreconditionFailure or RetryInfo where they help."""
    code: int = code_of(error).value[0]
    metadata = {key: _cut(value) for key, value in error.metadata.items()}
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=metadata)
    details = [info, *_more_details(error)]
    status = status_pb2.Status(code=code, message=_cut(error.message), details=[_packed(each) for each in details])
    return rpc_status.to_status(status)


def to_update_error(error: SwarmdError) -> scheduler_pb.UpdateError:
    """The same inside a stream that goes on."""
    return scheduler_pb.UpdateError(
        code=code_of(error).value[0],
        reason=error.reason,
        message=error.message,
        field=error.field,
        metadata=error.metadata,
    )


def _more_details(error: SwarmdError) -> list[Message]:
    if isinstance(error, (UnavailableError, StorageError, BusyError)):
        return [error_details_pb2.RetryInfo(retry_delay=Duration(seconds=RETRY_SECONDS))]
    if isinstance(error, FailedPreconditionError):
        violation = error_details_pb2.PreconditionFailure.Violation(
            type=error.reason, subject=error.field, description=_cut(error.message)
        )
        return [error_details_pb2.PreconditionFailure(violations=[violation])]
    if error.field:
        field = error_details_pb2.BadRequest.FieldViolation(field=error.field, description=_cut(error.message))
        return [error_details_pb2.BadRequest(field_violations=[field])]
    return []


def _packed(detail: Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(detail)
    return packed


def _cut(text: str) -> str:
    encoded = text.encode(errors="replace")
    return text if len(encoded) <= LONGEST_DETAIL else encoded[: LONGEST_DETAIL - 4].decode(errors="ignore") + " ..."
