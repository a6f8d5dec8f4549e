"""Which gateways there are: the package's own, and those that other packages bring."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest
from pydantic import BaseModel, model_validator

from swarmd.cli.main import execute
from swarmd.config import DaemonConfig
from swarmd.core.errors import InvalidInputError
from swarmd.gateways.catalogue import BUILT_IN, GatewayContext, Gateways, made_gateways
from swarmd.gateways.contract import BatchRefusedError
from tests.gateways.installing import install
from tests.gateways.recording import batch_of

OTHER = """
from swarmd.gateways import ServerGateway

class Other(ServerGateway):
    def __init__(self, context):
        self.given = dict(context.options)

    async def queue_batch(self, batch):
        return None

def broken(context):
    raise KeyError("a fault of its own")

def none(context):
    return 7

class Slow(Other):
    async def trouble(self):
        import asyncio
        await asyncio.sleep(600)

class Stuck(Other):
    async def trouble(self):
        import asyncio, time
        await asyncio.to_thread(time.sleep, 600)

class Mute(Other):
    async def trouble(self):
        raise RuntimeError("no words")
"""


@pytest.fixture
def others(tmp_path, monkeypatch):
    """Installs a module with gateways; says which."""

    def installed(**entry_points):
        monkeypatch.syspath_prepend(str(install(tmp_path / "site", "other_gateways", OTHER, **entry_points)))

    return installed


def made(**sections: dict[str, Any]) -> Gateways:
    return made_gateways(DaemonConfig(gateways=sections), "/etc/swarmd.toml")


def refusal(**sections: dict[str, Any]) -> str:
    with pytest.raises(InvalidInputError) as error:
        made(**sections)
    assert error.value.reason == "INVALID_SETTINGS"
    return error.value.message


def test_those_of_the_package_are_all_there():
    gateways = made()
    assert list(gateways) == list(BUILT_IN) == ["local", "pull", "slurm", "jobmon", "remote"]
    assert list(gateways.made) == ["local", "pull"]
    assert all(name == gateway.name for name, gateway in gateways.items())
    assert list(made(remote={})) == list(BUILT_IN)


def test_a_package_adds_its_own_with_its_section(others):
    others(mine="other_gateways:Other")
    gateway = made(mine={"a": 1})["mine"]
    assert gateway.name == "mine"
    assert gateway.given == {"a": 1}  # type: ignore[attr-defined]


def test_a_section_of_no_gateway_is_an_error(others):
    others(mine="other_gateways:Other")
    assert refusal(slurmm={}) == "/etc/swarmd.toml: [gateways.slurmm] is about no gateway; did you mean 'slurm'?"
    assert refusal(zzz={}).endswith("there are jobmon, local, mine, pull, remote, slurm")


def test_what_is_wrong_with_a_section_as_a_whole_is_said_without_what_is_in_it():
    class Login(BaseModel):
        user: str = ""
        password: str = ""

        @model_validator(mode="after")
        def _is_whole(self) -> "Login":
            if not self.user:
                raise ValueError("user: a password is of no use without it")
            return self

    context = GatewayContext("mine", {"password": "a-secret"}, "/etc/swarmd.toml")
    with pytest.raises(InvalidInputError) as error:
        context.read(Login)
    assert error.value.message == "/etc/swarmd.toml: [gateways.mine]: user: a password is of no use without it"


def test_an_unknown_option_is_an_error():
    message = refusal(local={"cores": 3})
    assert message == "/etc/swarmd.toml: [gateways.local] cores is no option of this gateway; it has none"


@pytest.mark.parametrize(
    ("place", "why"),
    [
        ("other_gateways:broken", "KeyError: 'a fault of its own'"),
        ("other_gateways:none", "made a int, which is no ServerGateway"),
        ("other_gateways:absent", "AttributeError"),
        ("no_such_module:made", "ModuleNotFoundError"),
    ],
)
async def test_one_that_cannot_be_made_says_why_and_takes_nothing(others, place, why):
    others(mine=place)
    gateway = made()["mine"]
    assert why in await gateway.trouble()
    with pytest.raises(BatchRefusedError):
        await gateway.queue_batch(batch_of("true"))


async def test_the_names_of_the_package_are_not_for_others(others):
    others(local="other_gateways:Other")
    assert type(made()["local"]).__name__ == "LocalGateway"


def test_the_command_lists_them_also_those_that_cannot_even_say(others, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    others(mute="other_gateways:Mute", fine="other_gateways:Other")
    assert execute(["gateways", "--json"]) == 0
    told = {each["name"]: each for each in json.loads(capsys.readouterr().out)}
    assert told["local"]["usable"]
    assert told["local"]["can_find"]
    assert told["pull"]["hands_out"]
    assert told["fine"]["usable"]
    assert told["mute"]["trouble"] == "it cannot even say: RuntimeError: no words"


def test_the_command_waits_for_none_for_ever(others, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setattr("swarmd.cli.gateways.PATIENCE_SECONDS", 1.0)
    others(slow="other_gateways:Slow")
    assert execute(["gateways", "--json"]) == 0
    told = {each["name"]: each for each in json.loads(capsys.readouterr().out)}
    assert told["slow"]["trouble"] == "it did not say within 1 seconds whether it can be used"


def test_the_command_ends_also_when_a_thread_of_a_gateway_does_not(tmp_path):
    """As one that looks at a file of a server that has gone."""
    program = (
        "import sys\nfrom swarmd.cli import gateways, main\n"
        "gateways.PATIENCE_SECONDS = 1.0\nsys.exit(main.execute(['gateways', '--json']))"
    )
    site = install(tmp_path / "site", "other_gateways", OTHER, stuck="other_gateways:Stuck")
    surroundings = {**os.environ, "XDG_CONFIG_HOME": str(tmp_path), "PYTHONPATH": str(site)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=surroundings, capture_output=True, text=True, timeout=100, check=True
    )
    told = {each["name"]: each for each in json.loads(done.stdout)}
    assert told["stuck"]["trouble"] == "it did not say within 1 seconds whether it can be used"
    assert told["local"]["usable"]


def test_the_command_says_whose_settings_it_goes_by(capsys, tmp_path):
    file = tmp_path / "config.toml"
    file.write_text("[gateways.remote]\n")
    file.chmod(0o600)
    assert execute(["gateways", "--config", str(file)]) == 0
    shown = capsys.readouterr()
    assert f"a daemon that is started here has, with {file}; one that runs with other settings may differ" in shown.err
    assert [line.split()[0] for line in shown.out.splitlines()[1:6]] == list(BUILT_IN)


def test_the_command_names_what_is_wrong_in_the_file(capsys, tmp_path):
    file = tmp_path / "config.toml"
    file.write_text("[gateways.locale]\n")
    assert execute(["gateways", "--config", str(file)]) == 2
    assert "[gateways.locale] is about no gateway; did you mean 'local'?" in capsys.readouterr().err
