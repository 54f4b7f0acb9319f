"""The gauge table: planted effects are found, in their direction and for their scheme."""

import json
from pathlib import Path

import pytest

from results.measured.cells import BenchmarkResult
from results.measured.quantized_cells import QuantizedCell
from results.tables.gauge import build_gauge_table, gauge_document, gauge_effects

PROVENANCE = {"preset": "tiny", "model": "a model", "date": "2026-11-22", "command": "./reproduce.sh gauge"}
N = 100


def cell(row: int, scheme: str, gauge: str, solved: int) -> QuantizedCell:
    marks = BenchmarkResult(n=N, correct=[i < solved for i in range(N)])
    before = BenchmarkResult(n=N, correct=[i < 60 for i in range(N)])
    return QuantizedCell(
        model="7b", method="impact", row=row, keep=70.0, rank_rule="nuclear_norm", eta=0.25, bits=8, scheme=scheme,
        gauge=gauge, seed=1, parameters=10, dense_parameters=20, nominal_bytes=10, file_bytes=12, memory_bytes=11,
        perplexity={"math": 3.0}, unquantized_perplexity={"math": 2.5},
        benchmarks={"math": marks}, unquantized={"math": before}, runs={},
    )  # fmt: skip


@pytest.fixture
def cells() -> list[QuantizedCell]:
    """Balancing gains 10 and 20 points in one scheme and nothing in the other, whose last row lacks its partner."""
    return [
        *(cell(1, "llm.int8", "as trained", 40), cell(1, "llm.int8", "balanced", 50)),
        *(cell(2, "llm.int8", "as trained", 30), cell(2, "llm.int8", "balanced", 50)),
        *(cell(1, "int8 weight-only", "as trained", 58), cell(1, "int8 weight-only", "balanced", 58)),
        cell(2, "int8 weight-only", "as trained", 10),
    ]


def test_effects_are_means_over_rows_that_have_both_gauges(cells: list[QuantizedCell]) -> None:
    weight_only, both = gauge_effects(cells, ["math"])
    assert "llm.int8 on math, mean of rows 1, 2" in both and "by +15.0 points" in both
    low, high = (float(text) for text in both.split("(95 % ")[1].removesuffix(").").split(" to "))
    assert 0 < low < 15 < high
    assert "int8 weight-only on math, mean of rows 1:" in weight_only and "+0.0 points" in weight_only


def test_the_table_says_what_quantization_took(cells: list[QuantizedCell]) -> None:
    table = build_gauge_table(cells, ["math"]).set_index(["row", "scheme", "gauge"])
    assert table.loc[(2, "llm.int8", "as trained"), "math_change"] == pytest.approx(-30)
    assert table.loc[(2, "llm.int8", "as trained"), "math_change_high"] < 0
    assert table.loc[(1, "int8 weight-only", "balanced"), "math_change"] == pytest.approx(-2)
    assert (table["math_before"] == 60).all()


def test_the_files_hold_the_cells(cells: list[QuantizedCell], tmp_path: Path) -> None:
    gauge_document(cells, ["math"], PROVENANCE).write(tmp_path)
    record = json.loads((tmp_path / "gauge.json").read_text())
    assert [QuantizedCell.model_validate(c) for c in record["quantized_cells"]] == cells
    assert PROVENANCE["command"] in (tmp_path / "gauge.md").read_text()
