"""A YAML or JSON file as plain data that remembers its lines.

Reads carefully what strangers wrote: bounded depth and size, no tags but the plain ones, duplicate keys are
errors, and whatever is wrong becomes a WorkflowFileError. Scalars follow YAML 1.2's core schema, so that `no`,
`on`, `1:30`, `2024-01-31` and `007` stay the texts they look like.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import yaml
from yaml.composer import Composer
from yaml.constructor import SafeConstructor
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from swarmd.workflow.json_nodes import compose_json
from swarmd.workflow.problems import FieldPath, Problem, WorkflowFileError

MAX_DEPTH = 64
MAX_VALUES = 20_000_000
MAX_FILE_BYTES = 1 << 30

_TAG = "tag:yaml.org,2002:"
_MERGE = _TAG + "merge"
_SCALAR_TAGS = {_TAG + kind for kind in ("str", "int", "float", "bool", "null")}


class _TooDeepError(yaml.MarkedYAMLError):
    """Nesting beyond what any workflow needs, and what recursion can take."""


class _Loader(Composer, yaml.CSafeLoader):
    """libyaml's parser under PyYAML's composer, which can watch the depth; its own overflows the stack."""

    yaml_implicit_resolvers = {}  # noqa: RUF012 (PyYAML's own name; empty: not YAML 1.1's)

    def __init__(self, text: str) -> None:
        yaml.CSafeLoader.__init__(self, text)
        Composer.__init__(self)
        self._depth = 0

    def compose_node(self, parent: Node | None, index: int) -> Node | None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise _TooDeepError(problem="nested too deeply", problem_mark=self._mark())
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def _mark(self) -> yaml.Mark | None:
        event = self.peek_event()
        return cast("yaml.Mark", event.start_mark) if event is not None else None


_FLOAT = (
    r"[-+]?(?:(?:0|[1-9][0-9]*)\.[0-9]*|\.[0-9]+|(?=[0-9.]+[eE])(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)"
    r"(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)
_IMPLICIT = {
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "int": (r"[-+]?(?:0|[1-9][0-9]*)", "-+0123456789"),
    "float": (
        _FLOAT,
        "-+.0123456789",
    ),
    "merge": (r"<<", "<"),
}
for _kind, (_pattern, _first) in _IMPLICIT.items():
    _Loader.add_implicit_resolver(_TAG + _kind, re.compile(f"^(?:{_pattern})$"), list(_first))


@dataclass(frozen=True, slots=True)
class Source:
    """A file that was read: its data, and the nodes that know the lines."""

    file: str
    """As the user named it."""
    root: Node
    data: object

    def line(self, path: FieldPath) -> int | None:
        """The line of the value at the path, or of the closest thing above it that exists."""
        node, line = self.root, None
        for part in path:
            found = _child(node, part)
            if found is None:
                break
            line, node = found
        return line

    def existing(self, path: FieldPath) -> FieldPath:
        """The path without the parts that are not in the file, its last part aside."""
        node, kept = self.root, list[str | int]()
        for position, part in enumerate(path):
            found = _child(node, part)
            if found is not None:
                node = found[1]
            if found is not None or position == len(path) - 1:
                kept.append(part)
        return tuple(kept)


def _child(node: Node, part: str | int) -> tuple[int, Node] | None:
    if isinstance(node, SequenceNode) and isinstance(part, int):
        if part < len(node.value):
            return node.value[part].start_mark.line + 1, node.value[part]
    elif isinstance(node, MappingNode):
        merged = []
        for key, value in node.value:
            if key.value == part:
                return key.start_mark.line + 1, value
            if key.tag == _MERGE:
                merged.append(value)
        for value in merged:
            for parent in value.value if isinstance(value, SequenceNode) else [value]:
                if (found := _child(parent, part)) is not None:
                    return found
    return None


def read_source(path: Path) -> Source:
    """The file's data with its lines; raises WorkflowFileError for whatever keeps it from being read."""
    file, text = str(path), read_text(path)
    as_json = path.suffix == ".json" or (path.suffix not in {".yaml", ".yml"} and text.lstrip()[:1] == "{")
    root = compose_json(text, file) if as_json else _compose_yaml(text, file)
    if root is None:
        raise WorkflowFileError(file, [Problem("is empty; a workflow needs at least 'name' and 'arrays'")])
    return Source(file, root, _Converter(file).value(root, ()))


def read_text(path: Path) -> str:
    """The text of a file that should hold UTF-8; raises WorkflowFileError."""
    file = str(path)
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise WorkflowFileError(file, [Problem(f"is larger than {MAX_FILE_BYTES >> 20} MiB")])
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise WorkflowFileError(file, [Problem("there is no such file")]) from None
    except IsADirectoryError:
        raise WorkflowFileError(file, [Problem("is a directory; name a file in it")]) from None
    except UnicodeDecodeError as error:
        problem = Problem(f"is not a text in UTF-8 (byte {error.start}); save it as UTF-8")
        raise WorkflowFileError(file, [problem]) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise WorkflowFileError(file, [Problem(f"cannot be read: {reason}")]) from None
    if "\0" in text:
        raise WorkflowFileError(file, [Problem("is a binary file, not a text")])
    return text


def _compose_yaml(text: str, file: str) -> Node | None:
    try:
        return _Loader(text).get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = None if mark is None else mark.line + 1
        raise WorkflowFileError(file, [Problem(_yaml_message(error, text), line=line)]) from None
    except yaml.YAMLError as error:
        raise WorkflowFileError(file, [Problem(f"is not YAML: {str(error).splitlines()[0]}")]) from None


def _yaml_message(error: yaml.MarkedYAMLError, text: str) -> str:
    mark = error.problem_mark
    lines = text.splitlines()
    line = lines[mark.line] if mark is not None and mark.line < len(lines) else ""
    if "\t" in line[: len(line) - len(line.lstrip())]:
        return "is indented with a tab; YAML wants spaces"
    if "nesting depth" in (error.problem or ""):  # newer versions of libyaml have a limit of their own
        return "is not YAML: nested too deeply"
    parts = [part for part in (error.context, error.problem) if part]
    return f"is not YAML: {', '.join(parts) or 'it cannot be understood'}"


class _Converter:
    """Turns nodes into plain data, and refuses what a workflow file must not hold."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._constructor = SafeConstructor()
        self._left = MAX_VALUES

    def value(self, node: Node, path: FieldPath, above: tuple[Node, ...] = ()) -> object:
        self._left -= 1
        if self._left < 0:
            raise self._error(node, path, f"holds more than {MAX_VALUES} values")
        if isinstance(node, ScalarNode):
            return self._scalar(node, path)
        if node in above:
            raise self._error(node, path, "is an alias of something that it is part of")
        if isinstance(node, SequenceNode) and node.tag == _TAG + "seq":
            inside = (*above, node)
            return [self.value(item, (*path, index), inside) for index, item in enumerate(node.value)]
        if isinstance(node, MappingNode) and node.tag == _TAG + "map":
            return self._mapping(node, path, (*above, node))
        raise self._error(node, path, f"the tag {node.tag} is not allowed here")

    def _scalar(self, node: ScalarNode, path: FieldPath) -> object:
        if node.tag == _TAG + "str":
            return self._text(node, path)
        if node.tag not in _SCALAR_TAGS:
            raise self._error(node, path, f"the tag {node.tag} is not allowed here")
        try:
            # yaml 1.1's constructors read 1.2's scalars alike, whole numbers without a leading zero included
            return self._constructor.construct_object(node)
        except (yaml.YAMLError, ValueError, KeyError):
            kind = node.tag.removeprefix(_TAG)
            raise self._error(node, path, f"'{node.value[:40]}' is no {kind}") from None

    def _mapping(self, node: MappingNode, path: FieldPath, above: tuple[Node, ...]) -> dict[str, object]:
        own: dict[str, object] = {}
        lines: dict[str, int] = {}
        merged: dict[str, object] = {}
        for key_node, value_node in node.value:
            if key_node.tag == _MERGE:
                merged = self._merged(value_node, path, above) | merged
                continue
            key = self._key(key_node, path)
            if key in own:
                message = f"appears twice, here and in line {lines[key]}; keep one"
                raise self._error(key_node, (*path, key), message)
            lines[key] = key_node.start_mark.line + 1
            own[key] = self.value(value_node, (*path, key), above)
        return own | {key: value for key, value in merged.items() if key not in own}

    def _key(self, node: Node, path: FieldPath) -> str:
        if not isinstance(node, ScalarNode) or node.tag == _TAG + "null":
            raise self._error(node, path, "has a key that is no text")
        return self._text(node, path)

    def _text(self, node: ScalarNode, path: FieldPath) -> str:
        if "\0" in node.value:
            raise self._error(node, path, "holds a NUL character, which no command, name or path can")
        return str(node.value)

    def _merged(self, node: Node, path: FieldPath, above: tuple[Node, ...]) -> dict[str, object]:
        merged: dict[str, object] = {}
        for parent in node.value if isinstance(node, SequenceNode) else [node]:
            value = self.value(parent, path, above)
            if not isinstance(value, dict):
                raise self._error(parent, path, "<< takes a mapping, or a list of mappings")
            merged = value | merged
        return merged

    def _error(self, node: Node, path: FieldPath, message: str) -> WorkflowFileError:
        return WorkflowFileError(self._file, [Problem(message, path, node.start_mark.line + 1)])
