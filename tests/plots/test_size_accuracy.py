from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread

from plots.beside_print import OTHER_STYLES, STYLES
from plots.size_accuracy import size_accuracy, write_size_accuracy
from results.measured.cells import BenchmarkResult, Cell
from results.tables.accuracy import build_table

PROVENANCE = {"preset": "tiny", "model": "invented", "problems": "generated"}


def measured(methods: list[str]) -> pd.DataFrame:
    """Two rows a method with invented accuracies, and the dense model with its control."""
    cells = []
    for i, method in enumerate(["dense", "dense_sft", *methods]):
        for row in (0,) if i < 2 else (1, 2):
            solved = 18 - 3 * row - i
            cells.append(
                Cell(
                    method=method, row=row, keep_pct=50.0, rank_rule="nuclear", eta=None, seed=0,
                    parameters=1_000_000 - 300_000 * row, dense_parameters=1_000_000, ppl_before_sft={},
                    ppl_after_sft={}, runs={},
                    benchmarks={"gsm8k": BenchmarkResult(n=20, correct=[k < solved for k in range(20)])},
                )
            )  # fmt: skip
    return build_table(cells, 6, ["gsm8k", "math"])


def test_the_measured_panel_holds_exactly_the_measured_points() -> None:
    table = measured(["svd", "impact"])
    figure = size_accuracy(table, 6, "gsm8k", PROVENANCE)
    left, right = figure.axes
    assert (
        "Measured" in left.get_title()
        and "20 generated problems" in left.get_title()
        and "Printed" in right.get_title()
    )
    curves = {c.get_label(): c.lines[0] for c in left.containers}
    assert set(curves) == {"SVD", "IMPACT", "dense", "dense + same SFT"}
    for method in ("svd", "impact"):
        rows = table[table["method"] == method].sort_values("size_pct")
        assert list(curves[method.upper()].get_xdata()) == list(rows["size_pct"])
        assert list(curves[method.upper()].get_ydata()) == list(rows["gsm8k_acc"])
        bars = next(c for c in left.containers if c.get_label() == method.upper()).lines[2][0]
        ends = np.array([segment[:, 1] for segment in bars.get_segments()])
        assert ends == pytest.approx(rows[["gsm8k_low", "gsm8k_high"]].to_numpy())
    assert {c.get_label() for c in right.containers} == {"SVD", "FWSVD", "ASVD", "AFM", "IMPACT", "dense"}
    plt.close(figure)


def test_methods_differ_without_colour() -> None:
    styles = [*STYLES.values(), *OTHER_STYLES]
    assert len({marker for marker, _, _ in styles}) == len({line for _, line, _ in styles}) == len(styles)
    figure = size_accuracy(measured(["air", "acip", "svd_llm", "impact"]), 6, "gsm8k", PROVENANCE)
    markers = [c.lines[0].get_marker() for c in figure.axes[0].containers]
    assert len(set(markers)) == len(markers)
    plt.close(figure)


def test_nothing_measured_is_refused() -> None:
    with pytest.raises(ValueError, match="math"):
        size_accuracy(measured(["impact"]), 6, "math", PROVENANCE)


def test_files_are_written_whole_and_repeat(tmp_path: Path) -> None:
    table = measured(["impact"])
    paths = write_size_accuracy(table, 6, ["gsm8k"], PROVENANCE, tmp_path)
    assert [p.name for p in paths] == ["figure2a.png", "figure2a.pdf"]
    assert sorted(tmp_path.iterdir()) == sorted(paths)
    assert imread(paths[0]).std() > 0.05
    first = paths[1].read_bytes()
    assert first.startswith(b"%PDF")
    write_size_accuracy(table, 6, ["gsm8k"], PROVENANCE, tmp_path)
    assert paths[1].read_bytes() == first
