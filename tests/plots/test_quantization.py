from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread

from plots.quantization import quantization, write_quantization_figure
from results.measured.cells import BenchmarkResult
from results.measured.quantized_cells import QuantizedCell
from results.tables.quantized import build_quantization_table

PROVENANCE = {"preset": "tiny", "model": "invented", "problems": "generated"}
LABELS = {"flap": "8-bit FLAP", "afm": "8-bit AFM", "impact": "8-bit IMPACT", "dense": "8-bit dense"}
FOUR_BIT_LABELS = {"quantized": "4-bit dense", "qlora": "4-bit QLoRA"}


def cell(model: str, method: str, row: int, bits: int, size: int, solved: int) -> QuantizedCell:
    return QuantizedCell(
        model=model, method=method, row=row, keep=None, rank_rule="invented", eta=None, bits=bits, scheme="invented",
        gauge="as trained", seed=0, parameters=size, dense_parameters=1_000_000, nominal_bytes=size, file_bytes=size,
        memory_bytes=size, perplexity={}, unquantized_perplexity={}, unquantized={}, runs={},
        benchmarks={"gsm8k": BenchmarkResult(n=20, correct=[k < solved for k in range(20)])},
    )  # fmt: skip


def measured(number: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The 8-bit table of Figure 6 or 7, and Table 3 of both models; all accuracies invented."""
    model = "7b" if number == 6 else "13b"
    eight = [cell(model, "dense", 0, 8, 1_000_000, 18)]
    for i, method in enumerate(("flap", "afm", "impact")):
        eight += [cell(model, method, row, 8, 900_000 - 250_000 * row, 16 - 3 * row + i) for row in (1, 2)]
    four = [cell("7b", "quantized", 1, 4, 500_000, 9), cell("7b", "qlora", 1, 4, 510_000, 12)]
    four += [cell("13b", "quantized", 1, 4, 500_000, 3), cell("13b", "qlora", 1, 4, 510_000, 4)]
    tables = (number - 5, eight), (3, four)
    first, second = (build_quantization_table(cells, table, ["gsm8k", "math"]) for table, cells in tables)
    return first, second


@pytest.mark.parametrize(("number", "model"), [(6, "7b"), (7, "13b")])
def test_the_measured_panel_holds_exactly_the_points_of_its_model(number: int, model: str) -> None:
    eight, four = measured(number)
    figure = quantization(eight, four, f"figure{number}", "gsm8k", PROVENANCE)
    left, right = figure.axes
    assert "Measured" in left.get_title() and "Printed" in right.get_title()
    assert f"Llama 2-{model.upper()}" in right.get_title()
    assert "nominal" in left.get_xlabel()
    drawn = {c.get_label(): c for c in left.containers}
    assert set(drawn) == {c.get_label() for c in right.containers} == {*LABELS.values(), *FOUR_BIT_LABELS.values()}
    for table, labels in ((eight, LABELS), (four[four["model"] == model], FOUR_BIT_LABELS)):
        for method, label in labels.items():
            rows = table[table["method"] == method].sort_values("size_pct")
            assert list(drawn[label].lines[0].get_xdata()) == list(rows["size_pct"])
            assert list(drawn[label].lines[0].get_ydata()) == list(rows["gsm8k_acc"])
            ends = np.array([segment[:, 1] for segment in drawn[label].lines[2][0].get_segments()])
            assert ends == pytest.approx(rows[["gsm8k_low", "gsm8k_high"]].to_numpy())
    plt.close(figure)


def test_printed_sizes_are_shares_of_the_printed_dense_model() -> None:
    figure = quantization(*measured(6), "figure6", "gsm8k", PROVENANCE)
    printed = {c.get_label(): c.lines[0] for c in figure.axes[1].containers}
    assert list(printed["4-bit QLoRA"].get_xdata()) == pytest.approx([100 * 3.45 / 6.74])
    assert list(printed["4-bit QLoRA"].get_ydata()) == [54.1]
    assert list(printed["8-bit IMPACT"].get_xdata()) == pytest.approx(
        [100 * gb / 6.74 for gb in (0.75, 1.19, 1.67, 2.4)]
    )
    plt.close(figure)


def test_models_differ_without_colour() -> None:
    figure = quantization(*measured(6), "figure6", "gsm8k", PROVENANCE)
    markers = [c.lines[0].get_marker() for c in figure.axes[0].containers]
    assert len(set(markers)) == len(markers)
    plt.close(figure)


def test_nothing_measured_is_refused() -> None:
    with pytest.raises(ValueError, match="math"):
        quantization(*measured(6), "figure6", "math", PROVENANCE)


def test_files_are_written_whole_and_repeat(tmp_path: Path) -> None:
    paths = write_quantization_figure(*measured(7), "figure7", ["gsm8k"], PROVENANCE, tmp_path)
    assert [p.name for p in paths] == ["figure7a.png", "figure7a.pdf"]
    assert sorted(tmp_path.iterdir()) == sorted(paths)
    assert imread(paths[0]).std() > 0.05
    first = paths[1].read_bytes()
    write_quantization_figure(*measured(7), "figure7", ["gsm8k"], PROVENANCE, tmp_path)
    assert paths[1].read_bytes() == first
