"""What can happen to a swarm, as values: what a journal keeps, and what `Swarm.apply` understands.

An event says what was accepted, not what it led to: the same events in the same order lead to the same swarm.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from swarmd.core.applying import ResolvedUpdate
from swarmd.core.columns import Int32s, TaskColumns
from swarmd.core.ids import Int64s
from swarmd.core.loading import LoadPlan
from swarmd.core.model import DEFAULT_SWARM_LIMIT, Array, TaskResources
from swarmd.core.policy import SchedulingPolicy
from swarmd.core.selecting import Selector
from swarmd.core.status import RunStatus
from swarmd.core.update import StateUpdate


@dataclass(frozen=True, slots=True)
class SwarmSettings:
    """What a swarm is created with."""

    swarm_id: str
    display_name: str = ""
    max_concurrently_running: int = DEFAULT_SWARM_LIMIT
    paused: bool = False
    autopilot: bool = False
    fail_fast: bool = False
    gateway: str = "local"
    run_status: RunStatus = RunStatus.RUNNING
    working_directory: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    gateway_options: Mapping[str, str] = field(default_factory=dict)
    """What it asks of its gateway in particular."""
    scheduling_policy: SchedulingPolicy = SchedulingPolicy.FIRST_COME_FIRST_SERVED
    """In which order ready tasks of the same priority go. It stays as it is."""


@dataclass(frozen=True, slots=True)
class Created:
    """The first event of every swarm."""

    settings: SwarmSettings
    token: str
    """Tells it from others that had its id before it."""
    request_id: str = ""
    asked: str = ""
    """What the request with this id asked for, as a fingerprint."""


@dataclass(frozen=True, slots=True)
class LoadPart:
    """Tasks of a load that is too large for one event. Nothing happens before `Loaded`."""

    load_id: str
    tasks: TaskColumns


@dataclass(frozen=True, slots=True)
class Loaded:
    """The parts of a load, with these arrays and task resources, are added to the swarm."""

    load_id: str
    arrays: Sequence[Array] = ()
    task_resources: Sequence[TaskResources] = ()
    request_id: str = ""
    asked: str = ""
    plan: LoadPlan | None = None
    """The same, checked and ready; when there is none it is made of the parts."""


@dataclass(frozen=True, slots=True)
class Updated:
    """News."""

    update: StateUpdate
    resolved: ResolvedUpdate | None = None
    """What it means here, when that was found out already."""


@dataclass(frozen=True, slots=True)
class Configured:
    """Switches and limits are set; None: stays."""

    paused: bool | None = None
    fail_fast: bool | None = None
    autopilot: bool | None = None
    display_name: str | None = None
    update: StateUpdate = field(default_factory=StateUpdate)


@dataclass(frozen=True, slots=True)
class Cancelled:
    """What is selected and not final is cancelled."""

    selector: Selector
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Reset:
    """What is selected and final is registered again."""

    selector: Selector
    include_downstreams: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True)
class BatchTaken:
    """The intent: this batch is reserved, and the engine is going to be told of it."""

    batch_id: str
    task_ids: Int64s
    attempts: Int32s
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class BatchConcluded:
    """The outcome: what the engine made of a batch is known."""

    batch_id: str
    update: StateUpdate = field(default_factory=StateUpdate)
    returned_ids: Sequence[int] = ()
    """The tasks that it did not take: ready again."""
    handed_out: bool = False
    """Whoever ticked has it."""


@dataclass(frozen=True, slots=True)
class BatchesHandedOut:
    """Intent and outcome in one, where no engine is called: batches are reserved, and whoever ticked has them."""

    batch_ids: Sequence[str]
    sizes: Sequence[int]
    """How many tasks each of them has."""
    task_ids: Int64s
    """Those of the first batch, then those of the second, and so on."""
    attempts: Int32s
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class BatchDoubted:
    """Nobody knows what became of a batch."""

    batch_id: str
    why: str


@dataclass(frozen=True, slots=True)
class TickAnswered:
    """What a tick with a request_id answered, for the one who asks again."""

    request_id: str
    asked: str
    answer: bytes


Event = (
    Created
    | LoadPart
    | Loaded
    | Updated
    | Configured
    | Cancelled
    | Reset
    | BatchTaken
    | BatchConcluded
    | BatchesHandedOut
    | BatchDoubted
    | TickAnswered
)
