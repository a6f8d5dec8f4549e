"""`python -m benchmarks.suite`: measure, print the table, write it as JSON and draw it. `make bench` runs it."""

import argparse
import sys
import tempfile
import time
import traceback
from pathlib import Path

from benchmarks.suite import machine, showing
from benchmarks.suite.drawing import draw
from benchmarks.suite.measurements import ALL, Measurement, chosen
from benchmarks.suite.results import Results
from benchmarks.suite.setting import FULL, QUICK, ROOT, Peers, Setting

PEERS_PYTHON = ROOT / "build" / "bench" / "venv" / "bin" / "python"


def options_of(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.suite", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller sizes, under two minutes")
    parser.add_argument(
        "--large", action="store_true", help="also the life of a swarm of ten million tasks: minutes, 3 GB"
    )
    parser.add_argument("--only", default="", metavar="NAMES", help=f"of {', '.join(each.name for each in ALL)}")
    parser.add_argument("--peers", type=Path, default=PEERS_PYTHON, metavar="PYTHON", help="of the peers' environment")
    parser.add_argument("--json", type=Path, default=ROOT / "build" / "bench.json", metavar="FILE")
    parser.add_argument("--picture", type=Path, default=ROOT / "build" / "bench.png", metavar="FILE")
    parser.add_argument("--table", type=Path, default=ROOT / "build" / "bench.txt", metavar="FILE")
    parser.add_argument("--markdown", type=Path, default=ROOT / "build" / "bench.md", metavar="FILE")
    options = parser.parse_args(arguments)
    try:
        options.measurements = chosen(options.only)
    except ValueError as error:
        parser.error(str(error))
    return options


def main(arguments: list[str] | None = None) -> int:
    """Returns 1 when a measurement did not come to its end; a goal that is missed is no error."""
    options = options_of(arguments)
    results = Results()
    peers = Peers(options.peers if options.peers.exists() else None)
    if not peers.versions:
        results.remarks.append("no peers: `python scripts/bench_environment.py` installs them, and says why it cannot")
    where = machine.describe(peers)
    with tempfile.TemporaryDirectory(prefix="swb-") as folder:
        setting = Setting(QUICK if options.quick else FULL, Path(folder), peers, large=options.large)
        measure_all(options.measurements, results, setting)
    title = "swarmd, its peers and the limits" + (
        " (quick: smaller sizes; the goals are for the full ones)" if options.quick else ""
    )
    text = showing.table(results, where, title)
    print(text)
    options.table.parent.mkdir(parents=True, exist_ok=True)
    options.table.write_text(text)
    options.markdown.parent.mkdir(parents=True, exist_ok=True)
    options.markdown.write_text(showing.markdown(results, where))
    results.write_json(options.json)
    _draw(results, options.picture, where)
    return 1 if results.failures else 0


def measure_all(measurements: list[Measurement], results: Results, setting: Setting) -> None:
    """One after the other; one that fails does not keep the others from being made."""
    for number, each in enumerate(measurements, 1):
        begun = time.monotonic()
        print(f"[{number}/{len(measurements)}] {each.name} ...", end="", file=sys.stderr, flush=True)
        try:
            each.measure(results, setting)
        except Exception as error:  # noqa: BLE001 - the table says so, and the exit code
            traceback.print_exc()
            results.failures.append(f"{each.name}: {error}")
        print(f" {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)


def _draw(results: Results, path: Path, where: list[str]) -> None:
    try:
        draw(results, path, where[0])
    except ImportError:
        print("no picture: matplotlib is not installed; it is in swarmd's extra `examples`")


if __name__ == "__main__":
    sys.exit(main())
