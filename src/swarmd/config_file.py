"""The file with the daemon's settings: where it is, and what it says.

The daemon takes all of it (`settings.py`); clients and the command line look where the daemon is. Light, for the latter
are to be quick.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from swarmd.core.errors import InvalidInputError
from swarmd.ownership import check_file

CONFIG_VARIABLE = "SWARMD_CONFIG"
FILE_NAME = "config.toml"
LARGEST_FILE = 1 << 20


def usual_file(environment: Mapping[str, str]) -> Path:
    """Where it is looked for when nobody says where."""
    base = environment.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "swarmd" / FILE_NAME


def read_config(environment: Mapping[str, str], given: Path | None = None) -> tuple[Path | None, dict[str, Any]]:
    """The file and what it holds. Only the one at the usual place may be missing.

    Raises InvalidInputError for a file that cannot be read, that others can change, or that is not TOML.
    """
    named = given or (Path(environment[CONFIG_VARIABLE]) if environment.get(CONFIG_VARIABLE) else None)
    path = (named or usual_file(environment)).absolute()
    if named is None and not path.exists():
        return None, {}
    check_file(path, "config")
    import tomllib

    try:
        with path.open("rb") as file:
            return path, tomllib.loads(file.read(LARGEST_FILE).decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise invalid_settings(f"{path}: it is not TOML: {error}") from None
    except OSError as error:
        raise invalid_settings(f"config: {path} cannot be read ({error.strerror}); give a file that is there") from None


def listed(text: str, variable: str) -> list[str]:
    """Several values in one variable: words with commas between them, or a JSON list. Raises InvalidInputError."""
    if not text.lstrip().startswith("["):
        return [word.strip() for word in text.split(",") if word.strip()]
    try:
        values = json.loads(text)
    except ValueError:
        values = None
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        message = f"{variable}: {text!r} is no list; write words with commas between them, or a JSON list"
        raise invalid_settings(message)
    return values


def invalid_settings(message: str, field: str = "") -> InvalidInputError:
    """The error for settings that cannot be used."""
    return InvalidInputError(message, reason="INVALID_SETTINGS", field=field)
