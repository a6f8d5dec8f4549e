"""A daemon that runs nothing of what a fuzzer makes up: `python -m tests.fuzz.harmless_daemon --home DIR`.

It is the daemon as it is, with an engine in the place of the local gateway that takes every batch and forgets it. It
listens on a socket, and at a port where a token is needed.
"""

import argparse
import asyncio
import sys
from pathlib import Path

from swarmd.config import DaemonConfig
from swarmd.daemon import Daemon
from swarmd.gateways.pull import PullGateway
from swarmd.logs import configure_logging
from tests.host.engine import Engine

MOST_SWARMS = 20


class Nowhere(Engine):
    """Where the batches go."""

    name = "local"


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--home", type=Path, required=True)
    home: Path = parser.parse_args().home
    configure_logging("json", "info")
    config = DaemonConfig(
        listen=[f"unix:{home}/s.sock", "127.0.0.1:0"],
        state_dir=home / "state" / "swarmd",
        ready_json=True,
        max_swarms=MOST_SWARMS,
        max_tasks_per_swarm=2000,
        max_queued_bytes_per_watcher=1 << 20,
    )
    gateways = {"local": Nowhere(can_cancel=True), "pull": PullGateway()}
    return asyncio.run(Daemon(config, gateways=gateways).run())


if __name__ == "__main__":
    sys.exit(main())
