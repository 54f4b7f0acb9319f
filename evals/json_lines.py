"""JSON-lines files: read with complaints that name the line, and written."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from evals.bounded_file import MOST_ROWS, DataFileError, read_bounded

__all__ = ["DataFileError", "Row", "check_text", "json_rows", "placed_rows", "read_json_lines", "write_json_lines"]

Row = dict[str, Any]

LARGEST_ROW = 16 << 20
"""Bytes, or characters, of one row."""
DEEPEST = 100
"""How many lists and objects may stand in each other. Python's own reader and writer end somewhere below a thousand."""
_SPACE = re.compile(r"[ \t\r\n]*")
_READ = json.JSONDecoder().raw_decode


def read_json_lines(path: Path, fields: Iterable[str] = ()) -> list[Row]:
    """The rows of `placed_rows`, without their places."""
    return [row for _, row in placed_rows(path, fields)]


def placed_rows(path: Path, fields: Iterable[str] = (), *, generated: bool = False) -> list[tuple[str, Row]]:
    """Objects of a JSONL file, each with the words that name its place, and with a text in every one of `fields`.

    A file that is one JSON array of objects is read as well, as some sets are published. generated: texts may hold
    half a surrogate pair, as a model's may, and no tokenizer takes.
    Raises DataFileError for a missing, unreadable or empty file and for the first bad line (of an array: object).
    """
    placed: list[tuple[str, Row]] = []
    for where, row in json_rows(path, read_bounded(path)):
        for field in fields:
            if field not in row:
                raise DataFileError(f'{where}: field "{field}" is missing')
            check_text(row[field], f'{where}: field "{field}"', generated=generated)
        placed.append((where, row))
    return placed


def check_text(value: object, what: str, *, generated: bool = False) -> None:
    """Raises DataFileError unless `value` is a text, and one that UTF-8 can hold unless a model generated it."""
    if not isinstance(value, str):
        raise DataFileError(f"{what} is not a string")
    try:
        value.encode("utf-8", "surrogatepass" if generated else "strict")
    except UnicodeEncodeError as error:
        half = f"\\u{ord(value[error.start]):04x}"
        raise DataFileError(f"{what} holds half a surrogate pair, {half}") from None


def json_rows(path: Path, content: bytes) -> Iterator[tuple[str, Row]]:
    """Objects of a file's content, JSON lines or one array, each with the words that name its place in `path`.

    Raises DataFileError for the first that is no object, or larger or nested deeper than a row may be.
    """
    content = content.removeprefix(b"\xef\xbb\xbf")  # a byte order mark
    objects = _of_array if content.lstrip().startswith(b"[") else _of_lines
    for number, (where, row) in enumerate(objects(path, content), start=1):
        if number > MOST_ROWS:
            raise DataFileError(f"{where}: more than {MOST_ROWS:,} rows")
        if not isinstance(row, dict):
            raise DataFileError(f"{where}: not a JSON object")
        if _deep(row):
            raise DataFileError(f"{where}: nested deeper than {DEEPEST} levels")
        yield where, row


def _of_lines(path: Path, content: bytes) -> Iterator[tuple[str, Any]]:
    # bytes, because str.splitlines also splits at U+2028, which JSON strings may hold
    for number, line in enumerate(content.removesuffix(b"\n").split(b"\n"), start=1):
        where = f"{path}, line {number}"
        _check_size(len(line), where)
        try:
            # decoded here: json.loads would take a line with NUL bytes for UTF-16 or UTF-32
            yield where, json.loads(line.decode())
        except (ValueError, RecursionError) as error:
            raise DataFileError(f"{where}: not valid JSON: {_reason(error)}") from None


def _of_array(path: Path, content: bytes) -> Iterator[tuple[str, Any]]:
    """One object after the other, so that a bad one is named by its number."""
    where = str(path)
    try:
        text = content.decode()
        start = _space_after(text, text.index("[") + 1)
        if text[start : start + 1] == "]":
            raise DataFileError(f"{path}: the file holds no rows")
        for number in range(1, len(text)):
            where = f"{path}, object {number}"
            row, end = _READ(text, start)
            _check_size(end - start, where)
            yield where, row
            start = _space_after(text, end)
            if text[start : start + 1] != ",":
                break
            start = _space_after(text, start + 1)
        if text[start:].rstrip(" \t\r\n") != "]":
            raise ValueError("the array doesn't end after it")
    except DataFileError:
        raise
    except (ValueError, RecursionError) as error:
        raise DataFileError(f"{where}: neither JSON lines nor a JSON array: {_reason(error)}") from None


def _space_after(text: str, start: int) -> int:
    found = _SPACE.match(text, start)
    return found.end() if found else start


def _check_size(size: int, where: str) -> None:
    if size > LARGEST_ROW:
        raise DataFileError(f"{where}: larger than a row may be, {LARGEST_ROW >> 20} MiB")


def _reason(error: Exception) -> str:
    return "nested too deeply" if isinstance(error, RecursionError) else str(error)


def _deep(row: Row) -> bool:
    level: list[Any] = [row]
    for _ in range(DEEPEST):
        items = (item for each in level for item in (each.values() if isinstance(each, dict) else each))
        level = [item for item in items if isinstance(item, dict | list)]
        if not level:
            return False
    return True


def write_json_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write JSONL. Whoever calls this sees to it that a file that was cut short is never taken for a whole one."""
    with path.open("w", encoding="utf-8") as stream:
        for row in rows:
            # generated text may hold half of a surrogate pair, which only \\u escapes can write
            stream.write(json.dumps(row) + "\n")
