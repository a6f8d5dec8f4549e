"""What the daemon can be told: one place that says the names, the defaults and the bounds.

Values come from the command line, then from environment variables `SWARMD_...`, then from the defaults here.
"""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from swarmd.addresses import state_directory

MIB = 1024 * 1024

Positive = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(ge=0)]


class DaemonConfig(BaseSettings):
    """All settings of `swarmd serve`."""

    model_config = SettingsConfigDict(env_prefix="SWARMD_", extra="forbid", frozen=True)

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
    max_message_bytes: Annotated[int, Field(ge=1024)] = 4 * MIB
    """The largest message that the daemon receives."""
    max_swarms: Positive = 1000
    max_tasks_per_swarm: Positive = 20_000_000
    max_watchers_per_swarm: Positive = 1000
    ready_json: bool = False
    """Print the line that says where it listens as JSON."""
    channelz: bool = False
    """Serve channelz, gRPC's own statistics."""
    log_format: Literal["auto", "console", "json"] = "auto"
    """auto: for people on a terminal, JSON otherwise."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"

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
