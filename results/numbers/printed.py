"""The numbers printed in the IMPACT paper (ACL 2026), Tables 1 to 14, as committed CSV files in ``results/paper``."""

from collections.abc import Hashable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from results.measured.cells import DENSE
from results.measured.record import Record
from results.numbers.paper import PAPER

PAPER_TABLES = Path(__file__).parents[1] / "paper"


# of the tables of accuracy against model size: a measured one must name the paper's model beside printed numbers
DERIVED_TABLE = {number: table.derived for number, table in PAPER.items() if table.derived}
PRINTED_MODEL = {number: PAPER[number].model for number in DERIVED_TABLE}


class QuantizedModel(NamedTuple):
    """Where the paper prints a quantized model: the tables at 8 bits and at full precision, its name in Table 3."""

    eight_bit: int
    full: int
    name: str


MODELS: Mapping[str, QuantizedModel] = {
    "7b": QuantizedModel(1, 6, "llama-2-7b"),
    "13b": QuantizedModel(2, 7, "llama-2-13b"),
}
TABLE_MODELS: Mapping[int, tuple[str, ...]] = {
    **{model.eight_bit: (short,) for short, model in MODELS.items()},
    3: tuple(MODELS),
}
# of all tables about Llama 2, that is mathematical reasoning
BENCHMARKS = ("gsm8k", "math")

# Problems behind a printed accuracy. The paper states none: these are the sizes of the public test sets, and for MBPP
# the one size that every printed accuracy fits (the finding "mbpp_problems" of the claims computes it).
PRINTED_PROBLEMS = {"gsm8k": 1319, "math": 5000, "humaneval": 164, "mbpp": 378}


class PrintedNumber(Record):
    """One printed number by its place: ``method`` and ``row`` are None in tables without them."""

    table: int
    method: str | None
    row: int | None
    column: str
    value: float

    def __str__(self) -> str:
        row = f" row {self.row}" if self.row else ""
        return f"Table {self.table} {self.method or ''}{row} {self.column} = {self.value:g}".replace("  ", " ")


def printed_table(number: int) -> pd.DataFrame:
    """Table ``number`` of the paper, one row a printed point, in the printed order.

    Units are in the column names: ``_b`` billions of parameters, ``_gb`` gigabytes, ``_acc`` and ``_pct`` percent,
    ``_tok_s`` tokens a second, ``_h`` hours. In Tables 1, 2, 6-9 and 14 the uncompressed model is ``row`` 0 with method
    ``dense``, and a method's compressed models are rows 1, 2, ... from the largest down.

    Raises:
        ValueError: the paper has no table of that number.
    """
    path = PAPER_TABLES / f"table{number}.csv"
    if not path.is_file():
        raise ValueError(f"the paper has no Table {number}: its tables are 1 to 14")
    return _read(path).copy()


def printed_lines(number: int) -> dict[tuple[str, int], dict[Hashable, Any]]:
    """The lines of a table that has methods and rows, by these."""
    return {(str(line["method"]), int(line["row"])): line for line in printed_table(number).to_dict("records")}


@cache
def _read(path: Path) -> pd.DataFrame:
    return pd.read_csv(path)


def printed_benchmarks(number: int) -> list[str]:
    """The benchmarks of one of Tables 6-9 in the printed order, for instance ``["gsm8k", "math"]``.

    Raises:
        ValueError: the table is not one of accuracy against model size.
    """
    if number not in PRINTED_MODEL:
        raise ValueError(f"Table {number} does not print accuracies by method and row: only Tables 6 to 9 do")
    return [str(name).removesuffix("_acc") for name in printed_table(number).columns if str(name).endswith("_acc")]


def printed_numbers(table: int, columns: Sequence[str], **at: Hashable) -> tuple[PrintedNumber, ...]:
    """The numbers in ``columns`` of the one line of a printed table whose other columns have the values ``at``.

    In tables without methods or rows ``at`` becomes part of the number's column: ``gsm8k_acc (keep_pct 50, eta 0)``.

    Raises:
        ValueError: no line or several have these values.
    """
    printed = printed_table(table)
    for name, value in at.items():
        printed = printed[printed[name] == value]
    if len(printed) != 1:
        raise ValueError(f"{len(printed)} lines of Table {table} have {at}, not one")
    line = printed.iloc[0]
    placed = {"method", "row"} <= set(printed)
    rest = "" if placed else ", ".join(f"{name} {value}" for name, value in at.items() if name != "method")
    method = str(line["method"]) if "method" in printed else None
    row = int(line["row"]) if "row" in printed else None
    return tuple(
        PrintedNumber(
            table=table,
            method=method,
            row=row,
            column=f"{column} ({rest})" if rest else column,
            value=float(line[column]),
        )
        for column in columns
    )


def adjacent_numbers(table: int, columns: Sequence[str], method: str, size: float) -> tuple[PrintedNumber, ...]:
    """The numbers in ``columns`` that give a method's curve at a size in billions: of the models it lies between.

    The dense model is the curve's largest. A size that is a model's own takes that model alone.

    Raises:
        ValueError: the size is outside the curve.
    """
    printed = printed_table(table)
    curve = printed[printed["method"].isin([method, DENSE])].sort_values("model_size_b")
    sizes = curve["model_size_b"].to_numpy(dtype=np.float64)
    if not sizes[0] <= size <= sizes[-1]:
        raise ValueError(f"{size:g} B is outside {method}'s {sizes[0]:g} to {sizes[-1]:g} B in Table {table}")
    right = int(np.searchsorted(sizes, size))
    beside = curve.iloc[[right] if sizes[right] == size else [right - 1, right]]
    return tuple(
        number
        for name, row in zip(beside["method"], beside["row"], strict=True)
        for number in printed_numbers(table, columns, method=str(name), row=int(row))
    )
