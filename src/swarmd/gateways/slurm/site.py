"""What the site's Slurm is like: the size of its arrays, and what its partitions can hold.

Asked once and kept for a while; what is not known yet is assumed to be as Slurm's defaults.
"""

import math
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from swarmd.core.model import QueueLimits, TaskResources
from swarmd.gateways.slurm.programs import Programs
from swarmd.gateways.slurm.requests import limit_minutes

DEFAULT_ARRAY_SIZE = 1001
FRESH_SECONDS = 300.0
"""How long what was read counts."""
AGAIN_SECONDS = 5.0
"""How soon it is asked again when it did not answer."""
PING_SECONDS = 5.0
"""How long the controller has to answer whoever asks whether it is there."""
NO_CAP = 1 << 20
"""As large as the site's arrays may be."""
BAD_STATES = ("drain", "down", "fail")
"""How the names of states begin in which a node takes no jobs (sinfo(1), node state codes)."""
QUESTIONS = (
    ("scontrol", "show", "config"),
    ("scontrol", "--oneliner", "show", "partition"),
    ("sinfo", "--noheader", "--exact", "--format=%R|%c|%m"),
)


@dataclass(frozen=True, slots=True)
class SiteFacts:
    """What `scontrol show config` says."""

    cluster: str = ""
    """Empty: not known yet."""
    array_size: int = DEFAULT_ARRAY_SIZE
    keeps_accounts: bool = False
    """Whether sacct can tell of jobs that have left the queue."""


@dataclass(frozen=True, slots=True)
class Presence:
    """Whether there is a cluster."""

    trouble: str = ""
    """Slurm's programs know of none: why."""
    obstacle: str = ""
    """They know of one that does not answer now: why."""


class Site:
    """One cluster. `refresh` asks; everything else answers at once."""

    def __init__(self, programs: Programs) -> None:
        self._programs = programs
        self._asked_at = float("-inf")
        self._read_at = float("-inf")
        self.facts = SiteFacts()
        self.limits: list[QueueLimits] = []
        self.limits_changed: Callable[[], None] = lambda: None
        """Called when partitions can hold more or less than before."""
        self._cap = NO_CAP

    @property
    def largest_array(self) -> int:
        """How many elements an array may have, as far as it is known."""
        return min(self.facts.array_size, self._cap)

    def refused(self, count: int) -> None:
        """An array of so many elements was too large, or too many jobs."""
        self._cap = max(1, count // 2)

    def took(self, count: int) -> None:
        """An array of so many was taken: there may be room for larger ones again."""
        if count >= self._cap:
            self._cap = min(2 * self._cap, NO_CAP)

    async def refresh(self, *, now: bool = False) -> None:
        """Ask when what is known is old, or `now`."""
        since = time.monotonic()
        if not now and (since - self._read_at < FRESH_SECONDS or since - self._asked_at < AGAIN_SECONDS):
            return
        self._asked_at = since
        said = []
        for name, *arguments in QUESTIONS:
            answer = await self._programs.call(name, *arguments)
            if not answer.is_good:
                return
            said.append(answer.out)
        config, partitions, nodes = said
        self._read_at = since
        self.facts = read_facts(config)
        before, self.limits = self.limits, list(read_limits(partitions, nodes, self.facts.cluster))
        if before != self.limits:
            self.limits_changed()

    async def presence(self) -> Presence:
        """Ask whether the controller is there; it has a few seconds to answer."""
        answer = await self._programs.call("scontrol", "ping", seconds=PING_SECONDS)
        controllers = [line.strip() for line in answer.out.splitlines() if line.startswith("Slurmctld(")]
        if any(line.endswith(" is UP") for line in controllers):
            return Presence()
        if answer.code is None or controllers:
            words = "; ".join(controllers) or f"scontrol ping: no answer in {PING_SECONDS:g} seconds"
            return Presence(obstacle=f"Slurm's controller does not answer now ({words}); swarms wait until it does")
        remedy = "give the path of slurm.conf as conf in [gateways.slurm], or as SLURM_CONF in the daemon's environment"
        return Presence(trouble=f"Slurm's programs find no cluster ({answer.why.rpartition('; ')[2]}): {remedy}")

    def objection(self, resources: TaskResources, partition: str) -> str:
        """What of these resources a partition can never hold; empty when it can, or nobody knows."""
        queue = resources.queue or partition
        known = next((limits for limits in self.limits if limits.queue == queue and not limits.cluster), None)
        if known is None:
            return ""
        place = f"partition {queue}" if queue else "the default partition"
        if known.cores is not None and resources.cores > known.cores:
            return f"it asks for {resources.cores} cores, and no node of {place} has more than {known.cores}"
        if known.memory_mib is not None and resources.memory_mib > known.memory_mib:
            return f"it asks for {resources.memory_mib} MiB, and no node of {place} has more than {known.memory_mib}"
        runtime = resources.runtime_seconds
        if known.runtime_seconds is not None and runtime and 60 * limit_minutes(runtime) > known.runtime_seconds:
            return f"it asks for {limit_minutes(runtime)} minutes, and {place} allows {known.runtime_seconds / 60:g}"
        return ""


async def bad_ones(programs: Programs, nodes: Collection[str]) -> frozenset[str]:
    """Those of these nodes that are drained or down; none when Slurm does not say."""
    wanted = f"--nodes={','.join(sorted(nodes))}"
    answer = await programs.call("sinfo", "--noheader", "--Node", wanted, "--format=%N|%T")
    states = (line.strip().partition("|") for line in answer.out.splitlines())
    return frozenset(name for name, _, state in states if state.startswith(BAD_STATES))


def read_facts(text: str) -> SiteFacts:
    """What `scontrol show config` printed; Slurm's defaults for what it did not."""
    values = {}
    for line in text.splitlines():
        name, _, value = line.partition("=")
        values[name.strip()] = value.strip()
    size = values.get("MaxArraySize", "")
    storage = values.get("AccountingStorageType", "")
    return SiteFacts(
        values.get("ClusterName", ""),
        int(size) if size.isdecimal() and int(size) > 0 else DEFAULT_ARRAY_SIZE,
        storage not in ("", "(null)") and not storage.endswith("none"),
    )


def read_limits(partitions: str, nodes: str, cluster: str) -> Iterator[QueueLimits]:
    """One for each partition, the default one also as the queue without a name; with and without the cluster."""
    sizes = _node_sizes(nodes)
    for line in partitions.splitlines():
        values = dict(word.partition("=")[::2] for word in line.split())
        name = values.get("PartitionName", "")
        if not name:
            continue
        cores, memory = sizes.get(name, (None, None))
        cores = _least(cores, _number(values.get("MaxCPUsPerNode", "")))
        memory = _least(memory, _number(values.get("MaxMemPerNode", "")))
        seconds = seconds_of(values.get("MaxTime", ""))
        for queue in (name, "") if values.get("Default") == "YES" else (name,):
            for place in ("", cluster) if cluster else ("",):
                yield QueueLimits(place, queue, cores, memory, seconds)


def _node_sizes(text: str) -> dict[str, tuple[int | None, int | None]]:
    """The cores and memory of the largest node, by partition."""
    sizes: dict[str, tuple[int | None, int | None]] = {}
    for line in text.splitlines():
        parts = line.strip().split("|")
        if len(parts) == 3:
            cores, memory = sizes.get(parts[0], (None, None))
            sizes[parts[0]] = _most(cores, _number(parts[1])), _most(memory, _number(parts[2]))
    return sizes


def _number(text: str) -> int | None:
    digits = text.rstrip("+")
    return int(digits) if digits.isdecimal() and int(digits) > 0 else None


def _least(one: int | None, other: int | None) -> int | None:
    known = [number for number in (one, other) if number is not None]
    return min(known, default=None)


def _most(one: int | None, other: int | None) -> int | None:
    known = [number for number in (one, other) if number is not None]
    return max(known, default=None)


def seconds_of(text: str) -> float | None:
    """A time limit as Slurm prints it, such as `7-00:00:00`; None when there is none."""
    days, dash, rest = text.rpartition("-")
    parts = rest.split(":")
    if not all(part.isdecimal() for part in parts) or (dash and not days.isdecimal()):
        return None
    if dash:
        parts += ["0"] * (3 - len(parts))
    elif len(parts) == 1:
        parts = ["0", *parts, "0"]
    seconds = sum(int(part) * scale for part, scale in zip(reversed(parts), (1, 60, 3600), strict=False))
    return math.fsum((seconds, 86_400 * int(days or 0)))
