"""What can be set: the section [gateways.slurm] of the config file, and the options of one swarm.

Read by the factory and by `add_swarm`. Knows names and bounds, nothing of Slurm's programs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from swarmd.core.errors import InvalidInputError
from swarmd.gateways.slurm.requests import ForbiddenOptionError, checked_argument


def _absolute(path: Path) -> Path:
    if not path.is_absolute():
        raise ValueError("give an absolute path: jobs start elsewhere")
    return path


def _one_line(text: str) -> str:
    if not text.isprintable():
        raise ValueError("give one line of printable text")
    return text


AbsolutePath = Annotated[Path, AfterValidator(_absolute)]
OneLine = Annotated[str, AfterValidator(_one_line)]


class SlurmOptions(BaseModel):
    """The section [gateways.slurm]."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    directory: AbsolutePath | None = None
    """Where output and batch files go, on a file system that the compute nodes share; None: the state directory."""
    partition: OneLine = ""
    """For tasks whose resources name no queue; empty: Slurm's default."""
    account: OneLine = ""
    qos: OneLine = ""
    sbatch_options: tuple[str, ...] = ()
    """More options of sbatch for every batch, such as `--constraint=fast`."""
    conf: AbsolutePath | None = None
    """SLURM_CONF for Slurm's programs; None: as in the daemon's environment."""
    bin_directory: AbsolutePath | None = None
    """Where Slurm's programs are; None: found by PATH."""
    poll_min: float = Field(default=1.0, ge=0.05, le=3600)
    """Seconds between two looks at the queue while things change."""
    poll_max: float = Field(default=30.0, ge=0.05, le=3600)
    """The same when nothing has changed for a while."""
    command_timeout: float = Field(default=60.0, ge=1, le=3600)
    """Seconds after which a program of Slurm that does not end is killed."""
    find_patience: float = Field(default=5.0, ge=0, le=3600)
    """How long Slurm has to answer without knowing a batch in doubt until it counts as not submitted."""
    hopeless_after: float = Field(default=600.0, ge=0)
    """Seconds that a job may wait for a reason that hardly ever passes, such as PartitionConfig."""
    lost_after: float = Field(default=300.0, ge=0)
    """Seconds that a task which started, and of which Slurm knows nothing, may take to leave an exit code. So long a
    node may run what a controller forgot in a crash (SlurmdTimeout)."""
    max_give_backs: int = Field(default=3, ge=0, le=1000)
    """How often in a row a task is queued again without a failed attempt after a lost node or a preemption."""
    jobcomp_file: AbsolutePath | None = None
    """The file of Slurm's plugin jobcomp/filetxt, where it can be read: for jobs that have left the queue."""
    keep_files: bool = False
    """Batch files stay when their tasks are over."""

    @model_validator(mode="after")
    def _is_consistent(self) -> "SlurmOptions":
        if self.poll_max < self.poll_min:
            raise ValueError(f"poll_max is {self.poll_max:g}, below poll_min {self.poll_min:g}; give more")
        for option in self.sbatch_options:
            try:
                checked_argument(option)
            except ForbiddenOptionError as error:
                raise ValueError(f"sbatch_options: {error}") from None
        return self


@dataclass(frozen=True, slots=True)
class SwarmChoices:
    """What one swarm asks of Slurm: its `gateway_options`, or else what the config file says."""

    partition: str = ""
    account: str = ""
    qos: str = ""

    @classmethod
    def of(cls, given: Mapping[str, str], options: SlurmOptions) -> "SwarmChoices":
        """Raises InvalidInputError for an option that there is not, or a value that cannot be one."""
        known = {"partition": options.partition, "account": options.account, "qos": options.qos}
        for name, value in given.items():
            if name not in known:
                message = (
                    f"swarm.gateway_options: {name!r} is no option of the slurm gateway; there are {', '.join(known)}"
                )
                raise InvalidInputError(message, field="swarm.gateway_options")
            if not value or not value.isprintable():
                message = f"swarm.gateway_options: {name} is {value!r}; give a name, or leave it out"
                raise InvalidInputError(message, field="swarm.gateway_options")
        return cls(**{**known, **given})
