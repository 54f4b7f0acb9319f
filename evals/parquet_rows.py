"""Rows of a Parquet file, as the hub serves most sets."""

from collections.abc import Container, Iterator
from pathlib import Path

import pyarrow as pa
from pyarrow.parquet import ParquetFile

from evals.bounded_file import LARGEST_FILE, MOST_ROWS, DataFileError
from evals.json_lines import DEEPEST, LARGEST_ROW, Row

MAGIC = b"PAR1"
_ROWS_AT_A_TIME = 64
"""Few: a page may say one long text many times over in a few bytes."""


def parquet_rows(path: Path, content: bytes, fields: Container[str]) -> Iterator[tuple[str, Row]]:
    """Rows of a file's content, with no other columns than `fields`, each with the words that name its place in `path`.

    Raises DataFileError for content that is damaged or unpacks to more than a file or a row may hold.
    """
    number = unpacked = 0
    try:
        file = ParquetFile(pa.BufferReader(content), schema_depth_limit=DEEPEST, page_checksum_verification=True)
        columns = [name for name in file.schema_arrow.names if name in fields]
        if not columns:
            names = ", ".join(file.schema_arrow.names)[:200]
            raise DataFileError(f"{path}: none of its columns ({names}) is one of those that are read")
        for batch in file.iter_batches(_ROWS_AT_A_TIME, columns=columns, use_threads=False):
            unpacked += batch.nbytes
            if batch.nbytes > _ROWS_AT_A_TIME * LARGEST_ROW or unpacked > LARGEST_FILE or number > MOST_ROWS:
                most = f"{LARGEST_FILE >> 30} GiB or {MOST_ROWS:,} rows"
                raise DataFileError(f"{path}, row {number + 1}: with it the file unpacks to more than {most}")
            for row in batch.to_pylist():
                number += 1
                yield f"{path}, row {number}", row
    except DataFileError:
        raise
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        raise DataFileError(f"{path}: no readable Parquet file: {' '.join(str(error).split())[:200]}") from None
    if not number:
        raise DataFileError(f"{path}: the file holds no rows")
