"""Files that appear whole or not at all, a folder that one process fills at a time, and records with a checksum.

What is read is bounded: a file that somebody else may have written, too, is refused where it is none of ours.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import ValidationError

SEAL = "sealed"
LARGEST_RECORD = 1 << 28
"""Bytes that a file of text may have."""


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``, with its suffix; on a clean exit it is synced and renamed over ``path``.

    When the body raises, ``path`` keeps what it had and the temporary file is removed. That is a new one, of a name
    that no other writer has, so that no link is followed. An error of the file system that names no file, as a full
    disk's, gets the name of ``path``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.{secrets.token_hex(4)}.tmp{path.suffix}")
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL, 0o666))
    try:
        yield temporary
        with temporary.open("rb") as handle:
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if error.errno and not error.filename:
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def filling(folder: Path) -> Iterator[None]:
    """Hold a folder for one process, others waiting, after removing what a killed one left of `written_whole`.

    Without it two runs could leave one table's files from the one and the rest from the other. A file system that
    cannot lock a folder gives neither.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            for left in folder.glob(".*.[0-9]*.tmp.*"):
                left.unlink()
        yield
    finally:
        os.close(descriptor)


def seal(record: Mapping[str, Any]) -> str:
    """The record as JSON text, with the SHA-256 of its content as a last entry."""
    content = json.loads(json.dumps(record))  # as a reader will have it: keys are strings, tuples are lists
    return json.dumps({**content, SEAL: _digest(content)}, indent=1)


def read_bounded(path: Path) -> bytes:
    """The content of a file. Raises ValueError if it is a folder, a pipe or a device, or larger than a text can be."""
    # a pipe that nobody writes to would keep a blocking open waiting
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError("no regular file")
        content = file.read(LARGEST_RECORD + 1)
    if len(content) > LARGEST_RECORD:
        raise ValueError(f"larger than {LARGEST_RECORD >> 20} MiB")
    return content


def parse_json(text: bytes) -> Any:
    """What a JSON text says. Raises ValueError for another one, and for one nested too deep to be read."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deep") from None


def unseal(text: bytes) -> dict[str, Any]:
    """The record that `seal` wrote, without its checksum. Raises ValueError if it is not what was written.

    A record without a checksum is one of an earlier version and is taken as it is.
    """
    record = parse_json(text)
    if not isinstance(record, dict):
        raise ValueError("no JSON object")
    written = record.pop(SEAL, None)
    if written is not None and written != _digest(record):
        raise ValueError("the content is not what was written")
    return record


def what_is_wrong(error: Exception) -> str:
    """What is wrong with the content of a file and, if pydantic says it, where in it: on one line."""
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return str(error)


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
