"""`python -m benchmarks.scaling`: simulate ten and a thousand times the size, and print what becomes the limit.

    python -m benchmarks.scaling [--bench build/bench.json] [--markdown] [--write docs/scaling.md]
    python -m benchmarks.scaling --check [--tasks 200000] [--rounds 3] [--write docs/scaling.md]

Costs are those that were measured when docs/scaling.md was written; where the suite's last run is there, its own.
`--check` runs one and two real daemons here and compares: 1 is returned when the model is too far off.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.scaling.check import NEAR, compared
from benchmarks.scaling.costs import Costs, of_suite
from benchmarks.scaling.model import Setup, simulated
from benchmarks.scaling.scenarios import PARTS
from benchmarks.suite.setting import ROOT, cores

HEAD = ("what", "takes", "busiest", "next", "memory a daemon", "disk", "network", "restart")
SIMULATED, CHECKED = "simulated", "checked"
"""What stands between the marks of a page."""
GB = 1e9


def row(setup: Setup, costs: Costs) -> tuple[str, ...]:
    """One line of the table."""
    found = simulated(setup, costs)
    first, second, *_ = sorted(found.busy.items(), key=lambda item: -item[1])
    return (
        setup.name,
        duration(found.seconds),
        f"{first[0]} {first[1]:.0%}",
        f"{second[0]} {second[1]:.0%}" if second[1] >= 0.005 else "",
        size(found.memory_bytes),
        size(found.disk_bytes),
        size(found.wire_bytes),
        duration(found.restart_seconds),
    )


def duration(seconds: float) -> str:
    """As people say it."""
    for unit, length in (("years", 365 * 86_400), ("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds:.2g} s"


def size(count: float) -> str:
    """Bytes, likewise."""
    for unit, length in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= length:
            return f"{count / length:.3g} {unit}"
    return f"{count / 1e3:.3g} kB"


def plain(rows: Sequence[Sequence[str]]) -> str:
    """Columns of text."""
    widths = [max(len(each[place]) for each in rows) for place in range(len(rows[0]))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(each, widths, strict=True)) for each in rows)
    return "\n".join(line.rstrip() for line in lines) + "\n"


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A table for a page; the first row is its head."""
    head, *rest = rows
    lines = [head, ["---"] * len(head), *rest]
    return "\n".join(f"| {' | '.join(each)} |" for each in lines) + "\n"


def report(costs: Costs, *, as_markdown: bool) -> str:
    """The costs, and a table for each size."""
    table = markdown if as_markdown else plain
    parts = [table([("cost", "measured", "by"), *costs.rows()])]
    for name, setups in PARTS:
        title = f"### {name}" if as_markdown else name
        parts.append(f"{title}\n\n{table([HEAD, *(row(each, costs) for each in setups)])}")
    return "\n".join(parts)


def check(tasks: int, rounds: int, costs: Costs) -> tuple[str, float]:
    """What one and two daemons take here and in the model; and how far off the model is for two, beside one."""
    load = os.getloadavg()[0]
    rows, real = compared(tasks, costs, rounds)
    (_, one, said_of_one), (_, two, said_of_two) = rows
    off = (said_of_two / said_of_one) / (two / one) - 1
    head = (f"daemons on {cores()} cores, {tasks:,} tasks each", "measured", "simulated")
    table = markdown([head, *((str(daemons), f"{took:.2f} s", f"{said:.2f} s") for daemons, took, said in rows)])
    busy = (
        f" (The load was {load:.1f} at the start: a machine that does other things proves little.)" if load > 1 else ""
    )
    told = (
        f"Two take {two / one:.2f} times as long as one; the model says {said_of_two / said_of_one:.2f} ({off:+.0%})."
    )
    print(plain([("cost", "measured", "by"), *real.rows()]))
    return f"{table}\n{told}{busy}\n", off


def put(page: str, kind: str, text: str) -> str:
    """The page with this text between its marks of that kind. Raises ValueError when it has none."""
    begin, end = f"<!-- {kind}: begin -->\n", f"<!-- {kind}: end -->\n"
    before, found, rest = page.partition(begin)
    _, also_found, after = rest.partition(end)
    if not (found and also_found):
        raise ValueError(f"there is no line {begin.strip()!r} with {end.strip()!r} after it")
    return f"{before}{begin}\n{text.strip()}\n\n{end}{after}"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.scaling", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--bench", type=Path, default=ROOT / "build" / "bench.json", metavar="FILE")
    parser.add_argument("--markdown", action="store_true", help="tables for a page")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="put them between the marks of a page")
    parser.add_argument("--check", action="store_true", help="real daemons beside the model")
    parser.add_argument("--tasks", type=int, default=200_000, help="of each daemon, for --check")
    parser.add_argument("--rounds", type=int, default=3, help="the least of so many counts, for --check")
    options = parser.parse_args(arguments)
    costs = of_suite(options.bench, Costs())
    off = 0.0
    if options.check:
        text, off = check(options.tasks, options.rounds, costs)
    else:
        text = report(costs, as_markdown=options.markdown or options.write is not None)
    if options.write is None:
        print(text)
    else:
        try:
            page = put(options.write.read_text(), CHECKED if options.check else SIMULATED, text)
        except ValueError as error:
            print(f"{options.write}: {error}", file=sys.stderr)
            return 1
        options.write.write_text(page)
    return 0 if abs(off) <= NEAR else 1


if __name__ == "__main__":
    sys.exit(main())
