"""A run of the fuzzers, side by side, for a time or a number of inputs: what `make fuzz` and the short test do."""

import random
import re
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.daemon import short_home
from tests.fuzz import validator
from tests.fuzz.calls import Caller
from tests.fuzz.corpus import METHODS, read_corpus, request_class, save
from tests.fuzz.daemon import FuzzedDaemon, fuzzed
from tests.fuzz.finding import FindingError
from tests.fuzz.mutator import Mutator
from tests.fuzz.port import Port
from tests.fuzz.validator import Validator

SWARM_AGAIN = 150
"""Calls after which the swarm `s` is made anew if a call has deleted it."""
CHECK_EVERY = 250
WARM_UP = 3000
"""Inputs before the daemon's memory is looked at for the first time."""
MOST_OF_A_KIND = 3
"""Inputs that are kept for one finding."""


@dataclass
class Campaign:
    """What came of it."""

    seed: int
    new: Path | None = None
    """Where inputs with a new outcome are kept; None: nowhere."""
    findings_folder: Path | None = None
    executions: Counter[str] = field(default_factory=Counter)
    seconds: Counter[str] = field(default_factory=Counter)
    outcomes: set[str] = field(default_factory=set)
    new_entries: int = 0
    findings: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._mutator = Mutator(self._random)
        self._corpus = read_corpus()
        if self.new is not None:
            for method, messages in read_corpus(self.new).items():
                self._corpus[method].extend(messages)

    # -- in this process -----------------------------------------------------------------------------------------------

    def validate(self, *, count: int = 0, seconds: float = 0.0) -> None:
        """Messages through decoder and validator: the corpus as it is, then changed."""
        judge, begun = Validator(), time.monotonic()
        whole = [(method, data) for method in validator.METHODS for data in tuple(self._corpus[method])]
        done = 0
        while done < count or time.monotonic() - begun < seconds:
            method, data = whole[done] if done < len(whole) else self._made(self._random.choice(validator.METHODS))
            done += 1
            try:
                if done % 5 == 0:
                    judge.take()
                self._note(judge.try_message(method, data), method, data)
            except FindingError as finding:
                self._found(finding)
                judge = Validator()
        self._count("validator", done, begun)

    # -- at a daemon ---------------------------------------------------------------------------------------------------

    def attack(self, *, count: int = 0, seconds: float = 0.0) -> None:
        """Messages and bytes for a daemon, which is killed at the end and must be able to read what it wrote."""
        with short_home() as home:
            try:
                with fuzzed(home) as daemon:
                    self._attack(daemon, count, seconds)
                with fuzzed(home) as daemon:
                    daemon.check()
            except FindingError as finding:
                self._found(finding)

    def _attack(self, daemon: FuzzedDaemon, count: int, seconds: float) -> None:
        port = Port(daemon.addresses, daemon.token, self._random)
        caller = Caller(daemon.addresses[0], self._random)
        whole = [(method, data) for method in METHODS for data in tuple(self._corpus[method])]
        begun, done, last = time.monotonic(), 0, b""
        try:
            while done < count or time.monotonic() - begun < seconds:
                if done % SWARM_AGAIN == 0:
                    _begin_again(caller, self._corpus)
                if done % CHECK_EVERY == 0:
                    self._check(daemon, last)
                if done == WARM_UP:
                    daemon.begun_mib = daemon.memory_mib
                method, last = whole[done] if done < len(whole) else self._made(self._random.choice(tuple(METHODS)))
                if done % 4 == 3:
                    port.disturb(last)
                else:
                    self._call(caller, method, last)
                done += 1
            self._check(daemon, last)
        finally:
            caller.close()
        self._count("daemon", done, begun)

    def _call(self, caller: Caller, method: str, data: bytes) -> None:
        messages = [data]
        if METHODS[method].client_streaming:
            messages += [self._made(method)[1] for _ in range(self._random.choice((0, 0, 1, 3)))]
        try:
            self._note(caller.call(method, messages), method, data)
        except FindingError as finding:
            self._found(finding)

    def _check(self, daemon: FuzzedDaemon, last: bytes) -> None:
        try:
            daemon.check()
        except FindingError as finding:
            finding.data = last
            raise

    # -- both ----------------------------------------------------------------------------------------------------------

    def _made(self, method: str) -> tuple[str, bytes]:
        return method, self._mutator.data(request_class(method), self._corpus[method])

    def _note(self, outcome: str, method: str, data: bytes) -> None:
        """An outcome that was not seen before makes its input worth changing further."""
        if outcome in self.outcomes:
            return
        self.outcomes.add(outcome)
        if data not in self._corpus[method]:
            self._corpus[method].append(data)
            self.new_entries += 1
            if self.new is not None:
                save(self.new, method, data)

    def _found(self, finding: FindingError) -> None:
        what = re.sub(r"/tmp/sw-\w+", "HOME", f"{finding.method or 'daemon'}: {finding.what}")
        self.findings[what] += 1
        if self.findings_folder is not None and self.findings[what] <= MOST_OF_A_KIND:
            path = save(self.findings_folder, finding.method or "unknown", finding.data)
            path.with_suffix(".txt").write_text(what + "\n")

    def _count(self, kind: str, done: int, begun: float) -> None:
        self.executions[kind] += done
        self.seconds[kind] += time.monotonic() - begun  # type: ignore[assignment]

    def report(self, say: Callable[[str], None]) -> None:
        for kind, count in self.executions.items():
            say(f"fuzz: {kind}: {count:,} executions, {count / max(self.seconds[kind], 1e-9):,.0f} a second")
        say(f"fuzz: {len(self.outcomes)} different outcomes, {self.new_entries} new corpus entries")
        for what, count in self.findings.items():
            say(f"fuzz: FOUND {count} times: {what}")
        say(f"fuzz: {len(self.findings)} findings (seed {self.seed})")


def _begin_again(caller: Caller, corpus: dict[str, list[bytes]]) -> None:
    """The swarm `s` with its tasks, unless it is there."""
    from swarmd._pb.swarm.v1 import swarm_pb2, swarm_service_pb2
    from tests.fuzz.corpus import whole_load

    request = swarm_service_pb2.CreateSwarmRequest(swarm=swarm_pb2.Swarm(swarm_id="s", gateway="pull"))
    caller.call("CreateSwarm", [request.SerializeToString()])
    caller.call("AddTasks", [whole_load().SerializeToString()])
