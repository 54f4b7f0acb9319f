"""Rows that people bring to calibrate on: a query, an optional input, and a response."""

from pathlib import Path

from evals.json_lines import DataFileError, Row, read_json_lines

_FIELDS = ("query", "response")


def read_training_rows(path: Path) -> list[Row]:
    """Rows of "query", "response" and, where it is there and not null, "input": texts that a tokenizer can take.

    Raises DataFileError as `read_json_lines` does, for an input of another type, and for half of a surrogate pair,
    which no UTF-8 text holds.
    """
    rows = read_json_lines(path, _FIELDS)
    for number, row in enumerate(rows, start=1):
        if row.get("input", "") is None:
            del row["input"]
        for field in (*_FIELDS, "input"):
            text = row.get(field, "")
            if not isinstance(text, str):
                raise DataFileError(f'{path}, row {number}: field "{field}" is not a string')
            try:
                text.encode()
            except UnicodeEncodeError as error:
                half = f"\\u{ord(text[error.start]):04x}"
                raise DataFileError(
                    f'{path}, row {number}: field "{field}" holds half a surrogate pair, {half}'
                ) from None
    return rows
