"""Files that appear whole or not at all, and a folder of them that one process fills at a time."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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
