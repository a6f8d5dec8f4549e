"""Last stage: one plot and one small table of all locations.

    python report.py

Writes epidemic.png, table.csv and table.md.
"""

import csv
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
from epidemic import LOCATIONS, RESTRICTION_DAYS, Floats, Location, results_directory

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

mpl.use("Agg")
import matplotlib.pyplot as plt

LOW, LOWER, MIDDLE, UPPER, HIGH = range(5)
INK, MUTED, BLUE, AMBER = "#1f2933", "#7b8794", "#1f6f8b", "#e8a33d"
HEADINGS = ("Location", "Population", "Infected (%)", "Peak on day", "Beds at peak", "Beds per 100,000")


@dataclass(frozen=True)
class Summary:
    """What the third stage found for one location; the rows of the arrays are its five quantiles."""

    location: Location
    draws: int
    infections: Floats
    total: Floats
    peak_day: Floats
    peak_beds: Floats

    @classmethod
    def read(cls, path: Path) -> "Summary":
        with np.load(path) as saved:
            names = ("infections", "total", "peak_day", "peak_beds")
            return cls(LOCATIONS[path.stem], int(saved["draws"]), *(saved[name] for name in names))


def table_row(summary: Summary) -> list[str]:
    """The location's line, each number with its 95% interval."""
    people = summary.location.population
    return [
        summary.location.title,
        f"{people:,}",
        interval(100 * summary.total / people, ".0f"),
        interval(summary.peak_day, ".0f"),
        interval(summary.peak_beds, ",.0f"),
        interval(1e5 * summary.peak_beds / people, ".0f"),
    ]


def interval(quantiles: Floats, spec: str) -> str:
    """`12 (10 to 15)`."""
    return f"{quantiles[MIDDLE]:{spec}} ({quantiles[LOW]:{spec}} to {quantiles[HIGH]:{spec}})"


def write_tables(directory: Path, rows: list[list[str]]) -> None:
    with (directory / "table.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([HEADINGS, *rows])
    lines = [HEADINGS, ("---",) + ("---:",) * (len(HEADINGS) - 1), *rows]
    text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    (directory / "table.md").write_text(text + "\n", encoding="utf-8")


def draw_panel(axes: "Axes", summary: Summary) -> None:
    """One location: new infections per 1,000 people, with its intervals and the restriction."""
    courses = 1000 * summary.infections / summary.location.population
    days = np.arange(courses.shape[1])
    start = summary.location.restriction_day
    axes.axvspan(start, start + RESTRICTION_DAYS, color=AMBER, alpha=0.16, linewidth=0)
    axes.fill_between(days, courses[LOW], courses[HIGH], color=BLUE, alpha=0.18, linewidth=0)
    axes.fill_between(days, courses[LOWER], courses[UPPER], color=BLUE, alpha=0.38, linewidth=0)
    axes.plot(days, courses[MIDDLE], color=BLUE, linewidth=1.8)
    axes.set_title(summary.location.title, loc="left", fontsize=12, fontweight="bold", color=INK)
    percent = 100 * summary.total / summary.location.population
    infected = f"{percent[MIDDLE]:.0f}% infected ({percent[LOW]:.0f} to {percent[HIGH]:.0f})"
    axes.set_title(infected, loc="right", fontsize=9, color=MUTED)
    axes.set_xlim(0, days[-1])
    axes.grid(axis="y", color=MUTED, alpha=0.2, linewidth=0.7)
    axes.tick_params(colors=MUTED, labelsize=9, length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(MUTED)


def draw_figure(summaries: list[Summary]) -> "Figure":
    """A panel for each location, three in a row."""
    columns = min(3, len(summaries))
    rows = -(-len(summaries) // columns)
    figure, grid = plt.subplots(
        rows, columns, figsize=(4.2 * columns, 2.9 * rows + 1.1), sharex=True, sharey=True, squeeze=False
    )
    for axes in grid.flat[len(summaries) :]:
        axes.set_visible(False)
    for axes, summary in zip(grid.flat, summaries, strict=False):
        draw_panel(axes, summary)
    grid[0, 0].set_ylim(bottom=0)
    for axes in grid[:, 0]:
        axes.set_ylabel("new infections per 1,000 a day", fontsize=9, color=MUTED)
    for axes in grid[-1]:
        axes.set_xlabel("day", fontsize=9, color=MUTED)
    draws = summaries[0].draws
    figure.suptitle(
        f"One epidemic, {draws} futures in each place", x=0.012, ha="left", fontsize=16, fontweight="bold", color=INK
    )
    legend = "line: median   dark band: 50% of draws   light band: 95%   amber: contacts restricted"
    figure.text(0.012, 0.012, legend, fontsize=9, color=MUTED)
    figure.tight_layout(rect=(0, 0.035, 1, 0.985), w_pad=1.6, h_pad=1.4)
    return figure


def main() -> None:
    """Write the plot and the tables of every location that was summarized."""
    results = results_directory()
    paths = [results / "summaries" / f"{name}.npz" for name in LOCATIONS]
    summaries = [Summary.read(path) for path in paths if path.exists()]
    if not summaries:
        sys.exit(f"there are no summaries in {results / 'summaries'}; run summarize.py first")
    write_tables(results, [table_row(summary) for summary in summaries])
    draw_figure(summaries).savefig(results / "epidemic.png", dpi=150, facecolor="white")
    print(f"see {results / 'epidemic.png'} and {results / 'table.md'}")


if __name__ == "__main__":
    main()
