"""`swarmd serve` as programs start it: its options read without typer, whose import takes a fifth of the start.

Only what is certainly right is read here. Everything else, help and what is wrong above all, is left to `serve`.
"""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from swarmd.cli.settings import CONFIG, SETTINGS, Kind, resolved

COMPLETION_VARIABLE = "_SWARMD_COMPLETE"
_READERS: dict[Kind, Callable[[str], Any]] = {"text": str, "texts": str, "path": Path, "whole": int, "number": float}


def settings_of(arguments: list[str]) -> dict[str, Any] | None:
    """The settings that a call of `serve` gives; None when it is for typer to read."""
    if arguments[:1] != ["serve"] or COMPLETION_VARIABLE in os.environ:
        return None
    try:
        return _read(iter(arguments[1:]))
    except (KeyError, ValueError, StopIteration):
        return None


def _read(words: Iterator[str]) -> dict[str, Any]:
    """Raises KeyError, ValueError or StopIteration for what is not plain."""
    kinds = {f"--{setting.name.replace('_', '-')}": setting for setting in (CONFIG, *SETTINGS)}
    given: dict[str, Any] = {}
    for word in words:
        option, equals, value = word.partition("=")
        setting = kinds.get(option) or kinds[option.replace("--no-", "--", 1)]
        if setting.kind == "flag":
            _note(given, setting.name, option in kinds, is_plain=not equals)
            continue
        text = value if equals else next(words)
        read = _READERS[setting.kind](text)
        is_plain = option in kinds and bool(text) and not text.startswith("-")
        if setting.kind == "texts":
            read = [*given.pop(setting.name, []), read]
        _note(given, setting.name, read, is_plain=is_plain)
    return given


def _note(given: dict[str, Any], name: str, value: Any, *, is_plain: bool) -> None:
    if name in given or not is_plain:
        raise ValueError(name)
    given[name] = value


def serve(given: dict[str, Any]) -> int:
    """Serve with these settings until it is stopped. Gives the exit code; raises SwarmdError and OSError."""
    parent = os.getppid()  # before all that takes time: it may be gone by then
    settings = resolved(given)
    _import_structlog_alone()
    from swarmd.daemon import serve as serve_until_stopped

    return serve_until_stopped(settings.config, parent=parent, source=settings.sources["gateways"])


def _import_structlog_alone() -> None:
    """Without rich, which it takes along for traces that our log writes plainly: a tenth of a second, and 3 MiB."""
    if "rich" in sys.modules:
        return
    sys.modules["rich"] = None  # type: ignore[assignment]  # an import of it fails
    try:
        import structlog  # noqa: F401
    finally:
        del sys.modules["rich"]
