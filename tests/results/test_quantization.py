"""Tables 1 to 3: measured points joined to the printed ones, never mixed with them. All numbers here are invented."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from results.measured.cells import BenchmarkResult
from results.measured.quantized_cells import QuantizedCell
from results.numbers.printed import printed_table
from results.tables.accuracy import AccuracyTable
from results.tables.quantized import QuantizedTable, build_quantization_table, quantized_document
from results.tables.written import written

MakeCells = Callable[..., list[QuantizedCell]]
BENCHMARKS = ["gsm8k", "math"]


def marks(digits: str) -> BenchmarkResult:
    return BenchmarkResult(n=len(digits), correct=[digit == "1" for digit in digits])


@pytest.mark.parametrize("number", [1, 2, 3])
def test_rows_stand_in_the_printed_order_beside_their_printed_numbers(quantized_cells: MakeCells, number: int) -> None:
    table = build_quantization_table([*reversed(quantized_cells(number))], number, BENCHMARKS)
    printed = printed_table(number)
    assert list(table["method"]) == list(printed["method"])
    if number == 3:
        assert list(table["model"]) == ["7b", "7b", "13b", "13b"]
    for ours, theirs in zip(
        ("printed_size_gb", "printed_gsm8k_acc", "printed_math_acc"),
        ("model_size_gb", "gsm8k_acc", "math_acc"),
        strict=True,
    ):
        assert list(table[ours]) == list(printed[theirs])


def test_a_point_that_is_not_printed_has_no_printed_numbers(quantized_cells: MakeCells) -> None:
    cells = quantized_cells()
    more = [cells[-1].model_copy(update={"method": "svd"}), cells[-1].model_copy(update={"row": 5})]
    table = build_quantization_table([*cells, *more], 1, BENCHMARKS)
    assert list(table["method"])[-2:] == ["impact", "svd"]  # what is not printed comes last
    assert table.tail(2)[["printed_size_gb", "printed_gsm8k_acc", "printed_math_acc"]].isna().all().all()


def test_numbers_of_a_point_by_hand(quantized_cells: MakeCells) -> None:
    cell = quantized_cells()[-1].model_copy(
        update={
            "benchmarks": {"gsm8k": marks("1111111100"), "math": marks("1110000000")},
            "unquantized": {"gsm8k": marks("1111111111"), "math": marks("1110000000")},
            "nominal_bytes": 250_000, "file_bytes": 300_000, "memory_bytes": 310_000, "dense_parameters": 1_000_000,
        }
    )  # fmt: skip
    (row,) = build_quantization_table([cell], 1, BENCHMARKS).to_dict("records")
    # 8 of 10, the limits as in Wilson (1927)
    assert (row["gsm8k_acc"], row["gsm8k_n"]) == (80, 10)
    assert [row["gsm8k_low"], row["gsm8k_high"]] == pytest.approx([49.02, 94.33], abs=0.01)
    # two problems lost and none gained
    assert row["gsm8k_change"] == pytest.approx(-20)
    assert row["gsm8k_change_p"] == pytest.approx(0.5)
    assert row["gsm8k_change_low"] == pytest.approx(-50) and row["gsm8k_change_high"] == pytest.approx(0)
    assert [row[f"math_change{what}"] for what in ("", "_low", "_high", "_p")] == [0, 0, 0, 1]
    assert row["size_pct"] == pytest.approx(25)
    assert [row[f"{size}_gb"] for size in ("nominal", "file", "memory")] == [0.00025, 0.0003, 0.00031]


def test_an_adapter_has_nothing_before_quantization(quantized_cells: MakeCells) -> None:
    table = build_quantization_table(quantized_cells(3), 3, BENCHMARKS).set_index(["model", "method"])
    changes = [name for name in table if "change" in str(name)]
    assert len(changes) == 8
    assert table.loc[("7b", "qlora"), changes].isna().all() and table.loc[("7b", "quantized"), changes].notna().all()
    assert table.loc[("13b", "quantized"), "gsm8k_change"] == pytest.approx(-20)


def test_seeds_are_averaged_but_do_not_shrink_the_intervals(quantized_cells: MakeCells) -> None:
    one, three = (build_quantization_table(quantized_cells(seeds=s), 1, BENCHMARKS) for s in ((0,), (0, 1, 2)))
    same = [name for name in one if name != "seeds" and not str(name).endswith("_seed_sd")]
    pd.testing.assert_frame_equal(one[same], three[same])
    assert (three["seeds"] == 3).all() and (three["gsm8k_acc_seed_sd"] < 1e-9).all()
    assert one["gsm8k_acc_seed_sd"].isna().all()
    other = [c.model_copy(update={"seed": 1}) for c in quantized_cells(shift={("impact", 2): 4.0})]
    mixed = build_quantization_table([*quantized_cells(), *other], 1, BENCHMARKS).set_index(["method", "row"])
    assert mixed.loc[("impact", 2), "gsm8k_acc"] == pytest.approx(57.7 + 2)
    assert mixed.loc[("impact", 2), "gsm8k_acc_seed_sd"] == pytest.approx(np.std([0, 4], ddof=1))


def test_files_say_the_same_and_are_read_back(
    quantized_cells: MakeCells, provenance: dict[str, str], tmp_path: Path
) -> None:
    infinite = {"perplexity": {"gsm8k": float("inf")}, "note": "a note on a model"}
    one = quantized_cells()
    one[3] = one[3].model_copy(update=infinite)
    three = quantized_cells(3)
    described = provenance | {"commit": "abc123"}
    document = quantized_document(one, 1, BENCHMARKS, described, ["a given note"], others=three)
    table, verdicts = document.frame, document.verdicts
    document.write(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["table1.csv", "table1.json", "table1.md"]
    csv = pd.read_csv(tmp_path / "table1.csv", dtype={"model": str})
    pd.testing.assert_frame_equal(csv, table, check_dtype=False, rtol=1e-9)
    record = json.loads((tmp_path / "table1.json").read_text())
    assert [v["verdict"] for v in record["verdicts"]] == [v.verdict for v in verdicts]
    text = (tmp_path / "table1.md").read_text()
    for part in (*described.values(), "Llama 2-7B", "a given note", "a note on a model", "leaves out", "nominal (GB)"):
        assert part in text
    for verdict in verdicts:
        assert verdict.explanation in text and verdict.printed in text
    assert "nan" not in text.lower() and "<na>" not in text.lower()
    quantized_document(three, 3, BENCHMARKS, provenance).write(tmp_path)
    read = written(tmp_path, QuantizedTable)
    assert {number: table.quantized_cells for number, table in read.items()} == {1: one, 3: three}
    assert written(tmp_path / "absent", QuantizedTable) == {}
    assert written(tmp_path, AccuracyTable) == {}


def test_sizes_keep_every_byte_of_a_small_model(
    quantized_cells: MakeCells, provenance: dict[str, str], tmp_path: Path
) -> None:
    cells = quantized_cells()
    quantized_document(cells, 1, BENCHMARKS, provenance).write(tmp_path)
    sizes = ["nominal_gb", "file_gb", "memory_gb"]
    written = pd.read_csv(tmp_path / "table1.csv", dtype=dict.fromkeys(sizes, str)).set_index(["method", "row"])
    for cell in cells:
        exact = [f"{size / 1e9:.9f}" for size in (cell.nominal_bytes, cell.file_bytes, cell.memory_bytes)]
        assert list(written.loc[(cell.method, cell.row), sizes]) == exact


def test_what_was_not_measured_stays_blank(
    quantized_cells: MakeCells, provenance: dict[str, str], tmp_path: Path
) -> None:
    cells = [
        c.model_copy(update={"benchmarks": {"gsm8k": c.benchmarks["gsm8k"]}})
        for c in quantized_cells()
        if (c.method, c.row) in {("impact", 3), ("dense", 0)}
    ]
    document = quantized_document(cells, 1, BENCHMARKS, provenance)
    table = document.frame
    document.write(tmp_path)
    assert table[["math_acc", "math_low", "math_n", "math_change"]].isna().all().all()
    text = (tmp_path / "table1.md").read_text()
    assert "not measured on gsm8k in this run: flap rows 1, 2, 3, 4; afm rows 1, 2, 3, 4; impact rows 1, 2, 4" in text
    assert "nan" not in text.lower() and "<na>" not in text.lower()


def test_wrong_calls_are_refused(quantized_cells: MakeCells, provenance: dict[str, str], tmp_path: Path) -> None:
    cells = quantized_cells()
    for number, benchmarks, words in (
        (6, BENCHMARKS, "Tables 1 to 3"),
        (1, ["mbpp"], "gsm8k and math, not mbpp"),
        (2, BENCHMARKS, "8-bit models of 13b, got dense row 0 of 7b in 8 bits"),
        (3, BENCHMARKS, "4-bit models"),
    ):
        with pytest.raises(ValueError, match=words):
            build_quantization_table(cells, number, benchmarks)
    with pytest.raises(ValueError, match="same problems"):
        build_quantization_table([*cells[1:], *quantized_cells(n=10)[:1]], 1, BENCHMARKS)
    del provenance["command"]
    with pytest.raises(ValueError, match="command"):
        quantized_document(cells, 1, BENCHMARKS, provenance).write(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "text", ["{", '{"table": 1, "quantized_cells": [{"bits": 8}]}', '{"table": 2, "quantized_cells": []}', "{}"]
)
def test_a_damaged_table_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "table1.json").write_text(text)
    with pytest.raises(ValueError, match=r"table1\.json"):
        written(tmp_path, QuantizedTable)


def test_the_terminal_shows_measured_and_printed(quantized_cells: MakeCells) -> None:
    stream = io.StringIO()
    view = quantized_document(quantized_cells(), 1, BENCHMARKS, {}).terminal()
    Console(file=stream, width=240).print(view)
    (line,) = [line for line in stream.getvalue().splitlines() if line.split()[:3] == ["7b", "impact", "3"]]
    assert line.split()[3:6] == ["50", "llm.int8", "0.0001861"]
    assert line.split()[-3:] == ["1.19", "56.8", "15.9"]
    assert {str(c.header).split("\n")[0] for c in view.columns if c.style == "dim"} == {"printed"}
