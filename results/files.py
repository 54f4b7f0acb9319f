"""Files that appear whole or not at all, a folder that one process fills at a time, and records with a checksum."""

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SEAL = "sealed"


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``, with its suffix; on a clean exit it is synced and renamed over ``path``.

    When the body raises, ``path`` keeps what it had and the temporary file is removed. An error of the file system that
    names no file, as a full disk's, gets the name of ``path``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
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


def unseal(text: bytes) -> dict[str, Any]:
    """The record that `seal` wrote, without its checksum. Raises ValueError if it is not what was written.

    A record without a checksum is one of an earlier version and is taken as it is.
    """
    record = json.loads(text)
    if not isinstance(record, dict):
        raise ValueError("no JSON object")
    written = record.pop(SEAL, None)
    if written is not None and written != _digest(record):
        raise ValueError("the content is not what was written")
    return record


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
