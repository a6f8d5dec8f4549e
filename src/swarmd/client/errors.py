"""What a call to the daemon can end with.

Raised by the client instead of gRPC's own errors, so that callers need not know gRPC; importing this module does not
import it.
"""

from collections.abc import Mapping

from swarmd.core.errors import SwarmdError


class RpcError(SwarmdError):
    """The daemon refused a call, or the call was lost."""

    default_reason = "RPC_FAILED"

    def __init__(
        self,
        message: str,
        *,
        code: str,
        reason: str | None = None,
        field: str = "",
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, reason=reason, field=field, metadata=metadata)
        self.code = code
        """The name of the gRPC status code: `NOT_FOUND`, for example."""


class NoDaemonError(RpcError):
    """Nobody answers at the address, or the connection was lost."""

    default_reason = "NO_DAEMON"

    def __init__(self, message: str, *, address: str) -> None:
        super().__init__(message, code="UNAVAILABLE", metadata={"address": address})
        self.address = address
