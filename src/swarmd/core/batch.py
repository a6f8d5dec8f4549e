"""Batches: what a tick takes from the lanes, and what becomes of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from swarmd.core.columns import Int32s
from swarmd.core.ids import Int64s, Rows
from swarmd.core.model import Array, TaskResources
from swarmd.core.templates import Template

if TYPE_CHECKING:
    from swarmd.core.table import Table

MAX_BATCH_SIZE = 500


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """What an engine needs to know to run one attempt of one task."""

    task_id: int
    attempt: int
    name: str
    command: str
    """As it is to be run: the task's own, or the array's with everything filled in."""


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Up to 500 ready tasks of one array with the same resources and priority, reserved to be queued in one call."""

    swarm_id: str
    batch_id: str
    """No other batch has it."""
    array: Array
    task_resources: TaskResources
    priority: int
    task_ids: Int64s
    """In the order in which they became ready."""
    attempts: Int32s
    """Each task's attempt, beside task_ids: the fence for all news of it."""
    rows: Rows = field(repr=False)
    seqs: Int64s = field(repr=False)
    table: "Table" = field(repr=False)

    def __len__(self) -> int:
        return len(self.task_ids)

    @property
    def array_id(self) -> int:
        return self.array.array_id

    @property
    def array_limit(self) -> int | None:
        """How many tasks of its array may be active now, which can be changed at any time; None: any number."""
        return self.table.usage.limit(int(self.table.array_rows(self.rows[:1])[0]))

    def tasks(self) -> list[TaskSpec]:
        """What to run, in the order of task_ids."""
        ids, attempts = self.task_ids.tolist(), self.attempts.tolist()
        specs = Specs(self.table, self.swarm_id, self.array)
        return list(map(specs.of, self.rows.tolist(), ids, attempts))


class Specs:
    """What to run of tasks of one array, whose template is read once."""

    __slots__ = ("_commands", "_names", "_template", "_values")

    def __init__(self, table: "Table", swarm_id: str, array: Array) -> None:
        self._names, self._commands = table.names, table.commands
        self._template = Template(array.command)
        self._values = {"array_id": array.array_id, "array_name": array.name, "swarm_id": swarm_id}

    def of(self, row: int, task_id: int, attempt: int) -> TaskSpec:
        """One task with its command as it is to be run."""
        name, command = self._names[row], self._commands[row]
        if not command:
            command = self._template.fill({**self._values, "task_id": task_id, "name": name, "attempt": attempt})
        return TaskSpec(task_id, attempt, name, command)


def spec_of(table: "Table", swarm_id: str, row: int, task_id: int, attempt: int) -> TaskSpec:
    """One task with its command as it is to be run."""
    return Specs(table, swarm_id, table.array_of(row)).of(row, task_id, attempt)


@dataclass
class BatchResult:
    """What became of one batch."""

    task_statuses: Mapping[int, str] = field(default_factory=dict)
    """The statuses its tasks have because of it: "Q" those that the engine took, "G" those that came back."""
    batch_size: int = 0
    array_id: int = 0
    batch_id: str = ""
    error: str = ""
    """Why tasks came back or are in doubt; empty when the engine took all of them."""
    in_doubt: bool = False
    """The outcome of the call is not known; the tasks stay reserved until the engine can say."""
