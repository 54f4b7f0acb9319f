"""Figure 8: throughput and memory against model size, one curve a method."""

from collections.abc import Mapping
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from plots.beside_print import Columns, curves, finish
from plots.figure_files import write_figure
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
    figure, panels = plt.subplots(2, 2, figsize=(10, 7.2), layout="constrained", sharex="col")
    billions, unit = (1.0, "billion") if points["model_size_b"].max() > 0.1 else (1e3, "million")
    points, printed = points.assign(size=points["model_size_b"] * billions), printed_table(TABLE)
    for (left, right), (column, label) in zip(panels, QUANTITIES.items(), strict=True):
        columns = Columns("size", column, column.split("_")[0])
        curves(left, points, columns)
        curves(right, printed.assign(size=printed["model_size_b"]), columns)
        left.set_ylabel(label)
        right.set_ylabel(f"printed {label}")
    kinds = ", ".join(dict.fromkeys(points["memory_kind"])).replace("_", " ")
    panels[1, 0].set_ylabel(f"memory (GB, {kinds})")
    panels[1, 0].set_xlabel(f"model size ({unit} parameters)")
    panels[1, 1].set_xlabel("model size (billion parameters)")
    weights = ", random weights" if points["random_weights"].any() else ""
    return finish(figure, panels, provenance, f"{route.replace('_', ' ')}{weights}", PAPER[TABLE].model)


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
