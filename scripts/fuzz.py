"""`make fuzz`: random and mutated bytes at the port, as messages of every RPC, and through decoder and validator.

A finding is a status INTERNAL or UNKNOWN, a daemon that ends, hangs, grows, or cannot read its own journals, an
exception that is no SwarmdError, a refused message that changed something, or a state that does not agree with itself.
Inputs of findings are kept below `build/fuzz/findings`, inputs with a new outcome below `build/fuzz/corpus`, with which
the next run begins. The exit status is 1 when anything was found.
"""

import argparse
import signal
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.fuzz.campaign import Campaign  # noqa: E402

ROUND_SECONDS = 60.0
"""After so long the daemon is killed, and the next one has to read what it left."""


def main() -> int:
    """Fuzz for as long as the arguments say, half of the time in this process and half of it at a daemon."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that no daemon is left running
    arguments = _parser().parse_args()
    place: Path = arguments.output
    campaign = Campaign(arguments.seed, new=place / "corpus", findings_folder=place / "findings")
    until = time.monotonic() + arguments.duration
    while (left := until - time.monotonic()) > 0:
        part = min(ROUND_SECONDS, left / 2)
        campaign.validate(seconds=part)
        campaign.attack(seconds=part)
        print(
            f"fuzz: {campaign.executions.total():,} executions, {len(campaign.outcomes)} outcomes, "
            f"{campaign.new_entries} new entries, {len(campaign.findings)} findings",
            flush=True,
        )
    campaign.report(print)
    return 1 if campaign.findings else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--duration", type=float, default=600, metavar="SECONDS", help="how long; default: 600")
    parser.add_argument("--seed", type=int, default=1, help="of everything that is random")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "fuzz", help="where inputs are kept")
    return parser


if __name__ == "__main__":
    sys.exit(main())
