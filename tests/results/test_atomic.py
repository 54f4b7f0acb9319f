"""Files that appear whole, together, and from one process at a time."""

import errno
import fcntl
import os
from pathlib import Path

import pytest

from results.files import filling, written_whole
from results.tables.document import write_files


def test_files_of_a_table_appear_together_or_not_at_all(tmp_path: Path) -> None:
    write_files(tmp_path, "table6", {".csv": "old", ".md": "old"})
    with pytest.raises(UnicodeEncodeError):
        write_files(tmp_path, "table6", {".csv": "new", ".md": "\udc80 can't be written"})
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"table6.csv": "old", "table6.md": "old"}


def test_a_full_disk_says_which_file_it_was(tmp_path: Path) -> None:
    with pytest.raises(OSError) as raised, written_whole(tmp_path / "table6.csv"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # as from a write: no file is named
    assert raised.value.filename == str(tmp_path / "table6.csv")


def test_two_writers_at_once_each_write_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "verdicts.jsonl"
    with written_whole(path) as one, written_whole(path) as other:
        one.write_text("one" * 1000)
        other.write_text("other")
    assert path.read_text() == "one" * 1000  # renamed last
    assert [*tmp_path.iterdir()] == [path]


def test_no_link_is_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even one that somebody has put where the next temporary file will be."""
    other, path = tmp_path / "other", tmp_path / "verdicts.jsonl"
    other.write_text("another's")
    monkeypatch.setattr("secrets.token_hex", lambda length: "0")
    with written_whole(path) as temporary:
        temporary.write_text("")
    temporary.symlink_to(other)
    with pytest.raises(FileExistsError), written_whole(path) as temporary:
        temporary.write_text("verdicts")
    assert other.read_text() == "another's"
    temporary.unlink(missing_ok=True)
    path.unlink()
    path.symlink_to(other)
    with written_whole(path) as temporary:
        temporary.write_text("verdicts")
    assert other.read_text() == "another's" and path.read_text() == "verdicts" and not path.is_symlink()


def test_what_a_killed_process_left_is_swept_but_nothing_else(tmp_path: Path) -> None:
    for name in (".table6.1234.tmp.csv", ".table6.1234.0af3.tmp.csv", "table6.csv", ".gitignore"):
        (tmp_path / name).write_text("")
    with filling(tmp_path), written_whole(tmp_path / "table6.md") as temporary:
        temporary.write_text("")
    assert {path.name for path in tmp_path.iterdir()} == {"table6.csv", "table6.md", ".gitignore"}


def test_one_process_fills_a_folder_at_a_time(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        with filling(tmp_path), pytest.raises(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(descriptor)
