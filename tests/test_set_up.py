"""reproduce.sh where people put it: moved, copied, behind a link, with a Python that is gone, for a user with no home.

The Python here only writes down how it was called, since what is tested is which calls are made.
"""

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PYTHON = """#!/usr/bin/env bash
[ "$1" = -m ] && [ "$2" = venv ] && { mkdir -p "$3/bin" && cp "$0" "$3/bin/python" && ln -sf python "$3/bin/uv"; }
[ "$1" = -c ] || [ "$1" = -ISc ] || echo "$*" >>"$CALLS"
[ "$2" = -m ] && echo "$3 of $(dirname "$(dirname "$0")") for ${USER:-nobody} in $HOME"
exit 0
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "a place für it"
    folder.mkdir()
    for name in ("reproduce.sh", "pyproject.toml", "requirements.lock"):
        shutil.copy2(ROOT / name, folder)
    python = tmp_path / "python"
    python.write_text(PYTHON)
    python.chmod(0o755)
    return folder


def call(script: Path, tmp_path: Path, **environment: str) -> tuple[str, int]:
    """What it printed, and how many calls installed something."""
    calls = tmp_path / "calls"
    calls.write_text("")
    variables = {"PATH": os.environ["PATH"], "PYTHON": str(tmp_path / "python"), "CALLS": str(calls)}
    ran = subprocess.run(
        [script, "list"],
        env=variables | {"HOME": str(tmp_path)} | environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout, calls.read_text().count("install ")


def test_it_is_set_up_once_and_again_where_it_was_moved_or_copied_to(project: Path, tmp_path: Path) -> None:
    said, installs = call(project / "reproduce.sh", tmp_path)
    assert installs == len(["torch and uv", "the lock", "the project"]) and str(project) in said
    assert call(project / "reproduce.sh", tmp_path)[1] == 0
    copied = Path(shutil.copytree(project, tmp_path / "copied"))
    moved = project.rename(tmp_path / "moved")
    for place in (copied, moved):
        said, installs = call(place / "reproduce.sh", tmp_path)
        assert installs and str(place) in said
        assert call(place / "reproduce.sh", tmp_path)[1] == 0


@pytest.mark.parametrize("linked", ["folder", "file"])
def test_a_symbolic_link_is_the_place_itself(linked: str, project: Path, tmp_path: Path) -> None:
    call(project / "reproduce.sh", tmp_path)
    link = tmp_path / "link"
    link.symlink_to(project if linked == "folder" else project / "reproduce.sh")
    said, installs = call(link / "reproduce.sh" if linked == "folder" else link, tmp_path)
    assert not installs and str(project) in said


def test_an_environment_whose_python_is_gone_is_made_anew(project: Path, tmp_path: Path) -> None:
    call(project / "reproduce.sh", tmp_path)
    python = project / ".venv/bin/python"
    python.unlink()
    python.symlink_to(tmp_path / "gone")
    assert call(project / "reproduce.sh", tmp_path)[1]
    assert call(project / "reproduce.sh", tmp_path)[1] == 0


@pytest.mark.parametrize("home", ["", "/", "/proc/none"])
def test_a_home_that_cannot_be_written_is_replaced(home: str, project: Path, tmp_path: Path) -> None:
    said, _ = call(project / "reproduce.sh", tmp_path, HOME=home)
    assert f"in {project}/.venv/home" in said
    assert stat.S_ISDIR((project / ".venv/home").stat().st_mode)


def test_a_file_of_the_callers_folder_is_not_run(tmp_path: Path) -> None:
    """With the real Python: a user's experiments.py and random.py stay theirs."""
    for name in ("experiments.py", "random.py"):
        (tmp_path / name).write_text("raise SystemExit('a file of the user')")
    if not (ROOT / ".venv/installed").is_file():
        pytest.skip("not set up by reproduce.sh")
    ran = subprocess.run([ROOT / "reproduce.sh", "list"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0 and "table6" in ran.stdout, ran.stderr
