"""Commands with placeholders: `{name}` is replaced, everything else that shells put into braces is left alone.

Used for the commands of arrays, here when a batch goes out and by the workflow file when it makes its tasks.
A placeholder is a brace, an identifier, a brace, with no `$` before it. `{{name}}` stands for the literal text.
"""

import re
from collections.abc import Mapping

from swarmd.core.errors import InvalidInputError

TASK_PLACEHOLDERS = ("task_id", "name", "array_id", "array_name", "swarm_id", "attempt")
"""What the command of an array may use."""

_PLACEHOLDER = re.compile(r"\{\{([A-Za-z_]\w*)\}\}|(?<![\$\{])\{([A-Za-z_]\w*)\}")


def placeholders(template: str) -> list[str]:
    """The names that the template uses, in order, each once."""
    found = (match[2] for match in _PLACEHOLDER.finditer(template) if match[2])
    return list(dict.fromkeys(found))


class Template:
    """A template whose placeholders are found once, to be filled many times."""

    __slots__ = ("_names", "_pieces")

    def __init__(self, template: str) -> None:
        self._pieces: list[str] = []
        """Literal text and, at the odd places, placeholders as they are written."""
        self._names: list[tuple[int, str]] = []
        """Where which placeholder is."""
        end = 0
        for match in _PLACEHOLDER.finditer(template) if "{" in template else ():
            self._pieces += [template[end : match.start()], "{" + match[1] + "}" if match[1] else match[0]]
            if match[2]:
                self._names.append((len(self._pieces) - 1, match[2]))
            end = match.end()
        self._pieces.append(template[end:])

    def fill(self, values: Mapping[str, object]) -> str:
        """Every placeholder that has a value replaced; others stay as they are."""
        if not self._names:
            return "".join(self._pieces)
        pieces = self._pieces.copy()
        for place, name in self._names:
            if name in values:
                pieces[place] = str(values[name])
        return "".join(pieces)


def fill(template: str, values: Mapping[str, object]) -> str:
    """The template with every placeholder that has a value replaced; others stay as they are."""
    return Template(template).fill(values)


def check_template(template: str, *, field: str) -> None:
    """Raise InvalidInputError when the command of an array uses a name that nothing will fill."""
    for name in placeholders(template):
        if name not in TASK_PLACEHOLDERS:
            known = ", ".join("{" + known + "}" for known in TASK_PLACEHOLDERS)
            raise InvalidInputError(
                f"{field}: {{{name}}} is not known; use one of {known}, or write {{{{{name}}}}} for the literal text",
                reason="UNKNOWN_PLACEHOLDER",
                field=field,
            )
