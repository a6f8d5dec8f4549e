"""`swarmd config`: what is set, and by what."""

import json
from pathlib import Path

from tests.cli.conftest import swarmd_process


def test_it_shows_each_setting_with_its_source(tmp_path: Path):
    file = tmp_path / "config.toml"
    file.write_text('log_level = "debug"\n')
    answer = swarmd_process("config", "--json", "--config", str(file), "--max-swarms", "3", SWARMD_LOCAL_CORES="2")
    assert answer.code == 0, answer.err
    told = json.loads(answer.out)
    assert told["max_swarms"] == {"value": 3, "source": "--max-swarms"}
    assert told["local_cores"] == {"value": 2, "source": "SWARMD_LOCAL_CORES"}
    assert told["log_level"] == {"value": "debug", "source": str(file)}
    assert told["drain_grace"] == {"value": 30.0, "source": "default"}


def test_it_is_a_table_for_people():
    answer = swarmd_process("config", SWARMD_INSECURE="true")
    lines = {line.split()[0]: line.split()[1:] for line in answer.out.splitlines()}
    assert lines["SETTING"] == ["VALUE", "FROM"]
    assert lines["insecure"] == ["true", "SWARMD_INSECURE"]
    assert lines["local_cores"] == ["-", "default"]


def test_it_refuses_what_serve_would_refuse(tmp_path: Path):
    file = tmp_path / "config.toml"
    file.write_text("max_swarmz = 3\n")
    for command in ("config", "serve"):
        answer = swarmd_process(command, "--config", str(file))
        assert answer.code == 2
        assert answer.err == f"swarmd: {file}: 'max_swarmz' is no setting; did you mean 'max_swarms'?\n"


def test_options_of_gateways_are_shown_and_refused_like_others(tmp_path: Path):
    file = tmp_path / "config.toml"
    file.write_text("[gateways.pull]\n")
    assert "[pull] {}" in swarmd_process("config", "--config", str(file)).out
    file.write_text("[gateways.pull]\nspeed = 3\n")
    for command in ("config", "serve", "gateways"):
        answer = swarmd_process(command, "--config", str(file))
        assert answer.code == 2
        assert answer.err == f"swarmd: {file}: [gateways.pull] speed is no option of this gateway; it has none\n"
