"""The committed CSVs against the paper's text where it is at hand, and against each other everywhere."""

import os
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from results.numbers.printed import adjacent_numbers, printed_benchmarks, printed_numbers, printed_table

SHARED = Path(os.environ.get("IMPACT_SHARED", Path(__file__).parents[3] / "shared"))
PAPER = SHARED / "paper" / "impact.md"
needs_paper = pytest.mark.skipif(not PAPER.is_file(), reason="the paper's text is not at hand (IMPACT_SHARED)")
ACCURACY_TABLES = (6, 7, 8, 9)
COLUMN_OF = {
    "Model Size (Billion)": "model_size_b",
    "Model Size (GB)": "model_size_gb",
    "GSM8K Acc (%)": "gsm8k_acc",
    "MATH Acc (%)": "math_acc",
    "HumanEval Acc (%)": "humaneval_acc",
    "MBPP Acc (%)": "mbpp_acc",
    "Throughput (Token/s)": "throughput_tok_s",
    "Memory (GB)": "memory_gb",
}


def paper_rows(number: int) -> list[list[str]]:
    """The tab-separated lines that end at the table's caption, with one-word benchmark headings between them."""
    lines = PAPER.read_text(encoding="utf-8").splitlines()
    caption = next(i for i, line in enumerate(lines) if line.startswith(f"Table {number}: "))
    rows: list[list[str]] = []
    for line in reversed(lines[:caption]):
        if "\t" in line:
            rows.insert(0, [field.strip() for field in line.split("\t")])
        elif line.strip() and rows:
            break
    return rows


@needs_paper
@pytest.mark.parametrize("number", [1, 2, *ACCURACY_TABLES, 14])
def test_every_cell_of_a_method_table_is_as_printed(number: int) -> None:
    ours = printed_table(number)
    checked, method = 0, ""
    for head, quantity, *values in paper_rows(number):
        method = head.lower().removeprefix("8-bit ") or method
        for row, value in enumerate(values):
            point = ours[(ours["row"] == row) & (ours["method"] == (method if row else "dense"))]
            assert point[COLUMN_OF[quantity]].item() == float(value), (method, row, quantity)
            checked += row > 0
    dense = 1
    assert checked == (len(ours) - dense) * 3


@needs_paper
@pytest.mark.parametrize("number", [10, 11, 12, 13])
def test_every_cell_of_a_reduction_table_is_as_printed(number: int) -> None:
    columns = {"Best Baseline": "baseline_size_b", "IMPACT": "impact_size_b", "": "size_reduction_pct"}
    ours = printed_table(number)
    rows = [row for row in paper_rows(number) if len(row) > 2 and any(row[1:])]
    checked, benchmark = 0, -1
    for head, _, *values in rows:
        column = columns[re.sub(r" ².*", "", head)]
        benchmark += column == "baseline_size_b"
        block = ours[ours["benchmark"] == ours["benchmark"].unique()[benchmark]]
        for mine, value in zip(block[column], values, strict=True):
            assert np.isnan(mine) if value == "-" else mine == float(value)
            checked += 1
    assert checked == len(ours) * 3


@needs_paper
def test_every_cell_of_the_small_tables_is_as_printed() -> None:
    quantized = [float(v) for v in printed_table(3)[["model_size_gb", "gsm8k_acc", "math_acc"]].to_numpy().ravel()]
    assert quantized == [
        float(row[-1] if not row[0] else row[i]) for row in paper_rows(3)[1:] for i in ((1, 3) if row[0] else (-1,))
    ]
    ablation = printed_table(4)
    header, *lines = paper_rows(4)
    etas = [float(re.sub(r"[^\d.]", "", name)) for name in header[2:]]
    keep = 0.0
    for head, metric, *values in lines:
        keep = float(head.rstrip("%")) if head else keep
        for eta, value in zip(etas, values, strict=True):
            point = ablation[(ablation["keep_pct"] == keep) & (ablation["eta"] == eta)]
            assert point[COLUMN_OF[metric]].item() == float(value)
    costs = [[m, t, g] for m, t, g in printed_table(5).itertuples(index=False)]
    assert costs == [[m.lower(), float(t), float(g)] for m, t, g in paper_rows(5)[1:]]


@pytest.mark.parametrize("number", [0, 15, -1])
def test_an_unknown_table_is_one_clear_error(number: int) -> None:
    with pytest.raises(ValueError, match=f"no Table {number}"):
        printed_table(number)
    with pytest.raises(ValueError, match="Tables 6 to 9"):
        printed_benchmarks(10)


@pytest.mark.parametrize("number", ACCURACY_TABLES)
def test_each_method_has_five_rows_of_falling_size_below_one_dense_row(number: int) -> None:
    table = printed_table(number)
    dense = table[table["row"] == 0]
    assert list(dense["method"]) == ["dense"]
    methods = dict(tuple(table[table["row"] > 0].groupby("method")))
    assert set(methods) == {"svd", "fwsvd", "asvd", "afm", "impact"}
    for rows in methods.values():
        assert list(rows["row"]) == [1, 2, 3, 4, 5]
        assert all(a > b for a, b in pairwise([dense["model_size_b"].item(), *rows["model_size_b"]]))


@pytest.mark.parametrize(("benchmark", "problems"), [("humaneval", 164), ("mbpp", 378)])
def test_code_accuracies_are_whole_counts(benchmark: str, problems: int) -> None:
    """A misread digit mostly is not k/164 or k/378; with GSM8K's and MATH's many problems every decimal would be."""
    for number in (8, 9):
        for accuracy in printed_table(number)[f"{benchmark}_acc"]:
            count = round(accuracy * problems / 100)
            assert round(100 * count / problems, 1) == accuracy, (number, accuracy)


@pytest.mark.parametrize("number", [10, 11, 12, 13])
def test_reductions_follow_from_the_printed_sizes(number: int) -> None:
    """Both sizes are rounded to 0.01 B and the reductions were not computed from the rounded ones: at 0.75 B that is
    up to 0.8 points, so each reduction must lie where its sizes' rounding allows, itself rounded to 0.1."""
    compressed = printed_table(number).dropna()
    assert len(compressed) == 10
    small, large = compressed["impact_size_b"], compressed["baseline_size_b"]
    low = 100 * (1 - (small + 0.005) / (large - 0.005)) - 0.05
    high = 100 * (1 - (small - 0.005) / (large + 0.005)) + 0.05
    assert compressed["size_reduction_pct"].between(low, high).all()


def sizes(table: pd.DataFrame, method: str, column: str = "model_size_b") -> list[float]:
    return list(table.loc[table["method"] == method, column])


def test_tables_that_print_one_model_twice_agree() -> None:
    for number in (10, 11, 12, 13):
        curve = printed_table(number - 4)
        for _, block in printed_table(number).groupby("benchmark"):
            assert list(block["impact_size_b"]) == sizes(curve, "dense") + sizes(curve, "impact")
    for method in ("dense", "svd", "fwsvd", "afm", "impact"):
        assert sizes(printed_table(14), method) == sizes(printed_table(6), method)
    for eight_bit, full in ((1, 6), (2, 7)):
        for method in ("afm", "impact"):
            # one byte a parameter; the largest model of Tables 6 and 7 was not quantized
            assert sizes(printed_table(eight_bit), method, "model_size_gb") == sizes(printed_table(full), method)[1:]


def test_the_ablation_contains_the_main_rows() -> None:
    """Rows 1-3 of IMPACT in Table 6 are k 70 (eta 0), 60 and 50 (eta .25) of Table 4."""
    ablation = printed_table(4).set_index(["keep_pct", "eta"])
    main = printed_table(6).set_index(["method", "row"])
    for row, setting in ((1, (70, 0.0)), (2, (60, 0.25)), (3, (50, 0.25))):
        for column in ("gsm8k_acc", "math_acc"):
            assert ablation.loc[setting, column] == main.loc[("impact", row), column]


def test_a_printed_number_says_where_it_stands() -> None:
    (size,) = printed_numbers(6, ["model_size_b"], method="impact", row=3)
    assert str(size) == "Table 6 impact row 3 model_size_b = 1.67"
    (accuracy,) = printed_numbers(4, ["gsm8k_acc"], keep_pct=50, eta=0.25)
    assert str(accuracy) == "Table 4 gsm8k_acc (keep_pct 50, eta 0.25) = 62.9"
    with pytest.raises(ValueError, match="5 lines of Table 6"):
        printed_numbers(6, ["model_size_b"], method="impact")
    with pytest.raises(ValueError, match="0 lines of Table 6"):
        printed_numbers(6, ["model_size_b"], method="flap", row=1)


def test_the_numbers_a_size_lies_between() -> None:
    between = adjacent_numbers(6, ["model_size_b"], "afm", 5.0)
    assert [(n.method, n.value) for n in between] == [("afm", 3.62), ("dense", 6.74)]
    assert [n.value for n in adjacent_numbers(6, ["model_size_b"], "afm", 1.9)] == [1.9]
    for outside in (0.5, 7.0):
        with pytest.raises(ValueError, match="outside afm's"):
            adjacent_numbers(6, ["model_size_b"], "afm", outside)


def test_a_table_read_is_the_callers_own() -> None:
    table = printed_table(6)
    table.loc[:, "gsm8k_acc"] = 0.0
    assert printed_table(6)["gsm8k_acc"].max() == 66.4
