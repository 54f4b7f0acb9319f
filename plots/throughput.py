"""Figure 8: throughput and memory against model size, one curve a method."""

import textwrap
from collections.abc import Mapping
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from plots.figure_files import write_figure
from plots.size_accuracy import OTHER_STYLES, STYLES
from results.measured.cells import DENSE
from results.numbers.paper import PAPER
from results.numbers.printed import printed_table
from results.tables.speed import TABLE

QUANTITIES = {"throughput_tok_s": "throughput (tokens/s)", "memory_gb": "memory (GB)"}


def throughput(measured: pd.DataFrame, route: str, provenance: Mapping[str, str]) -> Figure:
    """Throughput above, memory below, against size: this run on the left, the paper's numbers on the right.

    Each side has axes of its own, since another machine's tokens a second are no matter of the same scale; the bars of
    the throughput measured are the lowest and highest repetition.

    Args:
        measured: the table of `build_speed_table`.
        route: which of its routes to draw.
        provenance: names the run's ``model``.

    Raises:
        ValueError: nothing was measured on that route.
    """
    points = measured[measured["route"] == route]
    if points.empty:
        raise ValueError(f"no model was measured on the route {route!r}: there is nothing to draw")
    printed = printed_table(TABLE)
    figure, panels = plt.subplots(2, 2, figsize=(10, 7.2), layout="constrained", sharex="col")
    billions, unit = (1.0, "billion") if points["model_size_b"].max() > 0.1 else (1e3, "million")
    for (left, right), (column, label) in zip(panels, QUANTITIES.items(), strict=True):
        _curves(left, points.assign(size=points["model_size_b"] * billions), column)
        _curves(right, printed.assign(size=printed["model_size_b"]), column)
        left.set_ylabel(label)
        right.set_ylabel(f"printed {label}", color="0.35")
        right.set_facecolor("0.94")
        for axes in (left, right):
            axes.set_xlim(left=0)
            axes.set_ylim(bottom=0)
            axes.grid(color="0.85" if axes is left else "1", lw=0.6)
            axes.set_axisbelow(True)
            axes.spines[["top", "right"]].set_visible(False)
    kinds = ", ".join(dict.fromkeys(points["memory_kind"])).replace("_", " ")
    panels[1, 0].set_ylabel(f"memory (GB, {kinds})")
    panels[1, 0].set_xlabel(f"model size ({unit} parameters)")
    panels[1, 1].set_xlabel("model size (billion parameters)")
    # wrapped, because a title wider than its panel is cut off
    title = textwrap.fill(f"Measured in this run: {provenance['model']}", 52)
    weights = ", random weights" if points["random_weights"].any() else ""
    panels[0, 0].set_title(f"{title}\n({route.replace('_', ' ')}{weights})", fontsize="medium")
    panels[0, 1].set_title(
        f"Printed in the paper: {PAPER[TABLE].model}\n(not measured here)", color="0.35", fontsize="medium"
    )
    handles = {
        label: handle
        for axes in (panels[0, 1], panels[0, 0])
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        handles.values(),
        handles.keys(),
        loc="outside lower center",
        ncols=len(handles),
        frameon=False,
        handlelength=3.5,
    )
    return figure


def _curves(axes: Axes, points: pd.DataFrame, column: str) -> None:
    """One curve a compressed method, running on to the dense model; bars where the points have a range."""
    dense = points[points["method"] == DENSE]
    methods = [method for method in dict.fromkeys(points["method"]) if method != DENSE]
    others = iter(OTHER_STYLES * len(methods))
    # IMPACT last, so that it lies on top
    for method in sorted(methods, key=lambda name: name == "impact"):
        marker, line, colour = STYLES.get(method) or next(others)
        width = 2.2 if method == "impact" else 1.3
        compressed = points[points["method"] == method].sort_values("size")
        axes.errorbar(
            compressed["size"], compressed[column], yerr=_range(compressed, column),
            marker=marker, ls=line, lw=width, color=colour, ms=5.5, elinewidth=0.9, capsize=2.5, label=method.upper(),
        )  # fmt: skip
        to_dense = pd.concat([compressed.tail(1), dense])
        axes.plot(to_dense["size"], to_dense[column], ls=line, lw=width, color=colour)
    if len(dense):
        axes.errorbar(
            dense["size"], dense[column], yerr=_range(dense, column),
            fmt="H", ms=9, color="0.3", elinewidth=0.9, capsize=2.5, label="dense",
        )  # fmt: skip


def _range(points: pd.DataFrame, column: str) -> list[pd.Series] | None:
    """Lengths of the bars below and above, or None where there is no range: printed numbers, and memory."""
    if column != "throughput_tok_s" or "throughput_low" not in points:
        return None
    return [points[column] - points["throughput_low"], points["throughput_high"] - points[column]]


def write_throughput(measured: pd.DataFrame, provenance: Mapping[str, str], out: Path) -> list[Path]:
    """Write Figure 8 as PNG and PDF under ``out``, one figure a route of the table; those of other routes go.

    Returns:
        The files: ``figure8.png``, ``figure8.pdf``; with several routes ``figure8_<route>.png``, ...
    """
    routes = list(dict.fromkeys(measured["route"]))
    written = []
    for route in routes:
        figure = throughput(measured, route, provenance)
        stem = "figure8" if len(routes) == 1 else "figure8_" + "_".join(route.split())
        written += write_figure(figure, out, stem)
    for stale in {*out.glob("figure8*.png"), *out.glob("figure8*.pdf")} - {*written}:
        stale.unlink()
    return written
