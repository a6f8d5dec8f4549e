"""The workflow file, field by field, as pydantic models; the JSON Schema is made from them.

What is checked here needs one field or one mapping alone. What needs the rest of the file (names, dependencies,
placeholders) is checked by `expand.py`. Texts like `4G` are numbers after this step, parameter values are text.
"""

import math
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PlainValidator,
    StringConstraints,
    Tag,
    model_validator,
)

from swarmd.core.model import (
    DEFAULT_MAX_ATTEMPTS,
    DEFAULT_SWARM_LIMIT,
    MAX_COMMAND_BYTES,
    MAX_COUNT,
    MAX_EXTRA_ENTRIES,
    MAX_FALLBACK_QUEUES,
    MAX_LABEL_BYTES,
    MAX_NAME_BYTES,
)
from swarmd.workflow import units


def _label(text: str) -> str:
    if (size := len(text.encode())) > MAX_LABEL_BYTES:
        raise ValueError(f"has {size} bytes; {MAX_LABEL_BYTES} are allowed")
    return text


Limit = Annotated[int, Field(ge=0, le=MAX_COUNT)]
Attempts = Annotated[int, Field(ge=1, le=MAX_COUNT)]
Priority = Annotated[int, Field(ge=-MAX_COUNT, le=MAX_COUNT)]
Label = Annotated[str, Field(max_length=MAX_LABEL_BYTES), AfterValidator(_label)]
Name = Annotated[str, Field(min_length=1, max_length=MAX_LABEL_BYTES), AfterValidator(_label)]
ArrayName = Annotated[str, StringConstraints(pattern=r"^[^\s{}](?:[^\n{}]*[^\s{}])?$", max_length=MAX_LABEL_BYTES)]
ParameterName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=MAX_LABEL_BYTES)]
VariableName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=MAX_LABEL_BYTES)]
Command = Annotated[str, Field(min_length=1, max_length=MAX_COMMAND_BYTES)]
NameTemplate = Annotated[str, Field(min_length=1, max_length=MAX_NAME_BYTES)]
Scale = Annotated[float, Field(ge=0, le=1000, allow_inf_nan=False)]
Policy = Literal["first_come_first_served", "longest_path_first", "fair_share"]
Scales = dict[Literal["cores", "memory", "runtime"], Scale]

MemoryPattern = Annotated[str, Field(pattern=units.MEMORY_PATTERN)]
RuntimePattern = Annotated[str, Field(pattern=units.RUNTIME_PATTERN)]


def scalar_text(value: object) -> str:
    """A text, number or truth value as it stands in a command."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)
    raise ValueError("must be a text, a number, true or false")


def _number(value: object) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("must be a number")
    return value


def _variable(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError("must be a text or a number; quote true, false and the like")  # noqa: TRY004
    return str(value)


ScalarText = Annotated[str, PlainValidator(scalar_text, json_schema_input_type=str | float | bool)]
Number = Annotated[int | float, PlainValidator(_number, json_schema_input_type=float)]
VariableValue = Annotated[str, PlainValidator(_variable, json_schema_input_type=str | float)]


class _Block(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class ResourcesBlock(_Block):
    """What a task asks of the engine. A field that is left out comes from `defaults.resources`."""

    cluster: Label = Field(default="", description="The engine's cluster.")
    queue: Label = Field(default="", description="The engine's queue or partition.")
    fallback_queues: list[Label] = Field(
        default_factory=list,
        max_length=MAX_FALLBACK_QUEUES,
        description="Queues of the same cluster for what has grown too large for its queue: the first to fit it.",
    )
    cores: int = Field(default=1, ge=1, le=MAX_COUNT, description="How many cores a task uses.")
    memory: Annotated[
        int,
        BeforeValidator(units.memory_mib, json_schema_input_type=Annotated[int, Field(ge=0)] | MemoryPattern),
    ] = Field(default=0, description="Memory: a number of MiB, or a text like 500M or 4G. 0: none is set aside.")
    runtime: Annotated[
        float,
        BeforeValidator(units.runtime_seconds, json_schema_input_type=Annotated[float, Field(ge=0)] | RuntimePattern),
    ] = Field(
        default=0.0,
        description="The longest time of one attempt: seconds, or a text like 90s, 15m or 1h30m. 0: no limit.",
    )
    extra: dict[Name, VariableValue] = Field(
        default_factory=dict,
        max_length=MAX_EXTRA_ENTRIES,
        description="Options that only the engine understands, such as Slurm's account.",
    )


def _text_or_block(value: object) -> str | None:
    if isinstance(value, str):
        return "text"
    return "block" if isinstance(value, dict | BaseModel) else None


def _list_or_range(value: object) -> str | None:
    if isinstance(value, list):
        return "list"
    return "range" if isinstance(value, dict | BaseModel) else None


ResourcesChoice = Annotated[
    Annotated[Name, Tag("text")] | Annotated[ResourcesBlock, Tag("block")],
    Discriminator(
        _text_or_block,
        custom_error_type="resources_choice",
        custom_error_message="must be the name of an entry of 'resources', or a mapping of cores, memory, ...",
    ),
]


class RangeBlock(_Block):
    """Evenly spaced numbers, both ends included."""

    first: Number = Field(alias="from", description="The first value.")
    last: Number = Field(alias="to", description="The last value; it is included when the steps meet it.")
    step: Number = Field(default=1, description="The distance between two values; negative to count down.")

    @model_validator(mode="after")
    def _leads_somewhere(self) -> "RangeBlock":
        if self.step == 0:
            raise ValueError("step must not be 0")
        if (self.last - self.first) * self.step < 0:
            raise ValueError(f"steps of {self.step} do not lead from {self.first} to {self.last}: it is empty")
        return self


ParameterValues = Annotated[
    Annotated[list[ScalarText], Field(min_length=1), Tag("list")] | Annotated[RangeBlock, Tag("range")],
    Discriminator(
        _list_or_range,
        custom_error_type="parameter_values",
        custom_error_message="must be a list of values or a range like {from: 1, to: 10}",
    ),
]


class TaskBlock(BaseModel):
    """One task of a list; every further key is a parameter of it."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)
    __pydantic_extra__: dict[str, ScalarText] = Field(init=False)

    name: NameTemplate | None = Field(default=None, description="Its name; default: by the array's name template.")
    command: Command | None = Field(default=None, description="Its own command instead of the array's.")
    resources: ResourcesChoice | None = Field(default=None, description="Its own resources instead of the array's.")
    max_attempts: Attempts | None = Field(default=None, description="Its own number of attempts.")
    priority: Priority | None = Field(default=None, description="Its own priority.")

    @property
    def parameters(self) -> dict[str, str]:
        """Its parameters with their values as text."""
        return dict(self.__pydantic_extra__ or {})


TaskChoice = Annotated[
    Annotated[NameTemplate, Tag("text")] | Annotated[TaskBlock, Tag("block")],
    Discriminator(
        _text_or_block,
        custom_error_type="task_choice",
        custom_error_message="must be a task's name or a mapping of its parameters",
    ),
]


class AfterBlock(_Block):
    """A dependency on another array: on all of its tasks unless `by` or `one_to_one` says otherwise."""

    array: ArrayName = Field(description="The array whose tasks must be done first.")
    by: list[ParameterName] | None = Field(
        default=None,
        min_length=1,
        description="Wait only for the tasks whose values of these parameters equal one's own.",
    )
    one_to_one: bool = Field(
        default=False, description="Wait only for the task at one's own position; both arrays have the same size."
    )

    @model_validator(mode="after")
    def _one_kind(self) -> "AfterBlock":
        if self.by and self.one_to_one:
            raise ValueError("has both 'by' and 'one_to_one'; keep one of them")
        return self


AfterChoice = Annotated[
    Annotated[ArrayName, Tag("text")] | Annotated[AfterBlock, Tag("block")],
    Discriminator(
        _text_or_block,
        custom_error_type="after_choice",
        custom_error_message="must be an array's name or a mapping like {array: NAME, by: [PARAMETER]}",
    ),
]

_TASK_SOURCES = ("tasks", "count", "parameters")


def _at_most_one_task_source(schema: dict[str, Any]) -> None:
    pairs = [("tasks", "count"), ("tasks", "parameters"), ("count", "parameters")]
    schema["allOf"] = [{"not": {"required": list(pair)}} for pair in pairs]


class ArrayBlock(_Block):
    """Tasks of one template. Its tasks come from one of `tasks`, `count` and `parameters`; without, it has one task."""

    model_config = ConfigDict(json_schema_extra=_at_most_one_task_source)

    command: Command | None = Field(
        default=None, description="What /bin/sh runs for each task; {placeholders} are filled in."
    )
    tasks: list[TaskChoice] | None = Field(
        default=None, min_length=1, description="The tasks one by one: a name, or a mapping of parameters."
    )
    count: int | None = Field(
        default=None, ge=1, description="So many tasks, with the parameter {index} counting from 0."
    )
    parameters: dict[ParameterName, ParameterValues] | None = Field(
        default=None,
        min_length=1,
        description="One task for each combination of these values; the last varies fastest.",
    )
    name: NameTemplate | None = Field(
        default=None,
        description="Template of the tasks' names; default: the array's name and the parameters, joined by _.",
    )
    after: list[AfterChoice] = Field(
        default_factory=list, description="The arrays that must be done before, in whole or task by task."
    )
    resources: ResourcesChoice | None = Field(
        default=None, description="The name of an entry of `resources`, or a mapping; default: `defaults.resources`."
    )
    max_concurrently_running: Limit | None = Field(
        default=None, description="How many of its tasks may be active at once; default: only the workflow's limit."
    )
    max_attempts: Attempts | None = Field(default=None, description="How many attempts each task has.")
    priority: Priority = Field(default=0, description="Higher leaves first.")
    resource_scales: Scales | None = Field(
        default=None,
        description="By how much a resource grows when an attempt ran out of it; 0.5 is half as much again.",
    )

    @model_validator(mode="after")
    def _one_source(self) -> "ArrayBlock":
        given = [source for source in _TASK_SOURCES if getattr(self, source) is not None]
        if len(given) > 1:
            raise ValueError(f"has {' and '.join(given)}; keep one of them")
        return self


def _default_scales() -> Scales:
    return {"memory": 0.5, "runtime": 0.5}


class DefaultsBlock(_Block):
    """What arrays leave out."""

    resources: ResourcesChoice | None = Field(default=None, description="Resources: a name, or a mapping.")
    max_attempts: Attempts = Field(default=DEFAULT_MAX_ATTEMPTS, description="How many attempts each task has.")
    resource_scales: Scales = Field(
        default_factory=_default_scales,
        description="By how much a resource grows when an attempt ran out of it; 0.5 is half as much again.",
    )


class WorkflowFile(_Block):
    """A workflow: arrays of tasks, what they wait for and what they need."""

    model_config = ConfigDict(title="swarmd workflow")

    json_schema: str | None = Field(default=None, alias="$schema", description="For editors; not used.")
    name: Name = Field(description="The workflow's name.")
    max_concurrently_running: Limit | None = Field(
        default=None, description=f"How many tasks may be active at once; default: {DEFAULT_SWARM_LIMIT}."
    )
    fail_fast: bool = Field(default=False, description="Stop queueing as soon as one task has failed for good.")
    scheduling_policy: Policy = Field(
        default="first_come_first_served", description="In which order ready tasks of the same priority go."
    )
    environment: dict[VariableName, VariableValue] = Field(
        default_factory=dict, description="Environment variables of every task."
    )
    working_directory: str | None = Field(
        default=None,
        min_length=1,
        description="Where tasks run, relative to this file; default: the file's directory.",
    )
    defaults: DefaultsBlock = Field(
        default_factory=DefaultsBlock, description="What holds for arrays that say nothing else."
    )
    resources: dict[Name, ResourcesBlock] = Field(
        default_factory=dict, description="Named resources, for arrays to share."
    )
    arrays: dict[ArrayName, ArrayBlock] = Field(min_length=1, description="The arrays by name, in order.")
