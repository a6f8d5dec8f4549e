"""Reads JSON into the nodes that the YAML reader makes, so that both kinds of file have lines.

Called by `source.py`. Python's own parser judges the text first, and its messages are the ones a user
sees; what is left to do here may trust the text.
"""

import bisect
import json
import re
from collections.abc import Iterator

from yaml import Mark
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from swarmd.workflow.problems import Problem, WorkflowFileError

MAX_DEPTH = 64
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_SPACE = re.compile(r"[ \t\r\n]*")
_WORD = re.compile(r"[-+.\w]+")
_DECODER = json.JSONDecoder()
_TAG = "tag:yaml.org,2002:"


def parse_json(text: str, file: str) -> object:
    """The plain data of a JSON text; raises WorkflowFileError with the line of what is wrong."""
    if not text.strip():
        raise WorkflowFileError(file, [Problem("is empty")])
    try:
        data = json.loads(text)
        if _SURROGATE.search(text):
            json.dumps(data, ensure_ascii=False).encode()
        return data
    except json.JSONDecodeError as error:
        message = f"is not JSON: {error.msg[0].lower()}{error.msg[1:]} (column {error.colno})"
        raise WorkflowFileError(file, [Problem(message, line=error.lineno)]) from None
    except UnicodeEncodeError:
        message = r"holds one half of a surrogate pair, such as \ud83d without \ude00"
        raise WorkflowFileError(file, [Problem(message)]) from None
    except (RecursionError, ValueError) as error:
        message = "is nested too deeply" if isinstance(error, RecursionError) else f"is not JSON: {error}"
        raise WorkflowFileError(file, [Problem(message)]) from None


def compose_json(text: str, file: str) -> Node:
    """The text as YAML nodes; raises WorkflowFileError."""
    parse_json(text, file)
    return _Composer(text, file).compose()


class _Composer:
    def __init__(self, text: str, file: str) -> None:
        self._text = text
        self._file = file
        self._at = 0
        self._line_starts = [0, *(match.end() for match in re.finditer("\n", text))]

    def compose(self, depth: int = 0) -> Node:
        """The node that starts here; leaves the position behind it."""
        mark = self._mark()
        if depth > MAX_DEPTH:
            raise WorkflowFileError(self._file, [Problem("is nested too deeply", line=mark.line + 1)])
        first = self._text[self._at]
        if first == "{":
            pairs = [(self._key(), self.compose(depth + 1)) for _ in self._items("}")]
            return MappingNode(_TAG + "map", pairs, mark)
        if first == "[":
            return SequenceNode(_TAG + "seq", [self.compose(depth + 1) for _ in self._items("]")], mark)
        return self._string(mark) if first == '"' else self._word(mark)

    def _items(self, end: str) -> Iterator[None]:
        """Steps over the opening bracket, the commas and the closing one; the caller reads what is between."""
        self._at += 1
        while self._next() != end:
            if self._text[self._at] == ",":
                self._at += 1
            yield
        self._at += 1

    def _key(self) -> ScalarNode:
        key = self._string(self._mark())
        self._next()
        self._at += 1
        return key

    def _string(self, mark: Mark) -> ScalarNode:
        value, self._at = _DECODER.raw_decode(self._text, self._at)
        return ScalarNode(_TAG + "str", value, mark)

    def _word(self, mark: Mark) -> ScalarNode:
        match = _WORD.match(self._text, self._at)
        word = match[0] if match else ""
        self._at += len(word)
        return ScalarNode(_TAG + _kind(word), _YAML_WORDS.get(word, word), mark)

    def _next(self) -> str:
        """The next character that is no space; the position is on it."""
        match = _SPACE.match(self._text, self._at)
        self._at = match.end() if match else self._at
        return self._text[self._at]

    def _mark(self) -> Mark:
        self._next()
        line = bisect.bisect_right(self._line_starts, self._at) - 1
        return Mark(self._file, self._at, line, self._at - self._line_starts[line], None, 0)


def _kind(word: str) -> str:
    if word in {"true", "false"}:
        return "bool"
    if word == "null":
        return "null"
    return "int" if word.lstrip("-").isdigit() else "float"


_YAML_WORDS = {"NaN": ".nan", "Infinity": ".inf", "-Infinity": "-.inf"}
