"""Which tasks wait for which: the `after` entries of arrays, as groups of tasks that wait for groups.

Called by `expand.py`. Groups keep it linear: equal parameters are found through a dict, tasks of a group share
one tuple of upstreams, and a group with too many edges gets a barrier task between its two sides.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from swarmd.core.model import MAX_NAME_BYTES
from swarmd.workflow.model import AfterBlock, AfterChoice, ArrayBlock
from swarmd.workflow.problems import FieldPath, Problems, suggestion
from swarmd.workflow.rows import Rows

MAX_DIRECT_EDGES = 1_000_000
"""A dependency with more edges than this goes through barrier tasks."""


@dataclass(frozen=True, slots=True)
class Side:
    """One array of a dependency: its rows, and the ids of its tasks."""

    name: str
    rows: Rows
    task_ids: range


@dataclass(frozen=True, slots=True)
class Group:
    """The tasks at `positions` of the array that waits each wait for all of `upstreams`."""

    upstreams: tuple[int, ...]
    positions: Sequence[int]


@dataclass(slots=True)
class Barriers:
    """The barrier tasks of one dependency: the upstreams of each, in the order of their ids."""

    upstream_name: str
    downstream_name: str
    upstreams: list[tuple[int, ...]] = field(default_factory=list)

    @property
    def name(self) -> str:
        """`simulate -> summarize barrier`."""
        name = f"{self.upstream_name} -> {self.downstream_name} barrier"
        return name.encode()[:MAX_NAME_BYTES].decode(errors="ignore")


@dataclass(frozen=True, slots=True)
class Link:
    """An `after` entry with its place in the file."""

    upstream: str
    by: tuple[str, ...]
    one_to_one: bool
    path: FieldPath


def links_of(name: str, array: ArrayBlock) -> list[Link]:
    """The `after` entries of an array, whichever way they were written."""
    return [_link(entry, ("arrays", name, "after", at)) for at, entry in enumerate(array.after)]


def _link(entry: AfterChoice, path: FieldPath) -> Link:
    if isinstance(entry, AfterBlock):
        return Link(entry.array, tuple(entry.by or ()), entry.one_to_one, path)
    return Link(entry, (), one_to_one=False, path=path)


def check_links(arrays: Mapping[str, ArrayBlock], problems: Problems) -> None:
    """Note links to arrays that are not there or are named twice, and one cycle if there is any."""
    upstreams: dict[str, list[str]] = {}
    for name, array in arrays.items():
        upstreams[name] = []
        for link in links_of(name, array):
            if link.upstream not in arrays:
                hint = suggestion(link.upstream, arrays)
                problems.add(link.path, f"there is no array '{link.upstream}'{hint}")
            elif link.upstream in upstreams[name]:
                problems.add(link.path, f"'{link.upstream}' is named twice; keep one entry for an array")
            else:
                upstreams[name].append(link.upstream)
    if cycle := find_cycle(upstreams):
        _add_cycle(cycle, upstreams, problems)


def _add_cycle(cycle: list[str], upstreams: Mapping[str, list[str]], problems: Problems) -> None:
    places = [f"{name} (line {problems.lines.line(('arrays', name))})" for name in cycle]
    path = ("arrays", cycle[0], "after", upstreams[cycle[0]].index(cycle[1 % len(cycle)]))
    if len(cycle) == 1:
        problems.add(path, f"{places[0]} waits for itself")
        return
    problems.add(path, f"arrays wait for each other: {' after '.join([*places, cycle[0]])}")


def find_cycle(upstreams: Mapping[str, Sequence[str]]) -> list[str]:
    """The names of one cycle, each waiting for the next, or nothing."""
    finished: set[str] = set()
    for start in upstreams:
        trail: dict[str, None] = {}
        stack = [(start, iter(upstreams[start]))] if start not in finished else []
        trail.update({start: None} if stack else {})
        while stack:
            name, rest = stack[-1]
            following = next(rest, None)
            if following is None:
                finished.add(name)
                trail.pop(name)
                stack.pop()
            elif following in trail:
                names = list(trail)
                return names[names.index(following) :]
            elif following not in finished:
                trail[following] = None
                stack.append((following, iter(upstreams[following])))
    return []


def groups_of(link: Link, upstream: Side, downstream: Side, problems: Problems) -> list[Group]:
    """The groups of one link; what does not fit together is noted and gives no groups."""
    if link.one_to_one:
        return _pairs(link, upstream, downstream, problems)
    if link.by:
        return _matches(link, upstream, downstream, problems)
    return [Group(tuple(upstream.task_ids), range(len(downstream.task_ids)))]


def _pairs(link: Link, upstream: Side, downstream: Side, problems: Problems) -> list[Group]:
    if len(upstream.task_ids) != len(downstream.task_ids):
        sizes = f"'{downstream.name}' has {len(downstream.task_ids)} tasks, '{upstream.name}' {len(upstream.task_ids)}"
        problems.add(link.path, f"one_to_one needs arrays of the same size; {sizes}")
        return []
    return [Group((task_id,), (position,)) for position, task_id in enumerate(upstream.task_ids)]


def _matches(link: Link, upstream: Side, downstream: Side, problems: Problems) -> list[Group]:
    if not (_has_parameters(link, upstream, problems) and _has_parameters(link, downstream, problems)):
        return []
    ids: defaultdict[tuple[str | None, ...], list[int]] = defaultdict(list)
    for key, task_id in zip(_keys(upstream.rows, link.by), upstream.task_ids, strict=True):
        ids[key].append(task_id)
    positions: defaultdict[tuple[str | None, ...], list[int]] = defaultdict(list)
    for position, key in enumerate(_keys(downstream.rows, link.by)):
        positions[key].append(position)
    for key in positions:
        if key not in ids:
            values = ", ".join(f"{name} = {value}" for name, value in zip(link.by, key, strict=True))
            problems.add(link.path, f"'{upstream.name}' has no task with {values}, which '{downstream.name}' has")
    return [Group(tuple(ids[key]), where) for key, where in positions.items() if key in ids]


def _has_parameters(link: Link, side: Side, problems: Problems) -> bool:
    for name in link.by:
        if name not in side.rows.names:
            known = ", ".join(side.rows.names) or "none"
            hint = suggestion(name, side.rows.names)
            problems.add((*link.path, "by"), f"'{side.name}' has no parameter '{name}'{hint}; its parameters: {known}")
            return False
        column = side.rows.names.index(name)
        lacking = [position for position, row in enumerate(side.rows.values) if row[column] is None]
        if lacking:
            message = f"task {lacking[0]} of '{side.name}' (counted from 0) has no parameter '{name}'"
            problems.add((*link.path, "by"), message)
            return False
    return True


def _keys(rows: Rows, by: Sequence[str]) -> list[tuple[str | None, ...]]:
    columns = [rows.names.index(name) for name in by]
    return [tuple([row[column] for column in columns]) for row in rows.values]


def with_barriers(groups: list[Group], barriers: Barriers, barrier_id: Callable[[], int]) -> list[Group]:
    """The groups, those that are worth it behind a barrier task when there are too many edges altogether."""
    if sum(len(group.upstreams) * len(group.positions) for group in groups) <= MAX_DIRECT_EDGES:
        return groups
    return [_behind_barrier(group, barriers, barrier_id) for group in groups]


def _behind_barrier(group: Group, barriers: Barriers, barrier_id: Callable[[], int]) -> Group:
    many, waiting = len(group.upstreams), len(group.positions)
    if many * waiting <= many + waiting:
        return group
    barriers.upstreams.append(group.upstreams)
    return Group((barrier_id(),), group.positions)
