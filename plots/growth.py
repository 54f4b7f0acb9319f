"""How costs grow: measured times against width, depth and tokens, with the exponents that fit them."""

from collections.abc import Mapping
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, ScalarFormatter

from plots.figure_files import write_figure

COLUMNS = ("cost", "axis", "size", "seconds", "low", "high")
AXES = {"width": "width (hidden size)", "depth": "depth (blocks)", "tokens": "tokens"}
_STYLES = (("o", "-", "C0"), ("s", "--", "C1"), ("^", "-.", "C2"), ("D", ":", "C3"))


def fitted_exponent(size: pd.Series, seconds: pd.Series) -> float:
    """p of the power law seconds = c size^p, by least squares of the logarithms.

    Raises:
        ValueError: fewer than two sizes.
    """
    if size.nunique() < 2:
        raise ValueError("an exponent takes two sizes at least")
    return float(np.polyfit(np.log(size.to_numpy(float)), np.log(seconds.to_numpy(float)), 1)[0])


def growth(measured: pd.DataFrame, provenance: Mapping[str, str]) -> Figure:
    """One log-log panel for each axis that costs were measured along, one curve a cost.

    Markers are the measured medians, bars the lowest and highest repetition; thin lines are the fitted power laws,
    whose exponents the legend gives.

    Args:
        measured: rows of ``cost``, ``axis``, ``size``, ``seconds`` and their ``low`` and ``high``.
        provenance: names the ``machine``.

    Raises:
        ValueError: a column is missing, or a cost has fewer than two sizes on an axis.
    """
    if missing := [column for column in COLUMNS if column not in measured]:
        raise ValueError(f"the measurements lack {', '.join(missing)}")
    axes_there = [axis for axis in AXES if axis in set(measured["axis"])]
    figure, panels = plt.subplots(
        1, len(axes_there), figsize=(4.2 * len(axes_there), 4.4), layout="constrained", sharey=True, squeeze=False
    )
    styles = dict(zip(dict.fromkeys(measured["cost"]), _STYLES, strict=False))
    for panel, axis in zip(panels[0], axes_there, strict=True):
        _panel(panel, measured[measured["axis"] == axis], styles)
        panel.set_xlabel(AXES[axis])
    panels[0, 0].set_ylabel("seconds")
    figure.suptitle(f"How costs grow, measured on {provenance['machine']}", fontsize="medium")
    return figure


def _panel(panel: Axes, points: pd.DataFrame, styles: Mapping[str, tuple[str, str, str]]) -> None:
    panel.set_xscale("log")
    panel.set_yscale("log")
    for cost in dict.fromkeys(points["cost"]):
        marker, line, colour = styles[cost]
        own = points[points["cost"] == cost].sort_values("size")
        exponent = fitted_exponent(own["size"], own["seconds"])
        bars = [own["seconds"] - own["low"], own["high"] - own["seconds"]]
        panel.errorbar(
            own["size"], own["seconds"], yerr=bars, fmt=marker, color=colour, ms=5.5, elinewidth=0.9, capsize=2.5,
            label=f"{cost}: exponent {exponent:.2f}",
        )  # fmt: skip
        middle = np.exp(np.log(own["seconds"]).mean() - exponent * np.log(own["size"]).mean())
        panel.plot(own["size"], middle * own["size"].astype(float) ** exponent, ls=line, lw=0.9, color=colour)
    sizes = sorted(set(points["size"]))
    # of two sizes so close that their labels would overlap, the smaller one's
    panel.set_xticks([size for size, before in zip(sizes, [0, *sizes], strict=False) if size > 1.1 * before])
    panel.xaxis.set_major_formatter(ScalarFormatter())
    panel.xaxis.set_minor_formatter(NullFormatter())
    panel.grid(color="0.88", lw=0.6)
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)
    panel.legend(frameon=False, fontsize="small")


def write_growth(measured: pd.DataFrame, provenance: Mapping[str, str], out: Path) -> list[Path]:
    """Write ``growth.png`` and ``growth.pdf`` under ``out`` and return the files."""
    return write_figure(growth(measured, provenance), out, "growth")
