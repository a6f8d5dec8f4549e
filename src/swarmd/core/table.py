"""All that a swarm knows of its tasks, arrays and resources, as columns over dense row numbers.

The storage under `SwarmState`: it keeps columns, queue and usage consistent through `move`, `make_ready` and
`free_downstreams`, and takes no decision. About 60 bytes a task, its dependencies and texts aside.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from swarmd.core.columns import Scales, ScaleSets
from swarmd.core.graph import Downstreams, Upstreams
from swarmd.core.growing import grown
from swarmd.core.ids import IdIndex, Int64s, Places, Rows, distinct
from swarmd.core.lane_table import LaneKey, LaneTable, SortedByLane
from swarmd.core.lanes import ReadyQueue
from swarmd.core.model import ADJUSTED_RESOURCES_BASE, Array, TaskResources
from swarmd.core.paths import Paths, Seconds
from swarmd.core.policy import SchedulingPolicy
from swarmd.core.queues import Queues, adjusted
from swarmd.core.status import Code
from swarmd.core.text import TextColumn
from swarmd.core.usage import Codes, Usage

Int32s = NDArray[np.int32]
_REGISTERED = Code.REGISTERED
_FEW = 16
_ONE = np.int32(1)
"""`ufunc.at` is many times as slow with a number of another type."""
Times = NDArray[np.float64]

TASK_BYTES = 32
"""What a task of a batch takes in a message beside its texts."""

_APPENDED = (
    "task_id",
    "status",
    "attempt",
    "failures",
    "max_attempts",
    "upstreams_left",
    "queued_at",
    "changed_at",
)
"""Columns that a load brings as they are."""

_Outcome = tuple[int, int, str, int, int, float]
"""The row of resources and the place of the scales by which they grew, and all that can differ in what came of it."""


class Table:
    """Columns by task row; arrays and resources by theirs."""

    def __init__(self, swarm_limit: int, policy: SchedulingPolicy = SchedulingPolicy.FIRST_COME_FIRST_SERVED) -> None:
        self.size = 0
        self.load_count = 0
        """How many loads there were: a plan that was made before another load no longer fits."""
        self.ids = IdIndex()
        self.task_id: Int64s = np.zeros(0, dtype=np.int64)
        self.status: Codes = np.zeros(0, dtype=np.uint8)
        self.attempt: Int32s = np.zeros(0, dtype=np.int32)
        self.failures: Int32s = np.zeros(0, dtype=np.int32)
        self.max_attempts: Int32s = np.zeros(0, dtype=np.int32)
        self.upstreams_left: Int32s = np.zeros(0, dtype=np.int32)
        """Upstreams that are not DONE. A REGISTERED task with none is ready, and in exactly one lane."""
        self.scales: Int32s = np.zeros(0, dtype=np.int32)
        self.queued_at: Times = np.zeros(0, dtype=np.float64)
        self.changed_at: Times = np.zeros(0, dtype=np.float64)
        self.names = TextColumn()
        self.commands = TextColumn()
        self.upstreams = Upstreams()
        self.downstreams = Downstreams()
        self.lanes = LaneTable()
        self.usage = Usage(swarm_limit)
        self.policy = policy
        self.queue = ReadyQueue(self.usage.active_of if policy is SchedulingPolicy.FAIR_SHARE else None)
        self.paths = Paths() if policy is SchedulingPolicy.LONGEST_PATH_FIRST else None
        """None where the policy does not ask for them."""
        self.array_ids = IdIndex()
        self.arrays: list[Array] = []
        self.longest_template = 0
        """Of the arrays' commands, in characters."""
        self.resources_ids = IdIndex()
        self.resources: list[TaskResources] = []
        self.scale_sets = ScaleSets()
        self.queues = Queues()
        self._adjusted: dict[_Outcome, int] = {}

    # -- growing ---------------------------------------------------------------------------------------------------

    def add_arrays(self, arrays: list[Array]) -> None:
        self.array_ids.add(np.array([array.array_id for array in arrays], dtype=np.int64))
        self.arrays.extend(arrays)
        self.longest_template = max(self.longest_template, *(len(array.command) for array in arrays), 0)
        self.usage.add_arrays([array.max_concurrently_running for array in arrays])
        if self.paths is not None:
            self.paths.add_arrays(len(arrays))

    def add_resources(self, resources: list[TaskResources]) -> None:
        self.resources_ids.add(np.array([each.task_resources_id for each in resources], dtype=np.int64))
        if self.paths is not None:
            self.paths.add_resources(len(self.resources), [each.runtime_seconds for each in resources])
        self.resources.extend(resources)

    @property
    def stated_runtimes(self) -> Seconds | None:
        """By resources row, where paths count: a view that nothing is written to."""
        return None if self.paths is None else self.paths.stated[: len(self.resources)]

    def extend(
        self,
        columns: Mapping[str, NDArray[np.generic]],
        lane_keys: list[LaneKey],
        scale_sets: list[Scales],
    ) -> Rows:
        """Append to the columns; `lane` and `scales` are places in the lists given. Counts and queues nothing yet.

        Returns the rows of the lanes given.
        """
        for name in _APPENDED:
            setattr(self, name, grown(getattr(self, name), self.size, columns[name]))
        scales = np.array([self.scale_sets.place(each) for each in scale_sets], dtype=np.int32)
        self.scales = grown(self.scales, self.size, _renumbered(columns["scales"], scales))
        lane_rows = self.lanes.intern(lane_keys)
        lanes = _renumbered(columns["lane"], lane_rows)
        self.lanes.of_task = grown(self.lanes.of_task, self.size, lanes)
        self.queue.ready_seq = grown(self.queue.ready_seq, self.size, columns["ready_seq"].astype(np.int64, copy=False))
        if self.paths is not None:
            remaining = columns["remaining"].astype(np.float32, copy=False)
            self.paths.remaining = grown(self.paths.remaining, self.size, remaining)
        self.size += len(columns["task_id"])
        return lane_rows

    # -- moving ----------------------------------------------------------------------------------------------------

    def array_rows(self, rows: Rows) -> Rows:
        """The array of each task."""
        array_rows: Rows = self.lanes.array_row[self.lanes.of_task[rows]]
        return array_rows

    def move(self, rows: Rows, new: Code, at: float) -> None:
        """Tasks stand in a new code: columns, counts and lanes follow. Tasks that were ready leave their lanes."""
        waiting = rows[self.queue.ready_seq[rows] != 0]
        array_rows = self.array_rows(rows)
        arrays = distinct(array_rows)
        had_room = self.usage.have_room(arrays)
        self.usage.move(array_rows, self.status[rows], new)
        self.status[rows] = new
        self.changed_at[rows] = at
        changed = arrays if self.queue.counts_active else arrays[had_room != self.usage.have_room(arrays)]
        if len(waiting):
            changed = np.concatenate((changed, self.queue.remove(waiting, self.lanes)))
        self.refresh(changed)

    def move_one(self, row: int, old: int, new: Code, at: float) -> None:
        """The same for one task, which stands in `old`."""
        usage, queue = self.usage, self.queue
        array_row: int = self.lanes.array_row.item(self.lanes.of_task.item(row))
        had_room = usage.has_room(array_row)
        usage.move_same(array_row, old, int(new), 1)
        self.status[row] = new
        self.changed_at[row] = at
        waits = old == _REGISTERED and queue.ready_seq.item(row) != 0  # no others are in lanes
        if waits:
            queue.remove(np.array([row], dtype=np.int32), self.lanes)
        has_room = usage.has_room(array_row)
        if waits or queue.counts_active or had_room != has_room:
            queue.refresh(array_row, has_room=has_room)

    def move_alike(self, places: Places, old: int, new: Code, at: float) -> None:
        """The same for tasks that all stand in the code `old`."""
        self.status[places] = new
        self.changed_at[places] = at
        array_rows = self.lanes.array_row[self.lanes.of_task[places]]
        usage, queue = self.usage, self.queue
        changed = usage.move_alike(array_rows, old, int(new), notice_all=queue.counts_active)
        if old == _REGISTERED:  # no others are in lanes
            waiting = places[queue.ready_seq[places] != 0].astype(np.int32)
            if len(waiting):
                changed = [*changed, *queue.remove(waiting, self.lanes).tolist()]
        for array_row in dict.fromkeys(changed):
            queue.refresh(array_row, has_room=usage.has_room(array_row))

    def make_ready_sorted(self, ready: SortedByLane, first_row: int, lane_rows: Rows) -> None:
        """The ready tasks of a load, from `first_row` on, enter their lanes."""
        self.refresh(self.queue.push_sorted(ready, first_row, lane_rows, self.lanes))

    def make_ready(self, rows: Rows, *, front: bool = False) -> Rows:
        """Those of these REGISTERED tasks that wait for no upstream enter their lanes. Returns them."""
        ready: Rows = rows[self.upstreams_left[rows] == 0]
        if len(ready):
            push = self.queue.push_front if front else self.queue.push_back
            self.refresh(push(ready, self.lanes))
        return ready

    def free_downstreams(self, rows: Rows) -> Rows:
        """These tasks are DONE now: what waited for them alone becomes ready. Returns it."""
        downstreams = self.downstreams.of(rows)
        if len(downstreams) < _FEW:
            return self._free_few(downstreams)
        np.subtract.at(self.upstreams_left, downstreams.astype(np.intp), _ONE)
        freed = downstreams[(self.upstreams_left[downstreams] == 0) & (self.status[downstreams] == Code.REGISTERED)]
        freed = distinct(freed)
        return self.make_ready(freed[self.queue.ready_seq[freed] == 0])

    def _free_few(self, downstreams: Rows) -> Rows:
        """The same for so few that each is quicker than all at once."""
        freed = []
        for row in downstreams.tolist():
            left = self.upstreams_left.item(row) - 1
            self.upstreams_left[row] = left
            if not left and self.status.item(row) == _REGISTERED and not self.queue.ready_seq.item(row):
                freed.append(row)
        if not freed:
            return downstreams[:0]
        return self.make_ready(np.array(sorted(freed), dtype=np.int32))

    def hold_downstreams(self, rows: Rows) -> None:
        """These tasks are DONE no more: what follows them waits again, and leaves its lane if it was in one."""
        downstreams = self.downstreams.of(rows)
        np.add.at(self.upstreams_left, downstreams.astype(np.intp), _ONE)
        waiting = distinct(downstreams[self.queue.ready_seq[downstreams] != 0])
        if len(waiting):
            self.refresh(self.queue.remove(waiting, self.lanes))

    def refresh(self, array_rows: Rows) -> None:
        """The lanes or the room of these arrays may have changed: let the queue know."""
        if not len(array_rows):
            return
        changed = distinct(array_rows)
        for array_row, has_room in zip(changed.tolist(), self.usage.have_room(changed).tolist(), strict=True):
            self.queue.refresh(array_row, has_room=has_room)

    # -- resources -------------------------------------------------------------------------------------------------

    def adjust(self, rows: Rows) -> None:
        """Give each of these tasks, which are in no lane, its resources scaled up."""
        lanes = self.lanes.of_task[rows]
        keys, grown_rows = [], dict[tuple[int, int], int]()
        for lane, scales in zip(lanes.tolist(), self.scales[rows].tolist(), strict=True):
            grew = int(self.lanes.resources_row[lane]), scales
            if grew not in grown_rows:
                grown_rows[grew] = self._adjusted_row(*grew)
            array_row, path = int(self.lanes.array_row[lane]), int(self.lanes.path[lane])
            keys.append((int(self.lanes.priority[lane]), array_row, grown_rows[grew], path))
        self.lanes.of_task[rows] = self.lanes.intern(keys)

    @property
    def adjusted(self) -> list[tuple[int, int, int]]:
        """All resources that were adjusted: the row they came from, the place of the scales, their own row."""
        return [(came_from, scales, row) for (came_from, scales, *_), row in self._adjusted.items()]

    def remember_adjusted(self, adjusted: Iterable[tuple[int, int, int]]) -> None:
        """Some of the resources are others that were adjusted, so that the same is not added again."""
        for came_from, scales, row in adjusted:
            self._adjusted[_outcome(came_from, scales, self.resources[row])] = row

    def _adjusted_row(self, resources_row: int, scales: int) -> int:
        """The row of what comes after these resources. The same row when nothing of them can grow."""
        before = self.resources[resources_row]
        after = adjusted(before, self.scale_sets.sets[scales], self.queues) if scales else before
        if after == before:
            return resources_row
        outcome = _outcome(resources_row, scales, after)
        row = self._adjusted.get(outcome)
        if row is None:
            row = len(self.resources)
            self._adjusted[outcome] = row
            new_id = ADJUSTED_RESOURCES_BASE + len(self._adjusted)
            self.add_resources([replace(after, task_resources_id=new_id)])
        return row

    # -- texts -----------------------------------------------------------------------------------------------------

    def run_bytes(self, rows: Rows, array_row: int) -> int:
        """About how many bytes say what to run: tasks of one array with their names and commands."""
        names, commands = self.names.sizes(rows), self.commands.sizes(rows)
        template = len(self.arrays[array_row].command)
        return int((names + np.where(commands > 0, commands, template + names) + TASK_BYTES).sum())

    @property
    def usual_run_bytes(self) -> int:
        """What one task comes to by that, from what is known of all of them together. O(1)."""
        texts = 2 * self.names.text_bytes + self.commands.text_bytes
        return texts // max(1, self.size) + self.longest_template + TASK_BYTES

    # -- single tasks ----------------------------------------------------------------------------------------------

    def array_of(self, row: int) -> Array:
        return self.arrays[int(self.lanes.array_row[self.lanes.of_task[row]])]

    def resources_of(self, row: int) -> TaskResources:
        return self.resources[int(self.lanes.resources_row[self.lanes.of_task[row]])]

    def resources_rows(self, rows: Rows) -> Rows:
        """The resources of each task."""
        resources_rows: Rows = self.lanes.resources_row[self.lanes.of_task[rows]]
        return resources_rows

    @property
    def nbytes(self) -> int:
        """Bytes held by columns and dependencies, names and commands aside."""
        columns = (
            self.task_id,
            self.status,
            self.attempt,
            self.failures,
            self.max_attempts,
            self.upstreams_left,
        )
        more = (self.scales, self.queued_at, self.changed_at, self.lanes.of_task, self.queue.ready_seq)
        edges = self.upstreams.nbytes + self.downstreams.nbytes + (self.paths.nbytes if self.paths else 0)
        return sum(int(column.nbytes) for column in columns + more) + edges


def _renumbered(places: NDArray[np.generic], numbers: Int32s) -> Int32s:
    """numbers[places], without the work where they are the same."""
    if np.array_equal(numbers, np.arange(len(numbers))):
        return places.astype(np.int32, copy=False)
    renumbered: Int32s = numbers[places.astype(np.int32, copy=False)]
    return renumbered


def _outcome(came_from: int, scales: int, after: TaskResources) -> _Outcome:
    return came_from, scales, after.queue, after.cores, after.memory_mib, after.runtime_seconds
