"""Figures 2 to 5: pass@1 accuracy against model size, one curve a method."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from evals.benchmarks import BENCHMARKS
from plots.beside_print import Columns, curves, finish
from plots.figure_files import write_panels
from results.measured.cells import DENSE
from results.numbers.paper import PAPER
from results.numbers.printed import printed_table


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
    draw: Callable[[Axes, pd.DataFrame, Columns], None],
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
    figure, both = plt.subplots(1, 2, figsize=(10, 4.4), layout="constrained", sharex=True, squeeze=False)
    columns, label = Columns("size_pct", f"{benchmark}_acc", benchmark), BENCHMARKS[benchmark].label
    for axes, drawn, said in zip(both.flat, (points, printed), ("{} pass@1", "printed {}"), strict=True):
        draw(axes, drawn, columns)
        axes.set_xlabel(size_label)
        axes.set_ylabel(f"{said.format(label)} accuracy (%)")
    problems = ", ".join(f"{n:,}" for n in sorted(points[f"{benchmark}_n"].unique()))
    conditions = f"preset {provenance['preset']}, {problems} {provenance['problems']} problems, bars: 95 % Wilson"
    return finish(figure, both, provenance, conditions, printed_model)


def write_size_accuracy(
    measured: pd.DataFrame, number: int, benchmarks: Sequence[str], provenance: Mapping[str, str], out: Path
) -> list[Path]:
    """Write the figure of Table ``number`` (Figure 2 for Table 6, ..., 5 for 9), one panel letter a benchmark.

    Returns:
        The files written under ``out``: ``figure2a.png``, ``figure2a.pdf``, ``figure2b.png``, ...
    """
    drawn = (size_accuracy(measured, number, benchmark, provenance) for benchmark in benchmarks)
    return write_panels(drawn, out, f"figure{PAPER[number].figure}")
