"""Figures 6 and 7: pass@1 accuracy against nominal size of quantized models, with and without compression."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from plots.beside_print import Columns, curves, marks
from plots.figure_files import write_panels
from plots.size_accuracy import panels
from results.measured.cells import DENSE
from results.measured.quantized_cells import QLORA, QUANTIZED
from results.numbers.paper import PAPER
from results.numbers.printed import MODELS, printed_table

# the model of each figure
FIGURES = {f"figure{PAPER[table].figure}": model for model, (table, _, _) in MODELS.items()}
# markers that no curve has, and empty where those of curves are filled
FOUR_BIT = {QUANTIZED: ("p", "4-bit dense"), QLORA: ("*", "4-bit QLoRA")}


def quantization(
    eight_bit: pd.DataFrame, four_bit: pd.DataFrame, name: str, benchmark: str, provenance: Mapping[str, str]
) -> Figure:
    """Accuracy (%) against nominal size: this run on the left, the paper's numbers on the right.

    8-bit models are curves by method, 4-bit ones points. Sizes are in percent of the dense model's at one byte a
    parameter, because a stand-in model's absolute ones lie orders of magnitude from the paper's.

    Args:
        eight_bit, four_bit: the tables of `build_quantization_table` for Table 1 (Figure 6) or 2
            (Figure 7), and for Table 3, of which the figure's model is drawn.
        provenance: as of `plots.size_accuracy.panels`.

    Raises:
        ValueError: nothing was measured on the benchmark.
    """
    model = FIGURES[name]
    table, _, printed_name = MODELS[model]
    printed_four_bit = printed_table(3)
    printed = pd.concat([printed_table(table), printed_four_bit[printed_four_bit["model"] == printed_name]])
    dense = printed.loc[printed["method"] == DENSE, "model_size_gb"].item()
    printed["size_pct"] = 100 * printed["model_size_gb"] / dense
    measured = pd.concat([eight_bit, four_bit[four_bit["model"] == model]])
    label = "nominal size (% of the dense model's at 8 bits)"
    return panels(measured, printed, benchmark, provenance, _draw, PAPER[table].model, label)


def _draw(axes: Axes, points: pd.DataFrame, columns: Columns) -> None:
    curves(axes, points[points["bits"] == 8], columns, prefix="8-bit ")
    for method, (marker, label) in FOUR_BIT.items():
        if len(found := points[points["method"] == method]):
            marks(axes, found, columns, fmt=marker, ms=10, mfc="white", color="black", label=label)


def write_quantization_figure(
    eight_bit: pd.DataFrame,
    four_bit: pd.DataFrame,
    name: str,
    benchmarks: Sequence[str],
    provenance: Mapping[str, str],
    out: Path,
) -> list[Path]:
    """Write ``figure6`` or ``figure7``, one panel letter a benchmark; arguments as of `quantization`.

    Returns:
        The files written under ``out``: ``figure6a.png``, ``figure6a.pdf``, ``figure6b.png``, ...
    """
    drawn = (quantization(eight_bit, four_bit, name, benchmark, provenance) for benchmark in benchmarks)
    return write_panels(drawn, out, name)
