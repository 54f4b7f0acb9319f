import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from results.files import written_whole
from results.measured.cells import Cell
from results.numbers.printed import printed_table
from results.numbers.statistics import wilson_interval
from results.statements.reductions import reductions_from_cells
from results.tables.accuracy import AccuracyTable, accuracy_document, build_table
from results.tables.reductions import reduction_document
from results.tables.written import document_at, written

MakeCells = Callable[..., list[Cell]]
BENCHMARKS = ["gsm8k", "math"]
COLUMNS = (
    "method,keep_pct,model_size_b,gsm8k_acc,gsm8k_low,gsm8k_high,math_acc,math_low,math_high,"
    "printed_model_size_b,printed_gsm8k_acc,printed_math_acc,row,eta,seeds,gsm8k_n,math_n,size_pct,"
    "ppl_before_sft_gsm8k,ppl_before_sft_math,ppl_after_sft_gsm8k,ppl_after_sft_math,"
    "model_size_b_seed_sd,gsm8k_acc_seed_sd,math_acc_seed_sd"
)


@pytest.fixture
def control(table6_cells: MakeCells) -> Cell:
    dense = table6_cells(shift={("dense", 0): 3.0})[0]
    return dense.model_copy(update={"method": "dense_sft", "note": "a note on the control"})


def test_files_say_the_same_and_nothing_else_is_left(
    table6_cells: MakeCells, control: Cell, provenance: dict[str, str], tmp_path: Path
) -> None:
    cells = [*reversed(table6_cells()), control]
    document = accuracy_document(cells, 6, BENCHMARKS, provenance | {"commit": "abc123"}, ["a given note"])
    table, verdicts = document.frame, document.verdicts
    paths = document.write(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["table6.csv", "table6.json", "table6.md"]
    assert sorted(paths) == sorted(tmp_path.iterdir())
    assert (tmp_path / "table6.csv").read_text().splitlines()[0] == COLUMNS
    csv = pd.read_csv(tmp_path / "table6.csv")
    pd.testing.assert_frame_equal(csv, table, check_dtype=False, rtol=1e-9)
    assert list(csv["method"][:3]) == ["dense", "dense_sft", "svd"]
    record = json.loads((tmp_path / "table6.json").read_text())
    assert [row["model_size_b"] for row in record["rows"]] == list(table["model_size_b"])
    assert [v["verdict"] for v in record["verdicts"]] == [v.verdict for v in verdicts]
    assert [Cell.model_validate(cell) for cell in record["cells"]] == cells
    assert record["provenance"]["commit"] == "abc123"
    text = (tmp_path / "table6.md").read_text()
    for part in (*provenance.values(), "Llama 2-7B", "a given note", "a note on the control", "abc123", "McNemar"):
        assert part in text
    for verdict in verdicts:
        assert verdict.explanation in text


def test_sizes_keep_every_parameter_of_a_small_model(
    table6_cells: MakeCells, provenance: dict[str, str], tmp_path: Path
) -> None:
    cells = table6_cells()
    accuracy_document(cells, 6, BENCHMARKS, provenance).write(tmp_path)
    written = pd.read_csv(tmp_path / "table6.csv", dtype={"model_size_b": str}).set_index(["method", "row"])
    for cell in cells:
        assert written.loc[(cell.method, cell.row), "model_size_b"] == f"{cell.parameters / 1e9:.9f}"


def test_printed_numbers_join_by_method_and_row_only(table6_cells: MakeCells, control: Cell) -> None:
    table = build_table([*table6_cells(), control], 6, BENCHMARKS).set_index(["method", "row"])
    for point in printed_table(6).itertuples():
        ours = table.loc[(point.method, point.row)]
        assert ours["printed_model_size_b"] == point.model_size_b
        assert (ours["printed_gsm8k_acc"], ours["printed_math_acc"]) == (point.gsm8k_acc, point.math_acc)
    assert table.loc[("dense_sft", 0), ["printed_model_size_b", "printed_gsm8k_acc"]].isna().all()


def test_what_was_not_measured_stays_blank(table6_cells: MakeCells, provenance: dict[str, str], tmp_path: Path) -> None:
    cells = [
        c.model_copy(update={"benchmarks": {"gsm8k": c.benchmarks["gsm8k"]}, "ppl_before_sft": {}})
        for c in table6_cells()
        if (c.method, c.row) in {("impact", 3), ("dense", 0)}
    ]
    cells.append(cells[1].model_copy(update={"method": "air"}))
    document = accuracy_document(cells, 6, BENCHMARKS, provenance)
    table = document.frame
    document.write(tmp_path)
    assert list(table["method"]) == ["dense", "impact", "air"]
    assert table[["math_acc", "math_low", "math_high", "math_n", "ppl_before_sft_gsm8k"]].isna().all().all()
    assert table["printed_math_acc"].notna().tolist() == [True, True, False]
    text = (tmp_path / "table6.md").read_text()
    (line,) = [line for line in text.splitlines() if line.startswith("| impact ")]
    assert "| — |" in line and "| 17.3 |" in line
    assert "nan" not in text.lower() and "<na>" not in text.lower()
    assert "not measured on gsm8k in this run: svd rows 1, 2, 3, 4, 5" in text


def test_seeds_are_averaged_but_do_not_shrink_the_interval(table6_cells: MakeCells) -> None:
    one = build_table(table6_cells(seeds=(1,)), 6, BENCHMARKS)
    three = build_table(table6_cells(seeds=(0, 1, 2)), 6, BENCHMARKS)
    assert (one["seeds"] == 1).all() and (three["seeds"] == 3).all() and (three["gsm8k_n"] == 500).all()
    assert one["gsm8k_acc_seed_sd"].isna().all()
    # the fixture moves every accuracy by one point a seed
    assert three["gsm8k_acc_seed_sd"].to_numpy() == pytest.approx(np.ones(26), abs=0.15)
    assert three["gsm8k_acc"].to_numpy() == pytest.approx(one["gsm8k_acc"].to_numpy(), abs=0.2)
    width = (three["gsm8k_high"] - three["gsm8k_low"]) / (one["gsm8k_high"] - one["gsm8k_low"])
    assert width.between(0.97, 1.03).all()


def test_accuracies_and_limits_are_those_of_the_marks(table6_cells: MakeCells) -> None:
    cells = table6_cells(n=37)
    table = build_table(cells, 6, BENCHMARKS).set_index(["method", "row"])
    for cell in cells:
        solved, row = sum(cell.benchmarks["math"].correct), table.loc[(cell.method, cell.row)]
        interval = wilson_interval(solved, 37)
        expected = [100 * solved / 37, 100 * interval.low, 100 * interval.high]
        assert [row["math_acc"], row["math_low"], row["math_high"]] == pytest.approx(expected)
        assert row["size_pct"] == pytest.approx(100 * cell.parameters / cell.dense_parameters)


def test_an_infinite_perplexity_survives_strict_json(
    table6_cells: MakeCells, provenance: dict[str, str], tmp_path: Path
) -> None:
    (cell,) = [c for c in table6_cells() if (c.method, c.row) == ("svd", 5)]
    broken = cell.model_copy(update={"ppl_before_sft": {"gsm8k": float("inf")}})
    accuracy_document([broken], 6, BENCHMARKS, provenance).write(tmp_path)

    def refuse(constant: str) -> float:
        raise AssertionError(f"{constant} is not JSON")

    record = json.loads((tmp_path / "table6.json").read_text(), parse_constant=refuse)
    assert Cell.model_validate(record["cells"][0]) == broken
    assert float(record["rows"][0]["ppl_before_sft_gsm8k"]) == float("inf")


def test_wrong_calls_are_refused(table6_cells: MakeCells, provenance: dict[str, str], tmp_path: Path) -> None:
    cells = table6_cells()
    with pytest.raises(ValueError, match="Tables 6 to 9"):
        build_table(cells, 14, BENCHMARKS)
    del provenance["command"]
    with pytest.raises(ValueError, match="command"):
        accuracy_document(cells, 6, BENCHMARKS, provenance).write(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "table6.csv"
    path.write_text("old")
    with pytest.raises(RuntimeError), written_whole(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_terminal_shows_measured_and_printed(table6_cells: MakeCells) -> None:
    stream = io.StringIO()
    Console(file=stream, width=200).print(accuracy_document(table6_cells(), 6, BENCHMARKS, {}).terminal())
    (line,) = [line for line in stream.getvalue().splitlines() if line.split()[:2] == ["impact", "3"]]
    assert line.split()[2:6] == ["50", "0.25", "0.0002612", "24.8"]
    assert line.split()[-3:] == ["1.67", "62.9", "17.3"]


def test_written_cells_are_read_back(table6_cells: MakeCells, provenance: dict[str, str], tmp_path: Path) -> None:
    six, seven = table6_cells(), table6_cells(number=7, seeds=(0, 1))
    accuracy_document(six, 6, BENCHMARKS, provenance).write(tmp_path)
    accuracy_document(seven, 7, BENCHMARKS, provenance).write(tmp_path)
    reduction_document(reductions_from_cells(10, six), provenance).write(tmp_path)
    assert {number: table.cells for number, table in written(tmp_path, AccuracyTable).items()} == {6: six, 7: seven}
    assert written(tmp_path / "absent", AccuracyTable) == {}


@pytest.mark.parametrize(
    "text", ["{", '{"table": 6, "cells": [{"method": "svd"}]}', '{"table": 7, "cells": []}', '{"cells": []}']
)
def test_a_damaged_table_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "table6.json").write_text(text)
    with pytest.raises(ValueError, match=r"table6\.json"):
        written(tmp_path, AccuracyTable)


def test_a_table_need_not_be_the_papers(table6_cells: MakeCells, provenance: dict[str, str], tmp_path: Path) -> None:
    impact = [cell for cell in table6_cells() if cell.method in ("dense", "impact")]
    cells = [*impact, *(cell.model_copy(update={"eta": 0.5}) for cell in impact[1:3])]
    document = accuracy_document(cells, "eta_by_k", BENCHMARKS, provenance)
    lines = list(document.frame[["method", "row", "eta"]].itertuples(index=False, name=None))
    assert lines[1:5] == [("impact", 1, 0.25), ("impact", 1, 0.5), ("impact", 2, 0.25), ("impact", 2, 0.5)]
    assert len(document.frame) == len(cells) and document.verdicts == []
    assert [path.name for path in document.write(tmp_path)] == ["eta_by_k.csv", "eta_by_k.md", "eta_by_k.json"]
    record = json.loads((tmp_path / "eta_by_k.json").read_text())
    assert record["table"] == "eta_by_k" and "printed_model" not in record
    text = (tmp_path / "eta_by_k.md").read_text()
    assert text.startswith("# Eta by k: measured with invented 1 M Llama (preset tiny)\n") and "rinted" not in text
    for path in document_at(tmp_path / "eta_by_k.json").write(tmp_path / "again"):
        assert path.read_bytes() == (tmp_path / path.name).read_bytes()


def test_a_benchmark_need_not_be_printed(table6_cells: MakeCells, provenance: dict[str, str], tmp_path: Path) -> None:
    cells = [c.model_copy(update={"benchmarks": c.benchmarks | {"mbpp": c.benchmarks["math"]}}) for c in table6_cells()]
    document = accuracy_document(cells, 6, [*BENCHMARKS, "mbpp"], provenance)
    assert list(document.frame["mbpp_acc"]) == list(document.frame["math_acc"])
    assert not any("mbpp" in str(name) for name in document.frame if str(name).startswith("printed_"))
    assert {verdict.benchmark for verdict in document.verdicts} <= {*BENCHMARKS, None}
    assert not any("mbpp" in note for note in document.notes)
