"""From plain data to the models, and pydantic's errors to sentences for the author of the file.

Called by `expand.py`. Knows pydantic's error types; nobody else has to.
"""

from collections.abc import Mapping

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from swarmd.workflow.model import (
    AfterBlock,
    ArrayBlock,
    DefaultsBlock,
    RangeBlock,
    ResourcesBlock,
    TaskBlock,
    WorkflowFile,
)
from swarmd.workflow.problems import FieldPath, Problem, Problems, WorkflowFileError, suggestion
from swarmd.workflow.source import Source

_KIND_WANTED = {
    "string_type": "a text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "finite_number": "a finite number",
}
_PATTERN_MEANING = {
    "arrays": "must be without braces, line breaks and spaces around it",
    "": "must be made of letters, digits and _, and not begin with a digit",
}


def parse_workflow(source: Source) -> WorkflowFile:
    """The file as models; raises WorkflowFileError with everything that one look at each field can find."""
    problems = Problems(source)
    if not isinstance(source.data, dict):
        message = "must hold a mapping with at least 'name' and 'arrays'"
        raise WorkflowFileError(source.file, [Problem(message, line=1)])
    if "schemaVersion" in source.data and "workflow" in source.data:
        message = "is a recorded workflow in WfFormat, not a workflow file; run it with --wfformat"
        raise WorkflowFileError(source.file, [Problem(message, line=1)])
    try:
        return WorkflowFile.model_validate(source.data)
    except ValidationError as error:
        for details in error.errors(include_url=False):
            path = _path(source, details)
            problems.add(path, _message(details, path))
        problems.raise_if_any()
        raise


def _path(source: Source, details: ErrorDetails) -> FieldPath:
    """Where the error is in the file: pydantic's location without what only names a branch of a model."""
    location = details["loc"]
    if location[-1:] == ("[key]",):
        location = location[:-1]
    if details["type"] in {"missing", "extra_forbidden"}:
        return source.existing(location)
    existing = source.existing((*location, ""))
    return existing[:-1]


def _message(details: ErrorDetails, path: FieldPath) -> str:
    kind, given, context = details["type"], details["input"], details.get("ctx", {})
    if kind == "missing":
        return "is required"
    if kind == "extra_forbidden":
        return f"is not known here{suggestion(str(path[-1]), _fields_at(path))}"
    if kind in _KIND_WANTED:
        return f"must be {_KIND_WANTED[kind]}, not {_shown(given)}"
    if kind == "literal_error":
        return f"must be {context['expected']}, not {_shown(given)}"
    if kind == "string_pattern_mismatch":
        where = "arrays" if (path[:1] == ("arrays",) and len(path) == 2) or path[-2:-1] == ("after",) else ""
        return _PATTERN_MEANING[where]
    if kind == "value_error":
        return str(context["error"])
    return _bound_message(kind, given, context) or details["msg"]


def _bound_message(kind: str, given: object, context: Mapping[str, object]) -> str | None:
    match kind:
        case "greater_than_equal":
            return f"must be {context['ge']:g} or more, not {_shown(given)}"
        case "less_than_equal":
            return f"must be {context['le']} or less, not {_shown(given)}"
        case "too_short" | "string_too_short":
            return "must not be empty"
        case "too_long":
            return f"has {context['actual_length']} entries; {context['max_length']} are allowed"
        case "string_too_long":
            return f"is longer than {context['max_length']} characters"
        case _:
            return None


def _shown(value: object) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"the text '{value[:40]}'"
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    return str(value)


def _fields_at(path: FieldPath) -> list[str]:
    """The fields that the mapping around the path's end may have."""
    fields = _model_at(path[:-1]).model_fields
    return [field.alias or name for name, field in fields.items()]


_INSIDE_ARRAY: dict[str | int, type[BaseModel]] = {
    "after": AfterBlock,
    "tasks": TaskBlock,
    "parameters": RangeBlock,
}


def _model_at(path: FieldPath) -> type[BaseModel]:
    if "resources" in path:
        return ResourcesBlock
    if path[:1] == ("defaults",):
        return DefaultsBlock
    if path[:1] == ("arrays",) and len(path) > 1:
        return _INSIDE_ARRAY.get(path[2], ArrayBlock) if len(path) > 2 else ArrayBlock
    return WorkflowFile
