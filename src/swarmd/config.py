"""What the daemon can be told: one place that says the names, the defaults and the bounds.

A plain value: `swarmd.settings` puts it together from options, environment and file.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from swarmd.addresses import state_directory
from swarmd.core.model import (
    MAX_COMMAND_BYTES,
    MAX_ENVIRONMENT_BYTES,
    MAX_LABEL_BYTES,
    MAX_NAME_BYTES,
    MAX_REASON_BYTES,
)

MIB = 1024 * 1024

MOST = (1 << 31) - 1
"""What gRPC and the system take for a number."""

Positive = Annotated[int, Field(ge=1, le=MOST)]
Seconds = Annotated[float, Field(ge=0)]


class DaemonConfig(BaseModel):
    """All settings of `swarmd serve`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    listen: list[str] = []
    """Addresses, `unix:PATH` or `HOST:PORT`; empty: the default socket."""
    state_dir: Path = Field(default_factory=state_directory)
    """Where swarms are kept (`swarms/`), and the output of tasks (`logs/`). One daemon has it at a time."""
    in_memory: bool = False
    """Keep no swarm on disk: all are gone when the daemon ends."""
    on_stop: Literal["kill", "leave"] | None = None
    """What becomes of the local gateway's running tasks when the daemon is told to stop: killed, or left to run until
    the next one takes them up. None: left, but for swarms in memory."""
    local_cores: Positive | None = None
    """How many cores the local gateway may use; None: those of the machine."""
    local_memory_mib: Positive | None = None
    """How much memory the local gateway may set aside; None: that of the machine."""
    kill_grace: Seconds = 5.0
    """Between TERM and KILL for a task that is to end."""
    drain_grace: Seconds = 30.0
    """How long a stop waits for calls under way."""
    idle_timeout: Seconds | None = None
    """Stop when every swarm is finished and nobody has called for so long; None: never."""
    max_in_flight: Positive = 8
    """Batches of one swarm that are being queued at once."""
    max_message_bytes: Annotated[int, Field(ge=1024, le=MOST)] = 4 * MIB
    """The largest message that the daemon receives."""
    max_swarms: Positive = 1000
    max_tasks_per_swarm: Positive = 20_000_000
    max_watchers_per_swarm: Positive = 1000
    max_concurrent_streams: Annotated[int, Field(ge=1, le=1_000_000)] = 1000
    """Calls under way at once."""
    max_connections: Annotated[int, Field(ge=1, le=1_000_000)] = 1000
    """Connections over TCP; and so many of each socket file."""
    max_requests_per_second: Annotated[float, Field(gt=0)] | None = None
    """Calls a second of one client: an address over TCP, or all who call by socket files. None: as many as it likes."""
    max_queued_bytes_per_watcher: Annotated[int, Field(ge=1024)] = 16 * MIB
    """How far a watcher may fall behind."""
    max_name_bytes: Annotated[int, Field(ge=1, le=MAX_NAME_BYTES)] = MAX_NAME_BYTES
    max_label_bytes: Annotated[int, Field(ge=1, le=MAX_LABEL_BYTES)] = MAX_LABEL_BYTES
    max_command_bytes: Annotated[int, Field(ge=1, le=MAX_COMMAND_BYTES)] = MAX_COMMAND_BYTES
    max_reason_bytes: Annotated[int, Field(ge=1, le=MAX_REASON_BYTES)] = MAX_REASON_BYTES
    max_environment_bytes: Annotated[int, Field(ge=1, le=MAX_ENVIRONMENT_BYTES)] = MAX_ENVIRONMENT_BYTES
    tls_cert: Path | None = None
    """The certificate chain that is shown over TCP, PEM."""
    tls_key: Path | None = None
    tls_client_ca: Path | None = None
    """The CA whose clients are let in; they need no token then."""
    insecure: bool = False
    """Ask nobody for a token over TCP: whoever can connect can run commands as this user."""
    ready_json: bool = False
    """Print the line that says where it listens as JSON."""
    ready_fd: Annotated[int, Field(ge=0, le=MOST)] | None = None
    """A file descriptor that gets that line too, always as JSON, and is closed then."""
    exit_with_parent: bool = False
    """Drain and end when standard input, if it is a pipe, is at its end, or the process that started it is gone."""
    gateways: dict[str, dict[str, Any]] = {}
    """Options of gateways, a section for each: [gateways.NAME] in the file. Each gateway says which it knows."""
    channelz: bool = False
    """Serve channelz, gRPC's own statistics."""
    metrics: str | None = None
    """HOST:PORT at which Prometheus reads metrics; None: nowhere."""
    otlp_endpoint: str | None = None
    """The URL of an OpenTelemetry collector, which gets traces (needs `swarmd[otel]`); None: there are none."""
    log_format: Literal["auto", "console", "json"] = "auto"
    """auto: for people on a terminal, JSON otherwise."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @model_validator(mode="after")
    def _tls_is_whole(self) -> Self:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("--tls-cert and --tls-key go together; give both or neither")
        if self.tls_client_ca is not None and self.tls_cert is None:
            raise ValueError("--tls-client-ca needs --tls-cert and --tls-key: without TLS nobody shows a certificate")
        return self

    @model_validator(mode="after")
    def _nothing_is_left_of_memory(self) -> Self:
        if self.in_memory and self.on_stop == "leave":
            why = "'leave' is not for swarms in memory, of which nobody knows any more"
            raise ValueError(f"--on-stop: {why}; leave it or --in-memory out")
        return self

    @property
    def leaves_tasks(self) -> bool:
        """Whether running tasks go on when the daemon is told to stop."""
        return not self.in_memory and self.on_stop != "kill"
