"""`swarmd version` and `swarmd schema`: what needs no daemon."""

import platform
import sys

from swarmd._version import __version__
from swarmd.cli import options


def version(json_output: options.Json = False) -> None:
    """Print the version."""
    if not json_output:
        print(f"swarmd {__version__}")
        return
    from importlib.metadata import version as version_of

    from swarmd.cli.output import print_json

    packages = {name: version_of(name) for name in ("grpcio", "protobuf", "numpy")}
    print_json({"swarmd": __version__, "python": platform.python_version(), **packages})


def schema() -> None:
    """Print the JSON Schema of the workflow file, for editors and checkers."""
    from swarmd.workflow.schema import SCHEMA_PATH

    sys.stdout.write(SCHEMA_PATH.read_text(encoding="utf-8"))
