"""A table's files as text: Markdown tables, strict JSON, and one set of files written whole."""

import json
import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd
import rich.box
import rich.table
from pydantic import BaseModel

from results.atomic import written_whole

BLANK = "—"
Point = TypeVar("Point", bound=BaseModel)


def shown(value: float, spec: str) -> str:
    """A number formatted by ``spec``, or a dash where it is missing."""
    return BLANK if pd.isna(value) else format(value, spec)


def shown_interval(value: float, low: float, high: float, spec: str) -> str:
    """A number with its interval in brackets, all formatted by ``spec``, or a dash where it is missing."""
    return BLANK if pd.isna(value) else f"{value:{spec}} [{low:{spec}}, {high:{spec}}]"


def shown_size(value: float) -> str:
    """A size to four significant digits, never in exponents: that of a small model is far below a unit."""
    return np.format_float_positional(value, precision=4, fractional=False, trim="-")


def markdown_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table; bars and line ends inside a field do not break it."""
    return [_pipe_row(row) for row in (headers, ["---"] * len(headers), *rows)]


def terminal_table(
    headers: Sequence[str], rows: Sequence[Sequence[str]], texts: Sequence[str], dim: tuple[str, ...], group: int
) -> rich.table.Table:
    """A wide table for a terminal: a word of a header a line, a rule wherever the first ``group`` fields change.

    texts: headers of the columns that are no numbers. dim: beginnings of the headers of what this run did not measure.
    """
    view = rich.table.Table(box=rich.box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for header in headers:
        view.add_column(
            header.replace(" ", "\n"),
            style="dim" if header.startswith(dim) else None,
            justify="left" if header in texts else "right",
        )
    for row, following in zip(rows, [*rows[1:], None], strict=True):
        view.add_row(*row, end_section=following is not None and following[:group] != row[:group])
    return view


def _pipe_row(values: Sequence[str]) -> str:
    return "| " + " | ".join(value.replace("|", "\\|").replace("\n", " ") for value in values) + " |"


def json_rows(table: pd.DataFrame) -> list[dict[str, object]]:
    """A frame's rows as strict JSON has them: missing is null, an infinite number the string pydantic reads back."""
    return [{str(name): _json_value(value) for name, value in row.items()} for row in table.to_dict("records")]


def _json_value(value: object) -> object:
    if value is pd.NA or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, float) and math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return value


def json_text(record: Mapping[str, object]) -> str:
    """Strict JSON for people and programs.

    Raises:
        ValueError: the record holds a number that JSON has no word for.
    """
    return json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def measured_points(path: Path, form: type[Point]) -> list[Point]:
    """The points that a written Table 5 or 14 was built from; none where there is no such file.

    Raises:
        ValueError: the file is damaged.
    """
    if not path.is_file():
        return []
    try:
        return [form.model_validate(point) for point in json.loads(path.read_text(encoding="utf-8"))["points"]]
    except (ValueError, LookupError, TypeError) as error:
        raise ValueError(f"{path.name} is no measured {path.stem.replace('table', 'Table ')}: {error}") from error


def table_files(out: Path, stem: str) -> list[Path]:
    """The files that a table is written to: numbers, text and record."""
    return [out / f"{stem}.{kind}" for kind in ("csv", "md", "json")]


def write_files(out: Path, stem: str, texts: Mapping[str, str]) -> None:
    """Write ``stem`` with each suffix under ``out``, all of them or, if there is no room for one, none."""
    with ExitStack() as stack:
        for suffix, text in texts.items():
            stack.enter_context(written_whole(out / f"{stem}{suffix}")).write_text(text, encoding="utf-8")
