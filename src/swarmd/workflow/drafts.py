"""The tasks of one array as they are before their dependencies are known: names, commands and what each overrides.

Called by `expand.py`, first to check an array, then to make its tasks.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from swarmd.core.model import MAX_COMMAND_BYTES, MAX_NAME_BYTES
from swarmd.core.templates import TASK_PLACEHOLDERS, fill, placeholders
from swarmd.workflow.commands import (
    VARIABLE_OF,
    command_problem,
    default_name,
    name_problem,
    renderer,
    uses_any,
)
from swarmd.workflow.model import ArrayBlock, TaskBlock, TaskChoice
from swarmd.workflow.problems import FieldPath, Problems, suggestion
from swarmd.workflow.rows import INDEX, Rows


@dataclass(frozen=True, slots=True)
class Draft:
    """An array of the file with its place in the plan."""

    name: str
    block: ArrayBlock
    array_id: int
    rows: Rows
    task_ids: range

    @property
    def path(self) -> FieldPath:
        """Where it is in the file."""
        return ("arrays", self.name)

    @property
    def renders_commands(self) -> bool:
        """Whether the array's command differs between its tasks."""
        return bool(self.block.command) and uses_any(self.block.command or "", self.rows.names)

    @property
    def template(self) -> str:
        """The command that the daemon gets for the array."""
        return "" if self.renders_commands else self.block.command or ""

    @property
    def fixed(self) -> dict[str, object]:
        """The placeholders that are the same for all tasks."""
        return {"array_name": self.name, "array_id": self.array_id}

    def names_and_commands(self) -> tuple[list[str], list[str]]:
        """By task; an empty command stands for the array's template."""
        if self.block.tasks is not None:
            return self._listed(self.block.tasks)
        name_template = self.block.name or default_name(self.name, self.rows.names)
        name_of = renderer(name_template, (*self.rows.names, "task_id"), self.fixed)
        rows = [(*row, str(task_id)) for row, task_id in zip(self.rows.values, self.task_ids, strict=True)]
        names = [name_of(row) for row in rows]
        if not self.renders_commands:
            return names, [""] * len(rows)
        columns = (*self.rows.names, "task_id", "name")
        command_of = renderer(self.block.command or "", columns, {**self.fixed, **VARIABLE_OF})
        return names, [command_of((*row, name)) for row, name in zip(rows, names, strict=True)]

    def _listed(self, entries: Sequence[TaskChoice]) -> tuple[list[str], list[str]]:
        names, commands = [], []
        for position, (entry, task_id) in enumerate(zip(entries, self.task_ids, strict=True)):
            parameters = parameters_of(entry)
            known = {**parameters, **self.fixed, "task_id": task_id}
            name = entry if isinstance(entry, str) else fill(self._name_template(entry, position), known)
            own = entry.command if isinstance(entry, TaskBlock) else None
            template = own or (self.block.command if self.renders_commands else None) or ""
            names.append(name)
            commands.append(fill(template, {**known, **VARIABLE_OF, "name": name}))
        return names, commands

    def _name_template(self, entry: TaskBlock, position: int) -> str:
        parameters = tuple(entry.parameters)
        fallback = default_name(self.name, parameters) if parameters else f"{self.name}_{position}"
        return entry.name or self.block.name or fallback


def parameters_of(entry: TaskChoice) -> dict[str, str]:
    """The parameters of a listed task; a bare name has none."""
    return entry.parameters if isinstance(entry, TaskBlock) else {}


def check_templates(name: str, block: ArrayBlock, problems: Problems) -> None:
    """Note missing commands, placeholders that nothing fills and parameters with names that are taken."""
    path: FieldPath = ("arrays", name)
    if block.tasks is not None:
        for position, entry in enumerate(block.tasks):
            _check_entry(path, position, entry, block, problems)
        return
    parameters = list(block.parameters or ([INDEX] if block.count is not None else []))
    _check_parameter_names((*path, "parameters"), parameters, problems)
    if block.command is None:
        problems.add((*path, "command"), "is required")
    else:
        _note((*path, "command"), command_problem(block.command, parameters), problems)
    if block.name is not None:
        _note((*path, "name"), name_problem(block.name, parameters), problems)


def _check_entry(
    array_path: FieldPath, position: int, entry: TaskChoice, block: ArrayBlock, problems: Problems
) -> None:
    path = (*array_path, "tasks", position)
    parameters = parameters_of(entry)
    own_command = entry.command if isinstance(entry, TaskBlock) else None
    own_name = entry.name if isinstance(entry, TaskBlock) else entry
    _check_parameter_names(path, parameters, problems)
    _check_misspelt_fields(path, parameters, block, problems)
    command = own_command or block.command
    if command is None:
        problems.add(path, "has no command, and its array has none either")
    else:
        _note((*path, "command") if own_command else path, command_problem(command, parameters), problems)
    if isinstance(entry, TaskBlock) and (template := own_name or block.name):
        _note((*path, "name") if own_name else path, name_problem(template, parameters), problems)


def _check_misspelt_fields(path: FieldPath, parameters: Iterable[str], block: ArrayBlock, problems: Problems) -> None:
    """Note a parameter that no template uses and that looks like a field: `max_attempt: 5`."""
    used = {*placeholders(block.command or ""), *placeholders(block.name or "")}
    for name in parameters:
        hint = suggestion(name, TaskBlock.model_fields)
        if hint and name not in used:
            problems.add((*path, name), f"is a parameter that nothing uses{hint}")


def _check_parameter_names(path: FieldPath, names: Iterable[str], problems: Problems) -> None:
    for name in names:
        if name in TASK_PLACEHOLDERS:
            problems.add((*path, name), f"{{{name}}} is filled in by swarmd; give the parameter another name")
        elif not (name.isascii() and name.isidentifier()):
            problems.add((*path, name), "must be made of letters, digits and _, and not begin with a digit")


def _note(path: FieldPath, message: str | None, problems: Problems) -> None:
    if message is not None:
        problems.add(path, message)


def check_lengths(draft: Draft, names: Sequence[str], commands: Sequence[str], problems: Problems) -> None:
    """Note the first name and the first command that are longer than the daemon takes."""
    for what, texts, limit in (("name", names, MAX_NAME_BYTES), ("command", commands, MAX_COMMAND_BYTES)):
        longest = max(texts, key=len, default="")
        if len(longest) * 4 > limit and (size := max(len(text.encode()) for text in texts)) > limit:
            problems.add(draft.path, f"comes to a task with a {what} of {size} bytes; {limit} are allowed")
