"""Loading: checks arrays, resources and tasks as a whole, and makes of them what the table can append.

`plan_load` reads only what never changes (ids, arrays, resources), so it may run in another thread while the swarm
goes on; `SwarmState.commit_load` then applies the plan in one step. A load is applied as one unit or not at all.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from swarmd.core import model
from swarmd.core.columns import Int32s, Scales, TaskColumns, is_alike
from swarmd.core.errors import AlreadyExistsError, InvalidInputError, NotFoundError, SwarmdError
from swarmd.core.graph import Segment, find_cycle, offsets_of, segment_of
from swarmd.core.ids import ABSENT, IdIndex, Int64s, Rows, distinct
from swarmd.core.lane_table import LaneKey, SortedByLane
from swarmd.core.model import Array, TaskResources, TextLimits
from swarmd.core.paths import ASSUMED_SECONDS, NO_CLASS, Float32s, Seconds, longest_paths, path_classes
from swarmd.core.status import STANDING_CODES, Code
from swarmd.core.table import Table
from swarmd.core.templates import check_template

SHOWN_IDS = 10
_SMALL_TABLE = 1 << 16


@dataclass(frozen=True)
class Load:
    """What is to be loaded, in any order; a reference may point to what an earlier load brought."""

    arrays: Sequence[Array] = ()
    task_resources: Sequence[TaskResources] = ()
    tasks: TaskColumns = field(default_factory=lambda: TaskColumns.of([], [], []))


class Known(Protocol):
    """What a load is checked against: a Table, or `KnownIds` of one."""

    @property
    def size(self) -> int: ...
    @property
    def load_count(self) -> int: ...
    @property
    def ids(self) -> IdIndex: ...
    @property
    def array_ids(self) -> IdIndex: ...
    @property
    def resources_ids(self) -> IdIndex: ...
    @property
    def stated_runtimes(self) -> Seconds | None: ...


@dataclass(frozen=True, slots=True)
class KnownIds:
    """The ids of a table at one moment: another thread may plan a load with it while the table goes on."""

    size: int
    load_count: int
    ids: IdIndex
    array_ids: IdIndex
    resources_ids: IdIndex
    stated_runtimes: Seconds | None = None
    """By resources row, where the policy asks for paths."""

    @classmethod
    def of(cls, table: Table) -> "KnownIds":
        ids = table.ids.copy(), table.array_ids.copy(), table.resources_ids.copy()
        return cls(table.size, table.load_count, *ids, table.stated_runtimes)


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """A load that was found to be right, in rows instead of ids. Row numbers count on from those of the table."""

    load: Load
    load_count: int
    """How many loads there were before: it holds only as long as there is no other."""
    first_row: int
    first_resources_row: int
    ids: IdIndex
    """Those of the table and of the load."""
    columns: dict[str, NDArray[np.generic]]
    """What the table appends; `scales` and `lane` are places in `scale_sets` and `lane_keys`."""
    lane_keys: list[LaneKey]
    upstream_offsets: Int64s
    upstream_rows: Rows
    known_edges: NDArray[np.intp]
    """Places in upstream_rows that point to tasks of earlier loads, whose statuses may change until the commit."""
    segment: Segment | None
    ready: SortedByLane | None
    """The tasks that are ready at once, when nothing in the load depends on an earlier one; `lanes` like `lane`."""
    counts: NDArray[np.int64]
    """New tasks by array row and code, flat."""


def plan_load(known: Known, load: Load, texts: TextLimits = model.ALL_TEXTS) -> LoadPlan:
    """Check a load against itself and what is there. Raises InvalidInputError, NotFoundError, AlreadyExistsError."""
    tasks, first = load.tasks, known.size
    array_ids = _plan_arrays(known.array_ids, load.arrays, texts)
    resources_ids = _plan_resources(known.resources_ids, load.task_resources, texts)
    _check_ids("tasks.task_id", tasks.task_ids, model.MAX_ID)
    _check_new("task", "tasks.task_id", tasks.task_ids, known.ids)
    _check_values(tasks, texts)
    array_rows = _look_up("array", "tasks.array_id", tasks.array_ids, array_ids, tasks)
    resources_rows = _look_up(
        "task resources", "tasks.task_resources_id", tasks.task_resources_ids, resources_ids, tasks
    )
    counts = _counts(array_rows, tasks, array_ids.size)
    ids = known.ids.copy()
    ids.add(tasks.task_ids)
    upstream_counts, upstream_rows = _dependencies(known.size, ids, tasks)
    targets = np.repeat(np.arange(first, first + len(tasks), dtype=np.int32), upstream_counts)
    _check_cycles(tasks, upstream_rows, targets, first)
    remaining = _remaining(known, load, resources_rows, upstream_rows, targets)
    lane_keys, lanes = _lanes(tasks.priorities, array_rows, resources_rows, remaining)
    del array_rows, resources_rows  # what is not needed any more makes room for what comes
    left = _upstreams_left(tasks, upstream_counts, upstream_rows, targets, first)
    segment = segment_of(upstream_rows, targets)
    del targets
    ready = _ready(tasks, left, lanes)
    return LoadPlan(
        load=load,
        load_count=known.load_count,
        first_row=first,
        first_resources_row=known.resources_ids.size,
        ids=ids,
        upstream_offsets=offsets_of(upstream_counts),
        columns=_columns(tasks, left, lanes) | ({} if remaining is None else {"remaining": remaining}),
        lane_keys=lane_keys,
        upstream_rows=upstream_rows,
        known_edges=np.flatnonzero(upstream_rows < first),
        segment=segment,
        ready=ready,
        counts=counts,
    )


def _counts(array_rows: Rows, tasks: TaskColumns, arrays: int) -> NDArray[np.int64]:
    """The tasks by array row and code, flat."""
    if is_alike(tasks.statuses):
        counts = np.zeros((arrays, STANDING_CODES), dtype=np.int64)
        counts[:, tasks.statuses[0]] = np.bincount(array_rows, minlength=arrays)
        return counts.ravel()
    places = array_rows.astype(np.int64) * STANDING_CODES + tasks.statuses
    return np.bincount(places, minlength=arrays * STANDING_CODES)


def _ready(tasks: TaskColumns, upstreams_left: Int32s, lanes: Rows) -> SortedByLane | None:
    places = np.flatnonzero((upstreams_left == 0) & (tasks.statuses == Code.REGISTERED)).astype(np.int32)
    return SortedByLane.of(places, lanes[places])


def _columns(tasks: TaskColumns, upstreams_left: Int32s, lanes: Rows) -> dict[str, NDArray[np.generic]]:
    """Arrays of the table's own, that nobody else holds."""
    active = (tasks.statuses >= Code.RESERVED) & (tasks.statuses <= Code.RUNNING)
    return {
        "task_id": tasks.task_ids.copy(),
        "status": tasks.statuses.copy(),
        "attempt": np.maximum(tasks.attempts, active, dtype=np.int32),
        "failures": tasks.failed_attempts.copy(),
        "max_attempts": tasks.max_attempts.copy(),
        "upstreams_left": upstreams_left,
        "scales": tasks.scales.copy(),
        "lane": lanes,
        # written now, in the planning thread, and not by whoever touches them first: so much memory takes time to come
        "queued_at": np.full(len(tasks), 0.0),
        "changed_at": np.full(len(tasks), 0.0),
        "ready_seq": np.full(len(tasks), 0, dtype=np.int64),
    }


def _remaining(known: Known, load: Load, resources_rows: Rows, upstream_rows: Rows, targets: Rows) -> Float32s | None:
    """The remaining path of each task, by stated runtimes alone; None where the policy asks for none.

    What was learned of runtimes may change until the commit, and counts from the sweep on that the commit begins.
    """
    if known.stated_runtimes is None:
        return None
    fresh = [each.runtime_seconds for each in load.task_resources]
    stated = np.concatenate((known.stated_runtimes, np.array(fresh, dtype=np.float64)))[resources_rows]
    inner = upstream_rows >= known.size
    first = np.int32(known.size)
    return longest_paths(
        upstream_rows[inner] - first, targets[inner] - first, np.where(stated > 0, stated, ASSUMED_SECONDS)
    )


def _upstreams_left(
    tasks: TaskColumns, upstream_counts: Int32s, upstream_rows: Rows, targets: Rows, first: int
) -> Int32s:
    """How many upstreams each task waits for, those of earlier loads all counted."""
    left = upstream_counts.copy()
    inner = np.flatnonzero(upstream_rows >= first)
    done = inner[tasks.statuses[upstream_rows[inner] - first] == Code.DONE] if len(inner) else inner
    np.subtract.at(left, targets[done] - first, 1)
    return left


def _plan_arrays(known: IdIndex, arrays: Sequence[Array], texts: TextLimits) -> IdIndex:
    ids = np.array([array.array_id for array in arrays], dtype=np.int64)
    _check_ids("arrays.array_id", ids, model.MAX_ID)
    _check_new("array", "arrays.array_id", ids, known)
    for array in arrays:
        where = f"arrays[array_id={array.array_id}]"
        texts.check("label", array.name, f"{where}.name")
        texts.check("command", array.command, f"{where}.command")
        check_template(array.command, field=f"{where}.command")
        check_limit(f"{where}.max_concurrently_running", array.max_concurrently_running)
    together = known.copy()
    together.add(ids)
    return together


def _plan_resources(known: IdIndex, resources: Sequence[TaskResources], texts: TextLimits) -> IdIndex:
    ids = np.array([each.task_resources_id for each in resources], dtype=np.int64)
    _check_ids("task_resources.task_resources_id", ids, model.ADJUSTED_RESOURCES_BASE - 1)
    _check_new("task resources", "task_resources.task_resources_id", ids, known)
    for each in resources:
        _check_one_resources(each, f"task_resources[task_resources_id={each.task_resources_id}]", texts)
    together = known.copy()
    together.add(ids)
    return together


def _check_one_resources(resources: TaskResources, where: str, texts: TextLimits) -> None:
    texts.check("label", resources.cluster, f"{where}.cluster")
    texts.check("label", resources.queue, f"{where}.queue")
    if not 1 <= resources.cores <= model.MAX_COUNT:
        raise _invalid(f"{where}.cores", resources.cores, "give 1 or more, or leave it out for 1")
    if not 0 <= resources.memory_mib <= model.MAX_COUNT:
        raise _invalid(f"{where}.memory_mib", resources.memory_mib, "give 0 (none set aside) or more")
    if not 0 <= resources.runtime_seconds <= model.MAX_RUNTIME_SECONDS:
        raise _invalid(f"{where}.runtime", resources.runtime_seconds, "give 0 (no limit) or more, up to 10,000 years")
    check_extra(resources.extra, f"{where}.extra", texts)
    if len(resources.fallback_queues) > model.MAX_FALLBACK_QUEUES:
        remedy = f"give at most {model.MAX_FALLBACK_QUEUES}"
        raise _invalid(f"{where}.fallback_queues", f"{len(resources.fallback_queues)} queues", remedy)
    for place, queue in enumerate(resources.fallback_queues):
        texts.check("label", queue, f"{where}.fallback_queues[{place}]")


def check_extra(entries: Mapping[str, str], where: str, texts: TextLimits) -> None:
    """Raise InvalidInputError or LimitExceededError when options for an engine are too many or too long."""
    if len(entries) > model.MAX_EXTRA_ENTRIES:
        raise _invalid(where, f"{len(entries)} entries", f"give at most {model.MAX_EXTRA_ENTRIES}")
    for key, value in entries.items():
        texts.check("name", key, f"{where} key")
        texts.check("name", value, f"{where}[{key}]")


def check_limit(field_path: str, limit: int | None) -> None:
    """Raise InvalidInputError unless the concurrency limit is None (unlimited) or 0 .. 2**31 - 1."""
    if limit is not None and not 0 <= limit <= model.MAX_COUNT:
        raise _invalid(field_path, limit, "give 0 (pauses) or more, or leave it out for no limit", "NEGATIVE_LIMIT")


def _check_values(tasks: TaskColumns, texts: TextLimits) -> None:
    _check_each(
        tasks,
        tasks.max_attempts < 1,
        tasks.max_attempts,
        "max_attempts",
        "give 1 or more, or leave it out for 3",
    )
    for values, name in ((tasks.attempts, "attempt"), (tasks.failed_attempts, "failed_attempts")):
        _check_each(tasks, (values < 0) | (values > model.MAX_ATTEMPT), values, name, f"give 0 to {model.MAX_ATTEMPT}")
    wrong_status = (tasks.statuses >= STANDING_CODES) | (tasks.statuses == Code.RESERVED)
    _check_each(tasks, wrong_status, tasks.statuses, "status", "give a status that a task can stand in")
    for kind, block, limit in (
        ("name", tasks.names, texts.name_bytes),
        ("command", tasks.commands, texts.command_bytes),
    ):
        place = block.too_long(limit)
        if place is not None:
            where = f"tasks[task_id={tasks.task_ids[place]}].{kind}"
            raise texts.too_long(kind, where, block.size_of(place))
    for scales in tasks.scale_sets:
        _check_scales(scales)


def _check_scales(scales: Scales) -> None:
    for key, value in scales.items():
        if key not in model.SCALABLE_RESOURCES:
            known = ", ".join(model.SCALABLE_RESOURCES)
            raise _invalid(f"tasks.resource_scales[{key}]", value, f"{key!r} cannot be scaled; scale one of {known}")
        if not (isfinite(value) and value >= 0):
            raise _invalid(f"tasks.resource_scales[{key}]", value, "give 0 (does not grow) or more")


def _check_each(
    tasks: TaskColumns, wrong: NDArray[np.bool_], values: NDArray[np.generic], name: str, remedy: str
) -> None:
    places = np.flatnonzero(wrong)
    if len(places):
        place = int(places[0])
        raise _invalid(f"tasks[task_id={tasks.task_ids[place]}].{name}", values[place], remedy)


def _check_ids(field_path: str, ids: Int64s, highest: int) -> None:
    wrong = ids[(ids < 1) | (ids > highest)]
    if len(wrong):
        raise _invalid(field_path, int(wrong[0]), f"give an id from 1 to {highest}", "ID_OUT_OF_RANGE")


def _check_new(kind: str, field_path: str, ids: Int64s, known: IdIndex) -> None:
    if len(ids) > 1 and not bool(np.all(ids[1:] > ids[:-1])):
        ordered = np.sort(ids)
        twice = distinct(ordered[1:][ordered[1:] == ordered[:-1]])
        if len(twice):
            message = f"{field_path}: {_shown(twice)} given more than once; every {kind} needs an id of its own"
            raise _with_ids(InvalidInputError, message, "DUPLICATE_ID", field_path, twice)
    there = ids[known.find(ids) != ABSENT] if known.size else ids[:0]
    if len(there):
        message = f"{field_path}: {_shown(there)} there already; load only what is new, or use another id"
        raise _with_ids(AlreadyExistsError, message, f"{_constant(kind)}_EXISTS", field_path, there)


def _look_up(kind: str, field_path: str, ids: Int64s, index: IdIndex, tasks: TaskColumns) -> Rows:
    rows = index.find(ids)
    missing = np.flatnonzero(rows == ABSENT)
    if len(missing):
        unknown = distinct(ids[missing])
        task = tasks.task_ids[missing[0]]
        message = (
            f"{field_path}: {_shown(unknown)} unknown (asked for by task {task}); "
            f"load the {kind} in the same call or before"
        )
        raise _with_ids(NotFoundError, message, f"UNKNOWN_{_constant(kind)}", field_path, unknown)
    return rows


def _lanes(
    priorities: Int32s, array_rows: Rows, resources_rows: Rows, remaining: Float32s | None
) -> tuple[list[LaneKey], Rows]:
    """The distinct lanes of the tasks, and which of them each task has."""
    if not len(priorities):
        return [], np.zeros(0, dtype=np.int32)
    pairs = array_rows.astype(np.int64)
    pairs *= int(resources_rows.max()) + 1
    pairs += resources_rows
    together = _numbered(pairs)[1]
    if not is_alike(priorities):
        levels, level_places = _numbered(priorities)
        together = together * np.int64(len(levels)) + level_places
    classes = None if remaining is None else path_classes(remaining)
    if classes is not None:
        together = together * np.int64(int(classes.max()) - int(classes.min()) + 1) + (classes - classes.min())
    count, places = _numbered(together)
    firsts = np.zeros(len(count), dtype=np.int64)
    firsts[places[::-1]] = np.arange(len(places) - 1, -1, -1)  # of several that are put into a place, the last stays
    paths = [NO_CLASS] * len(firsts) if classes is None else classes[firsts].tolist()
    shared = priorities[firsts].tolist(), array_rows[firsts].tolist(), resources_rows[firsts].tolist()
    return list(zip(*shared, paths, strict=True)), places


def _numbered(values: NDArray[np.integer]) -> tuple[NDArray[np.integer], Rows]:
    """The distinct values, ascending, and which of them each one is.

    Where they are close together that is looked up in a table, which needs neither sorting nor its memory.
    """
    lowest, highest = int(values.min()), int(values.max())
    if highest - lowest >= max(_SMALL_TABLE, 2 * len(values)):
        found, places = np.unique(values, return_inverse=True)
        return found, places.astype(np.int32)
    offsets = values - values.dtype.type(lowest) if lowest else values
    is_there = np.zeros(highest - lowest + 1, dtype=np.bool_)
    is_there[offsets] = True
    numbers = np.cumsum(is_there, dtype=np.int32) - np.int32(1)
    return np.flatnonzero(is_there) + lowest, numbers[offsets]


def _dependencies(known_size: int, index: IdIndex, tasks: TaskColumns) -> tuple[Int32s, Rows]:
    """For each task how many distinct upstreams it has, and all of their rows."""
    counts, ids = tasks.upstream_counts, tasks.upstream_ids
    if not len(ids):
        return counts, np.zeros(0, dtype=np.int32)
    own_places = np.repeat(np.arange(len(tasks), dtype=np.int64), counts)
    rows = index.find(ids)
    missing = np.flatnonzero(rows == ABSENT)
    if len(missing):
        task, unknown = tasks.task_ids[own_places[missing[0]]], distinct(ids[missing])
        message = (
            f"tasks[task_id={task}].upstream_task_ids: {_shown(unknown)} unknown; "
            "load the upstream in the same call or before"
        )
        raise _with_ids(NotFoundError, message, "UNKNOWN_UPSTREAM", "tasks.upstream_task_ids", unknown)
    itself = np.flatnonzero(rows == own_places + known_size)
    if len(itself):
        selfish = distinct(ids[itself])
        whose = "its" if len(selfish) == 1 else "their"
        where = f"tasks[task_id={selfish[0]}].upstream_task_ids"
        message = f"{where}: {_shown(selfish)} among {whose} own upstreams; take it out"
        raise _with_ids(InvalidInputError, message, "SELF_DEPENDENCY", "tasks.upstream_task_ids", selfish)
    return _distinct(counts, rows, own_places)


def _distinct(counts: Int32s, rows: Rows, own_places: Int64s) -> tuple[Int32s, Rows]:
    """Without repeats: a task that names an upstream twice waits for it once."""
    edges = (own_places << 32) | rows
    if not bool(np.all(edges[1:] > edges[:-1])):
        edges = distinct(edges)
        if len(edges) < len(rows):
            counts = np.bincount(edges >> 32, minlength=len(counts)).astype(np.int32)
        rows = (edges & 0xFFFFFFFF).astype(np.int32)
    return counts, rows


def _check_cycles(tasks: TaskColumns, upstream_rows: Rows, targets: Rows, first: int) -> None:
    inner = upstream_rows >= first  # what is there already waits for nothing new
    cycle = find_cycle(len(tasks), upstream_rows[inner] - np.int32(first), targets[inner] - np.int32(first))
    if cycle:
        ids = tasks.task_ids[cycle]
        shown = " -> ".join(str(task_id) for task_id in ids[:SHOWN_IDS].tolist())
        rest = " -> ..." if len(ids) > SHOWN_IDS else ""
        message = (
            f"tasks.upstream_task_ids: the tasks {shown}{rest} -> {ids[0]} wait for each other in a circle "
            f"of {len(ids)}; take one of these dependencies out"
        )
        raise _with_ids(InvalidInputError, message, "DEPENDENCY_CYCLE", "tasks.upstream_task_ids", ids, limit=1000)


def _invalid(field_path: str, value: object, remedy: str, reason: str = "INVALID_VALUE") -> InvalidInputError:
    return InvalidInputError(f"{field_path}: {value} is not allowed; {remedy}", reason=reason, field=field_path)


def _with_ids(
    error: Callable[..., SwarmdError],
    message: str,
    reason: str,
    field_path: str,
    ids: Int64s,
    limit: int = SHOWN_IDS,
) -> SwarmdError:
    named = ",".join(str(each) for each in ids[:limit].tolist())
    return error(message, reason=reason, field=field_path, metadata={"ids": named, "count": str(len(ids))})


def _shown(ids: Int64s) -> str:
    """The first ids and how many there are, with the verb: "3, 4 and 5 more are"."""
    first = ", ".join(str(each) for each in ids[:SHOWN_IDS].tolist())
    more = f" and {len(ids) - SHOWN_IDS} more" if len(ids) > SHOWN_IDS else ""
    return f"{first}{more} {'is' if len(ids) == 1 else 'are'}"


def _constant(kind: str) -> str:
    return kind.upper().replace(" ", "_")
