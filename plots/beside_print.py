"""What figures of this run's numbers beside the paper's have in common: curves by method, titles, frames, legend."""

import textwrap
from collections.abc import Mapping
from typing import Any, NamedTuple

import matplotlib

matplotlib.use("Agg")

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from results.measured.cells import DENSE, DENSE_SFT

# Marker, line style and colour (Okabe & Ito) of each method; the first two alone tell them apart in print.
STYLES = {
    "impact": ("o", "-", "#000000"),
    "afm": ("s", "--", "#0072B2"),
    "asvd": ("^", "-.", "#009E73"),
    "fwsvd": ("D", ":", "#D55E00"),
    "svd": ("v", (0, (5, 1, 1, 1, 1, 1)), "#CC79A7"),
    "flap": (">", (0, (1, 1)), "#E69F00"),
}
OTHER_STYLES = [("P", (0, (1, 3)), "#E69F00"), ("X", (0, (8, 2)), "#56B4E9"), ("<", (0, (3, 4)), "#666666")]


class Columns(NamedTuple):
    """Of points, the columns that are drawn: y against x, with bars from <ends>_low to <ends>_high where they are."""

    x: str
    y: str
    ends: str


def marks(axes: Axes, points: pd.DataFrame, columns: Columns, **style: Any) -> None:
    """Points with their bars; none for printed points, which have no ends."""
    x, y, ends = columns
    bars = None
    if f"{ends}_low" in points:
        bars = [points[y] - points[f"{ends}_low"], points[f"{ends}_high"] - points[y]]
    axes.errorbar(points[x], points[y], yerr=bars, **{"elinewidth": 0.9, "capsize": 2.5, **style})


def curves(axes: Axes, points: pd.DataFrame, columns: Columns, prefix: str = "") -> None:
    """One curve a compressed method, running on to the dense model; prefix: of every label."""
    x, y, _ = columns
    dense, control = points[points["method"] == DENSE], points[points["method"] == DENSE_SFT]
    methods = [method for method in dict.fromkeys(points["method"]) if method not in (DENSE, DENSE_SFT)]
    others = iter(OTHER_STYLES * len(methods))
    # IMPACT last, so that it lies on top
    for method in sorted(methods, key=lambda name: name == "impact"):
        marker, line, colour = STYLES.get(method) or next(others)
        drawn: dict[str, Any] = {"ls": line, "lw": 2.2 if method == "impact" else 1.3, "color": colour}
        compressed = points[points["method"] == method].sort_values(x)
        marks(axes, compressed, columns, marker=marker, ms=5.5, label=f"{prefix}{method.upper()}", **drawn)
        to_dense = pd.concat([compressed.tail(1), dense])
        axes.plot(to_dense[x], to_dense[y], **drawn)
    if len(dense):
        marks(axes, dense, columns, fmt="H", ms=9, color="0.3", label=f"{prefix}dense")
    if len(control):
        # a little aside of the dense point, whose size it shares
        aside = control.assign(**{x: control[x] + 2})
        hollow: dict[str, Any] = {"fmt": "*", "ms": 11, "mfc": "white", "color": "black", "elinewidth": 1}
        marks(axes, aside, columns, label=f"{prefix}dense + same SFT", **hollow)


def finish(figure: Figure, panels: Any, provenance: Mapping[str, str], conditions: str, printed_model: str) -> Figure:
    """Titles, frames and one legend, once all is drawn.

    panels: (rows, 2) of Axes, measured on the left, printed on the right. conditions: of the measurement. provenance:
    names the ``model`` that was measured.
    """
    # wrapped, because a title wider than its panel is cut off
    model = textwrap.fill(f"Measured in this run: {provenance['model']}", 52)
    printed = f"Printed in the paper: {printed_model}\n(not measured here)"
    panels[0, 0].set_title(f"{model}\n({conditions})", fontsize="medium")
    panels[0, 1].set_title(printed, color="0.35", fontsize="medium")
    for _, right in panels:
        right.set_facecolor("0.96")
        right.yaxis.label.set_color("0.35")
    for axes in panels.flat:
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
        axes.grid(color="0.85", lw=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    drawn = [axes.get_legend_handles_labels() for axes in panels[0, ::-1]]
    handles = {label: handle for found in drawn for handle, label in zip(*found, strict=True)}
    below: dict[str, Any] = {"loc": "outside lower center", "ncols": len(handles)}
    figure.legend(handles.values(), handles.keys(), frameon=False, handlelength=3.5, **below)
    return figure
