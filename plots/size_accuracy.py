"""Figures 2 to 5: pass@1 accuracy against model size, one curve a method."""

import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from evals.benchmarks import BENCHMARKS
from plots.figure_files import write_panels
from results.measured.cells import DENSE, DENSE_SFT
from results.numbers.paper import PAPER
from results.numbers.printed import printed_table

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


def size_accuracy(measured: pd.DataFrame, number: int, benchmark: str, provenance: Mapping[str, str]) -> Figure:
    """Accuracy (%) against size (% of the dense model): this run on the left, the paper's numbers on the right.

    Sizes are relative because a stand-in model's absolute ones lie orders of magnitude from the paper's.

    Args:
        measured: the table of `results.tables.accuracy.build_table` for Table ``number`` (6 to 9).
        provenance: as of `panels`.

    Raises:
        ValueError: nothing was measured on the benchmark.
    """
    printed = printed_table(number)
    printed = printed.reindex(columns=list(dict.fromkeys([*printed, f"{benchmark}_acc"])))
    printed["size_pct"] = 100 * printed["model_size_b"] / printed.loc[printed["method"] == DENSE, "model_size_b"].item()
    label = "model size (% of the dense model's parameters)"
    return panels(measured, printed, benchmark, provenance, curves, PAPER[number].model, label)


def panels(
    measured: pd.DataFrame,
    printed: pd.DataFrame,
    benchmark: str,
    provenance: Mapping[str, str],
    draw: Callable[[Axes, pd.DataFrame, str], None],
    printed_model: str,
    size_label: str,
) -> Figure:
    """Two panels of accuracy (%) against ``size_pct``, drawn by ``draw``: measured points left, printed ones right.

    Args:
        measured, printed: points with ``method``, ``size_pct`` and ``<benchmark>_acc``, the measured ones also with its
            limits ``_low`` and ``_high`` and its problems ``_n``.
        provenance: names the run's ``preset`` and ``model``; its ``problems`` are "generated" or "published".

    Raises:
        ValueError: nothing was measured on the benchmark.
    """
    points = measured.dropna(subset=[f"{benchmark}_acc"])
    if points.empty:
        raise ValueError(f"no cell of this run was measured on {benchmark}: there is nothing to draw")
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.4), layout="constrained", sharex=True)
    draw(left, points, benchmark)
    problems = ", ".join(f"{n:,}" for n in sorted(points[f"{benchmark}_n"].unique()))
    conditions = f"preset {provenance['preset']}, {problems} {provenance['problems']} problems, bars: 95 % Wilson"
    # wrapped, because a title wider than its panel is cut off
    model = textwrap.fill(f"Measured in this run: {provenance['model']}", 52)
    left.set_title(f"{model}\n({conditions})", fontsize="medium")
    left.set_ylabel(f"{BENCHMARKS[benchmark].label} pass@1 accuracy (%)")

    draw(right, printed, benchmark)
    right.set_title(f"Printed in the paper: {printed_model}\n(not measured here)", color="0.35", fontsize="medium")
    right.set_ylabel(f"printed {BENCHMARKS[benchmark].label} accuracy (%)", color="0.35")
    right.set_facecolor("0.96")

    for axes in (left, right):
        axes.set_xlabel(size_label)
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
        axes.grid(color="0.85", lw=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    handles = {
        label: handle for axes in (right, left) for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
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


def curves(axes: Axes, points: pd.DataFrame, benchmark: str, prefix: str = "") -> None:
    """One curve a compressed method, running on to the dense model; error bars where ``points`` have limits.

    prefix: of every label.
    """
    dense = points[points["method"] == DENSE]
    methods = [method for method in dict.fromkeys(points["method"]) if method not in (DENSE, DENSE_SFT)]
    others = iter(OTHER_STYLES * len(methods))
    # IMPACT last, so that it lies on top
    for method in sorted(methods, key=lambda name: name == "impact"):
        marker, line, colour = STYLES.get(method) or next(others)
        width = 2.2 if method == "impact" else 1.3
        compressed = points[points["method"] == method].sort_values("size_pct")
        axes.errorbar(
            compressed["size_pct"], compressed[f"{benchmark}_acc"], yerr=limits(compressed, benchmark), marker=marker,
            ls=line, lw=width, color=colour, ms=5.5, elinewidth=0.9, capsize=2.5, label=f"{prefix}{method.upper()}",
        )  # fmt: skip
        to_dense = pd.concat([compressed.tail(1), dense])
        axes.plot(to_dense["size_pct"], to_dense[f"{benchmark}_acc"], ls=line, lw=width, color=colour)
    if len(dense):
        axes.errorbar(
            dense["size_pct"], dense[f"{benchmark}_acc"], yerr=limits(dense, benchmark),
            fmt="H", ms=9, color="0.3", elinewidth=0.9, capsize=2.5, label=f"{prefix}dense",
        )  # fmt: skip
    control = points[points["method"] == DENSE_SFT]
    if len(control):
        # a little aside of the dense point, whose size it shares
        axes.errorbar(
            control["size_pct"] + 2, control[f"{benchmark}_acc"], yerr=limits(control, benchmark), fmt="*", ms=11,
            mfc="white", color="black", capsize=2.5, lw=1, label=f"{prefix}dense + same SFT",
        )  # fmt: skip


def limits(points: pd.DataFrame, benchmark: str) -> list[pd.Series] | None:
    """Lengths of the error bars below and above, or None for printed points, which have none."""
    if f"{benchmark}_low" not in points:
        return None
    accuracy = points[f"{benchmark}_acc"]
    return [accuracy - points[f"{benchmark}_low"], points[f"{benchmark}_high"] - accuracy]


def write_size_accuracy(
    measured: pd.DataFrame, number: int, benchmarks: Sequence[str], provenance: Mapping[str, str], out: Path
) -> list[Path]:
    """Write the figure of Table ``number`` (Figure 2 for Table 6, ..., 5 for 9), one panel letter a benchmark.

    Returns:
        The files written under ``out``: ``figure2a.png``, ``figure2a.pdf``, ``figure2b.png``, ...
    """
    drawn = (size_accuracy(measured, number, benchmark, provenance) for benchmark in benchmarks)
    return write_panels(drawn, out, f"figure{PAPER[number].figure}")
