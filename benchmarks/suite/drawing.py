"""The picture: ratios with their goals, and how things grow, on log axes."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.suite.results import Curve, Results, Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MET, MISSED, PLAIN = "#2a7f62", "#c1432e", "#7a8793"
NAME_LENGTH = 54


def draw(results: Results, path: Path, title: str) -> None:
    """Write a PNG. Needs matplotlib, the extra `examples`."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    judged = [row for row in results.rows if row.ratio is not None]
    panels = list(dict.fromkeys(curve.panel for curve in results.curves))
    places = len(panels) + bool(judged)
    heights = ([max(2.5, 0.3 * len(judged))] if judged else []) + [3.2] * len(panels)
    figure, grid = plt.subplots(
        max(1, places), 1, figsize=(11, sum(heights) + 1 if heights else 3), height_ratios=heights or [1], squeeze=False
    )
    axes: list[Axes] = [place[0] for place in grid]
    if judged:
        _ratios(axes[0], judged)
    for place, panel in zip(axes[bool(judged) :], panels, strict=False):
        _curves(place, panel, [curve for curve in results.curves if curve.panel == panel])
    figure.suptitle(title, fontsize=11)
    figure.tight_layout(rect=(0, 0, 1, 0.985))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png", dpi=110)
    plt.close(figure)


def _ratios(axes: "Axes", rows: Sequence[Row]) -> None:
    places = range(len(rows), 0, -1)
    colours = [PLAIN if row.met is None else MET if row.met else MISSED for row in rows]
    values = [row.ratio or math.nan for row in rows]
    axes.barh(list(places), [value - 1e-9 for value in values], color=colours, height=0.6)
    for place, row in zip(places, rows, strict=True):
        if row.goal is not None and row.goal.on_ratio:
            axes.plot([row.goal.bound] * 2, [place - 0.42, place + 0.42], color="black", linewidth=1.5)
    names = [f"{row.name} / {row.peer_name}" for row in rows]
    axes.set_yticks(list(places), [name if len(name) <= NAME_LENGTH else f"{name[:NAME_LENGTH]}…" for name in names])
    axes.tick_params(axis="y", labelsize=7)
    axes.set_xscale("log")
    axes.axvline(1, color=PLAIN, linewidth=0.8)
    axes.set_xlabel("times as good as the peer or limit; black: the goal")


def _curves(axes: "Axes", panel: str, curves: Sequence[Curve]) -> None:
    for curve in curves:
        style = (
            {"linewidth": 0.9, "linestyle": "--", "color": PLAIN}
            if curve.is_limit
            else {"marker": "o", "markersize": 3}
        )
        axes.plot(list(curve.xs), list(curve.ys), label=curve.name, **style)  # type: ignore[arg-type]
    axes.set_xscale("log")
    axes.set_yscale("log" if curves[0].log_y else "linear")
    axes.set_xlabel(curves[0].x_label)
    axes.set_ylabel(curves[0].y_label)
    axes.set_title(panel, fontsize=10)
    axes.grid(visible=True, which="both", linewidth=0.3)
    axes.legend(fontsize=7)
