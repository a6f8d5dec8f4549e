"""What is in `packaging/`, and the Dockerfile, fit the daemon as it is: settings, ports, users, times and files."""

import configparser
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from swarmd.config import DaemonConfig
from swarmd.core.errors import InvalidInputError
from swarmd.ownership import make_private
from swarmd.settings import resolve
from tests.cli.conftest import swarmd_process
from tests.daemon import running, short_home

ROOT = Path(__file__).resolve().parents[2]
PACKAGING = ROOT / "packaging"
SYSTEMD = PACKAGING / "systemd"
DOCKERFILE = (ROOT / "Dockerfile").read_text()
UNITS = ("swarmd.service", "swarmd@.service")
SECONDS = 60.0


def settings_of(arguments: list[str]) -> Any:
    """What `swarmd serve` with these arguments would be set to."""
    answer = swarmd_process("config", "--json", *arguments, XDG_CONFIG_HOME="/nowhere")
    assert answer.code == 0, answer.err
    return {name: each["value"] for name, each in answer.json.items()}


# -- systemd -----------------------------------------------------------------------------------------------------------


def unit(name: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, strict=True, delimiters=("=",), comment_prefixes=("#",))
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string((SYSTEMD / name).read_text().replace("\\\n", ""))
    return parser


@pytest.mark.parametrize("name", UNITS)
def test_a_unit_is_stopped_as_the_daemon_stops(name: str):
    service = unit(name)["Service"]
    assert service["Type"] == "notify"
    assert float(service["TimeoutStopSec"]) > DaemonConfig().drain_grace
    assert service["KillMode"] == "process", "tasks are left to the next daemon"
    assert service["RestartPreventExitStatus"] == "2", "what serve exits with when its settings are wrong"


@pytest.mark.parametrize("name", UNITS)
def test_a_unit_starts_the_daemon_with_settings_that_there_are(name: str):
    command = unit(name)["Service"]["ExecStart"].replace("%i", "alice")
    found = re.search(r"swarmd serve(.*?)(\"\$@\")?'?$", command)
    assert found
    settings = settings_of(shlex.split(found[1]))
    if name == "swarmd@.service":
        assert settings["listen"] == ["unix:/run/swarmd-alice/swarmd.sock"]
        assert settings["state_dir"] == "/var/lib/swarmd/alice"


@pytest.mark.parametrize("name", UNITS)
def test_systemd_itself_finds_nothing_wrong(name: str, tmp_path: Path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed (Debian's package systemd)")
    path = tmp_path / name.replace("@", "@root")
    text = (SYSTEMD / name).read_text()
    path.write_text(text.replace("%h/.local/bin/swarmd", "/bin/true").replace("/usr/local/bin/swarmd", "/bin/true"))
    kind = ["--user"] if "@" not in name else []
    done = subprocess.run(
        ["systemd-analyze", "verify", *kind, str(path)],
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


# -- containers --------------------------------------------------------------------------------------------------------


def docker_environment() -> dict[str, str]:
    """The variables that the image sets."""
    lines = re.search(r"^ENV (.*?[^\\])$", DOCKERFILE, re.MULTILINE | re.DOTALL)
    assert lines
    return dict(word.split("=", 1) for word in lines[1].replace("\\\n", "").split())


def test_the_images_variables_are_settings():
    environment = docker_environment()
    settings = resolve({}, environment=environment | {"XDG_CONFIG_HOME": "/nowhere"})
    assert settings.config.listen == ["unix:/run/swarmd/swarmd.sock", "0.0.0.0:7421"]
    assert settings.config.state_dir == Path("/var/lib/swarmd")
    assert environment["SWARMD_ADDRESS"] == settings.config.listen[0], "commands inside find the daemon"


def test_the_image_gets_all_that_it_is_built_from():
    let_in = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    copied = [name for line in re.findall(r"^COPY (?!--)(.*) \S+$", DOCKERFILE, re.MULTILINE) for name in line.split()]
    assert sorted(copied) == sorted(let_in)
    assert all((ROOT / name).exists() for name in copied)
    needed = re.findall(
        r'^(?:readme = |license-files = \[)"(.*?)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE
    )
    assert set(needed) <= set(copied)
    links = [path.resolve() for path in (ROOT / "src").rglob("*") if path.is_symlink()]
    assert links, "the protos are a link"
    assert all(any(link.is_relative_to(ROOT / name) for name in copied) for link in links)


@pytest.fixture(scope="module")
def manifests() -> dict[str, Any]:
    documents = yaml.safe_load_all((PACKAGING / "kubernetes" / "sidecar.yaml").read_text())
    return {document["kind"]: document for document in documents}


@pytest.fixture(scope="module")
def pod(manifests: dict[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = manifests["Pod"]["spec"]
    return spec


@pytest.fixture(scope="module")
def sidecar(pod: dict[str, Any]) -> dict[str, Any]:
    return next(each for each in pod["initContainers"] if each["name"] == "swarmd")


def test_the_sidecar_is_given_settings_that_there_are(sidecar: dict[str, Any], pod: dict[str, Any]):
    serve, *arguments = sidecar["args"]
    assert serve == "serve"
    settings = settings_of(arguments)
    (program,) = pod["containers"]
    assert {"name": "SWARMD_ADDRESS", "value": settings["listen"][0]} in program["env"]
    assert not settings["insecure"]
    assert sidecar["restartPolicy"] == "Always"


def test_the_probes_ask_where_it_listens(sidecar: dict[str, Any]):
    ports = {port["name"]: port["containerPort"] for port in sidecar["ports"]}
    settings = settings_of(sidecar["args"][1:])
    assert settings["listen"][1] == f"0.0.0.0:{ports['grpc']}"
    assert settings["metrics"] == f"0.0.0.0:{ports['metrics']}"
    for probe in ("startupProbe", "readinessProbe"):
        assert sidecar[probe]["grpc"]["port"] == ports["grpc"]
    assert sidecar["livenessProbe"]["tcpSocket"]["port"] == ports["grpc"]


def test_the_pod_waits_longer_than_a_drain_takes(pod: dict[str, Any]):
    assert pod["terminationGracePeriodSeconds"] > DaemonConfig().drain_grace


def test_program_and_daemon_are_one_user_without_privileges(sidecar: dict[str, Any], pod: dict[str, Any]):
    user = int(re.findall(r"--uid (\d+)", DOCKERFILE)[0])
    for container in (sidecar, *pod["containers"]):
        security = container["securityContext"]
        assert security["runAsUser"] == security["runAsGroup"] == user
        assert security["runAsNonRoot"]
        assert not security["allowPrivilegeEscalation"]
        assert security["capabilities"] == {"drop": ["ALL"]}


@pytest.mark.skipif(os.getuid() != 0, reason="only root can make a directory as Kubernetes makes volumes")
def test_a_volume_is_refused_as_kubernetes_makes_it_and_taken_when_it_was_prepared(pod: dict[str, Any]):
    command = pod["initContainers"][0]["args"][0]
    with short_home() as home:
        home.chmod(0o755)
        volumes = [home / "run", home / "lib"]
        for volume in volumes:
            volume.mkdir()
            volume.chmod(0o2777)
        with pytest.raises(InvalidInputError, match="where others may write"):
            make_private(volumes[0] / "below")
        here = command.replace("/var/lib/swarmd", str(volumes[1])).replace("/run/swarmd", str(volumes[0]))
        subprocess.run(["sh", "-ec", here.replace("7421:7421", "0:0")], check=True, timeout=SECONDS)
        listen = ("--listen", f"unix:{volumes[0]}/swarmd.sock", "--state-dir", str(volumes[1]))
        with running(*listen, home=home) as daemon:
            assert daemon.stop() == 0
