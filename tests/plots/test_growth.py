from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from plots.growth import COLUMNS, fitted_exponent, growth, write_growth

PROVENANCE = {"machine": "invented"}


def measured(exponents: dict[str, float]) -> pd.DataFrame:
    """Exact power laws at four sizes along two axes, on the first of them only for the last cost."""
    records = []
    for i, (cost, exponent) in enumerate(exponents.items()):
        for axis in ("width", "tokens")[: 1 if i == len(exponents) - 1 else 2]:
            for size in (64, 128, 256, 512):
                seconds = 0.01 * (i + 1) * (size / 64) ** exponent
                records.append((cost, axis, size, seconds, 0.9 * seconds, 1.2 * seconds))
    return pd.DataFrame(records, columns=COLUMNS)


def test_an_exact_power_law_has_its_exponent() -> None:
    size = pd.Series([10, 20, 50, 70])
    assert fitted_exponent(size, 3e-4 * size**2.5) == pytest.approx(2.5)
    with pytest.raises(ValueError, match="two sizes"):
        fitted_exponent(pd.Series([10, 10]), pd.Series([1.0, 2.0]))


def test_each_panel_holds_its_points_and_their_exponents() -> None:
    table = measured({"a pass": 2.0, "a step": 1.0})
    figure = growth(table, PROVENANCE)
    assert [axes.get_xlabel().split()[0] for axes in figure.axes] == ["width", "tokens"]
    for axes, axis in zip(figure.axes, ("width", "tokens"), strict=True):
        assert axes.get_xscale() == axes.get_yscale() == "log"
        own = table[table["axis"] == axis]
        curves = {str(c.get_label()).split(":")[0]: c for c in axes.containers}
        assert set(curves) == set(own["cost"])
        for cost, curve in curves.items():
            points = own[own["cost"] == cost]
            assert list(curve.lines[0].get_xdata()) == list(points["size"])
            assert list(curve.lines[0].get_ydata()) == list(points["seconds"])
            ends = np.array([segment[:, 1] for segment in curve.lines[2][0].get_segments()])
            assert ends == pytest.approx(points[["low", "high"]].to_numpy())
    legend = figure.axes[0].get_legend()
    assert legend is not None
    assert {text.get_text() for text in legend.get_texts()} == {"a pass: exponent 2.00", "a step: exponent 1.00"}
    # the fitted line of an exact law runs through its points
    thin = next(line for line in figure.axes[0].lines if line.get_linestyle() != "None")
    assert np.asarray(thin.get_ydata()) == pytest.approx([0.01, 0.04, 0.16, 0.64])
    plt.close(figure)


def test_a_missing_column_is_refused() -> None:
    with pytest.raises(ValueError, match="lack low"):
        growth(measured({"a": 1.0, "b": 1.0}).drop(columns="low"), PROVENANCE)


def test_files_repeat(tmp_path: Path) -> None:
    table = measured({"a pass": 2.0, "a step": 1.0})
    paths = write_growth(table, PROVENANCE, tmp_path)
    assert [path.name for path in paths] == ["growth.png", "growth.pdf"]
    assert sorted(tmp_path.iterdir()) == sorted(paths)
    first = paths[1].read_bytes()
    write_growth(table, PROVENANCE, tmp_path)
    assert paths[1].read_bytes() == first
