"""A daemon that a test can make die at a point of its choice: what tests start instead of `swarmd serve`.

    python -m tests.crash.crashing_daemon --home DIR [--crash-at POINT[@EVENT]:N] [--count FILE] ...

With an event, only commits that hold one of this kind count. It is the daemon as it is, with the recording gateway
beside the others and with small thresholds, so that a short life has loads in several parts, snapshots and prunes.
Nothing of this can be set from outside of the tests.
"""

import argparse
import asyncio
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from swarmd.config import DaemonConfig
from swarmd.config_file import read_config
from swarmd.core.errors import SwarmdError
from swarmd.daemon import Daemon
from swarmd.gateways.catalogue import made_gateways
from swarmd.host import swarm as hosted
from swarmd.journal import faults, journal
from swarmd.journal.encoding import decode
from swarmd.journal.segment import Record, Segment
from swarmd.journal.store import Recovered, SwarmStore
from swarmd.logs import configure_logging
from tests.crash.recording_gateway import RecordingGateway

LINGER_SECONDS = 0.03
"""Before it dies: whatever was answered or told too early gets out meanwhile."""


def main() -> int:
    arguments = _parser().parse_args()
    configure_logging("json", "info")
    if arguments.count:
        faults.install(_counting(arguments.count))
    if arguments.crash_at:
        point, _, number = arguments.crash_at.rpartition(":")
        faults.install(_dying(point, int(number)))
    journal.SNAPSHOT_AFTER_BYTES = arguments.snapshot_after
    hosted.LOAD_PART_BYTES = arguments.load_part_bytes
    if arguments.slow_recovery:
        _slow_down(arguments.slow_recovery)
    try:
        asyncio.run(_serve(arguments))
    except SwarmdError as error:
        print(f"swarmd: {error.message}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--engine", type=Path, help="the socket of a RecordingEngine")
    parser.add_argument(
        "--crash-at", metavar="POINT[@EVENT]:N", help="die of SIGKILL when the point is reached the N-th time"
    )
    parser.add_argument("--count", type=Path, help="a file to which the name of every point that is reached is added")
    parser.add_argument("--snapshot-after", type=int, default=1200, metavar="BYTES")
    parser.add_argument("--load-part-bytes", type=int, default=1024)
    parser.add_argument("--slow-recovery", type=float, default=0, metavar="SECONDS")
    parser.add_argument("--local-cores", type=int)
    return parser


async def _serve(arguments: argparse.Namespace) -> None:
    home: Path = arguments.home
    state = home / "state" / "swarmd"
    config = DaemonConfig(
        listen=[f"unix:{home}/daemon.sock"],
        state_dir=state,
        ready_json=True,
        local_cores=arguments.local_cores,
        gateways=read_config(os.environ)[1].get("gateways", {}),
    )
    gateways = made_gateways(config)
    if arguments.engine:
        gateways["recording"] = RecordingGateway(arguments.engine)
    await Daemon(config, gateways=gateways).run()


def _dying(point: str, number: int) -> Callable[[str], None]:
    """Points are reached in several threads at once."""
    lock, times = threading.Lock(), Counter[str]()
    committed = _committed_kinds()

    def hook(reached: str) -> None:
        names = {reached, *(f"{reached}@{kind}" for kind in committed() if reached.startswith("commit."))}
        with lock:
            times.update(names)
            is_over = point in names and times[point] == number
        if is_over:
            time.sleep(LINGER_SECONDS)
            os.kill(os.getpid(), signal.SIGKILL)

    return hook


def _committed_kinds() -> Callable[[], set[str]]:
    """The kinds of the events that this thread is committing, or has committed last."""
    here, append = threading.local(), Segment.append

    def noting(segment: Segment, records: Sequence[Record]) -> None:
        here.kinds = {type(decode(record.event)).__name__ for record in records}
        append(segment, records)

    Segment.append = noting  # type: ignore[method-assign, assignment]
    return lambda: getattr(here, "kinds", set())


def _counting(path: Path) -> Callable[[str], None]:
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    return lambda reached: _write(descriptor, f"{reached}\n")


def _write(descriptor: int, line: str) -> None:
    os.write(descriptor, line.encode())


def _slow_down(seconds: float) -> None:
    recover = SwarmStore.recover

    def slow(store: SwarmStore, *arguments: Any) -> Recovered:
        time.sleep(seconds)
        return recover(store, *arguments)

    SwarmStore.recover = slow  # type: ignore[method-assign, assignment]


if __name__ == "__main__":
    sys.exit(main())
