"""gRPC does not work in a child that was forked from a process that used it: the client says so at once."""

import os
import subprocess
import sys

import pytest

from tests.daemon import DaemonProcess

ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("GRPC_")}
"""Without what this process has set for itself."""

FORKED = """
import multiprocessing, os, signal, sys
from swarmd.client.blocking import SwarmClient

def work(address):
    signal.alarm(20)
    try:
        with SwarmClient(address) as client:
            return f"{{len(client.swarms()) >= 0}}"
    except RuntimeError as error:
        return str(error)

if __name__ == "__main__":
    address = {address!r}
    client = SwarmClient(address)
    if {used}:
        client.swarms()
    with multiprocessing.get_context({method!r}).Pool(1) as pool:
        print(pool.apply(work, (address,)))
    print(len(client.swarms()) >= 0)
    client.close()
"""


@pytest.mark.parametrize(
    ("method", "used", "expected"),
    [("fork", True, "start it by the method spawn"), ("fork", False, "True"), ("spawn", True, "True")],
)
def test_a_child_has_a_client_of_its_own_or_an_error(daemon: DaemonProcess, tmp_path, method, used, expected):
    program = tmp_path / "program.py"
    program.write_text(FORKED.format(address=daemon.address, method=method, used=used))
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=60, env=ENVIRONMENT)
    assert (done.returncode, done.stderr) == (0, "")
    child, parent = done.stdout.splitlines()
    assert expected in child
    assert parent == "True"


def test_a_client_of_the_parent_says_what_to_do_instead(daemon: DaemonProcess):
    program = (
        "import os\n"
        "from swarmd.client.blocking import SwarmClient\n"
        f"client = SwarmClient({daemon.address!r})\n"
        "client.swarms()\n"
        "if os.fork() == 0:\n"
        "    try:\n        client.swarms()\n"
        "    except RuntimeError as error:\n        print(error, flush=True)\n"
        "    os._exit(0)\n"
        "os.wait()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, env=ENVIRONMENT)
    assert "start children by the method spawn" in done.stdout


@pytest.mark.parametrize("module", ["swarmd.client.blocking", "swarmd.client.protocol", "swarmd.client.channel"])
def test_grpc_is_told_about_forks_and_silence_before_it_is_imported(module: str):
    spy = (
        "import builtins, os, sys\n"
        "real = builtins.__import__\n"
        "def spy(name, *rest, **more):\n"
        "    if name.split('.')[0] == 'grpc' and 'grpc' not in sys.modules:\n"
        "        print(os.environ.get('GRPC_ENABLE_FORK_SUPPORT'), os.environ.get('GRPC_VERBOSITY'))\n"
        "    return real(name, *rest, **more)\n"
        f"builtins.__import__ = spy\nimport {module}\n"
    )
    done = subprocess.run([sys.executable, "-c", spy], capture_output=True, text=True, env=ENVIRONMENT)
    assert (done.returncode, done.stdout) == (0, "false NONE\n")
