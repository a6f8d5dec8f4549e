"""docs/grpcurl.md is run as it is written there: a whole workflow with nothing but grpcurl and jq."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.grpcurl import binary

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "grpcurl.md").read_text()
SECONDS = 100.0

pytestmark = pytest.mark.e2e


def test_a_whole_workflow(tmp_path: Path):
    if shutil.which("jq") is None:
        pytest.skip("jq is not installed (Debian's package jq)")
    script = "".join(re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)).replace("/tmp/", f"{tmp_path}/")
    folders = {f"XDG_{name}": str(tmp_path) for name in ("RUNTIME_DIR", "STATE_HOME", "CONFIG_HOME")}
    path = f"{binary().parent}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-e", "-m", "-c", script + "\nwait\n"],
        env={**os.environ, **folders, "PATH": path},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for said in (
        '"newly_ready_count": 3',
        "It waits for 3 of its 3 upstreams",
        "SWARM_OUTCOME_DONE: 4 of 4 tasks are done",
        "attempt 1: TASK_STATUS_ERROR_RECOVERABLE\nattempt 2: TASK_STATUS_DONE",
        " TASK_STATUS_DONE 10",
        '{"reset_count":2}',
        '{"cancelled_count":1}',
        "paused",
        '"reason":"UNKNOWN_TASK"',
    ):
        assert said in done.stdout, done.stdout
    assert not list(tmp_path.glob("swarmd-example*"))
