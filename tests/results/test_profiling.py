"""Table 5: measured points joined to the printed ones, never mixed with them. All numbers here are invented."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from results.measured.profiling_points import Extrapolation, ProfilingConditions, ProfilingPoint
from results.numbers.printed import printed_table
from results.tables.profiling import build_profiling_table, profiling_document

PROVENANCE = {"model": "invented", "date": "2000-01-01", "command": "none"}
CONDITIONS = ProfilingConditions(
    parameters=10**9, rows=16, tokens=8, batch_size=4, dtype="float32", device="cpu", hardware="none", threads=2
)


def point(method: str, implementation: str, calibration: float, **changes: Any) -> ProfilingPoint:
    fields: dict[str, Any] = {
        "method": method, "implementation": implementation, "conditions": CONDITIONS,
        "seconds": {"calibration": calibration}, "memory_gb": 5.0, "memory_before_gb": 4.5, "memory_kind": "invented",
        "weights_gb": 4.0, "extrapolated": Extrapolation(hours=calibration + 1, memory_gb=60),
        "runs": {"profiling_cost": f"profiling_cost/{method}"},
    }  # fmt: skip
    return ProfilingPoint(**fields | changes)


def points() -> list[ProfilingPoint]:
    search = {"calibration": 1.0, "decomposition": 10.0, "search": 39.0}
    return [
        point("asvd", "ours", 0, seconds=search, search="ASVD's search here: invented."),
        point("afm", "ours", 3),
        point("afm", "naive", 12),
        point("impact", "ours", 5),
        point("impact", "naive", 20),
    ]


def test_methods_stand_in_the_printed_order_beside_their_printed_numbers() -> None:
    table, printed = build_profiling_table(points()), printed_table(5).set_index("method")
    assert list(table["method"]) == ["impact", "impact", "afm", "afm", "asvd"]
    assert list(dict.fromkeys(table["method"])) == list(printed.index)
    assert list(table["printed_time_h"]) == list(printed.loc[table["method"], "profiling_time_h"])
    assert list(table["printed_memory_gb"]) == list(printed.loc[table["method"], "peak_gpu_memory_gb"])
    asvd = table.set_index("method").loc["asvd"]
    assert asvd["printed_time_vs_impact"] == pytest.approx(135.83 / 1.53)


def test_times_are_compared_with_the_same_way_of_profiling() -> None:
    table = build_profiling_table(points()).set_index(["method", "implementation"])
    assert table["time_s"]["asvd", "ours"] == 50
    assert dict(table["time_vs_impact"]) == {  # of the naive pass for a naive row
        ("impact", "ours"): 1, ("impact", "naive"): 1, ("afm", "ours"): 0.6, ("afm", "naive"): 0.6,
        ("asvd", "ours"): 10,
    }  # fmt: skip
    assert table["naive_vs_this"]["impact", "ours"] == 4
    assert table.loc[("asvd", "ours"), "naive_vs_this"] != table.loc[("asvd", "ours"), "naive_vs_this"]  # missing
    assert table["memory_above_gb"].tolist() == [0.5] * 5


def test_neither_measured_nor_printed_columns_depend_on_the_extrapolation() -> None:
    one = build_profiling_table(points())
    two = build_profiling_table([p.model_copy(update={"extrapolated": None}) for p in points()])
    rest = [column for column in one if not str(column).startswith("extrapolated")]
    assert one[rest].equals(two[rest])
    assert one["extrapolated_time_h"].notna().all() and two["extrapolated_time_h"].isna().all()


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(ValueError, match="no profiling was measured"):
        build_profiling_table([])
    with pytest.raises(ValueError, match=r"afm \(ours\) occurs twice"):
        build_profiling_table([point("afm", "ours", 1), point("afm", "ours", 2)])
    other = CONDITIONS.model_copy(update={"threads": 8})
    with pytest.raises(ValueError, match=r"afm \(naive\) was measured under another threads"):
        build_profiling_table([point("afm", "ours", 1), point("afm", "naive", 1, conditions=other)])


def test_files_hold_the_table_and_say_what_is_what(tmp_path: Path) -> None:
    document = profiling_document(points()[1:], PROVENANCE, "a place nobody measured", ["said first"])
    table, verdicts = document.frame, document.verdicts
    document.write(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["table5.csv", "table5.json", "table5.md"]
    rows = list(csv.DictReader((tmp_path / "table5.csv").open()))
    assert [float(row["time_s"]) for row in rows] == list(table["time_s"])
    assert rows[0]["search_s"] == ""
    text = (tmp_path / "table5.md").read_text()
    for words in (
        "said first",
        "a place nobody measured: not measured",
        "extrapolated time (h)",
        "16 rows of 8 tokens",
    ):
        assert words in text
    assert "not measured in this run: asvd." in text
    assert [v.verdict for v in verdicts] == ["not measured", "does not hold", "not measured"]
    for verdict in verdicts:
        assert f"**{verdict.verdict}**. {verdict.explanation}" in text
    record = json.loads((tmp_path / "table5.json").read_text())
    assert [ProfilingPoint.model_validate(p) for p in record["points"]] == points()[1:]
    with pytest.raises(ValueError, match="lacks command"):
        profiling_document(points(), PROVENANCE | {"command": ""}, "x").write(tmp_path)


def test_the_terminal_shows_what_was_not_measured_apart() -> None:
    console = Console(width=240, record=True, file=io.StringIO())
    view = profiling_document(points(), PROVENANCE, "x").terminal()
    console.print(view)
    assert "135.83" in console.export_text()
    dim = {str(c.header).split("\n")[0] for c in view.columns if c.style == "dim"}
    assert dim == {"printed", "extrapolated"}
