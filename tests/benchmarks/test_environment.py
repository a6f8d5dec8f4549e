"""The environment with the peers: what is said when it cannot be made."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "bench_environment.py"


def loaded() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench_environment", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


bench_environment = loaded()


def run(folder: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(SCRIPT), "--folder", str(folder)]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=100)


def wanted() -> str:
    return "\n".join(package for _, packages in bench_environment.PEERS for package in packages)


def test_nothing_is_done_when_everything_is_there(tmp_path: Path):
    (tmp_path / "installed").write_text(wanted())
    done = run(tmp_path)
    assert (done.returncode, done.stdout) == (0, "")
    assert [each.name for each in tmp_path.iterdir()] == ["installed"]


def test_every_peer_is_pinned():
    assert all("==" in package for package in wanted().splitlines())
    assert "jobmon-client==3.3.0" in wanted()


def test_a_peer_that_cannot_be_installed_is_said_and_the_others_are_installed(tmp_path: Path, monkeypatch, capsys):
    """A program in the place of the environment's Python says what pip would."""
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "python"
    program.write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\ncase "$*" in *dask*) echo "no route" >&2; exit 1;; esac\n'
    )
    program.chmod(0o755)
    monkeypatch.setattr(sys, "argv", ["bench_environment", "--folder", str(tmp_path)])
    assert bench_environment.main() == 0
    said = capsys.readouterr().out
    assert "Dask (dask==2026.8.0 distributed==2026.8.0) is not installed:\n  no route" in said
    assert "missing: Dask; their rows are printed without them" in said
    assert len((tmp_path / "calls").read_text().splitlines()) == 3
    assert not (tmp_path / "installed").exists()


def test_no_environment_is_said_with_the_remedy(tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr(sys, "argv", ["bench_environment", "--folder", str(tmp_path / "file" / "venv")])
    assert bench_environment.main() == 0
    assert "cannot be made: " in (said := capsys.readouterr().out)
    assert "python3-venv" in said
