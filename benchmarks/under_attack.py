"""What an honest client gets from a daemon that is under attack.

    python benchmarks/under_attack.py [--seconds 1] [--rounds 3] [--only NAME ...] [--json FILE]

One daemon on disk, on a socket and on a TCP port with a token. One client calls GetSwarm as quickly as it can, by turns
alone and while one of the attacks of `tests/security/attacks.py` goes on from another process, over TCP and over the
socket; the best round of each counts, the longest call and the most memory of all. A call that fails would end the
measurement. On two cores an attacker takes much of the machine already by attacking.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import grpc
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.security.attacks import ATTACKS

from swarmd._pb.swarm.v1 import swarm_pb2, swarm_service_pb2
from swarmd._pb.swarm.v1.swarm_service_pb2_grpc import SwarmServiceStub

PATIENCE = 60.0
PAUSE_SECONDS = 1.0
LEAD_SECONDS = 0.5
"""The attack goes on for so long before the first call is counted."""
MIB = 1 << 20


@dataclass
class Daemon:
    """It runs."""

    tcp: str
    file: str
    token: str
    process: psutil.Process


@dataclass
class Row:
    """Calls a second of one client, and the daemon's memory while it was attacked."""

    attack: str
    tcp_alone: float
    tcp_attacked: float
    file_alone: float
    file_attacked: float
    worst_ms: float
    mib: float


@contextlib.contextmanager
def daemon(home: Path) -> Iterator[Daemon]:
    command = [sys.executable, "-m", "swarmd", "serve", "--ready-json", "--log-level", "error"]
    command += ["--listen", "127.0.0.1:0", "--listen", f"unix:{home}/s.sock", "--state-dir", f"{home}/state"]
    with (home / "stderr").open("wb") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors)
    try:
        assert process.stdout is not None
        tcp, file = json.loads(process.stdout.readline())["addresses"]
        yield Daemon(tcp, file, (home / "state" / "token").read_text().strip(), psutil.Process(process.pid))
    finally:
        process.terminate()
        process.wait()


def rate(stub: SwarmServiceStub, token: str, seconds: float) -> tuple[float, float]:
    """Calls a second, one after the other, and the longest of them in milliseconds."""
    request = swarm_service_pb2.GetSwarmRequest(swarm_id="s")
    metadata = (("authorization", f"Bearer {token}"),)
    count, worst, begun = 0, 0.0, time.perf_counter()
    before = begun
    while before - begun < seconds:
        stub.GetSwarm(request, timeout=PATIENCE, metadata=metadata)
        now = time.perf_counter()
        worst, before, count = max(worst, now - before), now, count + 1
    return count / (before - begun), 1000 * worst


@contextlib.contextmanager
def attacked(target: Daemon, name: str, seconds: float) -> Iterator[None]:
    """The attack goes on, in a process of its own."""
    context = multiprocessing.get_context("spawn")
    attacker = context.Process(target=attack, args=(name, target.tcp, target.token, seconds))
    attacker.start()
    time.sleep(2 * LEAD_SECONDS)
    try:
        yield
    finally:
        attacker.terminate()
        attacker.join()


def attack(name: str, address: str, token: str, seconds: float) -> None:
    ATTACKS[name](address, token, time.monotonic() + seconds)


def measure(target: Daemon, name: str, seconds: float, rounds: int) -> Row:
    alone: tuple[list[float], list[float]] = ([], [])
    under: tuple[list[float], list[float]] = ([], [])
    worst = memory = 0.0
    with grpc.insecure_channel(target.tcp) as by_tcp, grpc.insecure_channel(target.file) as by_file:
        stubs = SwarmServiceStub(by_tcp), SwarmServiceStub(by_file)
        for _ in range(rounds):
            for rates, stub in zip(alone, stubs, strict=True):
                rates.append(rate(stub, target.token, seconds)[0])
            with attacked(target, name, 10 * seconds + PATIENCE):
                for rates, stub in zip(under, stubs, strict=True):
                    found, longest = rate(stub, target.token, seconds)
                    rates.append(found)
                    worst, memory = max(worst, longest), max(memory, target.process.memory_info().rss / MIB)
    return Row(name, max(alone[0]), max(under[0]), max(alone[1]), max(under[1]), worst, memory)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=1.0, help="for each of the four measurements of a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=ATTACKS, default=list(ATTACKS), metavar="NAME")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory(prefix="sw-") as home, daemon(Path(home)) as target:
        prepare(target)
        print("| attack | TCP, alone | attacked | | socket, alone | attacked | | longest call | memory |")
        print("|---|---|---|---|---|---|---|---|---|")
        for name in options.only:
            rows.append(measure(target, name, options.seconds, options.rounds))
            print(line(rows[-1]), flush=True)
            time.sleep(PAUSE_SECONDS)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")


def prepare(target: Daemon) -> None:
    """The swarm that is asked for, and a moment for the first calls, which are slower."""
    with grpc.insecure_channel(target.file) as channel:
        stub = SwarmServiceStub(channel)
        stub.CreateSwarm(swarm_service_pb2.CreateSwarmRequest(swarm=swarm_pb2.Swarm(swarm_id="s", gateway="pull")))
        rate(stub, target.token, PAUSE_SECONDS)


def line(row: Row) -> str:
    return (
        f"| {row.attack} | {row.tcp_alone:,.0f} | {row.tcp_attacked:,.0f} | {row.tcp_attacked / row.tcp_alone:.0%} "
        f"| {row.file_alone:,.0f} | {row.file_attacked:,.0f} | {row.file_attacked / row.file_alone:.0%} "
        f"| {row.worst_ms:,.0f} ms | {row.mib:,.0f} MiB |"
    )


if __name__ == "__main__":
    main()
