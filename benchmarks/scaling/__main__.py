"""`python -m benchmarks.scaling`: simulate ten and a thousand times the size, and print what becomes the limit.

    python -m benchmarks.scaling [--bench build/bench.json] [--markdown] [--write docs/scaling.md]
    python -m benchmarks.scaling --check [--tasks 200000] [--rounds 3]

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
from benchmarks.suite.setting import ROOT

HEAD = ("what", "takes", "busiest", "next", "memory a daemon", "disk", "network", "restart")
BEGIN, END = "<!-- simulated: begin -->\n", "<!-- simulated: end -->\n"
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


def check(tasks: int, rounds: int, costs: Costs) -> int:
    """Returns 1 when what two daemons take, beside one, is not what the model says."""
    load = os.getloadavg()[0]
    if load > 1:
        print(f"The load is {load:.1f}: a machine that does other things proves little.", file=sys.stderr)
    rows, real = compared(tasks, costs, rounds)
    print(plain([("cost", "measured", "by"), *real.rows()]))
    head = ("daemons here", "measured", "simulated")
    print(plain([head, *((str(daemons), f"{took:.2f} s", f"{said:.2f} s") for daemons, took, said in rows)]))
    (_, one, said_of_one), (_, two, said_of_two) = rows
    off = (said_of_two / said_of_one) / (two / one) - 1
    print(
        f"Two take {two / one:.2f} times as long as one; the model says {said_of_two / said_of_one:.2f} ({off:+.0%})."
    )
    return 0 if abs(off) <= NEAR else 1


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
    if options.check:
        return check(options.tasks, options.rounds, costs)
    text = report(costs, as_markdown=options.markdown or options.write is not None)
    if options.write is None:
        print(text)
        return 0
    before, begin, rest = options.write.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        print(f"{options.write}: there is no line {BEGIN.strip()!r} with {END.strip()!r} after it", file=sys.stderr)
        return 1
    options.write.write_text(f"{before}{begin}\n{text.strip()}\n\n{end}{after}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
