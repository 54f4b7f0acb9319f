"""Files that people bring: read whole, if they are files and no larger than can be meant."""

import os
import stat
from pathlib import Path

LARGEST_FILE = 2 << 30
"""Bytes; the largest published set, MetaMathQA, has 400 million."""
MOST_ROWS = 4_000_000


class DataFileError(ValueError):
    """A data file is missing or not in its published format; the message names the file and, if any, the line."""


def read_bounded(path: Path) -> bytes:
    """The content of a regular file that is neither empty nor larger than LARGEST_FILE.

    Raises DataFileError for any other: a directory, a pipe or a device, which might never end.
    """
    try:
        # a pipe that nobody writes to would keep a blocking open waiting
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise DataFileError(f"{path}: cannot be read: it is no regular file")
            if os.fstat(stream.fileno()).st_size > LARGEST_FILE:
                raise DataFileError(f"{path}: larger than {LARGEST_FILE >> 30} GiB: give fewer rows")
            content = stream.read(LARGEST_FILE)
    except OSError as error:
        raise DataFileError(f"{path}: cannot be read: {error.strerror}") from error
    if not content.strip():
        raise DataFileError(f"{path}: the file is empty")
    return content
