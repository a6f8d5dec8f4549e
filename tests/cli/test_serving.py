"""`swarmd serve` reads its options as typer does, or leaves them to it."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmd.cli.commands import ENTRIES, Unloaded
from swarmd.cli.serving import COMPLETION_VARIABLE, settings_of
from swarmd.cli.settings import CONFIG, SETTINGS
from tests.cli.conftest import swarmd_process

SERVE = Unloaded(next(entry for entry in ENTRIES if entry.name == "serve"), None).loaded()
NAMES = [setting.name.replace("_", "-") for setting in (CONFIG, *SETTINGS)]
VALUES = ["a", "7", "-1", "0.5", "x=y", "", "unix:/tmp/s", "127.0.0.1:0", "--help", " 8", "1_000", "nan", "ü", "--"]


def by_typer(arguments: list[str]) -> dict[str, Any]:
    """What typer makes of them."""
    context = SERVE.make_context("serve", list(arguments))
    return {name: value for name, value in context.params.items() if value not in (None, [], ())}


@st.composite
def options(draw) -> list[str]:
    name = draw(st.sampled_from([f"--{name}" for name in NAMES] + [f"--no-{name}" for name in NAMES] + ["-h", "x"]))
    value = draw(st.sampled_from(VALUES))
    chosen: list[str] = draw(st.sampled_from([[name], [name, value], [f"{name}={value}"]]))
    return chosen


@settings(deadline=None)
@given(st.lists(options(), max_size=4))
def test_what_is_read_is_what_typer_reads(parts):
    arguments = [word for part in parts for word in part]
    read = settings_of(["serve", *arguments])
    if read is not None:
        assert read == by_typer(arguments)


@pytest.mark.parametrize(
    ("arguments", "settings"),
    [
        ([], {}),
        (["--ready-json", "--no-in-memory"], {"ready_json": True, "in_memory": False}),
        (["--listen", "unix:/a", "--listen=127.0.0.1:0"], {"listen": ["unix:/a", "127.0.0.1:0"]}),
        (["--state-dir", "/a b", "--local-cores", "3"], {"state_dir": Path("/a b"), "local_cores": 3}),
        (["--kill-grace=0.5", "--config", "c.toml"], {"kill_grace": 0.5, "config": Path("c.toml")}),
    ],
)
def test_plain_options_need_no_typer(arguments, settings):
    assert settings_of(["serve", *arguments]) == settings == by_typer(arguments)


NOT_PLAIN = (
    "",
    "status",
    "serve --help",
    "serve -h",
    "serve --frobnicate",
    "serve word",
    "serve --local-cores",
    "serve --local-cores x",
    "serve --in-memory=yes",
    "serve --on-stop --in-memory",
    "serve --no-listen a",
    "serve --kill-grace 1 --kill-grace 2",
)


@pytest.mark.parametrize("line", NOT_PLAIN)
def test_everything_else_is_for_typer(line):
    assert settings_of(line.split()) is None


def test_completion_is_for_typer(monkeypatch):
    monkeypatch.setenv(COMPLETION_VARIABLE, "complete_bash")
    assert settings_of(["serve"]) is None


def test_a_daemon_starts_without_what_only_people_need(home):
    done = swarmd_process(
        *("serve", "--in-memory", "--idle-timeout", "0.1"),
        *("--listen", f"unix:{home}/s", "--state-dir", f"{home}/st"),
        PYTHONPROFILEIMPORTTIME="1",
    )
    assert done.code == 0
    imported = {line.rpartition("|")[2].strip() for line in done.err.splitlines()}
    assert "grpc" in imported
    assert not imported & {"typer", "rich.console", "pygments", "yaml", "swarmd.cli.run.command", "swarmd.workflow"}
