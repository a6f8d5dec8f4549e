"""The daemon that is fuzzed, as a process of its own, and an honest caller who looks after it."""

import contextlib
import json
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import psutil

from swarmd._pb.swarm.v1 import swarm_service_pb2 as pb
from swarmd._pb.swarm.v1.swarm_service_pb2_grpc import SwarmServiceStub
from tests.daemon import START_SECONDS, private_environment, short_home
from tests.fuzz.finding import FindingError

MIB = 1 << 20
SECONDS = 30.0
PLAUSIBLE_GROWTH_MIB = 150
"""What it may use more than after the first calls: journals, remembered requests, the allocator's reserve."""


@dataclass
class FuzzedDaemon:
    """It runs, from `fuzzed` until the end."""

    process: "subprocess.Popen[bytes]"
    home: Path
    addresses: list[str]
    token: str
    begun_mib: float = 0.0

    @property
    def memory_mib(self) -> float:
        return float(psutil.Process(self.process.pid).memory_info().rss) / MIB

    def check(self) -> pb.ListSwarmsResponse:
        """An honest call on a connection of its own. Raises FindingError when the daemon does not serve it."""
        if self.process.poll() is not None:
            raise FindingError(f"the daemon ended with {self.process.returncode}: {self.last_words}")
        with grpc.insecure_channel(self.addresses[0], options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            try:
                answer: pb.ListSwarmsResponse = SwarmServiceStub(channel).ListSwarms(
                    pb.ListSwarmsRequest(), timeout=SECONDS
                )
            except grpc.RpcError as error:
                raise FindingError(f"an honest call failed: {error.code().name} {error.details()}") from error
        if answer.set_aside:
            raise FindingError(f"what it wrote cannot be read again: {answer.set_aside[0].problem}")
        if self.begun_mib and self.memory_mib > self.begun_mib + PLAUSIBLE_GROWTH_MIB:
            raise FindingError(f"it grew from {self.begun_mib:.0f} to {self.memory_mib:.0f} MiB")
        return answer

    @property
    def last_words(self) -> str:
        return (self.home / "stderr").read_text(errors="replace")[-3000:]


@contextlib.contextmanager
def fuzzed(home: Path | None = None) -> Iterator[FuzzedDaemon]:
    """A daemon on the state of this home; killed at the end, so that the next one reads its journals."""
    with contextlib.ExitStack() as stack:
        place = home or stack.enter_context(short_home())
        errors = stack.enter_context((place / "stderr").open("ab"))
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.fuzz.harmless_daemon", "--home", str(place)],
            cwd=Path(__file__).resolve().parents[2],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=private_environment(place),
            start_new_session=True,
        )
        try:
            assert process.stdout is not None
            ready, _, _ = select.select([process.stdout], [], [], START_SECONDS)
            line = process.stdout.readline() if ready else b""
            if not line:
                raise FindingError(f"the daemon does not start: {(place / 'stderr').read_text()[-3000:]}")
            token = (place / "state" / "swarmd" / "token").read_text().strip()
            yield FuzzedDaemon(process, place, json.loads(line)["addresses"], token)
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGKILL)
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
