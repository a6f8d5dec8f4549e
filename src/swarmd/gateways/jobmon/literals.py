"""Values that Jobmon keeps as text: JSON, or the way Python writes them."""

import ast
import json
from typing import Any


def read_literal(text: Any) -> Any:
    """The value that a text stands for; what is no text is the value itself. Raises ValueError."""
    if not isinstance(text, str):
        return text
    try:
        return json.loads(text)
    except ValueError:
        pass
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        raise ValueError(f"{text[:80]!r} is neither JSON nor a Python literal") from None


def read_mapping(text: Any) -> dict[str, Any]:
    """The same for a mapping with texts as keys; nothing at all is an empty one. Raises ValueError."""
    value = read_literal(text) if text not in (None, "") else {}
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValueError(f"{str(text)[:80]!r} is no mapping")  # noqa: TRY004 (a text that is wrong, not its type)
    return {str(key): each for key, each in value.items()}
