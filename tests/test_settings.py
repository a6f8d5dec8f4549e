"""Settings: options before environment before file before defaults, each with its source, and nothing unknown."""

import inspect
import os
import typing
from pathlib import Path
from typing import Any

import pytest

from swarmd.cli import settings as options
from swarmd.config import DaemonConfig
from swarmd.core.errors import InvalidInputError
from swarmd.settings import FILE_ONLY, resolve


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "config.toml"


def settings(file: Path | None = None, environment: dict[str, str] | None = None, **given: Any):
    variables = {"XDG_CONFIG_HOME": "/nowhere", **(environment or {})}
    return resolve(given, config=file, environment=variables)


def refusal(file: Path | None = None, environment: dict[str, str] | None = None, **given: Any) -> str:
    with pytest.raises(InvalidInputError) as error:
        settings(file, environment, **given)
    assert error.value.reason in {"INVALID_SETTINGS", "UNSAFE_PATH", "UNREADABLE_FILE"}
    return error.value.message


def test_without_anything_all_is_default():
    found = settings()
    assert found.config == DaemonConfig()
    assert set(found.sources.values()) == {"default"}
    assert found.file is None


def test_an_option_wins_over_the_environment_and_that_over_the_file(file: Path):
    file.write_text("max_swarms = 1\nlocal_cores = 1\nkill_grace = 1\n")
    environment = {"SWARMD_MAX_SWARMS": "2", "SWARMD_LOCAL_CORES": "2"}
    found = settings(file, environment, max_swarms=3)
    assert (found.config.max_swarms, found.config.local_cores, found.config.kill_grace) == (3, 2, 1)
    sources = {name: found.sources[name] for name in ("max_swarms", "local_cores", "kill_grace", "drain_grace")}
    assert sources == {
        "max_swarms": "--max-swarms",
        "local_cores": "SWARMD_LOCAL_CORES",
        "kill_grace": str(file),
        "drain_grace": "default",
    }


def test_an_option_can_take_back_a_switch_of_the_file(file: Path):
    file.write_text("in_memory = true\n")
    assert settings(file).config.in_memory
    assert not settings(file, in_memory=False).config.in_memory


def test_the_file_is_found_at_its_usual_place_and_where_a_variable_says(tmp_path: Path):
    usual = tmp_path / "swarmd" / "config.toml"
    usual.parent.mkdir()
    usual.write_text("max_swarms = 5\n")
    found = resolve({}, environment={"XDG_CONFIG_HOME": str(tmp_path)})
    assert (found.config.max_swarms, found.file) == (5, usual)
    other = tmp_path / "other.toml"
    other.write_text("max_swarms = 6\n")
    variables = {"XDG_CONFIG_HOME": str(tmp_path), "SWARMD_CONFIG": str(other)}
    assert resolve({}, environment=variables).config.max_swarms == 6


@pytest.mark.parametrize("text", ["unix:/a.sock,127.0.0.1:0", '["unix:/a.sock", "127.0.0.1:0"]'])
def test_several_addresses_in_one_variable(text: str):
    assert settings(environment={"SWARMD_LISTEN": text}).config.listen == ["unix:/a.sock", "127.0.0.1:0"]


def test_what_clients_read_from_the_environment_is_no_setting():
    environment = {"SWARMD_ADDRESS": "unix:/a.sock", "SWARMD_TOKEN_FILE": "/a", "SWARMD_CLIENT_CERT": "/b"}
    assert settings(environment=environment).config == DaemonConfig()


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"SWARMD_LOCL_CORES": "1"}, "SWARMD_LOCL_CORES is no setting; did you mean 'SWARMD_LOCAL_CORES'?"),
        ({"SWARMD_NONSENSE": "1"}, "SWARMD_NONSENSE is no setting; `swarmd config` lists those there are"),
        ({"SWARMD_LOCAL_CORES": "many"}, "SWARMD_LOCAL_CORES: input should be a valid integer"),
        ({"SWARMD_LISTEN": "[1"}, "SWARMD_LISTEN: '[1' is no list; write words with commas between them"),
        ({"SWARMD_GATEWAYS": "{}"}, "SWARMD_GATEWAYS: this is set in the config file, as [gateways.NAME]"),
        ({"SWARMD_CONFIG": "/nowhere.toml"}, "config: /nowhere.toml cannot be read (No such file or directory)"),
    ],
)
def test_a_wrong_variable_is_named(environment: dict[str, str], message: str):
    assert refusal(environment=environment).startswith(message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("max_swarm = 1", "{file}: 'max_swarm' is no setting; did you mean 'max_swarms'?"),
        ("max-swarms = 1", "{file}: 'max-swarms' is no setting; did you mean 'max_swarms'?"),
        ("max_swarms = 0", "{file}: max_swarms: input should be greater than or equal to 1; it is 0"),
        ("max_swarms = [", "{file}: it is not TOML: "),
        ("[gateway]", "{file}: 'gateway' is no setting; did you mean 'gateways'?"),
        ("gateways = 3", "{file}: gateways: input should be a valid dictionary; it is 3"),
    ],
)
def test_a_wrong_file_is_named_with_what_is_wrong(file: Path, text: str, message: str):
    file.write_text(text)
    assert refusal(file).startswith(message.format(file=file))


def test_a_file_that_others_can_change_is_refused(file: Path):
    file.write_text("insecure = true\n")
    file.chmod(0o666)
    assert "can be changed by others" in refusal(file)


def test_a_file_that_is_named_must_be_there(file: Path):
    assert "cannot be read" in refusal(file)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"tls_cert": "/a"}, "--tls-cert and --tls-key go together; give both or neither"),
        ({"tls_client_ca": "/a"}, "--tls-client-ca needs --tls-cert and --tls-key"),
        ({"in_memory": True, "on_stop": "leave"}, "--on-stop: 'leave' is not for swarms in memory"),
    ],
)
def test_settings_that_do_not_go_together(given: dict[str, Any], message: str):
    assert refusal(**given).startswith(message)


def test_every_setting_is_an_option_of_its_type():
    kinds: dict[str, set[type]] = {
        "flag": {bool},
        "text": {str},
        "texts": {list},
        "path": {Path},
        "whole": {int},
        "number": {float},
    }
    table = {setting.name: setting for setting in options.SETTINGS}
    assert len(table) == len(options.SETTINGS)
    assert set(table) | FILE_ONLY == set(DaemonConfig.model_fields)
    for name, field in DaemonConfig.model_fields.items():
        if name in FILE_ONLY:
            continue
        types = _plain(field.annotation)
        assert types == kinds[table[name].kind], name


def _plain(annotation: Any) -> set[type]:
    """The types that an annotation comes to, without None, Annotated and Literal."""
    origin = typing.get_origin(annotation)
    if origin is typing.Literal:
        return {type(value) for value in typing.get_args(annotation)}
    if origin is list:
        return {list}
    if origin is typing.Annotated:
        return _plain(typing.get_args(annotation)[0])
    if args := typing.get_args(annotation):
        return {kind for each in args for kind in _plain(each)} - {type(None)}
    assert inspect.isclass(annotation)
    return {annotation}


def test_the_environment_of_this_process_is_read_by_default(monkeypatch, tmp_path: Path):
    for name in [name for name in os.environ if name.startswith("SWARMD_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("SWARMD_MAX_SWARMS", "7")
    assert resolve({}).config.max_swarms == 7


@pytest.mark.parametrize(
    "name", ["SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_GRPC", "PORT", "PORT_7421_TCP", "PORT_7421_TCP_ADDR"]
)
def test_what_kubernetes_sets_for_a_service_called_swarmd_is_no_setting(name: str):
    assert settings(environment={f"SWARMD_{name}": "tcp://10.0.0.1:7421"}).config == DaemonConfig()


@pytest.mark.parametrize("name", ["max_connections", "max_concurrent_streams", "ready_fd", "max_message_bytes"])
def test_numbers_that_the_system_does_not_take_are_refused(name: str):
    assert "less than or equal to" in refusal(environment={f"SWARMD_{name.upper()}": "3000000000"})
