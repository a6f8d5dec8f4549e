"""Imports go downwards only, and the core touches nothing of the world. Read from the source, not by importing it."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "swarmd"

ALLOWED: dict[str, set[str]] = {
    "core": set(),
    "wire": {"core", "_pb"},
    "gateways": {"core", "wire", "_pb"},
    "observing": {"core", "gateways"},
    "testing": {"core", "gateways"},
    "journal": {"core", "wire", "observing", "_pb"},
    "workflow": {"core"},
    "scheduler": {"core", "gateways", "observing"},
    "host": {"scheduler", "gateways", "journal", "observing", "core"},
    "rpc": {"host", "scheduler", "gateways", "observing", "wire", "core", "_pb"},
    "client": {"workflow", "core", "_pb"},
    "embedding": {"client", "core", "_pb"},
    "daemon": {"rpc", "host", "journal", "scheduler", "gateways", "observing", "core", "_pb"},
    "cli": {
        *("daemon", "rpc", "host", "journal", "scheduler", "gateways", "observing", "workflow", "client", "wire"),
        *("embedding", "core", "_pb"),
    },
}
"""layer -> the layers below it. Single modules that are in no layer (_version, config, addresses) are anybody's."""

LAUNCHER = SOURCE / "gateways" / "local" / "launcher"
"""A program of its own, run without the packages that the daemon has."""

CORE_MAY_USE = {
    "array",
    "bisect",
    "collections",
    "dataclasses",
    "datetime",
    "enum",
    "heapq",
    "itertools",
    "math",
    "numpy",
    "re",
    "typing",
}

NEVER_IN_CORE = ["asyncio", "grpc", "google", "threading", "time", "os", "subprocess", "socket", "pathlib", "logging"]


def files_of(layer: str) -> list[Path]:
    folder, module = SOURCE / layer, SOURCE / f"{layer}.py"
    return sorted(folder.rglob("*.py")) if folder.is_dir() else [module] if module.exists() else []


def imported_by(path: Path) -> Iterator[tuple[int, str]]:
    return imports_in(path.read_text(), ["swarmd", *path.relative_to(SOURCE).parts[:-1]])


def imports_in(source: str, package: list[str]) -> Iterator[tuple[int, str]]:
    """Line and dotted name of every import, wherever in the source it stands."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            name = ".".join([*base, *filter(None, [node.module])])
            yield from ((node.lineno, f"{name}.{alias.name}") for alias in node.names)


def layer_of(name: str) -> str | None:
    parts = name.split(".")
    is_layer = parts[0] == "swarmd" and len(parts) > 1 and (parts[1] in ALLOWED or parts[1] == "_pb")
    return parts[1] if is_layer else None


def every_import(layer: str) -> Iterator[tuple[str, str]]:
    for path in files_of(layer):
        for line, name in imported_by(path):
            yield f"{path.relative_to(SOURCE)}:{line}", name


@pytest.mark.parametrize("layer", ALLOWED)
def test_a_layer_imports_only_what_is_below_it(layer):
    upwards = [
        f"{where} imports {name}"
        for where, name in every_import(layer)
        if (other := layer_of(name)) and other != layer and other not in ALLOWED[layer]
    ]
    assert upwards == []


def test_the_core_is_there_to_be_looked_at():
    assert len(files_of("core")) > 20
    assert sum(1 for _ in every_import("core")) > 100


@pytest.mark.parametrize("module", NEVER_IN_CORE)
def test_the_core_imports_nothing_of_the_world(module):
    assert [f"{where} imports {name}" for where, name in every_import("core") if name.split(".")[0] == module] == []


def test_the_core_uses_a_few_harmless_modules_and_numpy():
    used = {name.split(".")[0] for _, name in every_import("core")} - {"swarmd"}
    assert used <= CORE_MAY_USE


def test_the_core_imports_nothing_of_swarmd_but_itself():
    others = [name for _, name in every_import("core") if name.startswith("swarmd") and layer_of(name) != "core"]
    assert others == []


def test_the_core_opens_no_files_and_prints_nothing():
    calls = [
        f"{path.name}:{node.lineno} calls {node.func.id}"
        for path in files_of("core")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"open", "print", "input"}
    ]
    assert calls == []


def test_an_upward_arrow_would_be_seen_wherever_it_stands():
    source = "import swarmd.cli.main\ndef f():\n    from swarmd.rpc import server\n    from .. import daemon\n"
    assert [layer_of(name) for _, name in imports_in(source, ["swarmd", "core"])] == ["cli", "rpc", "daemon"]


def test_the_launcher_needs_nothing_but_the_standard_library():
    own = "swarmd.gateways.local.launcher."
    for path in LAUNCHER.glob("*.py"):
        for line, name in imported_by(path):
            is_fine = name.startswith(own) or name.split(".")[0] in sys.stdlib_module_names
            assert is_fine, f"{path.name}:{line} imports {name}"


def test_the_daemon_knows_of_the_launcher_only_what_they_say_to_each_other():
    own = "swarmd.gateways.local.launcher."
    for path in SOURCE.rglob("*.py"):
        if path.parent != LAUNCHER:
            for line, name in imported_by(path):
                is_fine = not name.startswith(own) or name.startswith(f"{own}protocol")
                assert is_fine, f"{path.relative_to(SOURCE)}:{line} imports {name}"
