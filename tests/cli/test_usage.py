"""Help, wrong usage, and what is told when no daemon is there: one line, an exit code, never a traceback."""

import json

import pytest

from swarmd.cli.commands import ENTRIES, Unloaded
from swarmd.cli.main import execute
from tests.cli.conftest import swarmd_process

COMMANDS = [entry.name for entry in ENTRIES]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command, capsys):
    assert execute([command, "--help"]) == 0
    assert f"swarmd {command}" in capsys.readouterr().out


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_the_list_of_commands_says_what_each_says_itself(entry):
    loaded = Unloaded(entry, "rich").loaded()
    assert loaded.name == entry.name
    assert loaded.help is not None
    assert " ".join(loaded.help.partition("\n\n")[0].split()) == entry.help


def test_the_exit_codes_are_in_the_help(capsys):
    execute(["--help"])
    assert "Exit codes" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["frobnicate"], "No such command 'frobnicate'"),
        (["run", "--frobnicate"], "No such option: --frobnicate"),
        (["run"], "name one workflow: FILE, or --wfformat FILE"),
        (["run", "a.yaml", "--time-scale", "2"], "--time-scale is for --wfformat"),
        (["run", "nowhere.yaml"], "nowhere.yaml: there is no such file"),
        (["run", "x.yaml", "--swarm-id", "a b"], "--swarm-id: at most 63 letters"),
        (["cancel"], "say which tasks"),
        (["tasks", "--status", "walking"], "'walking' is no status; choose one of registered (G)"),
        (["explain", "a", "b", "c"], "say which task: [SWARM] TASK"),
        (["status", "--address", "nonsense"], "write unix:PATH, or HOST:PORT"),
        (["serve", "--local-cores", "0"], "--local-cores: input should be greater than or equal to 1; it is 0"),
        (["serve", "--log-level", "loud"], "--log-level: input should be 'debug', 'info', 'warning' or 'error'"),
        (["protos"], "say what to write"),
    ],
)
def test_wrong_usage_is_told_in_one_line(arguments, message, capsys):
    assert execute(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("swarmd: ")
    assert message in said
    assert said.count("\n") == 1


def test_errors_in_a_workflow_file_have_their_lines(tmp_path, capsys):
    path = tmp_path / "flow.yaml"
    path.write_text("name: x\narrays:\n  a: {command: 'true', count: -1}\n")
    assert execute(["run", str(path)]) == 2
    assert f"swarmd: {path}:3: arrays.a.count" in capsys.readouterr().err


def test_settings_from_the_environment_are_named_as_such(monkeypatch, capsys):
    monkeypatch.setenv("SWARMD_MAX_SWARMS", "none")
    assert execute(["serve"]) == 2
    assert "swarmd: SWARMD_MAX_SWARMS: input should be a valid integer" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["status"], ["tasks"], ["watch"], ["has-work"], ["delete", "x"], ["run", "FILE"]])
def test_no_daemon_at_the_address_is_told_with_the_remedy(command, home, tmp_path, capsys):
    path = tmp_path / "flow.yaml"
    path.write_text("name: x\narrays: {a: {command: 'true'}}\n")
    arguments = [str(path) if word == "FILE" else word for word in command]
    assert execute([*arguments, "--address", f"unix:{home}/nobody.sock"]) == 3
    said = capsys.readouterr().err
    assert said == f'swarmd: no daemon answers at unix:{home}/nobody.sock; start one with "swarmd serve"\n'


def test_no_daemon_on_a_port_is_told_too(home, capsys):
    assert execute(["status", "--address", "127.0.0.1:1"]) == 3
    assert 'no daemon answers at 127.0.0.1:1; start one with "swarmd serve"' in capsys.readouterr().err


def test_the_version(capsys):
    assert execute(["version", "--json"]) == 0
    assert {"swarmd", "python", "grpcio"} <= json.loads(capsys.readouterr().out).keys()


def test_the_schema_is_json_schema(capsys):
    assert execute(["schema"]) == 0
    assert json.loads(capsys.readouterr().out)["$schema"].startswith("https://json-schema.org/")


def test_help_imports_nothing_heavy():
    done = swarmd_process("version", PYTHONPROFILEIMPORTTIME="1")
    imported = {line.rpartition("|")[2].strip() for line in done.err.splitlines()}
    assert "typer" in imported
    assert not imported & {"grpc", "numpy", "google.protobuf", "rich.console", "asyncio", "yaml"}


def test_what_does_not_go_together_is_told():
    answer = swarmd_process("serve", "--in-memory", "--on-stop", "leave")
    assert answer.code == 2
    assert answer.err == (
        "swarmd: --on-stop: 'leave' is not for swarms in memory, of which nobody knows any more; "
        "leave it or --in-memory out\n"
    )
