"""From the workflow file to the plan: names looked up, arrays expanded into tasks, dependencies into edges.

`load_workflow` is the door. What can be wrong is collected with its line, and the size is known, before tasks are made.
"""

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from swarmd.core.model import Array, Task
from swarmd.core.policy import SchedulingPolicy
from swarmd.workflow.commands import TASK_VARIABLES
from swarmd.workflow.dependencies import (
    Barriers,
    Group,
    Side,
    check_links,
    groups_of,
    links_of,
    with_barriers,
)
from swarmd.workflow.drafts import Draft, check_lengths, check_templates
from swarmd.workflow.model import TaskBlock, WorkflowFile
from swarmd.workflow.parsing import parse_workflow
from swarmd.workflow.plan import MAX_TASKS, WorkflowPlan
from swarmd.workflow.problems import Problems
from swarmd.workflow.resources import ResourceTable
from swarmd.workflow.rows import row_count, rows_of
from swarmd.workflow.source import read_source

BARRIER_COMMAND = "true"


def load_workflow(path: str | Path, *, max_tasks: int = MAX_TASKS) -> WorkflowPlan:
    """Read a workflow file in YAML or JSON and expand it.

    Raises WorkflowFileError, which lists what is wrong by line, for anything that cannot be used, and for a file that
    comes to more than `max_tasks` tasks.
    """
    path = Path(path)
    source = read_source(path)
    workflow = parse_workflow(source)
    problems = Problems(source)
    _check(workflow, problems, max_tasks)
    directory = _working_directory(workflow, path, problems)
    problems.raise_if_any()
    with _collector_paused():
        plan = _Expansion(workflow, problems).plan(directory)
    problems.raise_if_any()
    return plan


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Millions of new objects and no garbage among them: the collector would only cost time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _check(workflow: WorkflowFile, problems: Problems, max_tasks: int) -> None:
    sizes = {name: row_count(array) for name, array in workflow.arrays.items()}
    if (total := sum(sizes.values())) > max_tasks:
        largest = max(sizes, key=sizes.__getitem__)
        message = f"the workflow comes to {total:,} tasks, {sizes[largest]:,} of them here; {max_tasks:,} are allowed"
        problems.add(("arrays", largest), message)
    for name in workflow.environment:
        if name in TASK_VARIABLES:
            problems.add(("environment", name), "is set by swarmd for each task; use another name")
    for name, array in workflow.arrays.items():
        check_templates(name, array, problems)
    check_links(workflow.arrays, problems)


def _working_directory(workflow: WorkflowFile, file: Path, problems: Problems) -> Path:
    """Where tasks run. A relative one must exist beside the file; an absolute one may exist only where tasks run."""
    wanted = Path(workflow.working_directory or ".")
    try:
        directory = (file.parent / wanted).resolve()
        usable = wanted.is_absolute() or directory.is_dir()
    except (OSError, RuntimeError):  # a name that is too long, links in a circle
        directory, usable = wanted, False
    if not usable:
        problems.add(("working_directory",), f"there is no directory {directory}")
    return directory


class _Expansion:
    """One expansion under way: the ids that were given out, and the barriers that became necessary."""

    def __init__(self, workflow: WorkflowFile, problems: Problems) -> None:
        self._workflow = workflow
        self._problems = problems
        self._resources = ResourceTable(workflow, problems)
        self._drafts = self._numbered()
        total = sum(len(draft.task_ids) for draft in self._drafts.values())
        self._barrier_ids = count(total + 1)
        self._barriers: list[tuple[Barriers, Draft]] = []

    def _numbered(self) -> dict[str, Draft]:
        drafts: dict[str, Draft] = {}
        next_task_id = 1
        for array_id, (name, block) in enumerate(self._workflow.arrays.items(), start=1):
            rows = rows_of(block)
            task_ids = range(next_task_id, next_task_id + len(rows.values))
            drafts[name] = Draft(name, block, array_id, rows, task_ids)
            next_task_id = task_ids.stop
        return drafts

    def plan(self, working_directory: Path) -> WorkflowPlan:
        tasks = [task for draft in self._drafts.values() for task in self._tasks(draft)]
        barrier_arrays, barrier_tasks = self._barrier_parts()
        arrays = [
            Array(draft.array_id, draft.name, draft.block.max_concurrently_running, draft.template)
            for draft in self._drafts.values()
        ]
        return WorkflowPlan(
            name=self._workflow.name,
            max_concurrently_running=self._workflow.max_concurrently_running,
            fail_fast=self._workflow.fail_fast,
            scheduling_policy=SchedulingPolicy(self._workflow.scheduling_policy),
            environment=self._workflow.environment,
            working_directory=working_directory,
            arrays=arrays + barrier_arrays,
            task_resources=self._resources.all,
            tasks=tasks + barrier_tasks,
        )

    def _tasks(self, draft: Draft) -> list[Task]:
        block, defaults = draft.block, self._workflow.defaults
        names, commands = draft.names_and_commands()
        check_lengths(draft, names, commands, self._problems)
        resources = self._task_resources(draft)
        scales = defaults.resource_scales if block.resource_scales is None else block.resource_scales
        task_scales: dict[str, float] = {name: scale for name, scale in scales.items() if scale}
        attempts, priorities = self._attempts(draft), self._priorities(draft)
        upstreams = self._upstreams(draft)
        array_id = draft.array_id
        columns = zip(draft.task_ids, resources, names, commands, upstreams, attempts, priorities, strict=True)
        return [
            Task(
                task_id,
                array_id,
                resources_id,
                name,
                command,
                upstream_ids,
                max_attempts=max_attempts,
                priority=priority,
                resource_scales=task_scales,
            )
            for task_id, resources_id, name, command, upstream_ids, max_attempts, priority in columns
        ]

    def _task_resources(self, draft: Draft) -> list[int]:
        shared = self._resources.id_of(draft.block.resources, (*draft.path, "resources"))
        resources = [shared] * len(draft.task_ids)
        for position, entry in _blocks(draft):
            if entry.resources is not None:
                path = (*draft.path, "tasks", position, "resources")
                resources[position] = self._resources.id_of(entry.resources, path)
        return resources

    def _attempts(self, draft: Draft) -> list[int]:
        shared = draft.block.max_attempts or self._workflow.defaults.max_attempts
        attempts = [shared] * len(draft.task_ids)
        for position, entry in _blocks(draft):
            attempts[position] = entry.max_attempts or shared
        return attempts

    def _priorities(self, draft: Draft) -> list[int]:
        priorities = [draft.block.priority] * len(draft.task_ids)
        for position, entry in _blocks(draft):
            if entry.priority is not None:
                priorities[position] = entry.priority
        return priorities

    def _upstreams(self, draft: Draft) -> list[tuple[int, ...]]:
        upstreams: list[tuple[int, ...]] = [()] * len(draft.task_ids)
        for group in self._groups(draft):
            for position in group.positions:
                so_far = upstreams[position]
                upstreams[position] = so_far + group.upstreams if so_far else group.upstreams
        return upstreams

    def _groups(self, draft: Draft) -> Iterator[Group]:
        downstream = _side(draft)
        for link in links_of(draft.name, draft.block):
            barriers = Barriers(link.upstream, draft.name)
            groups = groups_of(link, _side(self._drafts[link.upstream]), downstream, self._problems)
            yield from with_barriers(groups, barriers, self._next_barrier_id)
            if barriers.upstreams:
                self._barriers.append((barriers, draft))

    def _next_barrier_id(self) -> int:
        return next(self._barrier_ids)

    def _barrier_parts(self) -> tuple[list[Array], list[Task]]:
        """The barriers' arrays and tasks, behind everything that the file names."""
        arrays: list[Array] = []
        tasks: list[Task] = []
        task_ids = count(sum(len(draft.task_ids) for draft in self._drafts.values()) + 1)
        for array_id, (barriers, draft) in enumerate(self._barriers, start=len(self._drafts) + 1):
            arrays.append(Array(array_id, barriers.name, command=BARRIER_COMMAND))
            resources_id = self._resources.barrier_id(self._task_resources(draft)[0])
            priority = max(self._priorities(draft))
            tasks += [
                Task(task_id, array_id, resources_id, barriers.name, "", upstreams, priority=priority)
                for upstreams, task_id in zip(barriers.upstreams, task_ids, strict=False)
            ]
        return arrays, tasks


def _side(draft: Draft) -> Side:
    return Side(draft.name, draft.rows, draft.task_ids)


def _blocks(draft: Draft) -> Sequence[tuple[int, TaskBlock]]:
    """The listed tasks that say more than their name, with their positions."""
    entries = enumerate(draft.block.tasks or ())
    return [(position, entry) for position, entry in entries if isinstance(entry, TaskBlock)]
