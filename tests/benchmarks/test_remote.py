"""The held load through the remote gateway: a small one, so that the benchmark keeps working and reports."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 110

pytestmark = pytest.mark.e2e


def test_it_reports_the_daemons_own_share():
    done = subprocess.run(
        [sys.executable, "benchmarks/remote.py", "--tasks", "20000", "--rounds", "1"],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told = {name.rstrip(): float(value.replace(",", "")) for name, _, value in _rows(done.stdout)}
    assert told["the delays alone (40 batches, 8 at once), s"] == 0.25
    share = told["all queued and DONE, s"] - told["the delays alone (40 batches, 8 at once), s"]
    assert told["daemon's own share of the time, s"] == pytest.approx(share, abs=0.011)
    assert told["daemon's processor time, s"] > 0


def _rows(text: str) -> list[tuple[str, str, str]]:
    return [line.rpartition(" ") for line in text.splitlines() if line.rstrip().rpartition(" ")[2][:1].isdigit()]
