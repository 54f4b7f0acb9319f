"""JSON-lines files: read with complaints that name the line, written whole or not at all."""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

Row = dict[str, Any]


class DataFileError(ValueError):
    """A data file is missing or not in its published format; the message names the file and, if any, the line."""


def read_json_lines(path: Path, fields: Iterable[str] = ()) -> list[Row]:
    """Objects of a JSONL file, each checked to hold a string in every one of `fields`.

    A file that is one JSON array of objects is read as well, as some sets are published.
    Raises DataFileError for a missing, unreadable or empty file and for the first bad line (of an array: object).
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataFileError(f"{path}: cannot be read: {error.strerror}") from error
    if not content.strip():
        raise DataFileError(f"{path}: the file is empty")
    if content.lstrip().startswith(b"["):
        return [_checked(row, fields, f"{path}, object {i}") for i, row in enumerate(_array(path, content), start=1)]
    rows: list[Row] = []
    # bytes, because str.splitlines also splits at U+2028, which JSON strings may hold
    for number, line in enumerate(content.removesuffix(b"\n").split(b"\n"), start=1):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DataFileError(f"{path}, line {number}: not valid JSON: {error}") from None
        rows.append(_checked(row, fields, f"{path}, line {number}"))
    return rows


def _array(path: Path, content: bytes) -> list[Any]:
    try:
        return list(json.loads(content))
    except ValueError as error:
        raise DataFileError(f"{path}: neither JSON lines nor a JSON array: {error}") from None


def _checked(row: Any, fields: Iterable[str], where: str) -> Row:
    if not isinstance(row, dict):
        raise DataFileError(f"{where}: not a JSON object")
    for field in fields:
        if field not in row:
            raise DataFileError(f'{where}: field "{field}" is missing')
        if not isinstance(row[field], str):
            raise DataFileError(f'{where}: field "{field}" is not a string')
    return row


def write_json_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write JSONL so that `path` is either complete or untouched. Its folder must exist."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", encoding="utf-8") as stream:
        for row in rows:
            # generated text may hold half of a surrogate pair, which only \\u escapes can write
            stream.write(json.dumps(row) + "\n")
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(partial, path)
