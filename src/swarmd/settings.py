"""Where the daemon's settings come from: options, then the environment, then a file, then the defaults.

One precedence, and each value knows its source. What is unknown is an error wherever it stands: a setting that was
misspelt must not be one that is silently missing.
"""

import difflib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from swarmd.config import DaemonConfig
from swarmd.config_file import CONFIG_VARIABLE, invalid_settings, listed, read_config
from swarmd.core.errors import InvalidInputError

PREFIX = "SWARMD_"
CLIENT_PREFIX = "SWARMD_CLIENT_"
NOT_SETTINGS = frozenset(
    {CONFIG_VARIABLE, "SWARMD_TRACEBACK", "SWARMD_ADDRESS", "SWARMD_TOKEN", "SWARMD_TOKEN_FILE", "SWARMD_TLS_CA"}
)
"""Variables with our prefix that are for clients and the command line."""
OF_KUBERNETES = re.compile(r"SWARMD_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP)(_\w+)?)?)")
"""What Kubernetes sets for a Service called swarmd."""
LISTS = frozenset({"listen"})
FILE_ONLY = frozenset({"gateways"})
"""Sections of the file; no option and no variable holds them."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The daemon's settings, and where each comes from."""

    config: DaemonConfig
    sources: Mapping[str, str]
    """By name: an option, a variable, a file, or `default`."""
    file: Path | None
    """The file that was read."""


@dataclass(frozen=True, slots=True)
class _Value:
    """A setting as it was given."""

    value: Any
    source: str


def resolve(
    options: Mapping[str, Any], *, config: Path | None = None, environment: Mapping[str, str] | None = None
) -> Settings:
    """All settings. `options`: those that were given, by their names.

    Raises InvalidInputError for an unknown name or a wrong value, with its source.
    """
    variables = os.environ if environment is None else environment
    file, content = read_config(variables, config)
    for name in content:
        _check_known(name, f"{file}: {name!r}")
    layers = [
        {name: _Value(value, f"{file}") for name, value in content.items()},
        _of_environment(variables),
        {name: _Value(value, f"--{name.replace('_', '-')}") for name, value in options.items()},
    ]
    given = {name: value for layer in layers for name, value in layer.items()}
    try:
        made = DaemonConfig.model_validate({name: each.value for name, each in given.items()})
    except ValidationError as error:
        raise _wrong(error, given) from None
    sources = {name: given[name].source if name in given else "default" for name in DaemonConfig.model_fields}
    return Settings(made, sources, file)


def _of_environment(environment: Mapping[str, str]) -> dict[str, _Value]:
    found = {}
    for variable, text in environment.items():
        if not variable.startswith(PREFIX) or _is_somebody_elses(variable):
            continue
        name = variable.removeprefix(PREFIX).lower()
        _check_known(name, variable, prefix=PREFIX)
        if name in FILE_ONLY:
            raise invalid_settings(f"{variable}: this is set in the config file, as [{name}.NAME]")
        found[name] = _Value(listed(text, variable) if name in LISTS else text, variable)
    return found


def _is_somebody_elses(variable: str) -> bool:
    is_clients = variable in NOT_SETTINGS or variable.startswith(CLIENT_PREFIX)
    return is_clients or OF_KUBERNETES.fullmatch(variable) is not None


def _check_known(name: str, place: str, prefix: str = "") -> None:
    known = list(DaemonConfig.model_fields)
    if name in known:
        return
    if prefix:
        known += [each.removeprefix(prefix).lower() for each in NOT_SETTINGS]
    close = difflib.get_close_matches(name.replace("-", "_"), known, n=1)
    meant = f"{prefix}{close[0].upper()}" if close and prefix else "".join(close)
    remedy = f"did you mean {meant!r}?" if meant else "`swarmd config` lists those there are"
    raise invalid_settings(f"{place} is no setting; {remedy}")


def _wrong(error: ValidationError, given: Mapping[str, _Value]) -> InvalidInputError:
    first = error.errors(include_url=False)[0]
    if not first["loc"]:  # about several of them together
        return invalid_settings(first["msg"].removeprefix("Value error, "))
    name = str(first["loc"][0])
    source = given[name].source if name in given else name
    place = f"{source}: {name}" if source.endswith(".toml") or "/" in source else source
    return invalid_settings(f"{place}: {first['msg'][0].lower()}{first['msg'][1:]}; it is {first['input']!r}", name)
