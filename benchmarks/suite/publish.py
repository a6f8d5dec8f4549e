"""`python -m benchmarks.suite.publish`: put the table that the last run wrote into the README."""

import argparse
import sys
from pathlib import Path

from benchmarks.suite.setting import ROOT

BEGIN, END = "<!-- figures: begin -->\n", "<!-- figures: end -->\n"


def published(page: str, figures: str) -> str:
    """The page with these figures between its marks. Raises ValueError for a page without them."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"there is no place for figures: a line {BEGIN.strip()!r}, and after it {END.strip()!r}")
    return f"{before}{begin}\n{figures.strip()}\n\n{end}{after}"


def main(arguments: list[str] | None = None) -> int:
    """Returns 1 when there is nothing to put in, or no place for it."""
    parser = argparse.ArgumentParser(prog="benchmarks.suite.publish", description=__doc__)
    parser.add_argument("--figures", type=Path, default=ROOT / "build" / "bench.md", metavar="FILE")
    parser.add_argument("--page", type=Path, default=ROOT / "README.md", metavar="FILE")
    options = parser.parse_args(arguments)
    if not options.figures.exists():
        print(f"{options.figures} is not there: `make bench` writes it", file=sys.stderr)
        return 1
    try:
        page = published(options.page.read_text(), options.figures.read_text())
    except ValueError as error:
        print(f"{options.page}: {error}", file=sys.stderr)
        return 1
    options.page.write_text(page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
