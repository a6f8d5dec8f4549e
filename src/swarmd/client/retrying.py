"""Which calls are made again, when, and for how long. One table, read by gRPC's service config and by the client.

A daemon that says UNAVAILABLE has done nothing, so any call may be made again. When the connection is lost nobody
knows; then only what is in the table is: what reads, what carries a `request_id`, and what says how things are to be
instead of what is to happen. No other status is ever tried again.
"""

import asyncio
import json
import random

from swarmd.client.errors import NoDaemonError, RpcError, UnavailableError

READS = {
    "swarm.v1.SchedulerService": ("HasWork",),
    "swarm.v1.SwarmService": ("GetSwarm", "ListSwarms", "GetTask", "ListTasks", "ExplainTask"),
}
WITH_REQUEST_ID = {
    "swarm.v1.SchedulerService": ("Tick",),
    "swarm.v1.SwarmService": ("CreateSwarm", "AddTasks"),
}
DECLARATIVE = {"swarm.v1.SwarmService": ("UpdateSwarm",)}
"""The same values set once more are the same values.

Not here, and why: DeleteSwarm, since the id may have been given to another swarm meanwhile (the client looks before it
repeats it); CancelTasks, unless it names its tasks: "those that run" are others a moment later; ResetTasks, since what
was reset may have run and ended meanwhile, and would run again; ApplyUpdate and WatchSwarm, which are streams and have
their own ways to go on (`updating.py`, `watching.py`).
"""

REPEATABLE = frozenset(
    name for group in (READS, WITH_REQUEST_ID, DECLARATIVE) for names in group.values() for name in names
)
"""Methods that may be called again after a lost connection."""

STREAMED = frozenset({"AddTasks"})
"""A request stream is gone once it is sent: the client makes it anew, with the same request_id."""

GRPC_ATTEMPTS = 3
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 2.0
PAUSE_GROWTH = 2.0
JITTER = 0.25
"""How much longer than what the daemon asked for a pause may be, so that clients do not come back all at once."""


def service_config() -> str:
    """What gRPC itself repeats, at once and a few times: a connection that broke, with a daemon that is still there."""
    names = [
        {"service": service, "method": name}
        for group in (READS, WITH_REQUEST_ID, DECLARATIVE)
        for service, methods in group.items()
        for name in methods
        if name not in STREAMED
    ]
    policy = {
        "maxAttempts": GRPC_ATTEMPTS,
        "initialBackoff": "0.05s",
        "maxBackoff": "0.2s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE"],
    }
    return json.dumps({"methodConfig": [{"name": names, "retryPolicy": policy}]})


def may_repeat(error: RpcError, *, repeatable: bool, reached: bool) -> bool:
    """Whether a call that ended so may be made again.

    `repeatable`: even if it was carried out; `reached`: the daemon has answered before. One that never has is not
    waited for: nobody knows whether it will ever be there.
    """
    if not isinstance(error, UnavailableError):
        return False
    if isinstance(error, NoDaemonError):
        return repeatable and reached
    return True


class Patience:
    """The time that one call may take with all its repeats, from its first failure on."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._until: float | None = None
        self._pause = FIRST_PAUSE

    async def pause(self, error: RpcError) -> None:
        """Wait before the call is made again; raises the error when the time is up."""
        now = asyncio.get_running_loop().time()
        self._until = now + self._seconds if self._until is None else self._until
        if now >= self._until:
            raise error
        await asyncio.sleep(min(self._next_pause(error), self._until - now))

    def _next_pause(self, error: RpcError) -> float:
        longest, self._pause = self._pause, min(LONGEST_PAUSE, self._pause * PAUSE_GROWTH)
        if error.retry_after is not None:
            return error.retry_after * random.uniform(1, 1 + JITTER)  # noqa: S311 - nothing secret
        return random.uniform(longest / 2, longest)  # noqa: S311

    def renew(self) -> None:
        """It went well: the next failure is a first one."""
        self._until, self._pause = None, FIRST_PAUSE
