"""Reading answers that hold a million ids: in pieces, so that who shares the interpreter gets a turn between. No I/O.

JSON is read by one call that nothing interrupts; 1.5 million ids at once would hold up heartbeats and other swarms.
"""

import json
from typing import Any

PIECE_BYTES = 64 * 1024
"""So much is read at once: about a millisecond."""


def read_in_pieces(text: bytes) -> Any:
    """The same as `json.loads`; lists of plain numbers are read piece by piece. Raises ValueError."""
    skeleton, lists = _without_lists(text)
    return _put_back(json.loads(skeleton), lists) if lists else json.loads(text)


def _without_lists(text: bytes) -> tuple[bytes, list[list[Any]]]:
    """The text with the number of each list in its place; no lists when it is not as simple as that."""
    parts: list[bytes] = []
    lists: list[list[Any]] = []
    end = 0
    while (begin := text.find(b"[", end)) >= 0:
        close = text.find(b"]", begin)
        before, inner = text[end:begin], text[begin + 1 : close]
        is_in_text = before.count(b'"') % 2 or b"\\" in before
        if close < 0 or is_in_text or b'"' in inner or b"[" in inner or b"{" in inner:
            return b"", []
        parts += (before, b"[%d]" % len(lists))
        lists.append(_numbers(inner))
        end = close + 1
    return b"".join((*parts, text[end:])), lists


def _numbers(text: bytes) -> list[Any]:
    numbers: list[Any] = []
    begin = end = 0
    while end < len(text):
        end = text.find(b",", begin + PIECE_BYTES)
        end = len(text) if end < 0 else end
        piece = json.loads(b"[%s]" % text[begin:end])
        if not piece and text.strip():
            raise ValueError("a list ends with a comma")
        numbers += piece
        begin = end + 1
    return numbers


def _put_back(value: Any, lists: list[list[Any]]) -> Any:
    if isinstance(value, dict):
        return {name: _put_back(each, lists) for name, each in value.items()}
    return lists[value[0]] if isinstance(value, list) else value
