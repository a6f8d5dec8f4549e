"""Recorded workflows in WfFormat 1.5 (wfcommons.org), to be replayed with their real dependencies.

Each task sleeps its recorded runtime times a factor. Only what a replay needs is read: a task's name, program,
runtime, cores, memory and priority, and its parents. Errors name the field and the remedy.
"""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from swarmd.core.model import MAX_COUNT, MAX_NAME_BYTES, Array, Task, TaskResources
from swarmd.core.policy import SchedulingPolicy
from swarmd.workflow.dependencies import find_cycle
from swarmd.workflow.json_nodes import parse_json
from swarmd.workflow.plan import MAX_TASKS, WorkflowPlan
from swarmd.workflow.problems import MAX_PROBLEMS, FieldPath, Problem, WorkflowFileError, path_text
from swarmd.workflow.source import read_text
from swarmd.workflow.units import MAX_RUNTIME_SECONDS

VERSION = "1.5"
NO_OP = "true"
RUNTIME_LIMIT = 60.0
"""How many times its recorded runtime a task may take: enough for a machine that is busy with other things."""
LEAST_RUNTIME_LIMIT = 10.0
_RUNTIMES_PER_OCTAVE = 32
FIRST_COME, LONGEST_PATH = SchedulingPolicy.FIRST_COME_FIRST_SERVED, SchedulingPolicy.LONGEST_PATH_FIRST

_MIB = 1 << 20
_NUMBER_AT_END = re.compile(r"(?:[_.:#-](?:ID)?|ID)\d+$")

Text = Annotated[str, Field(min_length=1, max_length=MAX_NAME_BYTES, pattern=r"^[^\x00]*$")]


class _Record(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)


class _Command(_Record):
    program: str = ""


class _SpecifiedTask(_Record):
    name: Text
    id: Text
    parents: list[str]
    children: list[str]


class _ExecutedTask(_Record):
    id: Text
    seconds: float = Field(alias="runtimeInSeconds", ge=0, le=MAX_RUNTIME_SECONDS, allow_inf_nan=False)
    cores: float = Field(1, alias="coreCount", ge=0, le=MAX_COUNT, allow_inf_nan=False)
    memory_bytes: float = Field(0, alias="memoryInBytes", ge=0, le=MAX_COUNT * _MIB, allow_inf_nan=False)
    priority: float = Field(0, ge=-MAX_COUNT, le=MAX_COUNT, allow_inf_nan=False)
    command: _Command = Field(default_factory=_Command)


class _Specification(_Record):
    tasks: list[_SpecifiedTask] = Field(min_length=1)


class _Execution(_Record):
    tasks: list[_ExecutedTask] = Field(min_length=1)


class _Workflow(_Record):
    specification: _Specification
    execution: _Execution


class _Instance(_Record):
    name: Text
    workflow: _Workflow


def read_wfformat(
    path: str | Path, time_scale: float = 1.0, scheduling_policy: SchedulingPolicy = FIRST_COME
) -> WorkflowPlan:
    """Read a recorded workflow; tasks sleep their runtime times `time_scale`, and do nothing when it is 0.

    There is one array for each kind of task: its program, or its name without the number at its end. Under longest path
    first the resources state runtimes in proportion to the recorded ones, and recorded priorities are left out: they
    are the order of the engine that ran it then. Raises WorkflowFileError for anything but WfFormat 1.5 with an
    execution.
    """
    path = Path(path)
    if not (math.isfinite(time_scale) and time_scale >= 0):
        raise WorkflowFileError(str(path), [Problem(f"the time scale is {time_scale}; it must be 0 or more")])
    instance = _parse(path)
    specified = instance.workflow.specification.tasks
    executed = {task.id: task for task in instance.workflow.execution.tasks}
    _check(str(path), specified, executed)
    return _Replay(specified, executed, time_scale, scheduling_policy).plan(instance.name)


def kind_of(name: str, program: str) -> str:
    """`individuals` for the program of that name, or for a task named `individuals_ID0000001`.

    A program with spaces in it is a whole script, as Nextflow records them, and no kind of task.
    """
    if program and not any(character.isspace() for character in program):
        return program.rsplit("/", 1)[-1] or program
    return _NUMBER_AT_END.sub("", name) or name


def _parse(path: Path) -> _Instance:
    data = parse_json(read_text(path), str(path))
    _check_version(str(path), data)
    try:
        return _Instance.model_validate(data)
    except ValidationError as error:
        all_details = error.errors(include_url=False)
        problems = [
            Problem(_remedy(details["type"], details["msg"], details["loc"]), details["loc"])
            for details in all_details[:MAX_PROBLEMS]
        ]
        raise WorkflowFileError(str(path), problems, omitted=max(0, len(all_details) - MAX_PROBLEMS)) from None


def _check_version(file: str, data: object) -> None:
    field: FieldPath = ("schemaVersion",)
    if not isinstance(data, dict) or not data.keys() & {"schemaVersion", "workflow"}:
        message = f"is no recorded workflow in WfFormat {VERSION}; see wfcommons.org for what is"
        raise WorkflowFileError(file, [Problem(message)])
    version = data.get("schemaVersion")
    if version != VERSION:
        message = f"is {version!r}; only '{VERSION}' is read, and WfCommons' migration tool converts other versions"
        raise WorkflowFileError(file, [Problem(message, field)])


def _remedy(kind: str, message: str, path: FieldPath) -> str:
    if path == ("workflow", "execution") and kind == "missing":
        return "is required: without the recorded runtimes there is nothing to replay"
    if kind == "missing":
        return f"is required by WfFormat {VERSION}"
    return f"{message[0].lower()}{message[1:]}"


def _check(file: str, specified: Sequence[_SpecifiedTask], executed: dict[str, _ExecutedTask]) -> None:
    """Raise WorkflowFileError unless the tasks' ids are unique, known, executed and free of cycles."""
    base: FieldPath = ("workflow", "specification", "tasks")
    problems: list[Problem] = []
    if len(specified) > MAX_TASKS:
        message = f"holds {len(specified):,} tasks; {MAX_TASKS:,} are allowed"
        raise WorkflowFileError(file, [Problem(message, base)])
    ids = {task.id for task in specified}
    seen: set[str] = set()
    for position, task in enumerate(specified):
        path = (*base, position)
        if task.id in seen:
            problems.append(Problem(f"'{task.id}' is the id of two tasks; ids must be unique", (*path, "id")))
        seen.add(task.id)
        problems += [
            Problem(f"'{other}' is the id of no task; remove it or add the task", (*path, field))
            for field, others in (("parents", task.parents), ("children", task.children))
            for other in others
            if other not in ids
        ]
        if task.id not in executed:
            problems.append(Problem(f"'{task.id}' is missing in {path_text(_EXECUTED)}", (*path, "id")))
    if not problems and (cycle := find_cycle(_parents(specified))):
        ring = " after ".join([*cycle, cycle[0]])
        problems.append(Problem(f"tasks wait for each other: {ring}", base))
    if problems:
        omitted = max(0, len(problems) - MAX_PROBLEMS)
        raise WorkflowFileError(file, problems[:MAX_PROBLEMS], omitted=omitted)


_EXECUTED: FieldPath = ("workflow", "execution", "tasks")


def _parents(specified: Sequence[_SpecifiedTask]) -> dict[str, list[str]]:
    """The parents of each task, whichever of the two tasks recorded the dependency, each once."""
    parents = {task.id: dict.fromkeys(task.parents) for task in specified}
    for task in specified:
        for child in task.children:
            parents[child][task.id] = None
    return {task_id: list(ids) for task_id, ids in parents.items()}


class _Replay:
    """Builds the plan: arrays and resources get their ids as they first appear."""

    def __init__(
        self,
        specified: Sequence[_SpecifiedTask],
        executed: dict[str, _ExecutedTask],
        time_scale: float,
        policy: SchedulingPolicy,
    ) -> None:
        self._specified = specified
        self._executed = executed
        self._time_scale = time_scale
        self._policy = policy
        self._by_path = policy is LONGEST_PATH
        self._resources: dict[tuple[int, int, float], TaskResources] = {}

    def plan(self, name: str) -> WorkflowPlan:
        kinds = [kind_of(task.name, self._executed[task.id].command.program) for task in self._specified]
        array_ids = {kind: array_id for array_id, kind in enumerate(dict.fromkeys(kinds), start=1)}
        by_array = sorted(
            zip(kinds, self._specified, strict=True), key=lambda kind_and_task: array_ids[kind_and_task[0]]
        )
        task_ids = {task.id: task_id for task_id, (_, task) in enumerate(by_array, start=1)}
        parents = _parents(self._specified)
        template = "" if self._time_scale else NO_OP
        tasks = [
            self._task(task, task_ids[task.id], array_ids[kind], tuple(task_ids[other] for other in parents[task.id]))
            for kind, task in by_array
        ]
        return WorkflowPlan(
            name=name,
            scheduling_policy=self._policy,
            arrays=[Array(array_id, kind, command=template) for kind, array_id in array_ids.items()],
            task_resources=list(self._resources.values()),
            tasks=tasks,
        )

    def _task(self, task: _SpecifiedTask, task_id: int, array_id: int, upstream_task_ids: tuple[int, ...]) -> Task:
        record = self._executed[task.id]
        return Task(
            task_id=task_id,
            array_id=array_id,
            task_resources_id=self._resources_id(record),
            name=task.id,
            command=_sleep(record.seconds * self._time_scale) if self._time_scale else "",
            upstream_task_ids=upstream_task_ids,
            priority=0 if self._by_path else int(record.priority),
        )

    def _resources_id(self, record: _ExecutedTask) -> int:
        """Whole cores and MiB, rounded up."""
        runtime = _runtime_limit(record.seconds * max(1.0, self._time_scale)) if self._by_path else 0.0
        key = (max(1, math.ceil(record.cores)), math.ceil(record.memory_bytes / _MIB), runtime)
        if key not in self._resources:
            cores, memory_mib, runtime = key
            number = len(self._resources) + 1
            self._resources[key] = TaskResources(number, cores=cores, memory_mib=memory_mib, runtime_seconds=runtime)
        return self._resources[key].task_resources_id


def _runtime_limit(seconds: float) -> float:
    """What resources state for a task that took so long: rounded up by 3% at most, so that tasks share resources."""
    limit = max(LEAST_RUNTIME_LIMIT, RUNTIME_LIMIT * seconds)
    step = 2.0 ** (math.frexp(limit)[1] - 1) / _RUNTIMES_PER_OCTAVE
    return min(MAX_RUNTIME_SECONDS, math.ceil(limit / step) * step)


def _sleep(seconds: float) -> str:
    """A command that takes so long; below a millisecond, one that takes no time."""
    return f"sleep {seconds:.3f}" if seconds >= 0.001 else NO_OP
