"""Commands and names of tasks from their templates.

A command that uses parameters is rendered here; one that uses none goes to the daemon as the array's template.
What only the daemon knows ({attempt}, {swarm_id}) becomes, in a rendered command, the environment variable that
holds it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter

from swarmd.core.templates import TASK_PLACEHOLDERS, fill, placeholders
from swarmd.workflow.problems import suggestion

VARIABLE_OF = {"attempt": "${SWARM_ATTEMPT}", "swarm_id": "${SWARM_ID}"}
"""What stands for a placeholder that is known only when the task runs."""

TASK_VARIABLES = ("SWARM_ID", "SWARM_ARRAY_ID", "SWARM_TASK_ID", "SWARM_TASK_NAME", "SWARM_ATTEMPT")
"""The environment variables that every task finds."""

NAME_PLACEHOLDERS = ("task_id", "array_id", "array_name")
"""What a task's name may use besides the parameters."""

Row = tuple[str | None, ...]


def renderer(template: str, columns: Sequence[str], fixed: Mapping[str, object]) -> Callable[[Row], str]:
    """A function that renders the template for one row of column values; quick, for a million rows.

    `fixed` holds what is the same in every row; the template holds no NUL character. The syntax is `core.templates`'
    own: it fills in marks once, and the pieces between them become a format.
    """
    marks = {name: f"\0{position}\0" for position, name in enumerate(columns)}
    pieces = fill(template, {**fixed, **marks}).split("\0")
    if len(pieces) == 1:
        constant = pieces[0]
        return lambda _row: constant
    literals = [piece.replace("%", "%%") for piece in pieces[::2]]
    pick = itemgetter(*(int(piece) for piece in pieces[1::2]))
    text_format = "%s".join(literals)
    return lambda row: text_format % pick(row)


def command_problem(template: str, parameters: Iterable[str]) -> str | None:
    """What is wrong with a command's placeholders, or None."""
    return _unknown(template, "command", list(parameters), TASK_PLACEHOLDERS)


def name_problem(template: str, parameters: Iterable[str]) -> str | None:
    """What is wrong with the placeholders of a name template, or None."""
    return _unknown(template, "name", list(parameters), NAME_PLACEHOLDERS)


def _unknown(template: str, kind: str, parameters: list[str], others: Sequence[str]) -> str | None:
    unknown = [name for name in placeholders(template) if name not in parameters and name not in others]
    if not unknown:
        return None
    name = unknown[0]
    known = ", ".join(f"{{{other}}}" for other in [*parameters, *others])
    hint = suggestion(name, [*parameters, *others], "{{{}}}")
    literal = f"{{{{{name}}}}}"
    return f"nothing fills {{{name}}}{hint}; a {kind} here may use {known}, and {literal} is the literal text"


def uses_any(template: str, parameters: Iterable[str]) -> bool:
    """Whether the template uses one of the parameters."""
    return not set(placeholders(template)).isdisjoint(parameters)


def default_name(array_name: str, parameters: Sequence[str]) -> str:
    """The name template of an array that brings none: `simulate_{location}_{draw}`."""
    return "_".join([array_name, *(f"{{{name}}}" for name in parameters)])
