"""A table's files as text: Markdown tables, strict JSON, and one set of files written whole."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from results.atomic import written_whole

BLANK = "—"


def shown(value: float, spec: str) -> str:
    """A number formatted by ``spec``, or a dash where it is missing."""
    return BLANK if pd.isna(value) else format(value, spec)


def markdown_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table; bars and line ends inside a field do not break it."""
    return [_pipe_row(row) for row in (headers, ["---"] * len(headers), *rows)]


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


def write_files(out: Path, stem: str, texts: Mapping[str, str]) -> None:
    """Write ``stem`` with each suffix under ``out``, every file whole or not at all."""
    for suffix, text in texts.items():
        with written_whole(out / f"{stem}{suffix}") as path:
            path.write_text(text, encoding="utf-8")
