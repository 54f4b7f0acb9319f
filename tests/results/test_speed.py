"""Table 14: measured points joined to the printed ones, never mixed with them. All numbers here are invented."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from rich.console import Console

from results.measured.speed_points import Conditions, PhaseSpeed, SpeedPoint, Spread, speed_point
from results.numbers.printed import printed_table
from results.tables.speed import SpeedTable, build_speed_table, memory_line, printed_points, speed_document
from results.tables.written import written

PROVENANCE = {"model": "invented", "date": "2000-01-01", "command": "none"}
CONDITIONS = Conditions(
    batch_size=2, prompt_tokens=8, new_tokens=4, dtype="float32", device="cpu", hardware="none", threads=2
)


def phase(speed: float, **bounds: float) -> PhaseSpeed:
    return PhaseSpeed(tokens_per_s=Spread(median=speed, low=0.9 * speed, high=1.1 * speed), **bounds)


def point(
    method: str = "dense", row: int = 0, billions: float = 6.74, speed: float = 7.0, **changes: Any
) -> SpeedPoint:
    fields: dict[str, Any] = {
        "method": method, "row": row, "route": "hf growing", "parameters": round(billions * 1e9),
        "random_weights": True, "conditions": CONDITIONS, "repetitions": 3, "prefill": phase(10 * speed),
        "decode": phase(2 * speed, bandwidth_bound_tok_s=4 * speed, rate_bound_tok_s=9 * speed),
        "total": phase(speed), "memory_gb": 4 * billions + 1, "memory_kind": "invented", "weights_gb": 4 * billions,
    }  # fmt: skip
    return SpeedPoint(**fields | changes)


def all_points() -> list[SpeedPoint]:
    """Every point that Table 14 prints, measured as it were, in another order."""
    return [point(m, r, p / 1e9, 1e9 / p) for m, r, p in reversed(printed_points())]


def test_every_printed_point_stands_beside_its_measured_one_in_the_printed_order() -> None:
    table, printed = build_speed_table(all_points()), printed_table(14)
    assert len(table) == len(printed) == 21
    for column in ("method", "row"):
        assert list(table[column]) == list(printed[column])
    for column in ("model_size_b", "throughput_tok_s", "memory_gb"):
        assert list(table[f"printed_{column}"]) == list(printed[column])
    assert table["throughput_tok_s"].to_numpy() == pytest.approx(1 / printed["model_size_b"].to_numpy())
    impact = table[(table["method"] == "impact") & (table["row"] == 2)].iloc[0]
    assert impact["throughput_vs_dense"] == pytest.approx(6.74 / 2.40)
    assert impact["decode_vs_dense"] == pytest.approx(6.74 / 2.40)
    assert impact["memory_vs_dense"] == pytest.approx((4 * 2.40 + 1) / (4 * 6.74 + 1))
    assert impact["printed_throughput_vs_dense"] == pytest.approx(445.16 / 261.74)
    assert impact["printed_memory_vs_dense"] == pytest.approx(12.21 / 29.26)
    assert impact["decode_of_bound_pct"] == pytest.approx(50)  # of the lower bound


def test_measured_columns_do_not_depend_on_the_printed_numbers_nor_the_other_way_round() -> None:
    one, two = build_speed_table(all_points()), build_speed_table([point(speed=1), point("impact", 1, 1.0, 3.0)])
    printed = [c for c in one if str(c).startswith("printed_")]
    for method, row in (("dense", 0), ("impact", 1)):
        lines = [t[(t["method"] == method) & (t["row"] == row)].iloc[0] for t in (one, two)]
        assert list(lines[0][printed]) == list(lines[1][printed])
    assert two.iloc[1]["throughput_vs_dense"] == 3


def test_what_is_not_measured_or_not_printed_is_missing() -> None:
    # ASVD is not in Table 14; an external row neither; here no dense model was measured; an engine without phases
    table = build_speed_table([point("asvd", 1), point("mine", 1, prefill=None, decode=None)])
    assert list(table["method"]) == ["asvd", "mine"]
    missing = [c for c in table if str(c).startswith("printed_") or str(c).endswith("_vs_dense")]
    assert len(missing) == 8 and table[missing].isna().all(axis=None)
    assert np.isnan(table.iloc[1]["decode_of_bound_pct"]) and np.isnan(table.iloc[1]["throughput_of_bound_pct"])


def test_routes_are_compared_with_their_own_dense_model() -> None:
    fast = {"route": "vllm native"}
    table = build_speed_table(
        [point(speed=1), point("svd", 1, speed=2), point(speed=10, **fast), point("svd", 1, speed=50, **fast)]
    )
    assert list(table["route"]) == ["hf growing"] * 2 + ["vllm native"] * 2
    assert list(table["throughput_vs_dense"]) == [1, 2, 1, 5]


def test_points_that_cannot_be_compared_are_refused() -> None:
    other = CONDITIONS.model_copy(update={"batch_size": 3, "threads": 1})
    with pytest.raises(ValueError, match="another batch_size, threads"):
        build_speed_table([point(), point("svd", 1, conditions=other)])
    with pytest.raises(ValueError, match="twice"):
        build_speed_table([point("svd", 1), point("svd", 1)])
    with pytest.raises(ValueError, match="no point"):
        build_speed_table([])
    with pytest.raises(ValidationError, match="row 0"):
        point("svd", 0)
    with pytest.raises(ValidationError, match="lowest"):
        Spread(median=1, low=2, high=3)


def test_a_measurement_becomes_a_point() -> None:
    spread = {"median": 2.0, "low": 1.0, "high": 3.0}
    phases = {"tokens_per_s": spread, "work": {}, "bandwidth_bound": 4.0, "rate_bound": None}
    measured = {
        "settings": {"batch_size": 2, "prompt_tokens": 8, "new_tokens": 4, "warmup": 1, "repetitions": 3,
                     "route": "cuda_graph", "fused": True, "seed": 0},
        "dtype": "float32", "device": "cpu", "hardware": "none", "threads": 2, "parameters": 10,
        "prefill": phases, "decode": phases, "total": phases, "peak_memory": 5_000_000_000,
        "memory_kind": "cuda_allocated", "weight_memory": 4_000_000_000, "cache_memory": 1,
        "limits": {"bandwidth": 2e11, "matrix_rate": 3e12, "dtype": "float32", "hardware": "none", "threads": 2},
    }  # fmt: skip
    made = speed_point(json.loads(json.dumps(measured)), "impact", 2, random_weights=True, runs={"measure": "abc"})
    assert made.route == "hf cuda_graph fused"
    assert made.conditions == CONDITIONS
    assert (made.memory_gb, made.weights_gb, made.bandwidth_gb_s, made.matrix_rate_tflop_s) == (5, 4, 200, 3)
    assert made.decode is not None and made.decode.of_bound_pct == 50
    assert speed_point(measured | {"limits": None}, "impact", 2).bandwidth_gb_s is None
    unphased = speed_point(measured | {"prefill": None, "decode": None}, "impact", 2, engine="vllm")
    assert (unphased.prefill, unphased.decode, unphased.total) == (None, None, made.total)


def test_memory_line_of_the_printed_table_is_four_bytes_a_weight() -> None:
    printed = printed_table(14)
    line = memory_line(printed["model_size_b"], printed["memory_gb"])
    assert line is not None and line == pytest.approx((3.97, 2.6), abs=0.06)
    assert memory_line([1, 1, 2], [1, 2, 3]) is None


def test_files_hold_the_table_and_the_points(tmp_path: Path) -> None:
    points = [*all_points(), point("mine", 1, 1.0, note="a remark | with a bar")]
    assert written(tmp_path, SpeedTable) == {}
    document = speed_document(points, PROVENANCE, ["said first"])
    table, verdicts = document.frame, document.verdicts
    document.write(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["table14.csv", "table14.json", "table14.md"]
    assert written(tmp_path, SpeedTable)[14].points == points
    rows = list(csv.DictReader((tmp_path / "table14.csv").open()))
    assert [float(r["model_size_b"]) for r in rows] == list(table["model_size_b"])
    assert rows[-1]["printed_memory_gb"] == ""
    text = (tmp_path / "table14.md").read_text()
    assert "Random weights" in text and "said first" in text and "a remark" in text
    assert "batch 2, prompts of 8 tokens, 4 new tokens, float32 weights" in text
    assert "grows by 4.00 GB a billion parameters" in text
    assert "not measured in this run:" not in text
    assert [v.verdict for v in verdicts] == ["holds", *["not measured"] * 3]
    for verdict in verdicts:
        assert f"**{verdict.verdict}**. {verdict.explanation}" in text
    (tmp_path / "table14.json").write_text('{"points": [{}]}')
    with pytest.raises(ValueError, match=r"table14\.json is no measured Table 14"):
        written(tmp_path, SpeedTable)


def test_notes_say_what_is_absent_and_what_has_another_size(tmp_path: Path) -> None:
    speed_document([point(), point("impact", 1, 3.114), point("impact", 2, 1.0)], PROVENANCE).write(tmp_path)
    notes = json.loads((tmp_path / "table14.json").read_text())["notes"]
    assert any("Not of the printed size" in n and n.endswith("impact row 2.") for n in notes)
    assert any("not measured in this run: svd row 1" in n and "impact row 3" in n for n in notes)
    with pytest.raises(ValueError, match="lacks command"):
        speed_document([point()], PROVENANCE | {"command": ""}).write(tmp_path)


def test_the_terminal_shows_measured_and_printed_columns_apart() -> None:
    console = Console(width=240, record=True, file=io.StringIO())
    view = speed_document(all_points(), PROVENANCE).terminal()
    console.print(view)
    text = console.export_text()
    assert "616.01" in text and "printed" in text
    assert {str(c.header).split("\n")[0] == "printed": c.style for c in view.columns} == {True: "dim", False: ""}
