"""What a task costs: measured once here, and read from the suite's last run where there is one."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

STARTS = "python -m benchmarks.suite --only starts"
COMMITS = "python -m benchmarks.suite --only commits"
LIFE = "python -m benchmarks.suite --only life"
CHECK = "python -m benchmarks.scaling --check"
PARTS = f"{CHECK}, or the suite's life"


@dataclass(frozen=True, slots=True)
class Costs:
    """Of one task in a durable swarm whose news come 500 in a message, unless it says otherwise."""

    load_us: float = field(default=3.8, metadata={"what": "daemon, load", "unit": "us/task", "from": PARTS})
    tick_us: float = field(default=4.1, metadata={"what": "daemon, ticks", "unit": "us/task", "from": PARTS})
    update_us: float = field(
        default=3.6, metadata={"what": "daemon, RUNNING and DONE", "unit": "us/task", "from": PARTS}
    )
    message_us: float = field(
        default=470.0,
        metadata={"what": "daemon, a message of one change", "unit": "us", "from": f"{LIFE},updates"},
    )
    client_us: float = field(
        default=1.3, metadata={"what": "a client that drives it", "unit": "us/task", "from": CHECK}
    )
    memory_bytes: float = field(
        default=285.0, metadata={"what": "daemon's memory at its peak", "unit": "bytes/task", "from": LIFE}
    )
    idle_mib: float = field(
        default=72.0, metadata={"what": "memory of a daemon without tasks", "unit": "MiB", "from": STARTS}
    )
    disk_bytes: float = field(default=69.0, metadata={"what": "kept on disk", "unit": "bytes/task", "from": CHECK})
    wire_bytes: float = field(
        default=26.0, metadata={"what": "sent and received over gRPC", "unit": "bytes/task", "from": CHECK}
    )
    commit_ms: float = field(default=0.2, metadata={"what": "a commit to the disk", "unit": "ms", "from": COMMITS})
    restart_us: float = field(default=2.0, metadata={"what": "restart, half done", "unit": "us/task", "from": LIFE})

    def rows(self) -> list[tuple[str, str, str]]:
        """Each cost in words: what, how much, and the command that measures it."""
        return [
            (each.metadata["what"], f"{getattr(self, each.name):.3g} {each.metadata['unit']}", each.metadata["from"])
            for each in fields(self)
        ]


def of_suite(path: Path, costs: Costs) -> Costs:
    """These costs, with what the suite's last run says instead; as they are when there was no run."""
    if not path.exists():
        return costs
    rows = {row["name"]: row for row in json.loads(path.read_text())}
    found = {name: value for name, value in _found(rows, costs) if value is not None}
    return replace(costs, **found)


def _found(rows: Mapping[str, Mapping[str, object]], costs: Costs) -> list[tuple[str, float | None]]:
    tasks = next((_count(name) for name in rows if name.startswith("whole life over gRPC")), None)
    idle = _value(rows, "resident memory when idle")
    known = costs.idle_mib if idle is None else idle
    peak = _value(rows, "the same: the daemon's memory at its peak")
    single = _value(rows, "ApplyUpdate, messages of 1 change, durable")
    commits = _value(rows, "durable updates of 1 change, one after the other", "peer")
    restart = next((_value(rows, name) for name in rows if name.startswith("restart with")), None)
    found: list[tuple[str, float | None]] = [
        ("idle_mib", idle),
        ("message_us", 1e6 / single if single else None),
        ("commit_ms", 1e3 / commits if commits else None),
    ]
    if tasks:
        parts = (("load_us", "load"), ("tick_us", "ticks"), ("update_us", "updates"))
        values = ((field, _value(rows, f"the same: its {part}")) for field, part in parts)
        found += [(field, None if value is None else 1e6 * value / tasks) for field, value in values]
        found.append(("memory_bytes", None if peak is None else (peak - known) * 2**20 / tasks))
        found.append(("restart_us", None if restart is None else 1e6 * restart / tasks))
    return found


def _value(rows: Mapping[str, Mapping[str, object]], name: str, field: str = "ours") -> float | None:
    value = rows.get(name, {}).get(field)
    return float(value) if isinstance(value, int | float) else None


def _count(name: str) -> int | None:
    found = re.search(r"([\d,]+) tasks", name)
    return int(found[1].replace(",", "")) if found else None
