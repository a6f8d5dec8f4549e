"""The tests that the Go engine brings itself, of what it remembers; and Go's own check of its source."""

import subprocess

import pytest

from tests.gateways.remote.engines import BUILD_SECONDS, CLIENTS, NO_GO, go_command, has_go

pytestmark = [
    pytest.mark.skipif(not has_go(), reason=NO_GO),
    pytest.mark.timeout(2 * BUILD_SECONDS),
]


@pytest.mark.parametrize("command", [("go", "vet", "./engine"), ("go", "test", "./engine")])
def test_go_finds_nothing_wrong(command):
    go_command()  # the stubs are made when they are missing
    done = subprocess.run(
        command,
        cwd=CLIENTS / "go",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=BUILD_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
