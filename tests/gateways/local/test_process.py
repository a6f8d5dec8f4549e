"""How a command reaches its process, and what happens when there are not enough descriptors or processes."""

import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import pytest

from swarmd.gateways.local.commands import plain_arguments, shell_arguments
from swarmd.gateways.local.connection import PROGRAM


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("/bin/true", [b"/bin/true"]),
        (
            "/usr/bin/env  A=1 x.py --draws=10,20 a@b:c+1%",
            [b"/usr/bin/env", *b"A=1 x.py --draws=10,20 a@b:c+1%".split()],
        ),
    ],
)
def test_a_program_by_its_path_with_plain_words_needs_no_shell(command, arguments):
    assert plain_arguments(command) == arguments


@pytest.mark.parametrize(
    "command",
    [
        "",
        "true",
        "./run",
        " /bin/true",
        "/bin/a=b",
        "/bin/echo ä",
        *(f"/bin/echo x{c}y" for c in "$`\"'\\;&|<>()*?[]{}~#!^\n\t\0"),
    ],
)
def test_everything_else_goes_to_the_shell(command):
    assert plain_arguments(command) is None


def test_a_command_is_cut_only_when_it_must_be():
    assert shell_arguments("x" * 131_071) == [b"/bin/sh", b"-c", b"x" * 131_071]
    assert [len(piece) for piece in shell_arguments("x" * 262_143)[4:]] == [131_071, 131_071, 1]


def test_linux_takes_131071_bytes_in_an_argument_and_no_more():
    # What LONGEST_ARGUMENT rests on: MAX_ARG_STRLEN is 131,072 with the closing NUL.
    subprocess.run(["/bin/true", "x" * 131_071], check=True)
    with pytest.raises(OSError, match="Argument list too long"):
        subprocess.run(["/bin/true", "x" * 131_072], check=True)


NOBODY_ELSE = 64_123

SCARCE = """
import asyncio, logging, os, resource, sys
from pathlib import Path
from swarmd.gateways.contract import SwarmInfo
from swarmd.gateways.local import LocalGateway, connection
from tests.gateways.recording import SWARM, Record, batch_of

async def main():
    gateway, record = LocalGateway(Path(sys.argv[1]), cores=40), Record()
    connection.PROGRAM = (sys.argv[2], "-I", "-S", sys.argv[3])
    await gateway.start(record.report)
    await gateway.add_swarm(SwarmInfo(SWARM))
    {scarce}
    await gateway.queue_batch(batch_of(*["/bin/sleep 0.5"] * 30))
    await asyncio.sleep(0.3)
    {plenty}
    await record.ended(*range(1, 31))
    ends = {{record.end_of(task_id) for task_id in range(1, 31)}}
    await gateway.close()
    print(len(ends), *ends)

asyncio.run(main())
"""


def run_scarce(
    folder: Path, scarce: str, plenty: str = "pass", python: str = sys.executable
) -> "subprocess.CompletedProcess[str]":
    """`python`: that of the launcher, of which everybody can read the copy in the folder."""
    program = textwrap.dedent(SCARCE).format(scarce=scarce, plenty=plenty)
    copy = shutil.copytree(Path(PROGRAM[-1]).parent, folder / "launcher")
    arguments = [sys.executable, "-c", program, str(folder), python, str(copy / "__main__.py")]
    return subprocess.run(arguments, check=False, capture_output=True, text=True, timeout=60)


@pytest.fixture
def everybodys_python() -> str:
    """One that another user can run, too."""
    if os.getuid() != 0:
        pytest.skip("needs root, to become another user")
    found = shutil.which("python3", path="/usr/local/bin:/usr/bin:/bin")
    if found is None or subprocess.run([found, "-c", ""], check=False, user=NOBODY_ELSE).returncode:
        pytest.skip("there is no Python that another user can run")
    return found


def test_a_want_of_descriptors_delays_tasks_and_loses_none(tmp_path):
    done = run_scarce(tmp_path, "resource.setrlimit(resource.RLIMIT_NOFILE, (25, 25))")
    assert done.stdout == "1 (<TaskStatus.DONE: 'D'>, '')\n", done.stderr
    assert done.stderr.count("starts are put off") == 1
    assert "Too many open files" in done.stderr


def test_with_no_descriptor_at_all_everything_waits(tmp_path):
    done = run_scarce(
        tmp_path,
        "held = [os.dup(0) for _ in range(3)]; resource.setrlimit(resource.RLIMIT_NOFILE, (max(held) + 1, 1000))",
        "assert not record.news; resource.setrlimit(resource.RLIMIT_NOFILE, (1000, 1000))",
    )
    assert done.stdout == "1 (<TaskStatus.DONE: 'D'>, '')\n", done.stderr
    assert done.stderr.count("starts are put off") == 1


def test_a_want_of_processes_delays_tasks_and_loses_none(everybodys_python):
    with tempfile.TemporaryDirectory() as folder:
        os.chown(folder, NOBODY_ELSE, NOBODY_ELSE)
        done = run_scarce(
            Path(folder),
            f"resource.setrlimit(resource.RLIMIT_NPROC, (12, 12)); os.setresuid({NOBODY_ELSE}, *[{NOBODY_ELSE}] * 2)",
            python=everybodys_python,
        )
    assert done.stdout == "1 (<TaskStatus.DONE: 'D'>, '')\n", done.stderr
    assert "Resource temporarily unavailable" in done.stderr


def test_a_log_directory_of_somebody_else_fails_the_attempts(everybodys_python):
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        become = f"os.setresuid({NOBODY_ELSE}, *[{NOBODY_ELSE}] * 2)"
        done = run_scarce(Path(folder), become, python=everybodys_python)
    assert "ERROR_RECOVERABLE" in done.stdout, done.stderr
    assert "its output file could not be opened: Permission denied: " in done.stdout
