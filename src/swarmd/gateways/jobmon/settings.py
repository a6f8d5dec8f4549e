"""What can be set: for all swarms in the config file, [gateways.jobmon]; for one swarm in its `gateway_options`."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field

from swarmd.core.errors import InvalidInputError
from swarmd.core.model import MAX_ID

FIELD = "swarm.gateway_options"


class JobmonSettings(BaseModel):
    """The section [gateways.jobmon]. All times are in seconds."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    heartbeat_seconds: float = Field(default=30.0, gt=0)
    """Between two heartbeats of a run."""
    heartbeat_buffer: float = Field(default=3.1, ge=1.5)
    """A run counts as lost so many heartbeats after the last one."""
    start_poll_seconds: float = Field(default=0.5, gt=0)
    """Between two looks at a run that its distributor has not taken up yet; up to five seconds when that takes long."""
    fastest_sync_seconds: float = Field(default=0.25, gt=0)
    """Between two looks at the tasks while they change."""
    slowest_sync_seconds: float = Field(default=2.0, gt=0)
    """The same while nothing happens."""
    full_sync_seconds: float = Field(default=60.0, gt=0)
    """So often all tasks are looked at, not only those that changed."""
    sync_overlap_seconds: float = Field(default=10.0, ge=0)
    """A look at what changed begins so long before the one before it: changes may become visible late."""
    triage_seconds: float = Field(default=30.0, gt=0)
    """So often the server looks for tasks that have not been heard of."""
    limits_seconds: float = Field(default=10.0, gt=0)
    """So often the server is asked for the limits of the workflow and its arrays."""
    call_timeout_seconds: float = Field(default=60.0, gt=0)
    """How long the server may take to answer."""
    heartbeat_timeout_seconds: float = Field(default=10.0, gt=0)
    """How long it may take to answer a heartbeat before the next is tried."""
    queue_timeout_seconds: float = Field(default=120.0, gt=0)
    """How long it may take to queue a batch before the batch is in doubt."""
    doubt_seconds: float = Field(default=30.0, gt=0)
    """A call whose answer was lost may be carried out for so long yet; only then its tasks can be queued again."""
    drain_seconds: float = Field(default=300.0, ge=0)
    """How long a run that is to be resumed elsewhere waits for its tasks to end."""
    distributor_python: str = ""
    """The Python that has Jobmon, for the distributor; empty: the first that is found."""
    distributor_pass_seconds: int = Field(default=2, ge=1)
    """How often a distributor that is started here looks for work."""
    distributor_wait_seconds: float = Field(default=5.0, ge=0)
    """How long a run that was bound by somebody else is given for a distributor of theirs."""
    launched_seconds: float = Field(default=60.0, gt=0)
    """When the distributor has died: how long a task that it launched may take to begin before it is given up."""
    ca_file: Path | None = None
    """PEM: the CA of a server with https; None: those of the system."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """One run and the server that has it, as `gateway_options` names them."""

    server: str
    """Its URL, without a path of its own: `http://jobmon.example.org:5000`."""
    workflow_run_id: int
    workflow_id: int
    route_prefix: str = ""
    """What every route begins with: nothing for 3.2.2, `/api/v3` for newer servers."""
    client_version: str = ""
    """Sent as `client_jobmon_version`, which newer servers want; empty: not sent."""
    distributor_cluster: str = ""
    """The cluster that Jobmon's distributor is to be started for; empty: somebody else starts it."""

    @property
    def url(self) -> str:
        """What the route of a call is appended to."""
        return f"{self.server.rstrip('/')}{self.route_prefix}"

    def as_options(self) -> dict[str, str]:
        """The same as `gateway_options`; what is empty is left out."""
        values = {name: str(getattr(self, name)) for name in NAMES}
        return {name: value for name, value in values.items() if value}


def missing() -> str:
    """What has to be installed before this can be used, in words; empty when nothing has to."""
    if find_spec("httpx") is None:
        return "the package httpx is not installed; install swarmd with its extra: pip install 'swarmd[jobmon]'"
    return ""


NAMES = ("server", "workflow_run_id", "workflow_id", "route_prefix", "client_version", "distributor_cluster")
_REQUIRED = ("server", "workflow_run_id", "workflow_id")


def read_options(given: Mapping[str, str]) -> RunOptions:
    """What a swarm asks for. Raises InvalidInputError."""
    for name in given:
        if name not in NAMES:
            close = difflib.get_close_matches(name, NAMES, n=1)
            remedy = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(NAMES)}"
            raise _invalid(name, f"is no option of the gateway jobmon; {remedy}")
    for name in _REQUIRED:
        if not given.get(name):
            raise _invalid(
                name, "is missing; `swarmd run --jobmon WORKFLOW_RUN_ID --server URL` fills in what is needed"
            )
    return RunOptions(
        server=checked_server(given["server"], f"{FIELD}[server]"),
        workflow_run_id=_id(given, "workflow_run_id"),
        workflow_id=_id(given, "workflow_id"),
        route_prefix=checked_prefix(given.get("route_prefix", ""), f"{FIELD}[route_prefix]"),
        client_version=given.get("client_version", ""),
        distributor_cluster=_cluster(given.get("distributor_cluster", "")),
    )


def checked_server(url: str, field: str) -> str:
    """A URL that calls can be made to. Raises InvalidInputError."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and not (parts.query or parts.fragment)
        usable = usable and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    if not usable:
        message = f"{field}: {url!r} is no URL of a server; give one like http://jobmon.example.org:5000"
        raise InvalidInputError(message, field=field)
    return url.rstrip("/")


def checked_prefix(prefix: str, field: str) -> str:
    """A route prefix: empty, or a path. Raises InvalidInputError."""
    if prefix and (not prefix.startswith("/") or any(sign in prefix for sign in "?# ")):
        raise InvalidInputError(f"{field}: {prefix!r} is no route prefix; give one like /api/v3", field=field)
    return prefix.rstrip("/")


def _id(given: Mapping[str, str], name: str) -> int:
    text = given[name]
    if not (text.isascii() and text.isdigit() and 0 < int(text) <= MAX_ID):
        raise _invalid(name, f"{text!r} is no id; give a number above 0")
    return int(text)


def _cluster(name: str) -> str:
    """It becomes an argument of a program."""
    if name.startswith("-") or "\0" in name:
        raise _invalid("distributor_cluster", f"{name!r} is no name of a cluster")
    return name


def _invalid(name: str, what: str) -> InvalidInputError:
    separator = " " if what.startswith("is ") else ": "
    return InvalidInputError(f"{FIELD}[{name}]{separator}{what}", field=FIELD)
