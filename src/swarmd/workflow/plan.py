"""What a workflow file comes to: everything that a swarm is created from and loaded with.

Made by `expand.py` and `wfformat.py`; the command line and the client take it from here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from swarmd.core.model import Array, Task, TaskResources
from swarmd.core.policy import SchedulingPolicy

MAX_TASKS = 2_000_000
"""How many tasks a file may come to unless the caller allows another number."""


@dataclass(frozen=True, slots=True)
class WorkflowPlan:
    """A workflow, ready to be loaded. Ids count from 1, in the order of the file."""

    name: str
    max_concurrently_running: int | None = None
    """How many tasks may be active at once; None: the daemon's default."""
    fail_fast: bool = False
    scheduling_policy: SchedulingPolicy = SchedulingPolicy.FIRST_COME_FIRST_SERVED
    """In which order ready tasks of the same priority go."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables for every task."""
    working_directory: Path | None = None
    """Absolute: where tasks run; None: wherever the engine runs them."""
    arrays: list[Array] = field(default_factory=list)
    task_resources: list[TaskResources] = field(default_factory=list)
    tasks: list[Task] = field(default_factory=list)
    """By array, in the order of `arrays`."""
